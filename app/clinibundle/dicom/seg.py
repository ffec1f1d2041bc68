"""A label map as a DICOM Segmentation on the source's own frames (PS3.3 A.51), read back before it counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import highdicom
import numpy as np
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from clinibundle import __version__
from clinibundle.dicom.codes import Algorithm, Segment
from clinibundle.dicom.derived import refuse_unreferable, series_number
from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.dicom.seg_check import MAX_FRACTIONAL_VALUE, SourceGrid, compare_with_written
from clinibundle.dicom.seg_sources import refer_to_source_frames, sources_for
from clinibundle.errors import OutputError

_MOST_IN_BYTE = 255
_ARTIFICIAL_INTELLIGENCE = CodedConcept("123110", "DCM", "Artificial Intelligence")
_SERIES_NUMBER_OFFSET = 9000


SegKind = Literal["binary", "fractional", "labelmap"]
"""How a SEG holds the outline: a bit mask per segment, the probability of each, or one picture of labels."""


def write_seg(
    path: Path,
    label_map: NDArray[np.integer[Any]],
    grid: SourceGrid,
    segments: Sequence[Segment],
    algorithm: Algorithm | None,
    kind: SegKind = "binary",
    probability: Mapping[int, NDArray[np.floating[Any]]] | None = None,
) -> None:
    """Writes a SEG, reads it back, and compares every frame with the label map, place by place in the patient.

    Args:
        path: of the file to write.
        label_map: (frames, rows, columns) in the order of the grid's frames.
        grid: that the frames lie on.
        segments: meaning of each label above 0; labels without a voxel get an empty segment.
        algorithm: recorded in each segment; None for outlines that a person drew.
        kind: of SEG.
        probability: of each label, shape of the label map, 0 to 1; needed for a fractional SEG.

    Raises:
        OutputError: if a label has no segment, the sources cannot be referred to, or what is read back differs from
            what was meant.
    """
    refuse_unreferable(grid.sources, "DICOM SEG")
    pixels: NDArray[Any] = _segment_numbers(label_map, segments)
    if kind == "fractional":
        pixels = _fractions(label_map.shape, segments, probability)
    try:
        with quietly():
            seg = _segmentation(pixels, grid, segments, algorithm, kind)
            refer_to_source_frames(seg, grid)
    except DAMAGE_TO_DICOM as error:
        # The error itself may quote the header, and so the patient.
        raise OutputError(
            f"no DICOM SEG can be made for this source ({type(error).__name__}): its header is damaged or its kind of "
            "object unknown; convert the picture to PNG or NIfTI to have it segmented"
        ) from error
    _carry_over(seg, grid.sources[0])
    with quietly():
        seg.save_as(path)
    compare_with_written(path, pixels, grid, len(segments))


def _segment_numbers(label_map: NDArray[np.integer[Any]], segments: Sequence[Segment]) -> NDArray[np.integer[Any]]:
    """The label map in segment numbers, which count from 1 in the order of the table."""
    highest = max([int(label_map.max(initial=0)), *(segment.label for segment in segments)])
    numbers = np.zeros(highest + 1, np.uint16 if len(segments) > _MOST_IN_BYTE else np.uint8)
    for at, segment in enumerate(segments, start=1):
        numbers[segment.label] = at
    found = np.asarray(numbers[label_map])
    # Counting is a hundred times faster than finding the different labels of a large volume.
    if np.count_nonzero(found) != np.count_nonzero(label_map):
        unnamed = int(label_map[(found == 0) & (label_map != 0)].min())
        raise OutputError(f"label {unnamed} has no row in the bundle's table of segments (configs/dicom.yaml)")
    return found


def _fractions(
    shape: tuple[int, ...], segments: Sequence[Segment], probability: Mapping[int, NDArray[np.floating[Any]]] | None
) -> NDArray[np.float32]:
    """Probabilities (frames, rows, columns, segments)."""
    known = probability or {}
    absent = [segment.name for segment in segments if segment.label not in known]
    if absent:
        raise OutputError(
            f"a fractional SEG needs the probability of '{absent[0]}', which the bundle does not leave; "
            "ask for a binary one"
        )
    found = np.empty((*shape, len(segments)), np.float32)
    for layer, segment in enumerate(segments):
        np.clip(known[segment.label], 0.0, 1.0, out=found[..., layer])
    return found


def _segmentation(
    pixels: NDArray[Any], grid: SourceGrid, segments: Sequence[Segment], algorithm: Algorithm | None, kind: SegKind
) -> Segmentation:
    maker = (
        "drawn outlines" if algorithm is None else f"{algorithm.name} {algorithm.version} segmentation, research only"
    )
    what = ", ".join(s.name for s in segments)
    by = "converted by clinibundle" if algorithm is None else f"by {algorithm.name} {algorithm.version}"
    return Segmentation(
        source_images=sources_for(grid),
        pixel_array=pixels,
        segmentation_type=kind.upper(),
        max_fractional_value=MAX_FRACTIONAL_VALUE,
        segment_descriptions=[_describe(at, s, algorithm) for at, s in enumerate(segments, start=1)],
        series_instance_uid=generate_uid(),
        series_number=series_number(grid.sources[0], _SERIES_NUMBER_OFFSET),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="clinibundle",
        manufacturer_model_name="clinibundle",
        software_versions=__version__ if algorithm is None else algorithm.software_version,
        device_serial_number="none" if algorithm is None else algorithm.weights_sha256[:16],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=maker[:64],
        content_label="SEGMENTATION",
        content_description=f"{what}, {by}"[:64],
        omit_empty_frames=bool(pixels.any()),
    )


def _carry_over(seg: Dataset, source: Dataset) -> None:
    """An attribute that the SEG needs where its frames have no orientation in space, and highdicom does not copy."""
    if "ImageOrientationPatient" not in source:
        # Type 2C in the General Image module.
        orientation = source.get("PatientOrientation") or ""
        well_formed = len(orientation) == 2 and all(re.fullmatch("[LRAPHF]{1,3}", str(part)) for part in orientation)
        seg.PatientOrientation = orientation if well_formed else ""


def _describe(number: int, segment: Segment, algorithm: Algorithm | None) -> SegmentDescription:
    types = highdicom.seg.SegmentAlgorithmTypeValues
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=segment.category.as_concept(),
        segmented_property_type=segment.type.as_concept(),
        algorithm_type=types.MANUAL if algorithm is None else types.AUTOMATIC,
        algorithm_identification=None if algorithm is None else _identify(algorithm),
        tracking_uid=generate_uid(),
        tracking_id=segment.name if algorithm is None else f"{algorithm.name} {segment.name}",
    )


def _identify(algorithm: Algorithm) -> AlgorithmIdentificationSequence:
    return AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=_ARTIFICIAL_INTELLIGENCE,
        version=algorithm.version,
        source="clinibundle",
        parameters={"weights_sha256": algorithm.weights_sha256},
    )
