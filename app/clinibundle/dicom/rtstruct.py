"""An RT Structure Set (PS3.3 A.19, C.8.8.5, C.8.8.6) as a label map on the grid of the picture that it was drawn on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from clinibundle.checks import Check
from clinibundle.dicom.contours import fill_even_odd
from clinibundle.dicom.outlines import (
    FARTHEST_MM,
    LARGEST_LABEL,
    Grid,
    Outlines,
    chosen_numbers,
    damage_refused,
    empty_label_map,
    paint,
    read_object,
)
from clinibundle.errors import GeometryError, UnreadableInput, UnsuitableInput

# Planning systems write places with one decimal at least; no picture has slices closer than this.
# Coordinates have a few decimal places: a contour along the picture's edge may come out a little beyond it.
_ROUNDING_PX = 1e-3
CONTOUR_TOLERANCE_MM = 0.1

_RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_KIND = "RTSTRUCT"


@dataclass(frozen=True, eq=False)
class _Roi:
    """A region of interest: its name, closed contours (each (points, 3), mm in LPS), and how many others it has."""

    name: str
    contours: tuple[NDArray[np.float64], ...]
    open_contours: int


def read_rtstruct(path: Path, grid: Grid, rois: Collection[int | str] | None = None) -> Outlines:
    """Closed planar contours, filled at voxel centres by the even-odd rule over the contours of a ROI in a slice.

    The label of a ROI is its number; if a number fits no label (ROI numbers may be 0 or huge), labels are counted from
    1 in the order of the structure set, and a check says so.

    Args:
        path: of the RTSTRUCT.
        grid: where the label map is wanted; oblique and sheared grids are fine.
        rois: numbers or names of the ROIs to take; all for None.

    Raises:
        UnreadableInput: if it is no RTSTRUCT, or damaged.
        GeometryError: if there are contours and none of them lies on a slice of the grid.
        UnsuitableInput: if chosen ROIs overlap.
        UsageError: if a chosen ROI is not there.
    """
    dataset = read_object(path, (_RT_STRUCTURE_SET,), _KIND)
    with damage_refused(_KIND):
        structures, sources = _rois(dataset), _sources(dataset)
    labels = _labels(structures)
    chosen = chosen_numbers({number: roi.name for number, roi in structures.items()}, rois, "ROI")
    label_map = empty_label_map(grid.shape)
    off_slices: list[float] = []
    outside = 0
    for number in chosen:
        planes, off, beyond = _by_slice(structures[number].contours, grid)
        for z, contours in planes.items():
            mask = fill_even_odd(contours, grid.shape[1:])
            paint(label_map[z], mask * np.uint16(labels[number]), "ROI")
        off_slices += off
        outside += beyond
    closed = sum(len(structures[number].contours) for number in chosen)
    if closed and len(off_slices) == closed:
        raise GeometryError(
            f"none of the {closed} contours lies on a slice of the picture (nearest: {min(off_slices):.3g} mm off, "
            f"limit {CONTOUR_TOLERANCE_MM} mm): the RTSTRUCT was drawn on another series; choose that one"
        )
    return Outlines(
        label_map=label_map,
        affine_lps=grid.affine_lps,
        names={labels[number]: structures[number].name for number in chosen},
        codes={},
        source_sop_instance_uids=sources,
        checks=(
            *_check_labels(labels),
            *_check_kinds([structures[number] for number in chosen], closed),
            _check_slices(closed, off_slices),
            *_check_extent(outside),
            *_check_references(sources, grid),
        ),
    )


def _rois(dataset: Dataset) -> dict[int, _Roi]:
    """By their numbers, in the order of the structure set."""
    names: dict[int, str] = {}
    for item in dataset.StructureSetROISequence:
        number = int(item.ROINumber)
        if number in names:
            raise UnreadableInput(f"two ROIs of the RTSTRUCT have the number {number}; ask for it to be exported again")
        names[number] = str(item.get("ROIName") or "")
    contours: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    others: dict[int, int] = defaultdict(int)
    for item in dataset.ROIContourSequence:
        number = int(item.ReferencedROINumber)
        if number not in names:
            raise UnreadableInput(
                f"the RTSTRUCT has contours of ROI {number}, which it does not describe; have it exported again"
            )
        for contour in item.get("ContourSequence") or ():
            if str(contour.ContourGeometricType) in _CLOSED:
                contours[number].append(_points(contour, number))
            else:
                others[number] += 1
    return {number: _Roi(name, tuple(contours[number]), others[number]) for number, name in names.items()}


def _points(contour: Dataset, roi: int) -> NDArray[np.float64]:
    """(points, 3) in mm, LPS."""
    # As it stands in the file: pydicom's own numbers, millions of them, take twenty times as long.
    text = (contour.get_item("ContourData").value or b"").decode("ascii").strip(" \0")
    values = np.array([float(value) for value in text.split("\\")] if text else [])
    found = f"a contour of ROI {roi} holds {len(values)} numbers"
    if not len(values) or len(values) % 3:
        raise UnreadableInput(f"{found}, expected three for each point; ask for the RTSTRUCT to be sent again")
    declared = contour.get("NumberOfContourPoints")
    if declared is not None and int(declared) * 3 != len(values):
        raise UnreadableInput(f"{found}, its header says {int(declared)} points; ask for the RTSTRUCT to be sent again")
    if not (np.abs(values) < FARTHEST_MM).all():
        raise UnreadableInput(
            f"{found}, one of them no place in a patient (limit {FARTHEST_MM:g} mm); "
            "ask for the RTSTRUCT to be sent again"
        )
    return values.reshape(-1, 3)


def _sources(dataset: Dataset) -> tuple[str, ...]:
    """SOPInstanceUIDs of the pictures that the whole set and its contours refer to, each once."""
    images = [
        image
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
        for image in series.get("ContourImageSequence") or ()
    ]
    images += [
        image
        for roi in dataset.ROIContourSequence
        for contour in roi.get("ContourSequence") or ()
        for image in contour.get("ContourImageSequence") or ()
    ]
    return tuple(dict.fromkeys(str(image.ReferencedSOPInstanceUID) for image in images))


def _labels(rois: Collection[int]) -> dict[int, int]:
    """The label of each ROI number."""
    if len(rois) > LARGEST_LABEL:
        raise UnsuitableInput(f"the RTSTRUCT has {len(rois)} ROIs, a label map holds at most {LARGEST_LABEL}")
    if all(1 <= number <= LARGEST_LABEL for number in rois):
        return {number: number for number in rois}
    return {number: place for place, number in enumerate(rois, start=1)}


def _by_slice(
    contours: Sequence[NDArray[np.float64]], grid: Grid
) -> tuple[dict[int, list[NDArray[np.float64]]], list[float], int]:
    """Contours in voxels (x, y) by the slice they lie on.

    Returns:
        the contours by slice, how far in mm each of the others is from its nearest slice, and how many of the first
        reach beyond the picture's edge.
    """
    slices, rows, columns = grid.shape
    to_voxels = np.linalg.inv(grid.affine_lps)
    # The third row of the inverse is the normal of the slices, divided by their distance.
    slice_distance = 1 / float(np.linalg.norm(to_voxels[2, :3]))
    planes: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    off: list[float] = []
    beyond = 0
    for contour in contours:
        voxels = contour @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        z = int(np.clip(np.rint(np.median(voxels[:, 2])), 0, slices - 1))
        distance = float(np.abs(voxels[:, 2] - z).max()) * slice_distance
        if distance > CONTOUR_TOLERANCE_MM:
            off.append(distance)
            continue
        planes[z].append(voxels[:, :2])
        edge = 0.5 + _ROUNDING_PX
        beyond += bool((voxels[:, :2] < -edge).any() or (voxels[:, :2] > np.array([columns, rows]) - 1 + edge).any())
    return planes, off, beyond


def _check_labels(labels: dict[int, int]) -> list[Check]:
    if all(number == label for number, label in labels.items()):
        return []
    text = "ROI numbers that are no labels: labels are counted from 1 in the order of the structure set"
    return [Check("roi_numbers", "fixed", None, [1, LARGEST_LABEL], text)]


def _check_kinds(rois: Sequence[_Roi], closed: int) -> list[Check]:
    ignored = sum(roi.open_contours for roi in rois)
    checks = []
    if ignored:
        text = f"{ignored} contours are points or open lines, which enclose nothing; {closed} closed ones were taken"
        checks.append(Check("contour_kinds", "warning", ignored, 0, text))
    empty = sum(not roi.contours for roi in rois)
    if empty:
        checks.append(Check("empty_rois", "warning", empty, 0, f"{empty} of {len(rois)} ROIs have no closed contour"))
    return checks


def _check_slices(closed: int, off: Sequence[float]) -> Check:
    name = "contour_slices"
    if not off:
        return Check(name, "passed", 0, 0, f"all {closed} contours lie on slices of the picture")
    text = f"{len(off)} of {closed} contours lie on no slice (up to {max(off):.3g} mm off) and were left out"
    return Check(name, "warning", len(off), 0, text)


def _check_extent(outside: int) -> list[Check]:
    if not outside:
        return []
    text = f"{outside} contours reach beyond the edge of the picture and were cut there"
    return [Check("contour_extent", "warning", outside, 0, text)]


def _check_references(sources: Sequence[str], grid: Grid) -> list[Check]:
    if not sources or not grid.sop_instance_uids:
        return []
    absent = len(set(sources) - set(grid.sop_instance_uids))
    if not absent:
        return [Check("references", "passed", 0, 0, "all pictures that it refers to are in this series")]
    text = f"it refers to {len(sources)} pictures, of which {absent} are not in this series"
    return [Check("references", "warning", absent, 0, text)]
