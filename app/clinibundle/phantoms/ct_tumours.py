"""Tumours of a made-up CT: ellipsoids whose place, diameter and volume are known by formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clinibundle.phantoms.ct_thorax import Pleura
from clinibundle.phantoms.solids import Ellipsoid, sphere_directions
from clinibundle.phantoms.voxel_grid import Box, Field, VoxelGrid

Touching = Literal["nothing", "chest wall", "mediastinum"]
GROUND_GLASS = -600.0
DIAMETERS_MM = (5.0, 60.0)
GAP_MM = 15.0
"""Between tumours, so that they are parts of their own on grids of up to about 6 mm."""
_CLEAR_MM = 2.0
_PLACES_TRIED = 4000
_TOUCHING: tuple[Touching, ...] = ("nothing", "chest wall", "mediastinum")
_TOUCHING_SHARES = (0.6, 0.25, 0.15)


@dataclass(frozen=True)
class Tumour:
    """What is true of a tumour.

    Attributes:
        centre_lps_mm: x, y, z in the patient.
        semi_axes_mm: the longest and the shortest in the axial plane, and that along z.
        turn_degrees: of the first about z, from the patient's left towards the back.
        hounsfield: the same everywhere in it.
        touching: what it grows into.
    """

    centre_lps_mm: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    turn_degrees: float = 0.0
    hounsfield: float = 40.0
    touching: Touching = "nothing"

    @property
    def volume_ml(self) -> float:
        """Of the ellipsoid: 4/3 pi a b c."""
        return float(4 / 3 * np.pi * np.prod(self.semi_axes_mm) / 1000)

    @property
    def axial_diameter_mm(self) -> float:
        """The longest in any axial plane; it lies in the one through the centre."""
        return 2 * max(self.semi_axes_mm[:2])

    @property
    def solid(self) -> Ellipsoid:
        """As a solid in the patient's millimetres."""
        return Ellipsoid(self.centre_lps_mm, self.semi_axes_mm, self.turn_degrees)

    def facts(self) -> dict[str, object]:
        """All that is known of it, for a list of cases; rounded to micrometres and microlitres."""
        return {
            "centre_lps_mm": [round(value, 3) for value in self.centre_lps_mm],
            "semi_axes_mm": [round(value, 3) for value in self.semi_axes_mm],
            "turn_degrees": round(self.turn_degrees, 3),
            "axial_diameter_mm": round(self.axial_diameter_mm, 3),
            "volume_ml": round(self.volume_ml, 3),
            "hounsfield": round(self.hounsfield, 3),
            "touching": self.touching,
        }


def draw_tumours(
    rng: np.random.Generator, pleura: Callable[[NDArray[np.float64]], Pleura], grid: VoxelGrid
) -> tuple[Tumour, ...]:
    """Up to four tumours of 5 to 60 mm in the lungs, apart from each other and wholly on the grid.

    Args:
        rng: chooses them; the spacing of the grid has no say.
        pleura: what bounds the lungs at points (..., x y z) in the patient's millimetres.
        grid: in the patient's millimetres.

    Returns:
        At least one, if lung is on the grid.
    """
    tumours: list[Tumour] = []
    for _ in range(rng.integers(1, 5)):
        wanted = _draw_tumour(rng)
        placed = None
        while placed is None and wanted.axial_diameter_mm >= DIAMETERS_MM[0]:
            placed = _place(rng, wanted, tumours, pleura, grid)
            wanted = _easier_to_place(wanted)
        if placed is not None:
            tumours.append(placed)
    return tuple(tumours)


def tumour_share(grid: VoxelGrid, tumour: Tumour) -> tuple[Box, Field]:
    """What share of each voxel a tumour fills, counted on finer voxels, and the box of the grid that it lies in.

    Raises:
        ValueError: if it does not lie wholly on the grid.
    """
    if not grid.holds(*tumour.solid.corners()):
        raise ValueError(f"a tumour at {tumour.centre_lps_mm} of {tumour.semi_axes_mm} mm does not lie on the grid")
    margin = float(np.linalg.norm(grid.steps_mm))
    low, high = tumour.solid.corners()
    box = grid.box_around([value - margin for value in low], [value + margin for value in high])
    finest = min(tumour.semi_axes_mm) / 6
    z, y, x = (int(np.clip(np.ceil(step / finest), 2, 16)) for step in grid.steps_mm)
    finer = grid.finer(box, (z, y, x))
    inside = tumour.solid.level(finer.places(finer.whole)) < 1
    slices, rows, columns = (along.stop - along.start for along in box)
    share: Field = inside.reshape(slices, z, rows, y, columns, x).mean(axis=(1, 3, 5), dtype=np.float32)
    return box, share


