"""A made-up CT of the chest with tumours whose place, size and density are known by formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from clinibundle.phantoms.ct_thorax import MIDDLE_MM, Pleura
from clinibundle.phantoms.ct_tissues import AIR, Chest, draw_chest, paint_chest
from clinibundle.phantoms.ct_tumours import Tumour, draw_tumours, mark_tumour, tumour_share
from clinibundle.phantoms.solids import Points, Slab
from clinibundle.phantoms.voxel_grid import Box, Field, grid_around

SHAPE = (48, 160, 160)
SPACING_MM = (6.0, 2.5, 2.5)
"""Together they hold the whole chest of an adult."""
LEAST_HU, MOST_HU = -1024, 3071
"""What 12 bits with an intercept of -1024 hold."""
_SLAB_VOXELS = 600_000
_NOISE_WIDTH_PIXELS = 0.6
_ANATOMY, _TUMOURS, _NOISE = range(3)


@dataclass(frozen=True, eq=False)
class ChestCt:
    """A CT and what is true of it.

    Attributes:
        hounsfield: (slices, rows, columns), from the feet to the head.
        label: the same shape; 1 in tumours.
        lungs: the same shape; with their vessels, and with tumours as far as these lie in them.
        tumours: their exact facts.
        affine_lps: (4, 4), voxel index (x, y, z) = (column, row, slice) to millimetres in the patient.
    """

    hounsfield: NDArray[np.int16]
    label: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    tumours: tuple[Tumour, ...]
    affine_lps: NDArray[np.float64]


def make_chest_ct(
    seed: int,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    tumours: Sequence[Tumour] | None = None,
    noise_hu: float | None = None,
    tilt_degrees: float = 0.0,
    rotation: NDArray[np.float64] | None = None,
) -> ChestCt:
    """A chest CT; the same arguments give the same voxels.

    The chest is given by formulas, so that one seed is one patient at any shape, spacing and direction.

    Args:
        seed: chooses anatomy, tumours, noise and contrast agent.
        shape: slices, rows, columns; the middle of the grid is that of the chest.
        spacing_mm: the same order.
        tumours: the patient's; () for none, None for up to four that the seed chooses.
        noise_hu: standard deviation; None for 10 to 40 as the seed has it.
        tilt_degrees: of the gantry; the slices lean and their stack is sheared (`grid_around`).
        rotation: (3, 3), turns the grid in the patient, as for oblique slices.

    Raises:
        ValueError: if a given tumour does not lie wholly on the grid, or two overlap.
    """
    grid = grid_around(MIDDLE_MM, shape, spacing_mm, tilt_degrees, rotation)
    chest = draw_chest(np.random.default_rng((seed, _ANATOMY)))
    if tumours is None:
        tumours = draw_tumours(np.random.default_rng((seed, _TUMOURS)), partial(_pleura, chest), grid)
    if noise_hu is None:
        noise_hu = float(np.random.default_rng((seed, _NOISE)).uniform(10, 40))
    shares = [tumour_share(grid, tumour) for tumour in tumours]
    label = np.zeros(shape, dtype=np.uint8)
    for tumour, (box, share) in zip(tumours, shares, strict=True):
        mark_tumour(label, box, share, round(tumour.volume_ml * 1000 / grid.voxel_mm3))
    hounsfield = np.empty(shape, dtype=np.int16)
    lungs = np.empty(shape, dtype=np.bool_)
    in_body = grid.seen_from(chest.thorax.body)
    for box in grid.slabs(_SLAB_VOXELS):
        slab = Slab(in_body, box, AIR, border_mm=max(1.0, *spacing_mm[1:]))
        lungs[box] = paint_chest(slab, chest) < 0
        for tumour, (around, share) in zip(tumours, shares, strict=True):
            _blend(slab.hounsfield, box[0], tumour.hounsfield, around, share)
        slab.hounsfield += _noise((seed, _NOISE), box[0], slab.hounsfield.shape[1:], noise_hu)
        hounsfield[box] = np.clip(np.rint(slab.hounsfield), LEAST_HU, MOST_HU)
    return ChestCt(hounsfield, label, lungs, tuple(tumours), grid.affine)


def _pleura(chest: Chest, points_mm: NDArray[np.float64]) -> Pleura:
    """What bounds the lungs, at points (..., x y z) in the patient's millimetres."""
    body = chest.thorax.body
    return chest.thorax.pleura(Points(points_mm @ body[:3, :3].T + body[:3, 3]))


def _blend(hounsfield: Field, slices: slice, value: float, box: Box, share: Field) -> None:
    """Mixes a tumour into these slices of the volume, by the share of each voxel that it fills."""
    first, last = max(slices.start, box[0].start), min(slices.stop, box[0].stop)
    if first < last:
        part = hounsfield[first - slices.start : last - slices.start, box[1], box[2]]
        part += share[first - box[0].start : last - box[0].start] * (value - part)


def _noise(seed: tuple[int, ...], slices: slice, size: tuple[int, ...], sigma_hu: float) -> Field:
    """Gaussian noise that neighbouring pixels of a slice share a little, as filtered back projection leaves it."""
    noise = np.empty((slices.stop - slices.start, *size), dtype=np.float32)
    for index, plane in enumerate(noise, start=slices.start):
        white = np.random.default_rng((*seed, index)).standard_normal(size, dtype=np.float32)
        gaussian_filter(white, _NOISE_WIDTH_PIXELS, output=plane)
    # Smoothing takes contrast: by the sum of the squared weights along each axis.
    weights = gaussian_filter(np.eye(1, 65, 32)[0], _NOISE_WIDTH_PIXELS)
    return noise * np.float32(sigma_hu / (weights**2).sum())
