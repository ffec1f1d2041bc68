"""The geometry gate: slices get an order and an affine, or a refusal that names value, limit and instances.

Nothing passes that a reader would have to guess: uneven or missing slices, two pictures at one place, planes that are
not parallel, a tilted gantry that nobody asked to correct. Coordinates are those of PS3.3 C.7.6.2: millimetres,
towards the patient's left, back and head (LPS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinibundle.checks import Check
from clinibundle.dicom.frames import Slice
from clinibundle.dicom.gate_checks import check_frame_of_reference, check_order, check_thickness, some
from clinibundle.dicom.stacks import SAME_POSITION_MM
from clinibundle.dicom.values import number, numbers, text
from clinibundle.errors import GeometryError

AXES_TOLERANCE = 1e-3
"""How far row and column direction may be from unit length and from a right angle (cosine)."""
PARALLEL_TOLERANCE_DEG = 0.1
"""Largest angle between the planes of two slices."""
SPACING_TOLERANCE_MM = 0.1
"""How far a slice may lie from its place on an even grid, along the normal or across it."""
SPACING_TOLERANCE_SHARE = 0.1
"""The same as a share of the slice spacing, for thin slices; the smaller of the two counts."""
PIXEL_SPACING_TOLERANCE = 1e-3
"""Largest relative difference of the pixel spacing between slices."""
TILT_TOLERANCE_DEG = 0.1
"""Largest angle between the normal of the planes and the way from slice to slice, where it leads further aside than
SPACING_TOLERANCE_MM from the first slice to the last: few thin slices lean by the rounding of their positions alone."""
LARGEST_TILT_DEG = 45.0
"""No gantry tilts as far (30 degrees are usual): slices that lie beside each other are no volume."""
PLAUSIBLE_MM = (1e-3, 1e3)
"""Pixel and slice spacings outside are typing errors."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A stack that passed the gate.

    Attributes:
        slices: in the order of rising position along the normal, one for each position.
        repeated: further slices at the position of one of them, with its place in `slices`: equal or not, their pixels
            have to say.
        affine_lps: (4, 4), voxel index (column, row, slice) to millimetres; its third axis is the step from slice to
            slice, which is not the normal where the gantry was tilted.
        spacing_mm: of (column, row, slice); the last along the normal.
        tilt_degrees: between the normal and the step.
        checks: what was looked at.
    """

    slices: tuple[Slice, ...]
    repeated: tuple[tuple[int, Slice], ...]
    affine_lps: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    tilt_degrees: float
    checks: tuple[Check, ...]

    @property
    def coverage_mm(self) -> float:
        """From the outer face of the first slice to that of the last, along the normal."""
        return self.spacing_mm[2] * len(self.slices)


def place(slices: Sequence[Slice], series: str, tilt_allowed: bool = False) -> Placed:
    """Order and affine of the slices of a stack.

    Args:
        slices: in any order.
        series: what refusals call the series.
        tilt_allowed: a tilted gantry is stated in the result; otherwise it is refused.

    Raises:
        GeometryError: if the slices have no trustworthy place in the patient.
    """
    rows, columns = _axes(slices, series)
    row_mm, column_mm, pixel_check = _pixel_spacing(slices, series)
    normal = np.cross(rows, columns)
    positions = _positions(slices, series)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    kept, repeated = _without_repeated(order, positions)
    ordered = [slices[i] for i in kept]
    step, spacing_check = _step(positions[kept], heights[kept], normal, ordered, series)
    tilt, tilt_check = _tilt(step, normal, len(ordered), series, tilt_allowed)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = rows * column_mm, columns * row_mm, step
    affine[:3, 3] = positions[kept[0]]
    along = float(step @ normal)
    checks = [check_order([slices[i] for i in order]), spacing_check, tilt_check, pixel_check]
    checks += [check_thickness(ordered, along), check_frame_of_reference(slices, series)]
    return Placed(
        slices=tuple(ordered),
        repeated=tuple((position, slices[i]) for position, i in repeated),
        affine_lps=affine,
        spacing_mm=(column_mm, row_mm, along),
        tilt_degrees=tilt,
        checks=tuple(checks),
    )


def _axes(slices: Sequence[Slice], series: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions of a row and of a column, of unit length and at a right angle."""
    found = [numbers(s.header, "ImageOrientationPatient", 6) for s in slices]
    without = [s for s, axes in zip(slices, found, strict=True) if axes is None]
    if without:
        raise GeometryError(
            f"{series}: {some(without)} without ImageOrientationPatient, so nobody knows which way they lie; expected "
            "it in every slice; export the study again with its geometry"
        )
    axes = np.array(found, dtype=np.float64).reshape(-1, 2, 3)
    lengths = np.linalg.norm(axes, axis=2)
    skew = np.abs((axes[:, 0] * axes[:, 1]).sum(axis=1))
    worst = max(float(np.abs(lengths - 1).max()), float(skew.max()))
    if worst > AXES_TOLERANCE:
        bad = int(np.maximum(np.abs(lengths - 1).max(axis=1), skew).argmax())
        raise GeometryError(
            f"{series}: the row and column directions of {slices[bad].name} are not at a right angle or not of unit "
            f"length (off by {worst:.3g}, limit {AXES_TOLERANCE:g}); its header is damaged, export the study again"
        )
    angles = np.degrees(np.linalg.norm(axes - axes[0], axis=2))
    if angles.max() > PARALLEL_TOLERANCE_DEG:
        bad = int(angles.max(axis=1).argmax())
        raise GeometryError(
            f"{series}: the planes of {slices[0].name} and {slices[bad].name} differ by {angles.max():.2f} degrees "
            f"(limit {PARALLEL_TOLERANCE_DEG:g}); a volume needs parallel slices, choose another series"
        )
    # The median does not depend on the order of the slices, and is exact where all are equal.
    row, column = np.median(axes, axis=0)
    row = row / np.linalg.norm(row)
    column = column - row * (row @ column)
    return row, column / np.linalg.norm(column)


