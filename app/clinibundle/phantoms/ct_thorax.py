"""The borders inside a made-up chest: where lungs end against ribs, diaphragm and mediastinum.

Millimetres of a body of average size, axes as in DICOM: x to the patient's left, y to the back, z to the head. Its
middle lies between the lungs; the front of the spine is at about y = 45. `Thorax.body` turns the patient's own
millimetres into these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from clinibundle.phantoms.solids import Ellipsoid, Region, Solid, Tube, united
from clinibundle.phantoms.voxel_grid import Field, Place

MIDDLE_MM = (0.0, 0.0, -10.0)
"""Around it a grid of 288 mm height, 400 mm width and depth holds lungs, chest wall and couch."""
_LOWEST_MM, _HIGHEST_MM = -175.0, 150.0
_SQUARENESS = 0.35
_CREASE_MM = 6.0


class Pleura(NamedTuple):
    """Distances to the surfaces that bound the lungs, negative on the lungs' side of each."""

    wall: Field
    diaphragm: Field
    mediastinum: Field

    @property
    def outside_mm(self) -> Field:
        """About how far each place lies outside the lungs; negative in them."""
        return np.maximum(np.maximum(self.wall, self.diaphragm), self.mediastinum)


@dataclass(frozen=True, eq=False)
class Thorax:
    """A chest within the range of healthy adults who lie on their back, breathe in and hold their arms up.

    Attributes:
        body: (4, 4), the patient's millimetres to the body's.
        apex: z of the lungs' tops.
        dome_right, dome_left: z of the diaphragm's.
        heart: size as a share of the average.
        knob: x of the aortic arch where it passes to the back.
    """

    body: NDArray[np.float64]
    apex: float
    dome_right: float
    dome_left: float
    heart: float
    knob: float

    @cached_property
    def heart_muscle(self) -> Ellipsoid:
        """Both ventricles."""
        z = self.dome_left + 38 * self.heart
        return Ellipsoid((24, -20, z), (63 * self.heart, 46 * self.heart, 48 * self.heart), 28)

    @cached_property
    def fat_pad(self) -> Ellipsoid:
        """Between heart, diaphragm and breastbone."""
        z = self.heart_muscle.centre[2]
        return Ellipsoid((10, -42, z - 34), (46, 38, 24))

    @cached_property
    def atria(self) -> tuple[Ellipsoid, Ellipsoid]:
        """The right and the left atrium."""
        z = self.heart_muscle.centre[2]
        return (
            Ellipsoid((-24, -12, z + 14), (27 * self.heart, 30 * self.heart, 40)),
            Ellipsoid((2, 13, z + 34), (32 * self.heart, 17, 20)),
        )

    @cached_property
    def great_vessels(self) -> tuple[Tube, ...]:
        """Aorta with its branches, pulmonary arteries and veins, and the great veins."""
        k = self.knob
        aorta = _tubes([(-2, -22, -20), (-14, -28, 10), (-10, -26, 48), (2, -8, 62), (k - 5, 18, 62)], 14.5)
        aorta += _tubes([(k - 5, 18, 62), (k, 40, 48), (k + 1, 48, 10), (k - 2, 46, -60), (10, 42, -190)], 12.5)
        neck = _tubes([(-8, -20, 60), (-20, -12, 100), (-28, 0, 160)], 5.5)
        neck += _tubes([(4, -4, 64), (14, 4, 100), (24, 8, 160)], 4)
        neck += _tubes([(k - 6, 16, 64), (26, 18, 100), (44, 20, 128), (80, 0, 138)], 4.5)
        pulmonary = _tubes([(14, -38, -12), (20, -28, 16), (22, -14, 26)], 13.5)
        pulmonary += _tubes([(20, -20, 20), (0, -8, 16), (-24, 4, 12), (-42, 8, 6)], 10.5)
        pulmonary += _tubes([(22, -14, 26), (34, 6, 26), (44, 18, 12)], 10.5)
        top = self.atria[1].centre[2]
        pulmonary += _tubes([(20, 14, top), (46, 12, top + 8)], 7) + _tubes([(-20, 14, top), (-46, 10, top + 6)], 7)
        veins = _tubes([(-24, -16, -18), (-25, -18, 40), (-24, -22, 72), (-32, -10, 110), (-40, 0, 150)], 8)
        veins += _tubes([(-24, -22, 72), (0, -34, 82), (30, -28, 98), (70, -14, 122)], 6)
        veins += _tubes([(-20, 0, -40), (-22, 6, -90), (-22, 16, -180)], 11)
        return aorta + neck + pulmonary + veins

    @cached_property
    def main_airways(self) -> tuple[Tube, ...]:
        """Windpipe and main bronchi; the bore without the wall."""
        trachea = _tubes([(0, 12, 165), (0, 18, 110), (2, 26, 38)], 8.5)
        right = _tubes([(2, 26, 38), (-22, 24, 20), (-34, 22, 8)], 6.5)
        return trachea + right + _tubes([(2, 26, 38), (26, 26, 14), (42, 24, 4)], 6)

    @cached_property
    def lobar_bronchi(self) -> tuple[Tube, ...]:
        """The first bronchi inside the lungs; the bore without the wall."""
        right = _tubes([(-22, 24, 20), (-46, 18, 34)], 4.5) + _tubes([(-34, 22, 8), (-42, 34, -34)], 4)
        return right + _tubes([(42, 24, 4), (56, 12, 18)], 4) + _tubes([(42, 24, 4), (48, 36, -34)], 4)

    @cached_property
    def gullet(self) -> tuple[Tube, ...]:
        """The oesophagus."""
        return _tubes([(4, 28, 165), (6, 34, 60), (4, 40, 10), (10, 34, -70), (26, 16, -110)], 7)

    @cached_property
    def hila(self) -> tuple[Ellipsoid, Ellipsoid]:
        """Fat and nodes around the vessels and airways that enter the lungs."""
        return Ellipsoid((-36, 14, 6), (14, 16, 24)), Ellipsoid((38, 16, 8), (14, 16, 22))

    def mediastinal_solids(self) -> tuple[Solid, ...]:
        """All that pushes the lungs aside, in its coat of fat."""
        tubes = tuple(tube.grown(2.5) for tube in (*self.great_vessels, *self.gullet, *self.main_airways))
        atria = tuple(atrium.grown(3) for atrium in self.atria)
        return (self.heart_muscle.grown(6), self.fat_pad, *atria, *self.hila, *tubes)

    def cage_mm(self, place: Place) -> Field:
        """About how far each place lies outside the inner surface of the ribs; negative inside."""
        across, along = self.in_cage(place)
        level, slope = _squarish(across, along, half_width(place[2]), half_depth(place[2]))
        return (level - 1) / slope

    def in_cage(self, place: Place) -> tuple[Field, Field]:
        """X and y as shares of the cage's half width and half depth, from its middle."""
        x, y, z = place
        return x / half_width(z), (y - middle_y(z)) / half_depth(z)

    def diaphragm_mm(self, place: Place) -> Field:
        """About how far each place lies below the diaphragm; negative above it."""
        x, y, z = place
        to_left = np.clip(x / 60 + 0.5, 0, 1)
        to_left = to_left**2 * (3 - 2 * to_left)
        dome = self.dome_right + (self.dome_left - self.dome_right) * to_left
        out = ((np.abs(x) - 60) / 78) ** 2 + ((y + 12) / 84) ** 2
        # The domes slope, so that what is below them by a millimetre is nearer than that.
        below: Field = np.multiply(0.75, dome - 36 * out - 16 * out**2 - z, dtype=np.float32)
        return below

    def pleura(self, region: Region) -> Pleura:
        """Distances to what bounds the lungs."""
        x, y, z = region.place
        cage = self.cage_mm(region.place)
        from_axis = (np.abs(x) - 46) ** 2 + (y - middle_y(z) - 4) ** 2
        above_apex = (z - self.apex + from_axis / 76) / np.sqrt(1 + from_axis / 38**2)
        between = np.abs(x) - (4 + 19 * np.exp(-(((y - 22) / 40) ** 2)))
        beside_spine = np.sqrt(x**2 + (y - spine_y(z) - 12) ** 2) - 31
        core = np.minimum(between, beside_spine) + np.zeros_like(cage)
        mediastinum = united(core, self.mediastinal_solids(), region, _CREASE_MM)
        return Pleura(np.maximum(cage, above_apex), self.diaphragm_mm(region.place), -mediastinum)