def mark_tumour(label: NDArray[np.uint8], box: Box, share: Field, voxels: int) -> None:
    """Sets the label to 1 in so many voxels, those that the tumour fills most.

    So the label has the tumour's true volume to within half a voxel, however coarse the grid.

    Raises:
        ValueError: if another tumour is there.
    """
    part = label[box]
    if (part[share > 0] > 0).any():
        raise ValueError("two tumours overlap")
    fullest = np.argsort(-share, axis=None, kind="stable")[: max(1, voxels)]
    part[np.unravel_index(fullest, share.shape)] = 1


def _draw_tumour(rng: np.random.Generator) -> Tumour:
    """A tumour that has no place yet."""
    low, high = DIAMETERS_MM
    longest = 0.5 * np.exp(rng.uniform(np.log(low), np.log(high)))
    ground_glass = rng.random() < 0.15
    touching: Touching = _TOUCHING[rng.choice(len(_TOUCHING), p=_TOUCHING_SHARES)]
    return Tumour(
        centre_lps_mm=(0.0, 0.0, 0.0),
        semi_axes_mm=(float(longest), float(longest * rng.uniform(0.7, 1)), float(longest * rng.uniform(0.7, 1))),
        turn_degrees=float(rng.uniform(0, 180)),
        hounsfield=GROUND_GLASS if ground_glass else float(rng.uniform(20, 60)),
        touching=touching,
    )


def _easier_to_place(wanted: Tumour) -> Tumour:
    """One that touches nothing; if it did not, a smaller one."""
    if wanted.touching != "nothing":
        return replace(wanted, touching="nothing")
    a, b, c = (0.8 * axis for axis in wanted.semi_axes_mm)
    return replace(wanted, semi_axes_mm=(a, b, c))


def _place(
    rng: np.random.Generator,
    wanted: Tumour,
    others: Sequence[Tumour],
    pleura: Callable[[NDArray[np.float64]], Pleura],
    grid: VoxelGrid,
) -> Tumour | None:
    """The tumour at a place where it touches what it should and nothing else; None if none was found."""
    index = rng.uniform(-0.5, np.array(grid.shape[::-1]) - 0.5, (_PLACES_TRIED, 3))
    centres = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    shortest = min(wanted.semi_axes_mm)
    centres = centres[pleura(centres).outside_mm < -0.5 * shortest]
    surfaces = centres[:, None] + _surface(wanted)
    furthest = Pleura(*(distance.max(axis=1, initial=-np.inf) for distance in pleura(surfaces)))
    if wanted.touching == "nothing":
        fits = furthest.outside_mm < -_CLEAR_MM
    else:
        met, free = furthest.wall, furthest.mediastinum
        if wanted.touching == "mediastinum":
            met, free = free, met
        fits = (0.1 * shortest < met) & (met < 0.4 * shortest) & (np.maximum(free, furthest.diaphragm) < -_CLEAR_MM)
    for x, y, z in centres[fits].tolist():
        placed = replace(wanted, centre_lps_mm=(x, y, z))
        if grid.holds(*placed.solid.corners()) and all(_apart(placed, other) for other in others):
            return placed
    return None


def _surface(tumour: Tumour) -> NDArray[np.float64]:
    """(points, 3): points (x, y, z) on a tumour's surface."""
    turn = np.deg2rad(tumour.turn_degrees)
    cos, sin = np.cos(turn), np.sin(turn)
    points = (sphere_directions(80) * tumour.semi_axes_mm) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    surface: NDArray[np.float64] = points + tumour.centre_lps_mm
    return surface


def _apart(tumour: Tumour, other: Tumour) -> bool:
    reach = max(tumour.semi_axes_mm) + max(other.semi_axes_mm) + GAP_MM
    return math.dist(tumour.centre_lps_mm, other.centre_lps_mm) > reach