def _pixel_spacing(slices: Sequence[Slice], series: str) -> tuple[float, float, Check]:
    """Distance of rows and of columns."""
    found = [numbers(s.header, "PixelSpacing", 2) for s in slices]
    low, high = PLAUSIBLE_MM
    without = [
        s
        for s, pair in zip(slices, found, strict=True)
        if pair is None or not all(low <= side <= high for side in pair)
    ]
    if without:
        raise GeometryError(
            f"{series}: {some(without)} without a usable PixelSpacing (expected two values between {low:g} and "
            f"{high:g} mm); nothing could be measured, export the study again"
        )
    pairs = np.array(found, dtype=np.float64)
    spread = float((np.ptp(pairs, axis=0) / pairs.min(axis=0)).max())
    if spread > PIXEL_SPACING_TOLERANCE:
        raise GeometryError(
            f"{series}: pixel spacing differs between slices by {spread:.2%} (limit {PIXEL_SPACING_TOLERANCE:.1%}); "
            "they cannot form one volume, choose another series"
        )
    row_mm, column_mm = (float(side) for side in np.median(pairs, axis=0))
    value = [row_mm, column_mm]
    if abs(row_mm - column_mm) > PIXEL_SPACING_TOLERANCE * row_mm:
        return (
            row_mm,
            column_mm,
            Check("pixel_spacing", "warning", value, None, "pixels are not square; taken as stated"),
        )
    return row_mm, column_mm, Check("pixel_spacing", "passed", value, None, "square pixels, the same in every slice")


def _positions(slices: Sequence[Slice], series: str) -> NDArray[np.float64]:
    found = [s.position_mm for s in slices]
    without = [s for s, position in zip(slices, found, strict=True) if position is None]
    if without:
        raise GeometryError(
            f"{series}: {some(without)} without a usable ImagePositionPatient; SliceLocation and instance numbers do "
            "not say where in the patient they lie; export the study again with its geometry"
        )
    return np.array(found, dtype=np.float64)


def _without_repeated(
    order: NDArray[np.intp], positions: NDArray[np.float64]
) -> tuple[list[int], list[tuple[int, int]]]:
    """The first slice at each position, and the others with the place of that first one."""
    kept: list[int] = []
    repeated: list[tuple[int, int]] = []
    for index in (int(i) for i in order):
        if kept and np.abs(positions[index] - positions[kept[-1]]).max() < SAME_POSITION_MM:
            repeated.append((len(kept) - 1, index))
        else:
            kept.append(index)
    return kept, repeated


