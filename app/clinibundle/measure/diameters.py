"""The longest diameter of a lesion in a slice, and the longest one across it, between the outer edges of pixels.

RECIST 1.1 (Eisenhauer et al., Eur J Cancer 2009;45:228-247, doi 10.1016/j.ejca.2008.10.026) measures the longest
diameter in the plane of measurement, the axial one for CT. Bidimensional criteria such as RANO (Wen et al., J Clin
Oncol 2010;28:1963-1972) add the longest diameter perpendicular to it in the same slice. Neither says where on a pixel a
diameter ends. Here a pixel is a rectangle of its spacing, and diameters run from outer edge to outer edge: a single
pixel has its diagonal, and a lesion does not lose a pixel of length, as it does between pixel centres.

- The longest diameter is the largest distance of two pixel corners of the mask, which is that of its convex hull. It
  may cross a hole, a bay, or the gap between two parts of a lesion that are joined in another slice.
- The perpendicular diameter: on every line at right angles to the longest one (in millimetres, not in pixels) lie two
  outermost points of the mask; it is the largest distance of such two. Both of its ends are on the mask's edge, which
  those of a chord of the hull are not where the mask is hollowed; for a convex mask both are the same.

No library measures both: scikit-image's `feret_diameter_max` runs between the middles of pixel sides and has no ends,
ITK's Feret diameter between pixel centres, and neither has the second diameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

# Of lengths: what differs by less is equal, so that rounding does not choose among equal diameters or slices.
_ROUNDING = 1e-12
# Of the finer pixel side: by so much a line may pass a corner and still meet it.
_MEETING = 1e-9


@dataclass(frozen=True)
class Diameter:
    """A straight line across a flat mask.

    Attributes:
        length_mm: between its ends.
        ends: two places (first axis, second axis) as pixel index; centres of pixels are whole numbers, their edges lie
            half a pixel beside them.
    """

    length_mm: float
    ends: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class SliceDiameters:
    """The diameters of a lesion in the slice that shows it longest."""

    slice_index: int
    longest: Diameter
    perpendicular: Diameter


def diameters_in_longest_slice(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> SliceDiameters:
    """Both diameters in the slice whose longest diameter is largest, the lower slice of equal ones.

    Args:
        mask: one lesion, (x, y, slice), not empty.
        spacing_mm: of the pixels of a slice, (x, y).

    Raises:
        ValueError: if the mask is empty.
    """
    best: tuple[int, Diameter] | None = None
    for index in np.flatnonzero(mask.any(axis=(0, 1))).tolist():
        longest = longest_diameter(mask[:, :, index], spacing_mm)
        if best is None or longest.length_mm > best[1].length_mm * (1 + _ROUNDING):
            best = index, longest
    if best is None:
        raise ValueError("a mask without a voxel has no diameter")
    index, longest = best
    return SliceDiameters(index, longest, perpendicular_diameter(mask[:, :, index], spacing_mm, longest))


def longest_diameter(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Diameter:
    """The two pixel corners that lie furthest apart; of equal pairs that with the lowest index.

    Exact: all pairs of corners of the convex hull, of which even a mask of 512 × 512 pixels has few.

    Args:
        mask: two axes, not empty.
        spacing_mm: of the pixels along both axes.

    Raises:
        ValueError: if the mask is empty.
    """
    hull = _hull(mask)
    places = hull * spacing_mm
    distances = cdist(places, places)
    furthest = np.argmax(distances >= distances.max() * (1 - _ROUNDING))
    start, end = np.unravel_index(furthest, distances.shape)
    return Diameter(float(distances[start, end]), (_pair(hull[start]), _pair(hull[end])))


def perpendicular_diameter(mask: NDArray[np.bool_], spacing_mm: Sequence[float], longest: Diameter) -> Diameter:
    """The longest one at right angles to the longest diameter, as this module's first lines define it.

    Exact: from one corner to the next along the longest diameter, both outermost points run straight, each on one edge;
    so the longest line goes through a corner. Those where the convex hull is widest come first, and where it is
    narrower than what was found the search ends.

    Args:
        mask: two axes, not empty.
        spacing_mm: of the pixels along both axes.
        longest: of this mask.
    """
    spacing = np.asarray(spacing_mm, np.float64)
    origin = np.array(longest.ends[0]) * spacing
    along = (np.array(longest.ends[1]) * spacing - origin) / longest.length_mm
    axes = np.array([along, [-along[1], along[0]]]).T  # a place in mm times this: how far along and how far across
    meeting = _MEETING * float(spacing.min())

    edges = (_edges(mask) * spacing - origin) @ axes
    # Edges that are themselves perpendicular can go: others begin where they end.
    edges = edges[np.abs(edges[:, 1, 0] - edges[:, 0, 0]) > meeting]
    low = np.minimum(edges[:, 0, 0], edges[:, 1, 0])
    high = np.maximum(edges[:, 0, 0], edges[:, 1, 0])
    slopes = (edges[:, 1, 1] - edges[:, 0, 1]) / (edges[:, 1, 0] - edges[:, 0, 0])

    corners = np.unique(edges[:, :, 0])
    limits = _hull_width((_hull(mask) * spacing - origin) @ axes, corners, longest.length_mm, meeting)
    best, best_ends = -1.0, np.zeros((2, 2))
    for corner in np.argsort(-limits, kind="stable"):
        if limits[corner] <= best:
            break
        at = corners[corner]
        met = (low <= at + meeting) & (high >= at - meeting)
        across = edges[met, 0, 1] + slopes[met] * (at - edges[met, 0, 0])
        if np.ptp(across) > best * (1 + _ROUNDING):
            best, best_ends = float(np.ptp(across)), np.array([[at, across.min()], [at, across.max()]])
    start, end = (best_ends @ axes.T + origin) / spacing
    return Diameter(best, (_pair(start), _pair(end)))


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, 2): the corners of the convex hull of all pixels, as pixel index, lowest first.

    Only the outermost pixels of every row can have a part in it.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        raise ValueError("a mask without a pixel has no diameter")
    first = mask[rows].argmax(axis=1) - 0.5
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1) - 0.5
    corners = np.array([(rows + side, columns) for side in (-0.5, 0.5) for columns in (first, last)])
    corners = corners.swapaxes(1, 2).reshape(-1, 2)
    hull = corners[ConvexHull(corners).vertices]
    return np.asarray(hull[np.lexsort(hull.T[::-1])])


def _hull_width(
    hull: NDArray[np.float64], places: NDArray[np.float64], length: float, meeting: float
) -> NDArray[np.float64]:
    """How wide the hull is at places along the longest diameter, which joins its outermost corners there.

    Args:
        hull: corners (n, 2), along the longest diameter from its start and across it, in mm.
        places: along it, in mm.
        length: of the longest diameter, in mm.
        meeting: corners that lie less than this beside the longest diameter lie on it.
    """
    width = np.zeros(len(places))
    for side in (1, -1):
        beside = hull[side * hull[:, 1] > meeting]
        chain = np.concatenate([[[0.0, 0.0]], beside[np.argsort(beside[:, 0])], [[length, 0.0]]])
        width += side * np.interp(places, chain[:, 0], chain[:, 1])
    return width


def _edges(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, 2 ends, 2 axes): the sides that a pixel of the mask shares with none of it, as pixel index."""
    return np.concatenate([_edges_between_rows(mask), _edges_between_rows(mask.T)[..., ::-1]])


def _edges_between_rows(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    padded = np.pad(mask, 1)
    row, column = np.nonzero(padded[1:] != padded[:-1])
    ends = [np.stack([row - 0.5, column - 1 + side], axis=-1) for side in (-0.5, 0.5)]
    return np.stack(ends, axis=1)


def _pair(place: NDArray[np.float64]) -> tuple[float, float]:
    return float(place[0]), float(place[1])
