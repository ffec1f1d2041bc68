"""A pixel grid laid over a body measured in millimetres, and the few ways a phantom draws on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.draw import line, polygon2mask

Points = NDArray[np.float64]
"""(points, 2): x to the right of the picture and y down it, in millimetres."""
Field = NDArray[np.float64]
"""(rows, columns): a value at every pixel's centre."""


@dataclass(frozen=True)
class Canvas:
    """Pixels over a body whose origin lies at the middle of the picture's upper edge.

    Attributes:
        size: rows, columns.
        spacing_mm: side of a pixel.
        tilt_deg: by how much the body leans, about the middle of the picture.
        shift_mm: how far it stands to the right of the middle, and below the top.
    """

    size: tuple[int, int]
    spacing_mm: float
    tilt_deg: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)

    def grid(self) -> tuple[Field, Field]:
        """The x and y of every pixel in the body's millimetres, each (rows, columns)."""
        rows, columns = np.indices(self.size)
        on_film = np.stack([columns, rows], axis=-1) * self.spacing_mm - self._middle_mm
        in_body = on_film @ self._rotation + self._middle_mm - self._origin_mm
        return in_body[..., 0], in_body[..., 1]

    def inside(self, outline: Points) -> NDArray[np.bool_]:
        """(rows, columns): which pixels lie within a closed outline."""
        mask: NDArray[np.bool_] = polygon2mask(self.size, self._row_column(outline))
        return mask

    def distance_mm(self, curves: Iterable[Points]) -> Field:
        """(rows, columns): how far each pixel lies from the nearest of the open curves."""
        away = np.ones(self.size, dtype=bool)
        for curve in curves:
            corners = np.rint(self._row_column(curve)).astype(int)
            for (row, column), (next_row, next_column) in pairwise(corners):
                rows, columns = line(row, column, next_row, next_column)
                on_film = (rows >= 0) & (rows < self.size[0]) & (columns >= 0) & (columns < self.size[1])
                away[rows[on_film], columns[on_film]] = False
        return self.depth_mm(away)

    def depth_mm(self, mask: NDArray[np.bool_]) -> Field:
        """(rows, columns): how far each pixel of the mask lies within it; the picture's edge is no border."""
        if mask.all():
            return np.full(self.size, np.inf)
        depth: Field = distance_transform_edt(mask, sampling=self.spacing_mm)
        return depth

    def bulge(self, outlines: Iterable[Points], radius_mm: float) -> Field:
        """(rows, columns): 0 outside the outlines to 1 from `radius_mm` within, as something round is thick."""
        mask = np.zeros(self.size, dtype=bool)
        for outline in outlines:
            mask |= self.inside(outline)
        return rounded(self.depth_mm(mask), radius_mm)

    def blurred(self, field: Field, sigma_mm: float) -> Field:
        """The field under a Gaussian of this width."""
        smooth: Field = gaussian_filter(field, sigma_mm / self.spacing_mm)
        return smooth

    def _row_column(self, points: Points) -> Points:
        on_film = (points + self._origin_mm - self._middle_mm) @ self._rotation.T + self._middle_mm
        return on_film[:, ::-1] / self.spacing_mm

    @property
    def _middle_mm(self) -> Points:
        return (np.array(self.size[::-1], dtype=np.float64) - 1) / 2 * self.spacing_mm

    @property
    def _origin_mm(self) -> Points:
        return np.array([self._middle_mm[0], 0.0]) + self.shift_mm

    @property
    def _rotation(self) -> Points:
        angle = np.deg2rad(self.tilt_deg)
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def smooth_curve(points: Iterable[tuple[float, float]], steps: int = 80) -> Points:
    """(steps, 2): a cubic spline through the points, evenly stepped along its chords."""
    corners = np.array(list(points), dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    curve: Points = make_interp_spline(along, corners, k=min(3, len(corners) - 1))(np.linspace(0, along[-1], steps))
    return curve


def ellipse(centre: tuple[float, float], radii: tuple[float, float], lean_deg: float = 0.0, steps: int = 60) -> Points:
    """(steps, 2): an ellipse's outline; a positive lean turns it clockwise as seen."""
    turn = np.linspace(0, 2 * np.pi, steps)
    lean = np.deg2rad(lean_deg)
    x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
    rotated = np.stack([x * np.cos(lean) - y * np.sin(lean), x * np.sin(lean) + y * np.cos(lean)], axis=1)
    return rotated + centre


def rounded(depth_mm: Field, radius_mm: float) -> Field:
    """0 at the border to 1 from `radius_mm` inwards, rising as the thickness of something round does."""
    flat = 1 - np.clip(depth_mm / radius_mm, 0, 1)
    return np.sqrt(1 - flat**2)


def tube(distance_mm: Field, radius_mm: float, hollow: float = 0.0) -> Field:
    """Length of the ray's way through the wall of a tube, in millimetres, `distance_mm` off its axis.

    `hollow` is the bore's share of the radius: 0 for a solid rod, towards 1 for a thin shell.
    """

    def chord(radius: float) -> Field:
        return 2 * np.sqrt(np.clip(radius**2 - np.minimum(distance_mm, radius) ** 2, 0, None))

    return chord(radius_mm) - chord(hollow * radius_mm)
