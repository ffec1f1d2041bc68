"""The edge of a mask as SVG path data: along the sides of its pixels, so that it is exact at every size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def edge_path(mask: NDArray[np.bool_]) -> str:
    """Closed polygons that, filled by the even-odd rule, cover exactly the pixels of a mask.

    Units are pixels, with the upper left corner of the picture at 0 0. No library gives that: scikit-image's contours
    run between the centres of pixels, and so leave a rim of half a pixel out.

    Args:
        mask: (rows, columns).

    Returns:
        `M3 5h2v1h-2z` and so on; empty for an empty mask.
    """
    xs, ys = _corners(mask)
    # Row by row, and column by column, the corners lie in pairs that a straight edge joins.
    by_column = np.lexsort((ys, xs))
    below = np.empty(len(xs), np.intp)
    below[by_column] = by_column[np.arange(len(xs)) ^ 1]
    x, y, vertical = xs.tolist(), ys.tolist(), below.tolist()

    pieces, done = [], [False] * len(x)
    for start in range(len(x)):
        if done[start]:
            continue
        pieces.append(f"M{x[start]} {y[start]}")
        at = start
        while True:
            beside = at ^ 1
            pieces.append(f"h{x[beside] - x[at]}")
            done[at] = done[beside] = True
            at = vertical[beside]
            if at == start:
                break
            pieces.append(f"v{y[at] - y[beside]}")
        pieces.append("z")
    return "".join(pieces)


def _corners(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the edge turns, x and y row by row; twice where two pixels meet at a corner only."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    padded = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    one, two, three, four = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    crossing = (one == four) & (two == three) & (one != two)
    ys, xs = np.nonzero((one ^ two ^ three ^ four) | crossing)
    times = 1 + crossing[ys, xs]
    return np.repeat(xs + columns[0], times), np.repeat(ys + rows[0], times)
