"""A label map as an RT Structure Set (PS3.3 A.19) on the source's slices, read back before it counts.

Why not rt-utils: it needs OpenCV, whose outlines run through the centres of the pixels on the edge. Filled, they are
smaller than the mask, and thin parts are lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.base import SOPClass
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from clinibundle import __version__
from clinibundle.dicom.codes import Algorithm, Segment
from clinibundle.dicom.derived import completed, series_number
from clinibundle.dicom.drawn import (
    COLOURS,
    RESEARCH_ONLY,
    Colour,
    colour_of,
    maker_of,
    refuse_undrawable,
    refuse_unnamed,
)
from clinibundle.dicom.gate import SPACING_TOLERANCE_MM
from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.dicom.outlines import Grid
from clinibundle.dicom.rtstruct import read_rtstruct
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.dicom.trace import keyholed_outlines_of
from clinibundle.dicom.values import numbers, text
from clinibundle.errors import ClinibundleError, OutputError

_KIND = "RTSTRUCT"
_UTF_8 = "ISO_IR 192"
# Those of SEG are 9000 and up, of SR 10000, of key images 11000.
_SERIES_NUMBER_OFFSET = 12000
# Of millimetres: finer than any pixel, and short.
_DECIMALS = 4
_CONTOUR_DATA = Tag("ContourData")
# Retired, and what the standard's older texts and all others write here.
_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"


def refuse_without_place(grid: SourceGrid) -> None:
    """Raises OutputError unless the sources are single pictures, in one frame of reference, where the grid says."""
    refuse_undrawable(grid, _KIND)
    frames = {text(source, "FrameOfReferenceUID") for source in grid.sources}
    if grid.affine_lps is None or len(frames) != 1 or "" in frames:
        raise OutputError(
            f"no {_KIND} is made for a source without a place in the patient (frame of reference, position); "
            "the DICOM SEG holds the outline"
        )
    for number, source in enumerate(grid.sources):
        position = numbers(source, "ImagePositionPatient", 3)
        even = grid.affine_lps[:3, 3] + number * grid.affine_lps[:3, 2]
        # Slices may lie a little beside an even grid, within what the gate lets pass.
        if position is None or np.linalg.norm(np.array(position) - even) > 2 * SPACING_TOLERANCE_MM:
            raise OutputError(f"slice {number + 1} of the source does not lie where its grid says; please report this")


def write_rtstruct(
    path: Path,
    label_map: NDArray[np.integer[Any]],
    grid: SourceGrid,
    segments: Sequence[Segment],
    algorithm: Algorithm | None,
    colours: Sequence[Colour] = COLOURS,
) -> None:
    """Writes an RTSTRUCT, reads it back, fills its contours, and compares every voxel with the label map.

    There is a ROI for each segment, its number the label; contours lie on the even grid that the slices make.

    Args:
        path: of the file to write.
        label_map: (slices, rows, columns) in the order of the grid's sources.
        grid: that the slices lie on; oblique and sheared ones are fine.
        segments: meaning of each label above 0; labels without a voxel get a ROI without a contour.
        algorithm: that made the outlines; None for outlines that a person drew.
        colours: of the ROIs.

    Raises:
        OutputError: if a label has no segment, the sources have no place in the patient or cannot be referred to, or
            what is read back differs from what was meant.
    """
    refuse_without_place(grid)
    refuse_unnamed(label_map, segments)
    try:
        with quietly():
            rtstruct = _structure_set(label_map, grid, segments, algorithm, colours)
            rtstruct.save_as(path)
    except DAMAGE_TO_DICOM as error:
        # The error itself may quote the header, and so the patient.
        raise OutputError(
            f"no {_KIND} can be made for this source ({type(error).__name__}): its header is damaged; fetch the source "
            "again from its archive"
        ) from error
    compare_with_written(path, label_map, grid)


def compare_with_written(path: Path, label_map: NDArray[np.integer[Any]], grid: SourceGrid) -> None:
    """Reads an RTSTRUCT back and raises OutputError unless its contours contain exactly what was meant.

    Args:
        path: of the RTSTRUCT.
        label_map: (slices, rows, columns).
        grid: that it lies on, with a place in the patient.
    """
    uids = tuple(str(source.SOPInstanceUID) for source in grid.sources)
    slices, rows, columns = label_map.shape
    try:
        found = read_rtstruct(path, Grid(np.asarray(grid.affine_lps), (slices, rows, columns), uids))
    except ClinibundleError as error:
        raise OutputError(
            f"the {_KIND} cannot be read back ({type(error).__name__}); nothing was kept, please report this"
        ) from error
    if not np.array_equal(found.label_map, label_map) or found.source_sop_instance_uids != uids:
        raise OutputError(f"the {_KIND} read back differs from the mask; nothing was kept, please report this")


def _structure_set(
    label_map: NDArray[np.integer[Any]],
    grid: SourceGrid,
    segments: Sequence[Segment],
    algorithm: Algorithm | None,
    colours: Sequence[Colour],
) -> Dataset:
    source = completed(grid.sources[0])
    maker = maker_of(algorithm)
    made = _empty_object(source, maker, algorithm)
    # 16 characters.
    made.StructureSetLabel = "Research only"
    made.StructureSetName = maker[:64]
    names = ", ".join(segment.name for segment in segments)
    made.StructureSetDescription = f"{names}: {maker}, written by clinibundle {__version__}. {RESEARCH_ONLY}."[:1024]
    made.StructureSetDate, made.StructureSetTime = made.InstanceCreationDate, made.InstanceCreationTime
    made.ApprovalStatus = "UNAPPROVED"
    made.FrameOfReferenceUID = source.FrameOfReferenceUID
    made.PositionReferenceIndicator = source.get("PositionReferenceIndicator") or ""
    made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(grid.sources)]
    made.StructureSetROISequence = [_roi(segment, source, algorithm) for segment in segments]
    made.ROIContourSequence = [
        _roi_contour(segment.label, label_map, grid, colour_of(segment.label, colours)) for segment in segments
    ]
    made.RTROIObservationsSequence = [
        _item(
            ObservationNumber=number,
            ReferencedROINumber=segment.label,
            RTROIIdentificationCodeSequence=[segment.type.as_concept()],
            RTROIInterpretedType="",
            ROIInterpreter="",
        )
        for number, segment in enumerate(segments, start=1)
    ]
    return made


def _empty_object(source: Dataset, maker: str, algorithm: Algorithm | None) -> Dataset:
    """Patient, study, series and equipment."""
    made = SOPClass(
        sop_class_uid=RTStructureSetStorage,
        sop_instance_uid=generate_uid(),
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=generate_uid(),
        series_number=series_number(source, _SERIES_NUMBER_OFFSET),
        instance_number=1,
        modality=_KIND,
        series_description=f"{maker} contours, research only"[:64],
        manufacturer="clinibundle",
        manufacturer_model_name="clinibundle",
        software_versions=__version__ if algorithm is None else algorithm.software_version,
        device_serial_number="none" if algorithm is None else algorithm.weights_sha256[:16],
        # The names of segments may be in another alphabet than the source.
        specific_character_set=_UTF_8,
        # A contour of more than 64 kB does not fit into an element with an explicit VR (PS3.3 C.8.8.6).
        transfer_syntax_uid=ImplicitVRLittleEndian,
    )
    made.copy_patient_and_study_information(source)
    # Type 2 in the RT Series module.
    made.OperatorsName = ""
    return made


def _frame_of_reference(sources: Sequence[Dataset]) -> Dataset:
    series = _item(
        SeriesInstanceUID=sources[0].SeriesInstanceUID, ContourImageSequence=[_image(source) for source in sources]
    )
    study = _item(
        ReferencedSOPClassUID=_DETACHED_STUDY,
        ReferencedSOPInstanceUID=sources[0].StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=sources[0].FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _roi(segment: Segment, source: Dataset, algorithm: Algorithm | None) -> Dataset:
    made = _item(
        ROINumber=segment.label,
        ReferencedFrameOfReferenceUID=source.FrameOfReferenceUID,
        ROIName=segment.name[:64],
        ROIGenerationAlgorithm="MANUAL" if algorithm is None else "AUTOMATIC",
    )
    if algorithm is not None:
        weights = f"weights_sha256 {algorithm.weights_sha256[:16]}"
        made.ROIGenerationDescription = f"{algorithm.name} {algorithm.version}"[: 62 - len(weights)] + f", {weights}"
    return made


def _roi_contour(label: int, label_map: NDArray[np.integer[Any]], grid: SourceGrid, colour: Colour) -> Dataset:
    made = _item(ReferencedROINumber=label, ROIDisplayColor=list(colour))
    contours = list(_contours(label, label_map, grid))
    if contours:
        made.ContourSequence = contours
    return made


def _contours(label: int, label_map: NDArray[np.integer[Any]], grid: SourceGrid) -> Iterator[Dataset]:
    affine = np.asarray(grid.affine_lps)
    for z, (plane, source) in enumerate(zip(label_map, grid.sources, strict=True)):
        for outline in keyholed_outlines_of(plane == label):
            points = outline @ affine[:3, :2].T + affine[:3, 3] + z * affine[:3, 2]
            contour = _item(
                ContourImageSequence=[_image(source)],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
            )
            # As text: pydicom's own numbers, of which there may be a million, take twenty times as long.
            content = _decimal_strings(points)
            contour[_CONTOUR_DATA] = DataElement(_CONTOUR_DATA, "DS", content, already_converted=True)
            yield contour


def _decimal_strings(points: NDArray[np.float64]) -> str:
    # Adding 0 leaves no -0.
    rounded = np.round(points.ravel(), _DECIMALS) + 0.0
    return "\\".join(f"{value:.10g}" for value in rounded.tolist())


def _image(source: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID)


def _item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made