def draw_thorax(rng: np.random.Generator) -> Thorax:
    """A chest of a size, proportions and stance of its own."""
    turn = np.deg2rad(rng.uniform(-3, 3))
    cos, sin = np.cos(turn), np.sin(turn)
    scale = np.array([rng.uniform(0.93, 1.07), rng.uniform(0.93, 1.07), rng.uniform(0.96, 1.03)])
    body = np.eye(4)
    body[:3, :3] = np.diag(1 / scale) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    body[:3, 3] = [rng.uniform(-6, 6), rng.uniform(-6, 6), rng.uniform(-3, 3)]
    dome = rng.uniform(-62, -44)
    return Thorax(
        body=body,
        apex=rng.uniform(116, 124),
        dome_right=dome,
        dome_left=dome - rng.uniform(5, 16),
        heart=rng.uniform(0.88, 1.1),
        knob=rng.uniform(20, 27),
    )


def half_width(z: Field) -> Field:
    """Of the inside of the ribs."""
    return _profile(z, _CAGE_WIDTH)


def half_depth(z: Field) -> Field:
    """Of the inside of the ribs, front to back."""
    return _profile(z, _CAGE_DEPTH)


def middle_y(z: Field) -> Field:
    """Of the inside of the ribs."""
    return _profile(z, _CAGE_MIDDLE)


