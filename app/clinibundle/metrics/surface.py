"""Surface Dice: what share of two surfaces lies within a tolerance of the other one.

After Nikolov et al. 2021 (J Med Internet Res 23(7):e26151, arXiv:1809.04430), also called normalised surface Dice:

    (area of S_p within the tolerance of S_t + area of S_t within it of S_p) / (area of S_p + area of S_t)

As in the authors' own code, a surface is made of elements: in each cell between 2 × 2 × 2 voxel centres, the triangles
of marching cubes, weighted by their area in mm²; distances run between the centres of such cells. (Counting border
voxels instead gives a voxel at the top, 0.7 × 0.7 mm², the weight of one at the side, 0.7 × 5 mm².) Of a cell's corners
the fewer are cut off, so that a mask and its complement have one surface. What lies beyond the volume is outside.

Empty masks follow the rule of `metrics/binary.py`: surface Dice is what Dice is there. The 95 % Hausdorff distance in
millimetres is `hd95_mm` of `metrics.binary.binary_metrics`, in two and three dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from clinibundle.errors import DataFolderError
from clinibundle.metrics.binary import Mask, agreement_where_empty

_CORNERS = tuple(np.ndindex(2, 2, 2))
_ALL_INSIDE = 255
# Of the finest spacing: a distance that equals the tolerance but for rounding is within it.
_ROUNDING = 1e-9


def surface_dice(prediction: Mask, truth: Mask, spacing_mm: Sequence[float], tolerance_mm: float) -> float:
    """Between 0, no part of either surface is near the other one, and 1.

    Args:
        prediction: boolean, (x, y, z).
        truth: boolean, same shape.
        spacing_mm: of the voxels along each axis.
        tolerance_mm: surfaces at most so far apart agree.

    Raises:
        DataFolderError: the masks differ in shape.
    """
    _require_volumes(prediction, truth)
    spacing = tuple(float(step) for step in spacing_mm)
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise ValueError(f"the tolerance must be 0 mm or more, found {tolerance_mm}")
    by_rule = agreement_where_empty(prediction, truth, spacing)
    if by_rule is not None:
        return by_rule.dice
    # What is beyond this box is in neither mask.
    box = ndimage.find_objects((prediction | truth).view(np.uint8))[0]
    ours, theirs = (_surface(mask[box], spacing) for mask in (prediction, truth))
    reach = tolerance_mm + _ROUNDING * min(spacing)
    near = _area_near(ours, theirs, reach) + _area_near(theirs, ours, reach)
    return near / (ours.area() + theirs.area())


class _Surface(NamedTuple):
    """The elements of a surface: their places (n, 3) and areas (n,), in mm and mm²."""

    places: NDArray[np.float64]
    areas: NDArray[np.float64]

    def area(self) -> float:
        return float(self.areas.sum())


def _surface(mask: Mask, spacing: tuple[float, ...]) -> _Surface:
    """Of all cells whose corners are neither all in the mask nor all outside."""
    padded = np.pad(mask, 1).view(np.uint8)
    cells = [size - 1 for size in padded.shape]
    codes = np.zeros(cells, np.uint8)
    for bit, corner in enumerate(_CORNERS):
        codes |= padded[tuple(slice(start, start + size) for start, size in zip(corner, cells, strict=True))] << bit
    on_surface = (codes != 0) & (codes != _ALL_INSIDE)
    return _Surface(np.argwhere(on_surface) * np.array(spacing), _areas(spacing)[codes[on_surface]])


def _area_near(surface: _Surface, other: _Surface, reach: float) -> float:
    distances, _ = KDTree(other.places).query(surface.places, distance_upper_bound=reach)
    return float(surface.areas[np.isfinite(distances)].sum())


@lru_cache(maxsize=8)
def _areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """(256,), in mm²: the area in a cell by its code, bit n of which says whether corner n is in the mask."""
    from skimage.measure import marching_cubes, mesh_surface_area

    areas = np.zeros(256)
    for code in range(1, _ALL_INSIDE):
        corners = np.array([code >> bit & 1 for bit in range(8)], np.float64)
        fewer = corners if corners.sum() <= 4 else 1 - corners
        vertices, faces, _, _ = marching_cubes(fewer.reshape(2, 2, 2), 0.5, spacing=spacing, method="lorensen")
        areas[code] = mesh_surface_area(vertices, faces)
    return areas


def _require_volumes(prediction: Mask, truth: Mask) -> None:
    if prediction.shape != truth.shape:
        raise DataFolderError(
            f"the prediction has the shape {prediction.shape} and the true mask {truth.shape}, which must be the same; "
            "bring the label to the size of its image"
        )
    if prediction.ndim != 3 or prediction.dtype != np.bool_ or truth.dtype != np.bool_:
        raise TypeError(f"surface Dice compares boolean volumes, not {prediction.ndim} axes of {prediction.dtype}")
