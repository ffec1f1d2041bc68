"""What a slice shows where, found without a network: so that training meets look-alikes as often as tumours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ELSEWHERE, NEAR_LUNG, LOOK_ALIKE, TUMOUR = 0, 1, 2, 3

_AIR_BELOW_HU = -400
_LOOK_ALIKE_HU = (-300, 300)
_NEAR_MM = 8.0
_SMALLEST_LUNG_MM2 = 200.0
# A picture smaller than this shows no air around the patient: lung may touch its border.
_WHOLE_CHEST_MM = 180.0


def find_lungs(slice_hu: NDArray[np.integer[Any]], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """Air inside the body: what is darker than -400 HU and does not touch the picture's border.

    In a cut-out, which has no air around the patient, all air counts. Airways count as well.

    Args:
        slice_hu: one axial slice, any order of its two axes.
        spacing_mm: along these axes.
    """
    air = slice_hu < _AIR_BELOW_HU
    labels, count = ndimage.label(air)
    if count == 0:
        return air
    small = np.bincount(labels.ravel()) * spacing_mm[0] * spacing_mm[1] < _SMALLEST_LUNG_MM2
    outside = np.zeros(count + 1, dtype=bool)
    outside[0] = True
    if min(n * mm for n, mm in zip(slice_hu.shape, spacing_mm, strict=True)) >= _WHOLE_CHEST_MM:
        for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            outside[border] = True
    return np.asarray(~(outside | small)[labels])


def find_zones(
    slice_hu: NDArray[np.integer[Any]], tumour: NDArray[np.bool_], spacing_mm: tuple[float, float]
) -> NDArray[np.uint8]:
    """Each pixel's zone: tumour, look-alike (vessel, chest wall, diaphragm within 8 mm of air), near lung, or none."""
    lungs = find_lungs(slice_hu, spacing_mm)
    near = lungs
    if lungs.any():
        near = ndimage.distance_transform_edt(~lungs, sampling=spacing_mm) <= _NEAR_MM
    low, high = _LOOK_ALIKE_HU
    zones = np.full(slice_hu.shape, ELSEWHERE, dtype=np.uint8)
    zones[near] = NEAR_LUNG
    zones[near & (slice_hu > low) & (slice_hu < high)] = LOOK_ALIKE
    zones[tumour] = TUMOUR
    return zones
