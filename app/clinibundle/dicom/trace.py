"""The outline of a mask as polygons that contain exactly the centres of its pixels.

scikit-image follows the outline; joining holes to what surrounds them, as an RTSTRUCT wants them, no library does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

Loop = NDArray[np.float64]
"""A closed polygon (points, 2): columns x and rows y in pixels, whose centres are whole; the first point comes once."""


def outlines_of(mask: NDArray[np.bool_]) -> list[Loop]:
    """The outlines of all parts of a mask and of their holes; filled by the even-odd rule they give back the mask.

    They run midway between the centres of pixels inside and outside, so that no centre is nearer than 0.35 pixels and
    rounding does no harm. No two of them touch: parts that meet at a corner only are apart, holes that do are one.

    Args:
        mask: (rows, columns).
    """
    return [_corners(loop) for loop in _loops(mask)]


def keyholed_outlines_of(mask: NDArray[np.bool_]) -> list[Loop]:
    """The outline of each part of a mask, its holes included by the keyhole technique (PS3.3 C.8.8.6.3).

    From the top of each hole a channel without width leads straight up, through pixels of the part, to the outline
    above it.

    Args:
        mask: (rows, columns).
    """
    loops = _loops(mask)
    holes = [number for number, loop in enumerate(loops) if _is_hole(loop, mask)]
    if not holes:
        return [_corners(loop) for loop in loops]
    places = {tuple(point): (number, at) for number, loop in enumerate(loops) for at, point in enumerate(loop.tolist())}
    channels: defaultdict[int, list[tuple[int, Loop]]] = defaultdict(list)
    # From the lowest up: a hole has all its own holes' channels before it is joined to what lies above it.
    for number in sorted(holes, key=lambda number: -float(loops[number][0, 1])):
        number_above, at = places[_above(loops[number], mask)]
        channels[number_above].append((at, _joined(loops[number], channels.pop(number, []))))
    parts = sorted(set(range(len(loops))) - set(holes))
    return [_corners(_joined(loops[number], channels[number])) for number in parts]


def _loops(mask: NDArray[np.bool_]) -> list[Loop]:
    """Each outline from a point at its top on, with a point between each two neighbours that it parts."""
    filled_rows, filled_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(filled_rows):
        return []
    top, left = int(filled_rows[0]), int(filled_columns[0])
    cropped = mask[top : filled_rows[-1] + 1, left : filled_columns[-1] + 1]
    # With a rim of background, so that every outline is closed; its last point is its first one.
    found = find_contours(np.pad(cropped, 1).astype(np.float64), 0.5, fully_connected="low")
    loops = [loop[:-1, ::-1] + (left - 1, top - 1) for loop in found]
    return [np.roll(loop, -int(loop[:, 1].argmin()), axis=0) for loop in loops]


def _is_hole(loop: Loop, mask: NDArray[np.bool_]) -> bool:
    """Whether the pixel below its top is outside."""
    x, y = loop[0]
    return not mask[int(y + 0.5), int(x)]


def _above(hole: Loop, mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The first point of an outline straight above the top of a hole."""
    x, y = hole[0]
    outside = np.flatnonzero(~mask[: int(y + 0.5), int(x)])
    return float(x), float(outside[-1]) + 0.5 if len(outside) else -0.5


def _joined(loop: Loop, channels: Sequence[tuple[int, Loop]]) -> Loop:
    """A loop with holes joined to it, each from a point of the loop, by its index, to the hole's first and back."""
    pieces, done = [], 0
    for at, hole in sorted(channels, key=lambda channel: channel[0]):
        pieces += [loop[done : at + 1], hole, hole[:1]]
        done = at
    return np.concatenate([*pieces, loop[done:]])


def _corners(loop: Loop) -> Loop:
    """Without the points on straight stretches, between which all steps are the same."""
    steps = np.diff(loop, axis=0, append=loop[:1])
    return np.asarray(loop[(steps != np.roll(steps, 1, axis=0)).any(axis=1)])
