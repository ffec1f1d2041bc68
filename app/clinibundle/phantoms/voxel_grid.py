"""A voxel grid laid over a body measured in millimetres, at any spacing and in any direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
"""A value at every voxel's centre, (z, y, x), or broadcastable to it."""
Place = tuple[Field, Field, Field]
"""x, y and z in millimetres, broadcastable to one shape."""
Box = tuple[slice, slice, slice]
"""A part of a grid, along z, y and x."""


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """Where the voxels of an array (z, y, x) lie.

    Attributes:
        shape: slices, rows, columns.
        affine: (4, 4), voxel index (x, y, z) to millimetres.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def whole(self) -> Box:
        """The box of all voxels."""
        z, y, x = (slice(0, size) for size in self.shape)
        return z, y, x

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel, of a leaning one too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def steps_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along z, y and x."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    def slabs(self, voxels: int) -> Iterator[Box]:
        """Boxes of whole slices, at most so many voxels each, but at least one slice."""
        depth = max(1, voxels // (self.shape[1] * self.shape[2]))
        _, y, x = self.whole
        for start in range(0, self.shape[0], depth):
            yield slice(start, min(start + depth, self.shape[0])), y, x

    def seen_from(self, body: NDArray[np.float64]) -> VoxelGrid:
        """The same voxels in the coordinates that a (4, 4) affine turns millimetres into."""
        return VoxelGrid(self.shape, body @ self.affine)

    def finer(self, box: Box, parts: tuple[int, int, int]) -> VoxelGrid:
        """A grid of the same extent as a box of this one, with each voxel cut into (z, y, x) parts."""
        cut = np.array(parts[::-1])
        start = np.array([along.start for along in box[::-1]])
        affine = self.affine.copy()
        affine[:3, 3] += self.affine[:3, :3] @ (start - 0.5 + 0.5 / cut)
        affine[:3, :3] /= cut
        z, y, x = ((along.stop - along.start) * part for along, part in zip(box, parts, strict=True))
        return VoxelGrid((z, y, x), affine)

    def places(self, box: Box) -> Place:
        """Where the voxels of a box lie; along an axis on which a coordinate stays the same it has size 1."""
        z, y, x = (np.arange(along.start, along.stop) for along in box)
        z, y = z[:, None, None], y[:, None]
        found = []
        for row in self.affine[:3]:
            along = np.full((1, 1, 1), row[3])
            for coefficient, index in zip(row[:3], (x, y, z), strict=True):
                if coefficient:
                    along = along + coefficient * index
            found.append(along.astype(np.float32))
        return found[0], found[1], found[2]

    def box_around(self, low_mm: Sequence[float], high_mm: Sequence[float]) -> Box:
        """The voxels with centres between two corners, and perhaps some more; of size 0 where there is none."""
        lowest, highest = self._index_range(low_mm, high_mm)
        first = np.clip(np.ceil(lowest), 0, self.shape).astype(int).tolist()
        last = np.clip(np.floor(highest) + 1, first, self.shape).astype(int).tolist()
        z, y, x = (slice(start, stop) for start, stop in zip(first, last, strict=True))
        return z, y, x

    def holds(self, low_mm: Sequence[float], high_mm: Sequence[float]) -> bool:
        """Whether all between two corners lies in voxels of the grid."""
        lowest, highest = self._index_range(low_mm, high_mm)
        return bool((lowest >= -0.5).all() and (highest <= np.array(self.shape) - 0.5).all())

    def _index_range(
        self, low_mm: Sequence[float], high_mm: Sequence[float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and the highest index (z, y, x) in an upright box between two corners."""
        low, high = np.asarray(low_mm), np.asarray(high_mm)
        middle = self.index_of((low + high) / 2)[::-1]
        reach = (np.abs(self._inverse) @ ((high - low) / 2))[::-1]
        return middle - reach, middle + reach

    def index_of(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3): the voxel index (x, y, z), with fractions, of points (..., x y z) in millimetres."""
        index: NDArray[np.float64] = (points_mm - self.affine[:3, 3]) @ self._inverse.T
        return index

    @cached_property
    def _inverse(self) -> NDArray[np.float64]:
        """(3, 3)."""
        inverse: NDArray[np.float64] = np.linalg.inv(self.affine[:3, :3]).astype(np.float64)
        return inverse


def grid_around(
    centre_mm: Sequence[float],
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    tilt_degrees: float = 0.0,
    rotation: NDArray[np.float64] | None = None,
) -> VoxelGrid:
    """A grid with its middle at a point; its axes run to the left, to the back and to the head (LPS).

    Args:
        centre_mm: x, y, z.
        shape: slices, rows, columns.
        spacing_mm: the same order; that of slices is the way from one to the next.
        tilt_degrees: leans every slice about its rows, its back towards the head, while the way from slice to slice
            stays: the sheared stack of a scanner whose gantry was tilted (PS3.3 C.8.2.1.1, Gantry/Detector Tilt).
        rotation: (3, 3), turns the whole grid about its middle.
    """
    tilt = np.deg2rad(tilt_degrees)
    axes = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(tilt), 0.0], [0.0, np.sin(tilt), 1.0]])
    if rotation is not None:
        axes = rotation @ axes
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing_mm[::-1])
    affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return VoxelGrid(shape, affine)