def _step(
    positions: NDArray[np.float64],
    heights: NDArray[np.float64],
    normal: NDArray[np.float64],
    slices: Sequence[Slice],
    series: str,
) -> tuple[NDArray[np.float64], Check]:
    """The way from slice to slice, if it is always the same."""
    if len(slices) == 1:
        return _single_step(slices[0], normal)
    gaps = np.diff(heights)
    median = float(np.median(gaps))
    low, high = PLAUSIBLE_MM
    if not low <= median <= high:
        raise GeometryError(
            f"{series}: its slices lie {median:.4g} mm apart, expected {low:g} to {high:g} mm; they lie beside each "
            "other, or a header is damaged; choose another series"
        )
    limit = min(SPACING_TOLERANCE_MM, SPACING_TOLERANCE_SHARE * median)
    table = [round(float(gaps.min()), 4), round(float(gaps.max()), 4)]
    if np.abs(gaps - median).max() > 2 * limit:
        raise GeometryError(_uneven(gaps, median, limit, slices, series))
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    off = positions - positions[0] - np.arange(len(slices))[:, None] * step
    along, across = np.abs(off @ normal), np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1)
    worst = int(np.maximum(along, across).argmax())
    distance = float(max(along[worst], across[worst]))
    if distance > limit:
        raise GeometryError(
            f"{series}: {slices[worst].name} lies {distance:.2f} mm beside its place on an even grid (limit "
            f"{limit:.2g} mm): slices are shifted or unevenly spaced; choose another series"
        )
    text_ = f"{len(slices)} slices, evenly {median:.4g} mm apart (largest deviation {distance:.3f} mm)"
    return step, Check("slice_spacing", "passed", table, limit, text_)


def _single_step(one: Slice, normal: NDArray[np.float64]) -> tuple[NDArray[np.float64], Check]:
    thickness = number(one.header, "SliceThickness") or number(one.header, "SpacingBetweenSlices")
    low, high = PLAUSIBLE_MM
    if thickness is None or not low <= thickness <= high:
        detail = "a single slice of unknown thickness; 1 mm is assumed, so volumes are not known"
        return normal, Check("slice_spacing", "warning", None, None, detail)
    detail = f"a single slice; its thickness of {thickness:g} mm is taken as spacing"
    return normal * thickness, Check("slice_spacing", "warning", [thickness, thickness], None, detail)


def _uneven(gaps: NDArray[np.float64], median: float, limit: float, slices: Sequence[Slice], series: str) -> str:
    """One sentence: between which slices the spacing breaks, and whether slices are missing there."""
    smallest = float(gaps.min())
    steps = gaps / max(smallest, SAME_POSITION_MM)
    lost = int(np.round(steps).sum()) - len(gaps)
    is_whole = bool(np.abs(steps - np.round(steps)).max() < SPACING_TOLERANCE_SHARE)
    if is_whole and lost > 0 and smallest > SAME_POSITION_MM:
        at = int(gaps.argmax())
        reason = f"at least {lost} slice{'s are' if lost > 1 else ' is'} missing"
    else:
        at = int(np.abs(gaps - median).argmax())
        reason = "its slices are uneven"
    return (
        f"{series}: slice spacing varies from {smallest:.4g} to {float(gaps.max()):.4g} mm (limit {limit:.2g} mm), "
        f"worst between {_told_apart(slices[at], slices[at + 1])}; {reason}; "
        "send the study again or choose another series"
    )


def _told_apart(one: Slice, other: Slice) -> str:
    """Two slices by their instance numbers, or by their files where that does not tell them apart."""
    numbers_ = [text(s.header, "InstanceNumber") for s in (one, other)]
    if "" in numbers_ or numbers_[0] == numbers_[1]:
        return f"{one.name} and {other.name}"
    return f"instance {numbers_[0]} and instance {numbers_[1]}"


def tilt_of(step: NDArray[np.float64], normal: NDArray[np.float64], slices: int) -> tuple[float, bool]:
    """Angle between the way from slice to slice and the normal in degrees, and whether it counts as a tilt."""
    upright = normal / np.linalg.norm(normal)
    along = float(step @ upright)
    aside = float(np.linalg.norm(step - along * upright))
    tilt = float(np.degrees(np.arctan2(aside, abs(along))))
    return tilt, tilt > TILT_TOLERANCE_DEG and aside * (slices - 1) > SPACING_TOLERANCE_MM


def _tilt(
    step: NDArray[np.float64], normal: NDArray[np.float64], slices: int, series: str, allowed: bool
) -> tuple[float, Check]:
    tilt, counts = tilt_of(step, normal, slices)
    if not counts:
        return 0.0, Check(
            "gantry_tilt", "passed", round(tilt, 3), TILT_TOLERANCE_DEG, "slices lie straight behind each other"
        )
    if tilt > LARGEST_TILT_DEG:
        raise GeometryError(
            f"{series}: its slices are shifted against each other by {tilt:.1f} degrees (limit "
            f"{LARGEST_TILT_DEG:g}), more than any gantry tilts; choose another series"
        )
    if not allowed:
        raise GeometryError(
            f"{series}: the gantry was tilted, slices are shifted against each other by {tilt:.1f} degrees (limit "
            f"{TILT_TOLERANCE_DEG:g}); add --correct-tilt to have them straightened, or choose another series"
        )
    return tilt, Check(
        "gantry_tilt", "fixed", round(tilt, 2), TILT_TOLERANCE_DEG, f"the gantry was tilted by {tilt:.1f} degrees"
    )
