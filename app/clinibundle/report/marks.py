"""What is drawn over a picture of a volume: edges of labels, measured diameters, the patient's sides; as SVG.

Lines over pictures stay thin and crisp at every size, can be switched off, and take a hundredth of a picture's bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.report.edge_path import edge_path
from clinibundle.report.figures import Colour, colour_of
from clinibundle.report.views import View

_KEYS = ("longest_axial_diameter", "perpendicular_diameter")
_LINE_HEIGHT = 1.25  # of the text's size
_CHARACTER_WIDTH = 0.56  # of the same, about; digits of most faces

Place = tuple[float, float]
"""x and y from the picture's upper left corner, mm."""


@dataclass(frozen=True)
class Diameters:
    """The two diameters of a finding, measured in one slice.

    Attributes:
        name: of the finding.
        number: of the lesion, where it has one.
        ends: of the longest diameter and of the perpendicular one, two voxel indices (x, y, z) each.
        lengths_mm: of the same.
    """

    name: str
    number: int | None
    ends: tuple[Sequence[Sequence[float]], Sequence[Sequence[float]]]
    lengths_mm: tuple[float, float]

    @property
    def lengths(self) -> str:
        """Such as `23.4 × 15.1 mm`."""
        return f"{self.lengths_mm[0]:.1f} × {self.lengths_mm[1]:.1f} mm"

    def slice_across(self, axis: int = 2) -> int | None:
        """The slice across that axis of the array that they lie in, from 0; None if they lie in none."""
        indices = {end[axis] for pair in self.ends for end in pair}
        return round(indices.pop()) if len(indices) == 1 else None


def diameters_of(finding: Mapping[str, Any]) -> Diameters | None:
    """The diameters of a row as of `measure_lesions`; None for rows without."""
    if not all(finding.get(f"{key}_{fact}") for key in _KEYS for fact in ("ends_voxel", "mm")):
        return None
    return Diameters(
        name=str(finding["name"]),
        number=finding.get("lesion"),
        ends=(finding[f"{_KEYS[0]}_ends_voxel"], finding[f"{_KEYS[1]}_ends_voxel"]),
        lengths_mm=(float(finding[f"{_KEYS[0]}_mm"]), float(finding[f"{_KEYS[1]}_mm"])),
    )


def diameters_by_slice(findings: Iterable[Mapping[str, Any]]) -> dict[int, list[Diameters]]:
    """The diameters of findings by the slice (third axis, from 0) that they lie in; others cannot be drawn on slices.

    The slices come in the order of their longest diameters, the longest first.
    """
    found: dict[int, list[Diameters]] = {}
    for one in filter(None, map(diameters_of, findings)):
        k = one.slice_across(2)
        if k is not None:
            found.setdefault(k, []).append(one)
    return dict(sorted(found.items(), key=lambda item: -max(one.lengths_mm[0] for one in item[1])))


def measured_in_words(diameters: Sequence[Diameters], most: int = 6) -> str:
    """`tumour 1: 23.4 × 15.1 mm; tumour 2: ...`, or empty; beyond `most` they are only counted."""
    named = [f"{one.name}: {one.lengths}" for one in diameters[:most]]
    return "; ".join(named + [f"{len(diameters) - most} more"] * (len(diameters) > most))


def marks_svg(view: View, *drawn: str, letters: bool = True) -> str:
    """An `<svg>` to be laid over a picture of the whole view, in millimetres from its upper left corner.

    Args:
        view: how the picture is hung.
        drawn: lines that a reader can switch off, as of `edges_svg` and `diameters_svg`.
        letters: say which side of the patient is where.
    """
    width, height = view.size_mm
    sides = _letters_svg(view) if letters else ""
    return (
        f'<svg class="marks" viewBox="0 0 {width:.6g} {height:.6g}" aria-hidden="true">'
        f'<g class="drawn">{"".join(drawn)}</g>{sides}</svg>'
    )


