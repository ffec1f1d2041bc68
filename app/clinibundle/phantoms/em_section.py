"""Made-up sections of nerve tissue in an electron microscope, neighbours showing the same cells, with known truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

SHAPE = (512, 512)
PIXEL_NM = 4.0
_CELL_PX = 48.0
"""Distance of neighbouring cells' middles, about."""
_DRIFT_PX = 7.0
_MEMBRANE_PX = (1.5, 3.5)
"""From its middle to its side, thin and thick."""
_GREY_INTERIOR, _GREY_MEMBRANE, _GREY_MITOCHONDRION = 165.0, 70.0, 95.0
_CELLS, _DRIFT, _GREY, _NOISE = range(4)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EmStack:
    """Neighbouring sections and what is true of them.

    Attributes:
        grey: (sections, rows, columns), 8 bit, membranes dark.
        cells: the same shape; 0 on membranes, else the cell, which keeps its number from section to section.
    """

    grey: NDArray[np.uint8]
    cells: NDArray[np.int32]


def make_em_stack(seed: int, sections: int = 4, shape: tuple[int, int] = SHAPE, noise: float | None = None) -> EmStack:
    """Cells lie where one of many wandering points is nearest, in a warped plane; one seed always gives the same bytes.

    Args:
        seed: of everything random.
        sections: how many.
        shape: rows, columns.
        noise: standard deviation in grey values; None draws 5 to 16, as real stacks have.
    """
    cells_rng, drift_rng, grey_rng, noise_rng = (np.random.default_rng([seed, part]) for part in range(4))
    # Points lie around the picture as well, so that cells are cut by its border.
    margin = 3 * _CELL_PX
    count = max(4, round((shape[0] + 2 * margin) * (shape[1] + 2 * margin) / _CELL_PX**2))
    points = cells_rng.uniform(-margin, np.array(shape) + margin, (count, 2))
    stretch = cells_rng.uniform(0.6, 1.6, count)
    sigma = grey_rng.uniform(5, 16) if noise is None else noise
    warp = [_smooth(cells_rng, shape, 40, 14) for _ in range(2)]
    grey, cells = [], []
    for _ in range(sections):
        points = points + _DRIFT_PX * drift_rng.standard_normal(points.shape)
        warp = [axis + _smooth(drift_rng, shape, 30, 2) for axis in warp]
        numbers, apart = _nearest(points, stretch, shape, warp)
        width = np.interp(_smooth(grey_rng, shape, 50, 1), [-2, 2], _MEMBRANE_PX)
        membrane = apart < width
        cells.append(np.where(membrane, 0, numbers + 1).astype(np.int32))
        grey.append(_painted(numbers, apart, width, points, grey_rng, noise_rng, sigma))
    return EmStack(np.stack(grey), np.stack(cells))


def make_em_section(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One section, and where its cells are inside."""
    stack = make_em_stack(seed, sections=1)
    return stack.grey[0], stack.cells[0] > 0


def _smooth(rng: np.random.Generator, shape: tuple[int, int], width: float, height: float) -> Floats:
    """A smooth random field with this standard deviation."""
    coarse = gaussian_filter(rng.standard_normal([n // 4 + 8 for n in shape]), width / 4, mode="wrap")
    fine = map_coordinates(coarse, np.indices(shape) / 4, order=1, mode="nearest")
    return np.asarray(height * fine / coarse.std())


def _nearest(
    points: Floats, stretch: Floats, shape: tuple[int, int], warp: list[Floats]
) -> tuple[NDArray[np.int64], Floats]:
    """Of each pixel the nearest point, and how many pixels it lies from the border to the next cell.

    A point's distance is divided by its `stretch`, so that cells differ in size.
    """
    places = np.stack([axis + moved for axis, moved in zip(np.indices(shape), warp, strict=True)], axis=-1)
    distances, found = cKDTree(points).query(places.reshape(-1, 2), k=6)
    nearest = np.argmin(distances / stretch[found], axis=1)
    numbers = found[np.arange(len(found)), nearest].reshape(shape)
    border = np.zeros(shape, bool)
    border[:-1] |= numbers[:-1] != numbers[1:]
    border[:, :-1] |= numbers[:, :-1] != numbers[:, 1:]
    return numbers, np.asarray(distance_transform_edt(~border))


def _painted(
    numbers: NDArray[np.int64],
    apart: Floats,
    width: Floats,
    points: Floats,
    grey_rng: np.random.Generator,
    noise_rng: np.random.Generator,
    sigma: float,
) -> NDArray[np.uint8]:
    shape = (numbers.shape[0], numbers.shape[1])
    tone = grey_rng.normal(0, 8, len(points))[numbers]
    picture = _GREY_INTERIOR + tone + _smooth(grey_rng, shape, 60, 8)
    # Vesicles and filaments.
    picture -= 35 * (_smooth(grey_rng, shape, 1.6, 1) > 1.3)
    # Every fourth cell holds a mitochondrion: dark, with stripes, and no membrane that parts cells.
    rows, columns = np.indices(shape)
    for point in points[grey_rng.random(len(points)) < 0.25]:
        angle, long, short = grey_rng.uniform(0, np.pi), grey_rng.uniform(12, 24), grey_rng.uniform(8, 13)
        y, x = rows - point[0], columns - point[1]
        along, across = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
        inside = ((along / long) ** 2 + (across / short) ** 2 < 1) & (apart > width + 2)
        picture[inside] = _GREY_MITOCHONDRION + 18 * np.sin(along[inside] * 1.3)
    # Membranes fade towards the cell, and are weak in places.
    strength = np.clip(1 + 0.25 * _smooth(grey_rng, shape, 12, 1), 0.35, 1)
    membrane = strength / (1 + np.exp((apart - width) / 0.8))
    picture += membrane * (_GREY_MEMBRANE - picture)
    picture = gaussian_filter(picture, 0.8) + noise_rng.normal(0, sigma, shape)
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)
