"""Solids given by formulas in millimetres, and the two things that they are measured on: slabs of voxels and points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clinibundle.phantoms.voxel_grid import Box, Field, Place, VoxelGrid

Point = tuple[float, float, float]
"""x, y, z in millimetres."""


class Solid(Protocol):
    """Something with an inside."""

    def corners(self) -> tuple[Point, Point]:
        """Two corners of an upright box that holds it."""
        ...

    def outside_mm(self, place: Place) -> Field:
        """About how far each place lies outside it; negative inside, exactly 0 on its surface."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with one axis along z.

    Attributes:
        centre: x, y, z.
        radii: its semi-axes; the last along z.
        turn_degrees: of the other two about z, from x towards y.
    """

    centre: Point
    radii: Point
    turn_degrees: float = 0.0

    def corners(self) -> tuple[Point, Point]:
        """Two corners of an upright box that holds it."""
        (x, y, z), (a, b, c) = self.centre, self.radii
        cos, sin = self._cos_sin
        reach_x, reach_y = float(np.hypot(a * cos, b * sin)), float(np.hypot(a * sin, b * cos))
        return (x - reach_x, y - reach_y, z - c), (x + reach_x, y + reach_y, z + c)

    def level(self, place: Place) -> Field:
        """0 in the middle, 1 on the surface, rising evenly on every straight way outwards."""
        x, y, z = (along - middle for along, middle in zip(place, self.centre, strict=True))
        (a, b, c), (cos, sin) = self.radii, self._cos_sin
        if self.turn_degrees:
            x, y = cos * x + sin * y, cos * y - sin * x
        level: Field = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
        return level

    def outside_mm(self, place: Place) -> Field:
        """About how far each place lies outside it; negative inside, exactly 0 on its surface."""
        mean_radius = float(np.prod(self.radii)) ** (1 / 3)
        outside: Field = (self.level(place) - 1) * mean_radius
        return outside

    def grown(self, by_mm: float) -> Ellipsoid:
        """The same with longer semi-axes."""
        a, b, c = self.radii
        return replace(self, radii=(a + by_mm, b + by_mm, c + by_mm))

    @property
    def _cos_sin(self) -> tuple[float, float]:
        turn = np.deg2rad(self.turn_degrees)
        return float(np.cos(turn)), float(np.sin(turn))


@dataclass(frozen=True)
class Tube:
    """A round rod between two points, with round ends; its radius may change evenly."""

    start: Point
    end: Point
    start_radius: float
    end_radius: float

    def corners(self) -> tuple[Point, Point]:
        """Two corners of an upright box that holds it."""
        radius = max(self.start_radius, self.end_radius)
        low, high = np.minimum(self.start, self.end) - radius, np.maximum(self.start, self.end) + radius
        return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))

    def outside_mm(self, place: Place) -> Field:
        """About how far each place lies outside it; negative inside, exactly 0 on its surface."""
        x, y, z = (along - start for along, start in zip(place, self.start, strict=True))
        dx, dy, dz = (end - start for start, end in zip(self.start, self.end, strict=True))
        share = np.clip((x * dx + y * dy + z * dz) / (dx * dx + dy * dy + dz * dz), 0, 1)
        distance = np.sqrt((x - share * dx) ** 2 + (y - share * dy) ** 2 + (z - share * dz) ** 2)
        outside: Field = distance - (self.start_radius + share * (self.end_radius - self.start_radius))
        return outside

    def grown(self, by_mm: float) -> Tube:
        """The same, thicker."""
        return replace(self, start_radius=self.start_radius + by_mm, end_radius=self.end_radius + by_mm)


Index = Box | EllipsisType


class Region(Protocol):
    """Places that surfaces are measured at, all together or those near a solid."""

    @property
    def place(self) -> Place:
        """All of them."""
        ...

    def near(self, solid: Solid, margin_mm: float) -> Index:
        """An index into arrays of the region that picks all places within `margin_mm` of a solid, perhaps more."""
        ...

    def at(self, index: Index) -> Place:
        """The places that an index picks."""
        ...


class Points:
    """Free places, such as a few thousand that might become the middle of something.

    Args:
        points_mm: (..., x y z).
    """

    def __init__(self, points_mm: NDArray[np.float64]) -> None:
        x, y, z = np.moveaxis(points_mm.astype(np.float32), -1, 0)
        self.place: Place = (x, y, z)

    def near(self, solid: Solid, margin_mm: float) -> Index:  # noqa: ARG002
        """All of them."""
        return ...

    def at(self, index: Index) -> Place:  # noqa: ARG002
        """All of them."""
        return self.place


class Slab:
    """A part of a grid that is being painted with Hounsfield units.

    Args:
        grid: in the coordinates of the solids.
        box: which part of it.
        background: what it holds at first.
        border_mm: borders between tissues are as wide as this, as voxels and the scanner's optics make them.
    """

    def __init__(self, grid: VoxelGrid, box: Box, background: float, border_mm: float) -> None:
        self.place = grid.places(box)
        self.hounsfield: Field = np.full([along.stop - along.start for along in box], background, dtype=np.float32)
        self.border_mm = border_mm
        self._box = box
        self._grid = grid

    def near(self, solid: Solid, margin_mm: float) -> Index:
        """An index into the slab's arrays that picks all voxels within `margin_mm` of a solid, perhaps none."""
        low, high = solid.corners()
        around = self._grid.box_around([v - margin_mm for v in low], [v + margin_mm for v in high])
        z, y, x = (_overlap(near, own) for near, own in zip(around, self._box, strict=True))
        return z, y, x

    def at(self, index: Index) -> Place:
        """The places that an index picks."""
        if index is ...:
            return self.place
        z, y, x = (slice(own.start + i.start, own.start + i.stop) for i, own in zip(index, self._box, strict=True))
        return self._grid.places((z, y, x))

    def fill(self, outside_mm: Field, value: float | Field, strength: float = 1.0) -> None:
        """Paints the inside of a surface that is measured everywhere on the slab."""
        self.hounsfield += strength * share_inside(outside_mm, self.border_mm) * (value - self.hounsfield)

    def fill_solid(self, solid: Solid, value: float, strength: float = 1.0) -> None:
        """Paints a solid; looks at the voxels near it only."""
        index = self.near(solid, self.border_mm)
        part = self.hounsfield[index]
        if part.size:
            part += strength * share_inside(solid.outside_mm(self.at(index)), self.border_mm) * (value - part)


def share_inside(outside_mm: Field, border_mm: float) -> Field:
    """1 inside to 0 outside, one half on the surface."""
    share: Field = np.clip(0.5 - outside_mm / border_mm, 0, 1)
    return share


def united(outside_mm: Field, solids: Iterable[Solid], region: Region, round_mm: float) -> Field:
    """Around what lies inside the surface or a solid, with rounded creases (polynomial smooth minimum, I. Quilez)."""
    for solid in solids:
        index = region.near(solid, 2 * round_mm)
        part = outside_mm[index]
        if part.size:
            other = solid.outside_mm(region.at(index))
            overlap = np.clip(round_mm - np.abs(part - other), 0, None)
            part[...] = np.minimum(part, other) - overlap**2 * (0.25 / round_mm)
    return outside_mm


def _overlap(box: slice, own: slice) -> slice:
    """What two ranges share, counted from the start of the second; of size 0 if they share nothing."""
    start = max(box.start, own.start) - own.start
    return slice(start, max(start, min(box.stop, own.stop) - own.start))


def sphere_directions(count: int) -> NDArray[np.float64]:
    """(count, 3): unit vectors spread evenly (Fibonacci's spiral)."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    turn = np.pi * (1 + 5**0.5) * index
    return np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)
