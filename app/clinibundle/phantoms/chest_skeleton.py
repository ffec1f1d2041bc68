"""The bones of a made-up chest as curves in millimetres, seen from the front (axes as in `chest_anatomy`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clinibundle.phantoms.canvas import Points, ellipse, smooth_curve

SIDES = (-1, 1)
"""The patient's right, which lies on the left of the picture, and left."""
FILM_BOTTOM_MM = 460.0


@dataclass(frozen=True)
class ChestWall:
    """Where one side's ribs run.

    Attributes:
        side: -1 for the patient's right, 1 for the left.
        border: (points, 2), inside of the ribs from the lung's apex down, as distance from the spine and y.
        apex: y of the lung's top.
        height: from there to the top of the diaphragm.
        width: from the spine to the border, at the widest.
    """

    side: int
    border: Points
    apex: float
    height: float
    width: float


@dataclass(frozen=True)
class Skeleton:
    """Both sides' bones.

    Attributes:
        posterior_ribs: centrelines, spine to side.
        anterior_ribs: centrelines, side to the end of the bone.
        clavicles: centrelines.
        scapulae: outlines.
        humeral_heads: outlines.
        humeri: centrelines of the shafts.
        vertebrae_mm: y of the upper edge of each vertebra.
    """

    posterior_ribs: tuple[Points, ...]
    anterior_ribs: tuple[Points, ...]
    clavicles: tuple[Points, ...]
    scapulae: tuple[Points, ...]
    humeral_heads: tuple[Points, ...]
    humeri: tuple[Points, ...]
    vertebrae_mm: tuple[float, ...]


def draw_skeleton(rng: np.random.Generator, walls: Sequence[ChestWall]) -> Skeleton:
    """Bones that fit the chest walls of both sides."""
    ribs = [_ribs(rng, wall) for wall in walls]
    pitch = rng.uniform(21, 25)
    return Skeleton(
        posterior_ribs=tuple(rib for posterior, _ in ribs for rib in posterior),
        anterior_ribs=tuple(rib for _, anterior in ribs for rib in anterior),
        clavicles=tuple(_clavicle(rng, wall) for wall in walls),
        scapulae=tuple(_scapula(rng, wall) for wall in walls),
        humeral_heads=tuple(ellipse((wall.side * 174, wall.apex + 34), (24, 27)) for wall in walls),
        humeri=tuple(
            on_side(smooth_curve([(178, wall.apex + 42), (186, wall.apex + 90), (200, wall.apex + 230)]), wall.side)
            for wall in walls
        ),
        vertebrae_mm=tuple(np.arange(rng.uniform(-pitch, 0), FILM_BOTTOM_MM, pitch).tolist()),
    )


def on_side(points: Points, side: int) -> Points:
    """Points (distance from the spine, y) of one side as points (x, y)."""
    return points * (side, 1)


def _ribs(rng: np.random.Generator, wall: ChestWall) -> tuple[list[Points], list[Points]]:
    """Ribs 1 to 10 as tilted rings: the back half of each, and the front half of those that show one."""
    gap = wall.height / rng.uniform(8.3, 9.3)
    posterior, anterior = [], []
    for index in range(10):
        at_spine = wall.apex + 4 + index * gap
        drop = np.interp(index, [0, 2, 6, 9], [40, 85, 125, 140]) * rng.uniform(0.97, 1.03)  # spine to sternum
        reach = np.interp(at_spine + drop / 2, wall.border[:, 1], wall.border[:, 0]) - 1
        end = np.interp(index, [0, 4, 9], [0.86, 0.80, 0.62]) * np.pi  # where bone becomes cartilage
        turn = np.linspace(0.12, end, 60)
        ring = np.stack([reach * np.sin(turn), at_spine + drop * (1 - np.cos(turn)) / 2], axis=1)
        behind = turn <= np.pi / 2
        posterior.append(on_side(ring[behind], wall.side))
        if index < 8:
            anterior.append(on_side(ring[~behind], wall.side))
    return posterior, anterior


def _clavicle(rng: np.random.Generator, wall: ChestWall) -> Points:
    apex, lift = wall.apex, rng.uniform(-10, 14)
    return on_side(
        smooth_curve(
            [
                (12, apex + 42),
                (42, apex + 36 - 0.2 * lift),
                (85, apex + 20 - 0.6 * lift),
                (125, apex + 8 - lift),
                (158, apex + 10 - lift),
            ]
        ),
        wall.side,
    )


def _scapula(rng: np.random.Generator, wall: ChestWall) -> Points:
    apex, inner = wall.apex, rng.uniform(0.86, 1.0) * wall.width
    return on_side(
        smooth_curve(
            [
                (inner, apex + 45),
                (inner + 4, apex + 95),
                (inner + 14, apex + 135),
                (inner + 30, apex + 85),
                (inner + 52, apex + 35),
                (inner + 30, apex + 22),
                (inner, apex + 45),
            ]
        ),
        wall.side,
    )
