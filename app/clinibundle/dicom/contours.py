"""Closed contours to masks: a voxel is in if its centre is.

Why not scikit-image: it fills polygons one by one, and a voxel centre on an edge that two of them share (a hole, the
bridge of a keyhole) belongs to both or to none. Here all contours of a plane are filled at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Voxel coordinates are rounded to so many decimals: contours drawn through voxel centres lie on them, whatever the
# arithmetic on the way made of the last digits.
_DECIMALS = 6
# Bounds the memory: edges times rows they may cross.
_EDGES_AT_ONCE = 4096


def fill_even_odd(contours: Iterable[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The voxels whose centres lie inside an odd number of contours.

    So a contour inside another one is a hole, and the two ways along the bridge of a keyhole contour (PS3.3 C.8.8.6.3)
    cancel. Of a contour that runs exactly through voxel centres, those on its left and upper edge are in.

    Args:
        contours: each (points, 2), columns x and y in voxels; the last point is joined to the first.
        shape: rows and columns.

    Returns:
        (rows, columns) mask.
    """
    rows, columns = shape
    # Bytes that overflow still tell odd from even.
    crossings = np.zeros((rows, columns + 1), np.uint8)
    for contour in contours:
        points = np.round(contour, _DECIMALS)
        edges = np.stack([points, np.roll(points, -1, axis=0)], axis=1)
        for start in range(0, len(edges), _EDGES_AT_ONCE):
            row, x = _row_crossings(edges[start : start + _EDGES_AT_ONCE], rows)
            np.add.at(crossings, (row, np.ceil(np.clip(x, 0, columns)).astype(np.intp)), 1)
    return np.asarray(np.cumsum(crossings, axis=1, dtype=np.uint8)[:, :-1] % 2 == 1)


def _row_crossings(edges: NDArray[np.float64], rows: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where edges (edges, 2 points, x and y) cross the lines of voxel centres: the row and x of each crossing."""
    # From the upper to the lower point: an edge that is passed both ways crosses at the same x to the last digit.
    upside_down = edges[:, 0, 1] > edges[:, 1, 1]
    edges = np.where(upside_down[:, np.newaxis, np.newaxis], edges[:, ::-1], edges)
    # The upper end belongs to an edge, the lower does not, so that a vertex on a row counts once.
    first, end = np.clip(np.ceil(edges[:, :, 1]), 0, rows).astype(np.intp).T
    count = end - first
    edge = np.repeat(np.arange(len(edges)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (x0, y0), (x1, y1) = edges[edge].transpose(1, 2, 0)
    return row, x0 + (row - y0) * (x1 - x0) / (y1 - y0)
