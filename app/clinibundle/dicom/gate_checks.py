"""Facts about the slices of a stack that do not decide where they lie, and how refusals name slices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from clinibundle.checks import Check
from clinibundle.dicom.frames import Slice
from clinibundle.dicom.values import number, text
from clinibundle.errors import GeometryError

_SHOWN_SLICES = 3
# Thicknesses that differ by less are rounded differently.
_THICKNESS_TOLERANCE_MM = 0.1


def check_order(slices: Sequence[Slice]) -> Check:
    """What instance numbers say of slices ordered by position: they are not used, but tell what may be missing.

    A series of which every second slice is lost is perfectly even; only its numbers jump.
    """
    counted = [number(one.header, "InstanceNumber") for one in slices]
    known = [value for value in counted if value is not None]
    steps = {abs(b - a) for a, b in pairwise(known)}
    if len(known) < len(slices) or known not in (sorted(known), sorted(known, reverse=True)):
        detail = "slices in the order of their positions; instance numbers do not follow them and were not used"
        return Check("slice_order", "passed", len(slices), None, detail)
    if len(steps) == 1 and max(steps) > 1:
        detail = f"instance numbers go up by {max(steps):g}: what lies between may be missing, or another volume"
        return Check("slice_order", "warning", max(steps), 1, detail)
    detail = "slices in the order of their positions; instance numbers agree"
    return Check("slice_order", "passed", len(slices), None, detail)


def check_thickness(slices: Sequence[Slice], spacing: float) -> Check:
    """Whether slices fill the space between them; `spacing` in mm along the normal."""
    found = [value for s in slices if (value := number(s.header, "SliceThickness")) is not None]
    name = "slice_thickness"
    if not found:
        return Check(name, "warning", None, None, "the slice thickness is not given")
    if max(found) - min(found) > _THICKNESS_TOLERANCE_MM:
        detail = f"the slice thickness changes from {min(found):g} to {max(found):g} mm within the series"
        return Check(name, "warning", [min(found), max(found)], _THICKNESS_TOLERANCE_MM, detail)
    thickness = found[0]
    if len(slices) > 1 and thickness < spacing - _THICKNESS_TOLERANCE_MM:
        detail = f"slices of {thickness:g} mm every {spacing:.4g} mm: what lies between them was not seen"
        return Check(name, "warning", thickness, round(spacing, 4), detail)
    return Check(name, "passed", thickness, round(spacing, 4), f"slices of {thickness:g} mm every {spacing:.4g} mm")


def check_frame_of_reference(slices: Sequence[Slice], series: str) -> Check:
    """One for all slices, or positions cannot be compared: GeometryError."""
    uids = {text(s.header, "FrameOfReferenceUID") for s in slices}
    if len(uids) > 1:
        raise GeometryError(
            f"{series}: its slices refer to {len(uids)} frames of reference; positions of one cannot be compared with "
            "those of another, choose another series"
        )
    if not uids - {""}:
        detail = "no frame of reference is given; the outline cannot be laid over another series"
        return Check("frame_of_reference", "warning", None, None, detail)
    return Check("frame_of_reference", "passed", 1, 1, "one frame of reference")


def some(slices: Sequence[Slice]) -> str:
    """The first few by name, and how many more."""
    shown = ", ".join(s.name for s in slices[:_SHOWN_SLICES])
    more = len(slices) - _SHOWN_SLICES
    return f"{shown} and {more} more are" if more > 0 else f"{shown} {'is' if len(slices) == 1 else 'are'}"