def edges_svg(view: View, masks: Iterable[tuple[int, NDArray[np.bool_]]], colours: Sequence[Colour]) -> str:
    """The edges of labels, each along the sides of its pixels.

    Args:
        view: how the picture is hung.
        masks: label and mask (rows, columns) as hung.
        colours: of the labels, see `colour_of`.
    """
    across, down = view.step_mm
    paths = "".join(
        f'<path stroke="#{bytes(colour_of(label, colours)).hex()}" d="{path}"/>'
        for label, path in ((label, edge_path(mask)) for label, mask in masks)
        if path
    )
    return f'<g class="edges" transform="scale({across:.6g} {down:.6g})">{paths}</g>' if paths else ""


def diameters_svg(view: View, diameters: Sequence[Diameters], text_share: float) -> str:
    """Both diameters of each finding as lines, the perpendicular one dashed, with their lengths beside them.

    Args:
        view: how the picture is hung.
        diameters: that lie in the slice shown.
        text_share: height of the text as a share of the picture's longer side.
    """
    if not diameters:
        return ""
    size = max(view.size_mm) * text_share
    lines, texts = "", ""
    taken: list[tuple[float, float, float]] = []
    for one in diameters:
        long, short = ([view.place_mm(end) for end in pair] for pair in one.ends)
        both = f'd="{_line(*long)}{_line(*short)}"'
        lines += f'<path class="halo" {both}/><path d="{_line(*long)}"/><path class="short" d="{_line(*short)}"/>'
        words = one.lengths if one.number is None else f"#{one.number}  {one.lengths}"
        texts += _text_beside([*long, *short], words, size, view, taken)
    return f'<g class="diameters">{lines}<g font-size="{size:.4g}">{texts}</g></g>'


def numbers_svg(view: View, diameters: Sequence[Diameters], text_share: float) -> str:
    """The number of each lesion beside it; arguments as for `diameters_svg`."""
    size = max(view.size_mm) * text_share
    taken: list[tuple[float, float, float]] = []
    texts = "".join(
        _text_beside([view.place_mm(end) for pair in one.ends for end in pair], f"#{one.number}", size, view, taken)
        for one in diameters
        if one.number is not None
    )
    return f'<g font-size="{size:.4g}">{texts}</g>' if texts else ""


def _line(start: Place, end: Place) -> str:
    return f"M{start[0]:.6g} {start[1]:.6g}L{end[0]:.6g} {end[1]:.6g}"


def _text_beside(
    places: Sequence[Place],
    words: str,
    size: float,
    view: View,
    taken: list[tuple[float, float, float]],
) -> str:
    """Words on the roomier side of places, moved down, or up at the foot of the picture, past what is `taken`.

    Args:
        places: not to be covered.
        words: of one line.
        size: of the text, mm.
        view: that the picture is of.
        taken: left, right and upper edges of other words; the new one is added.
    """
    picture = view.size_mm
    width, line = len(words) * size * _CHARACTER_WIDTH, size * _LINE_HEIGHT
    left, right = min(x for x, _ in places), max(x for x, _ in places)
    goes_right = picture[0] - right >= left
    start = right + size / 2 if goes_right else left - size / 2 - width
    middle = (min(y for _, y in places) + max(y for _, y in places)) / 2
    upper = min(max(middle - line / 2, 0.0), picture[1] - line)
    step = line if middle < picture[1] / 2 else -line
    while any(start < b and start + width > a and abs(upper - other) < line * 0.99 for a, b, other in taken):
        upper += step
    taken.append((start, start + width, upper))
    at, anchor = (start, "start") if goes_right else (start + width, "end")
    return f'<text x="{at:.4g}" y="{upper + size:.4g}" text-anchor="{anchor}">{escape(words)}</text>'


def _letters_svg(view: View) -> str:
    if view.letters is None:
        return ""
    width, height = view.size_mm
    size = max(width, height) / 30
    left, right, above, below = view.letters
    middle = height / 2 + size / 3
    return (
        f'<g class="letters" font-size="{size:.4g}" text-anchor="middle">'
        f'<text x="{size:.4g}" y="{middle:.4g}">{left}</text>'
        f'<text x="{width - size:.4g}" y="{middle:.4g}">{right}</text>'
        f'<text x="{width / 2:.4g}" y="{size * 1.2:.4g}">{above}</text>'
        f'<text x="{width / 2:.4g}" y="{height - size * 0.5:.4g}">{below}</text></g>'
    )
