"""Vessels of the lungs as trees of tapering tubes from the hila to near the pleura."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clinibundle.phantoms.ct_thorax import Thorax
from clinibundle.phantoms.solids import Points, Tube, sphere_directions

_HILA_MM = ((-44.0, 14.0, 6.0), (52.0, 20.0, 6.0))
_STEMS = 20
_LENGTHS_MM = (30.0, 27.0, 23.0, 20.0, 16.0, 13.0)
_RADII_MM = (4.2, 3.1, 2.3, 1.7, 1.25, 0.9, 0.6)
_FREE_OF_PLEURA_MM = 4.0


def draw_vessels(rng: np.random.Generator, thorax: Thorax) -> tuple[Tube, ...]:
    """The vessels of both lungs; none leaves them."""
    tubes: list[Tube] = []
    for hilum in _HILA_MM:
        starts = np.repeat([hilum], _STEMS, axis=0)
        ways = sphere_directions(_STEMS)
        ways[:, 0] = np.sign(hilum[0]) * (np.abs(ways[:, 0]) + 0.3)
        for generation, length in enumerate(_LENGTHS_MM):
            ways = _fan(rng, ways)
            ends = starts[:, None] + ways * length * rng.uniform(0.75, 1.25, (len(ways), 1, 1))
            inside = thorax.pleura(Points(ends)).outside_mm < -_FREE_OF_PLEURA_MM
            # Two branches for each end, where two of its four ways stay inside.
            chosen = np.argsort(~inside, axis=1, kind="stable")[:, :2]
            stays = np.take_along_axis(inside, chosen, 1)
            starts = np.repeat(starts[:, None], 2, 1)[stays]
            ends = np.take_along_axis(ends, chosen[..., None], 1)[stays]
            ways = np.take_along_axis(ways, chosen[..., None], 1)[stays]
            radii = _RADII_MM[generation], _RADII_MM[generation + 1]
            tubes += [_tube(start, end, *radii) for start, end in zip(starts, ends, strict=True)]
            starts = ends
    return tuple(tubes)


def _fan(rng: np.random.Generator, ways: NDArray[np.float64]) -> NDArray[np.float64]:
    """(ends, 4, 3): unit vectors that part from each way, the second opposite to the first, the fourth to the third."""
    ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    aside = np.cross(ways, rng.normal(size=ways.shape))
    aside *= rng.uniform(0.25, 0.7, (len(ways), 1)) / np.linalg.norm(aside, axis=1, keepdims=True)
    across = np.cross(ways, aside)
    fan: NDArray[np.float64] = np.stack([ways + aside, ways - aside, ways + across, ways - across], axis=1)
    fan /= np.linalg.norm(fan, axis=2, keepdims=True)
    return fan


def _tube(start: NDArray[np.float64], end: NDArray[np.float64], start_radius: float, end_radius: float) -> Tube:
    (x0, y0, z0), (x1, y1, z1) = start.tolist(), end.tolist()
    return Tube((x0, y0, z0), (x1, y1, z1), start_radius, end_radius)