def spine_y(z: Field) -> Field:
    """Middle of the vertebral bodies."""
    return middle_y(z) + half_depth(z) - 30


def cage_front(z: Field) -> Field:
    """Y of the inside of the breastbone."""
    return middle_y(z) - half_depth(z)


def torso_width(z: Field) -> Field:
    """Half the width of the trunk with 12 mm of fat."""
    return _profile(z, _TORSO_WIDTH)


def torso_depth(z: Field) -> Field:
    """Half the depth of the trunk with 12 mm of fat."""
    return _profile(z, _TORSO_DEPTH)


def torso_y(z: Field) -> Field:
    """Middle of the trunk."""
    return _profile(z, _TORSO_MIDDLE)


def _tubes(points: Sequence[tuple[float, float, float]], radius: float) -> tuple[Tube, ...]:
    return tuple(Tube(start, end, radius, radius) for start, end in pairwise(points))


def _curve(knots: Sequence[float], values: Sequence[float]) -> PchipInterpolator:
    return PchipInterpolator(knots, values)


_Z = (_LOWEST_MM, -100.0, -40.0, 0.0, 40.0, 80.0, 105.0, 125.0, _HIGHEST_MM)
_CAGE_WIDTH = _curve(_Z, (126, 133, 131, 127, 118, 100, 82, 60, 44))
_CAGE_DEPTH = _curve(_Z, (90, 96, 95, 91, 82, 67, 54, 42, 34))
_CAGE_MIDDLE = _curve(_Z, (-3, -1, 0, 1, 4, 11, 19, 27, 36))
_TORSO_WIDTH = _curve(_Z, (166, 170, 172, 174, 178, 180, 172, 152, 130))
_TORSO_DEPTH = _curve(_Z, (124, 126, 124, 120, 115, 106, 94, 84, 72))
_TORSO_MIDDLE = _curve(_Z, (8, 8, 8, 9, 13, 20, 26, 32, 40))


def _profile(z: Field, curve: PchipInterpolator) -> Field:
    value: Field = curve(np.clip(z, _LOWEST_MM, _HIGHEST_MM)).astype(np.float32)
    return value


def _squarish(across: Field, along: Field, width: Field, depth: Field) -> tuple[Field, Field]:
    """A level that is 1 on an outline between ellipse and rectangle, and how much it rises in a millimetre."""
    x2, y2 = across**2, along**2
    level = (1 - _SQUARENESS) * (x2 + y2) + _SQUARENESS * (x2**2 + y2**2)
    slope_x = across * (2 * (1 - _SQUARENESS) + 4 * _SQUARENESS * x2) / width
    slope_y = along * (2 * (1 - _SQUARENESS) + 4 * _SQUARENESS * y2) / depth
    return level, np.maximum(np.sqrt(slope_x**2 + slope_y**2), 2e-3)


def squarish_mm(x: Field, y: Field, width: Field, depth: Field) -> Field:
    """About how far each place lies outside an outline between ellipse and rectangle; negative inside."""
    level, slope = _squarish(x / width, y / depth, width, depth)
    return (level - 1) / slope
