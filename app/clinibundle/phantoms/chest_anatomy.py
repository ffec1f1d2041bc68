"""The soft parts of a made-up chest as curves in millimetres, seen from the front.

x = 0 is the spine, negative x the patient's right side, which lies on the left of the picture; y counts down from the
top of the film. Within one side, points are (distance from the spine, y) until `on_side` places them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from clinibundle.phantoms.canvas import Points, ellipse, smooth_curve
from clinibundle.phantoms.chest_skeleton import SIDES, ChestWall, Skeleton, draw_skeleton, on_side

_BELOW_FILM_MM = 600.0


@dataclass(frozen=True)
class Hemithorax:
    """One side of the chest.

    Attributes:
        side: -1 for the patient's right, 1 for the left.
        pleura: outline of the room of the lung, to behind the heart and down behind the diaphragm.
        abdomen: outline of all below the diaphragm; its upper edge is the dome.
        hilum: where the vessels enter the lung.
        wall: where the ribs run.
    """

    side: int
    pleura: Points
    abdomen: Points
    hilum: tuple[float, float]
    wall: ChestWall


@dataclass(frozen=True)
class ChestAnatomy:
    """A chest.

    Attributes:
        halves: the patient's right and left side.
        skeleton: the bones.
        body: outline of trunk, shoulders and neck; longer than any film.
        arms: outlines of the upper arms.
        breasts: outlines, none in some patients.
        mediastinum: outline of great vessels and heart.
        bowel_gas: outlines of the stomach's bubble and of gas in the colon.
        airways: centrelines of the windpipe, then of the two main bronchi.
        apex_mm, dome_mm: y of the lungs' tops and of the higher half of the diaphragm.
    """

    halves: tuple[Hemithorax, Hemithorax]
    skeleton: Skeleton
    body: Points
    arms: tuple[Points, ...]
    breasts: tuple[Points, ...]
    mediastinum: Points
    bowel_gas: tuple[Points, ...]
    airways: tuple[Points, ...]
    apex_mm: float
    dome_mm: float


def draw_anatomy(rng: np.random.Generator) -> ChestAnatomy:
    """A chest within the range of healthy adults who breathe in well."""
    apex = rng.uniform(32, 58)
    dome = apex + rng.uniform(205, 255)
    left_dome = dome + rng.uniform(2, 20)
    width = rng.uniform(120, 146)
    flank = width + rng.uniform(16, 34)
    right, left = (_hemithorax(rng, side, apex, top, width) for side, top in zip(SIDES, (dome, left_dome), strict=True))
    return ChestAnatomy(
        halves=(right, left),
        skeleton=draw_skeleton(rng, [right.wall, left.wall]),
        body=_body(flank, apex),
        arms=tuple(_arm(rng, side, flank, apex) for side in SIDES),
        breasts=_breasts(rng, width, dome) if rng.random() < 0.4 else (),
        mediastinum=_mediastinum(rng, apex, left_dome - apex, width),
        bowel_gas=_bowel_gas(rng, left_dome, width),
        airways=_airways(rng, apex),
        apex_mm=apex,
        dome_mm=dome,
    )


def _hemithorax(rng: np.random.Generator, side: int, apex: float, dome: float, width: float) -> Hemithorax:
    apex += rng.uniform(-5, 5)
    width *= rng.uniform(0.96, 1.04)
    height, angle = dome - apex, dome + rng.uniform(38, 62)  # y of the costophrenic angle
    slope = rng.uniform(-0.05, 0.03)
    inner = [(3, angle + 25), (8, dome - 0.4 * height), (13, apex + 0.20 * height), (21, apex + 0.06 * height)]
    outer = [
        (0.66, apex + 0.10 * height),
        (0.83 + slope, apex + 0.28 * height),
        (0.94 + slope, apex + 0.55 * height),
        (0.99, apex + 0.85 * height),
        (1.00, dome + 0.4 * (angle - dome)),
        (0.98, angle),
        (0.90, angle + 25),
    ]
    top = (rng.uniform(0.32, 0.42) * width, apex)
    pleura = smooth_curve([*inner, top, *((share * width, y) for share, y in outer)], steps=160)
    diaphragm = _crestless_curve(
        [
            (0, dome + rng.uniform(8, 16)),
            (rng.uniform(0.40, 0.52) * width, dome),
            (0.80 * width, dome + 0.24 * (angle - dome)),
            (0.985 * width, angle),
            (1.2 * width, angle + 60),
        ]
    )
    below = np.array([(1.2 * width, _BELOW_FILM_MM), (0, _BELOW_FILM_MM)])
    return Hemithorax(
        side=side,
        pleura=on_side(pleura, side),
        abdomen=on_side(np.concatenate([diaphragm, below]), side),
        hilum=(side * rng.uniform(34, 42), apex + (0.50 if side < 0 else 0.46) * height),
        wall=ChestWall(side, pleura[np.argmin(pleura[:, 1]) :], apex, height, width),
    )


def _crestless_curve(points: Sequence[tuple[float, float]], steps: int = 120) -> Points:
    """(steps, 2): a curve y(x) through points of rising x that turns nowhere but at them."""
    corners = np.array(points)
    x = np.linspace(corners[0, 0], corners[-1, 0], steps)
    return np.stack([x, PchipInterpolator(*corners.T)(x)], axis=1)


def _mediastinum(rng: np.random.Generator, apex: float, height: float, width: float) -> Points:
    heart = width / 125 * rng.uniform(0.80, 1.15)
    knob = rng.uniform(28, 37)  # of the aorta
    # Distance from the spine in mm, share of the way from apex to diaphragm
    right = [(20.0, -0.40), (17.0, 0.06), (22.0, 0.20), (25.0, 0.42)]
    right += [(31 * heart, 0.56), (40 * heart, 0.76), (38 * heart, 0.94), (30 * heart, 1.15)]
    left = [(20.0, -0.40), (17.0, 0.06), (22.0, 0.16), (knob, 0.26), (27, 0.36), (36 * heart, 0.48)]
    left += [(56 * heart, 0.65), (77 * heart, 0.84), (80 * heart, 0.97), (62 * heart, 1.12), (20, 1.16)]
    borders = [
        on_side(smooth_curve([(d, apex + share * height) for d, share in border]), side)
        for side, border in zip(SIDES, (right, left), strict=True)
    ]
    return np.concatenate([borders[0], borders[1][::-1]])


def _bowel_gas(rng: np.random.Generator, left_dome: float, width: float) -> tuple[Points, ...]:
    stomach = ellipse(
        (rng.uniform(0.38, 0.62) * width, left_dome + rng.uniform(24, 36)),
        (rng.uniform(14, 28), rng.uniform(9, 14)),
        rng.uniform(-15, 15),
    )
    colon = (
        ellipse(
            (rng.uniform(0.1, 0.8) * width, left_dome + rng.uniform(60, 130)),
            (rng.uniform(8, 18), rng.uniform(6, 14)),
            rng.uniform(0, 90),
        )
        for _ in range(rng.integers(0, 5))
    )
    return (stomach, *colon)


def _airways(rng: np.random.Generator, apex: float) -> tuple[Points, ...]:
    carina = apex + rng.uniform(78, 92)
    return (
        smooth_curve([(0, -40), (-1, apex), (-2, carina)]),
        smooth_curve([(0, carina - 6), (-22, carina + 16), (-34, carina + 34)]),
        smooth_curve([(0, carina - 6), (26, carina + 14), (42, carina + 26)]),
    )


def _body(flank: float, apex: float) -> Points:
    neck_to_shoulder = [(50, -60), (52, apex - 45), (70, apex - 28), (125, apex - 12), (178, apex + 5)]
    shoulder = smooth_curve([*neck_to_shoulder, (205, apex + 45), (200, apex + 85)])
    side = [(24, apex + 102), (8, apex + 135), (0, apex + 200), (-5, apex + 280), (4, _BELOW_FILM_MM)]
    half = np.concatenate([shoulder, smooth_curve([(flank + out, y) for out, y in side])])
    return np.concatenate([half, on_side(half[::-1], -1)])


def _arm(rng: np.random.Generator, side: int, flank: float, apex: float) -> Points:
    lean = rng.uniform(0, 25)
    inner = [(flank + 10, apex + 60), (flank + 8 + lean, apex + 130), (flank + 8 + 3 * lean, _BELOW_FILM_MM)]
    return on_side(np.array([*inner, (290, _BELOW_FILM_MM), (260, apex + 40)]), side)


def _breasts(rng: np.random.Generator, width: float, dome: float) -> tuple[Points, ...]:
    radii = (rng.uniform(42, 58), rng.uniform(40, 58))
    return tuple(
        ellipse((side * rng.uniform(0.64, 0.74) * width, dome - rng.uniform(-12, 25)), radii, side * -12)
        for side in SIDES
    )
