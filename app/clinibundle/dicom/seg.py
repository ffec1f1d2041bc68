"""A label map as a DICOM Segmentation on the source's own frames (PS3.3 A.51), read back before it counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription, segread
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from clinibundle.dicom.codes import Algorithm, Segment
from clinibundle.dicom.derived import completed
from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.errors import OutputError

_ARTIFICIAL_INTELLIGENCE = CodedConcept("123110", "DCM", "Artificial Intelligence")
# Series made by clinibundle are numbered after those of the scanner, which start at 1.
_SERIES_NUMBER_OFFSET = 9000
# Without these nothing can refer to the source.
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def write_seg(
    path: Path,
    label_map: NDArray[np.integer[Any]],
    sources: Sequence[Dataset],
    segments: Sequence[Segment],
    algorithm: Algorithm,
) -> None:
    """Writes a binary SEG, reads it back, and compares every frame with the label map.

    Args:
        path: of the file to write.
        label_map: (frames, rows, columns) in the order of `sources`.
        sources: headers of the instances that the frames lie on.
        segments: meaning of each label above 0; labels without a voxel get an empty segment.
        algorithm: recorded in each segment.

    Raises:
        OutputError: if a label has no segment, the sources cannot be referred to, or what is read back differs from
            what was meant.
    """
    unnamed = set(np.unique(label_map).tolist()) - {0, *(segment.label for segment in segments)}
    if unnamed:
        raise OutputError(f"label {min(unnamed)} has no row in the bundle's table of segments (configs/dicom.yaml)")
    masks = np.stack([label_map == segment.label for segment in segments], axis=-1).astype(np.uint8)
    missing = [keyword for keyword in _NEEDED if not all(source.get(keyword) for source in sources)]
    if missing:
        raise OutputError(f"no DICOM SEG can refer to this source: its header has no {' and no '.join(missing)}")
    try:
        with quietly():
            seg = _segmentation(masks, sources, segments, algorithm)
    except DAMAGE_TO_DICOM as error:
        # The error itself may quote the header, and so the patient.
        raise OutputError(
            f"no DICOM SEG can be made for this source ({type(error).__name__}): its header is damaged or its kind of "
            "object unknown; convert the picture to PNG to have it segmented"
        ) from error
    _carry_over(seg, sources[0])
    with quietly():
        seg.save_as(path)
    compare_with_written(path, masks, sources)


def _segmentation(
    masks: NDArray[np.uint8], sources: Sequence[Dataset], segments: Sequence[Segment], algorithm: Algorithm
) -> Segmentation:
    return Segmentation(
        source_images=[completed(dataset) for dataset in sources],
        pixel_array=masks,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(number, s, algorithm) for number, s in enumerate(segments, start=1)],
        series_instance_uid=generate_uid(),
        series_number=_series_number(sources[0]),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="clinibundle",
        manufacturer_model_name="clinibundle",
        software_versions=algorithm.software_version,
        device_serial_number=algorithm.weights_sha256[:16],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"{algorithm.name} {algorithm.version} segmentation, research only"[:64],
        content_label="SEGMENTATION",
        content_description=f"{', '.join(s.name for s in segments)}, by {algorithm.name} {algorithm.version}"[:64],
        omit_empty_frames=bool(masks.any()),
    )


def compare_with_written(path: Path, masks: NDArray[np.uint8], sources: Sequence[Dataset]) -> None:
    """Reads a SEG back and raises OutputError unless each source frame carries exactly the mask that was meant.

    Args:
        path: of the SEG.
        masks: (frames, rows, columns, segments), 0 or 1.
        sources: in the order of the frames.
    """
    try:
        with quietly():
            found = segread(path).get_pixels_by_source_instance(
                [str(dataset.SOPInstanceUID) for dataset in sources],
                assert_missing_frames_are_empty=True,
                ignore_spatial_locations=True,
            )
    except DAMAGE_TO_DICOM as error:
        raise OutputError(
            f"the SEG cannot be read back ({type(error).__name__}); nothing was kept, please report this"
        ) from error
    if found.shape != masks.shape or not np.array_equal(found, masks):
        differing = int((found != masks).sum()) if found.shape == masks.shape else None
        raise OutputError(
            f"the SEG read back differs from the mask ({differing if differing is not None else found.shape} "
            "voxels or shape); nothing was kept, please report this"
        )


def _carry_over(seg: Dataset, source: Dataset) -> None:
    """An attribute that the SEG needs where its frames have no orientation in space, and highdicom does not copy."""
    if "ImageOrientationPatient" not in source:
        # Type 2C in the General Image module.
        orientation = source.get("PatientOrientation") or ""
        well_formed = len(orientation) == 2 and all(re.fullmatch("[LRAPHF]{1,3}", str(part)) for part in orientation)
        seg.PatientOrientation = orientation if well_formed else ""


def _describe(number: int, segment: Segment, algorithm: Algorithm) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=segment.category.as_concept(),
        segmented_property_type=segment.type.as_concept(),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=_ARTIFICIAL_INTELLIGENCE,
            version=algorithm.version,
            source="clinibundle",
            parameters={"weights_sha256": algorithm.weights_sha256},
        ),
        tracking_uid=generate_uid(),
        tracking_id=f"{algorithm.name} {segment.name}",
    )


def _series_number(source: Dataset) -> int:
    try:
        return _SERIES_NUMBER_OFFSET + int(source.get("SeriesNumber") or 0) % 1000
    except (TypeError, ValueError):
        return _SERIES_NUMBER_OFFSET
