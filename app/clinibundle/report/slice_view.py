"""The slices of a volume for a report in which a reader scrolls through them, within a limit of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from clinibundle.report.case_figures import key_slices
from clinibundle.report.figures import Colour, grey_webp
from clinibundle.report.marks import (
    Diameters,
    diameters_by_slice,
    diameters_svg,
    edges_svg,
    marks_svg,
    measured_in_words,
)
from clinibundle.report.views import View, slice_view_of
from clinibundle.volume import Volume

# Characters of HTML; key pictures and overviews come on top, so that a report stays below 8 MB.
_MOST_CHARACTERS = 5_200_000
# Of a slice's longer side, px. The largest with which all slices fit; if none does, slices are left out.
_SIDES = (512, 448, 384, 320)
_TRIED = 9
_CHARACTERS_PER_BYTE = 4 / 3  # base64
# Slices shown on either side of an outline, in which one can see where it ought to have gone on.
_MARGIN = 2
# Of the slices shown, as long as some are left for the rest.
_MOST_WITH_OUTLINE = 0.8
_TEXT_SHARE = 1 / 36
_SAMPLED_PER_AXIS = 64


@dataclass(frozen=True)
class ShownSlice:
    """A slice of the view.

    Attributes:
        number: along the third axis, from 0.
        picture: WebP.
        marks: SVG over it: outlines, measured diameters, the patient's sides.
        caption: with the slice's number as people count.
    """

    number: int
    picture: bytes
    marks: str
    caption: str


@dataclass(frozen=True)
class SliceView:
    """Slices to scroll through.

    Attributes:
        slices: in the order of the volume.
        first: which of them a reader sees first.
        note: how many of how many they are, and why.
    """

    slices: tuple[ShownSlice, ...]
    first: int
    note: str


def slice_view(
    volume: Volume,
    label_map: NDArray[np.integer[Any]],
    colours: Sequence[Colour],
    window: tuple[float, float] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
    most_characters: int = _MOST_CHARACTERS,
) -> SliceView | None:
    """The slices of a volume, all of them if they fit; None for a flat picture. Slice by slice, without a copy.

    Args:
        volume: (x, y, z); slices lie across z.
        label_map: on its grid.
        colours: of the labels.
        window: values shown black and white; by percentiles of the whole volume if not given.
        findings: as in measurements.json; their diameters are drawn in, and those slices are never left out.
        most_characters: of HTML, about.
    """
    if label_map.ndim != 3:
        return None
    draw = _Drawing(
        volume=volume,
        label_map=label_map,
        view=slice_view_of(volume.spatial_shape, volume.affine_lps, volume.spacing_mm),
        colours=colours,
        limits=window or _percentiles(volume.array),
        diameters=diameters_by_slice(findings),
    )
    count = label_map.shape[2]
    telling = key_slices(label_map, draw.diameters)
    side, fitting = _fitting(draw, most_characters, telling[0])
    outlined = np.array([label_map[:, :, k].any() for k in range(count)])
    numbers, note = shown_slices(outlined, fitting, {*telling, *draw.diameters})
    return SliceView(tuple(draw.slice(k, side) for k in numbers), numbers.index(telling[0]), note)


def shown_slices(outlined: NDArray[np.bool_], most: int, always: Iterable[int] = ()) -> tuple[list[int], str]:
    """Which slices are shown if not all can be: those in and beside outlines, and an even choice of the others.

    Where outlines alone are too many, an even choice of all.

    Args:
        outlined: whether each slice holds an outline.
        most: about how many may be shown.
        always: slices that are shown whatever comes.

    Returns:
        Slices in their order, and a sentence that says how they were chosen.
    """
    count = len(outlined)
    if count <= most:
        return list(range(count)), "The only slice." if count == 1 else f"All {count} slices."
    near = maximum_filter1d(outlined.astype(np.uint8), 2 * _MARGIN + 1, mode="constant") > 0
    inside = int(np.count_nonzero(near))
    kept = near if inside <= _MOST_WITH_OUTLINE * most else np.zeros(count, bool)
    others = np.flatnonzero(~kept)
    places = max(1, most - int(np.count_nonzero(kept)))
    shown = kept.copy()
    shown[others[np.linspace(0, len(others) - 1, places).round().astype(int)]] = shown[list(always)] = True
    which = "all near outlines, and an even choice of the others" if kept.any() else "an even choice"
    note = f"{np.count_nonzero(shown)} of {count} slices, so that this page stays small: {which}."
    return np.flatnonzero(shown).tolist(), note


@dataclass(frozen=True, eq=False)
class _Drawing:
    """All that a slice is drawn from."""

    volume: Volume
    label_map: NDArray[np.integer[Any]]
    view: View
    colours: Sequence[Colour]
    limits: tuple[float, float]
    diameters: Mapping[int, Sequence[Diameters]]

    def slice(self, k: int, side: int) -> ShownSlice:
        """As the report shows it, its longer side not above so many pixels."""
        here = self.diameters.get(k, ())
        measured = measured_in_words(here)
        caption = f"slice {k + 1} of {self.label_map.shape[2]}"
        edges = edges_svg(self.view, self._masks(k), self.colours)
        return ShownSlice(
            number=k,
            picture=grey_webp(self.view.picture(self.volume.array[:, :, k]), side, self.limits, self.view.step_mm),
            marks=marks_svg(self.view, edges, diameters_svg(self.view, here, _TEXT_SHARE)),
            caption=f"{caption}; {measured}" if measured else caption,
        )

    def _masks(self, k: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        labels = self.view.picture(self.label_map[:, :, k])
        # Counting is much faster than sorting, and most slices hold few labels or none.
        for label in np.flatnonzero(np.bincount(labels.ravel())[1:]).tolist():
            yield label + 1, labels == label + 1


def _fitting(draw: _Drawing, most_characters: int, telling: int) -> tuple[int, int]:
    """A side in px, and how many slices of that side fit; judged by some of them."""
    count = draw.label_map.shape[2]
    tried = {telling, *np.linspace(0, count - 1, min(_TRIED, count)).round().astype(int).tolist()}
    fitting = 0
    for side in _SIDES:
        made = [draw.slice(k, side) for k in sorted(tried)]
        mean = sum(len(s.picture) * _CHARACTERS_PER_BYTE + len(s.marks) for s in made) / len(made)
        fitting = max(1, int(most_characters / mean))
        if fitting >= count:
            return side, fitting
    return _SIDES[-1], fitting


def _percentiles(array: NDArray[Any]) -> tuple[float, float]:
    """Grey values that hold all but the outermost hundredths, of some thousands of voxels."""
    steps = tuple(slice(None, None, max(1, size // _SAMPLED_PER_AXIS)) for size in array.shape[:3])
    sample = array[steps].astype(np.float32)
    low, high = np.percentile(sample[np.isfinite(sample)], (1, 99)) if np.isfinite(sample).any() else (0.0, 1.0)
    return float(low), float(high)
