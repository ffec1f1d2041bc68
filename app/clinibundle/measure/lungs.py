"""Lungs in a chest CT, found without a network: enough to say that there are some, how much, and what lies by them.

Air below -400 HU that does not reach the sides of the picture, as the air around a patient does (Hu, Hoffman and
Reinhardt, IEEE Trans Med Imaging 2001;20:490-498, with a fixed threshold in place of their iterated one). Airways and
large pockets of gas elsewhere count as well. Parts smaller than 20 ml are left out. No library at hand finds lungs
without weights; SimpleITK's filters would be the same steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clinibundle.geometry import spacing_of

_AIR_BELOW_HU = -400
_SMALLEST_PART_ML = 20.0
_MM3_PER_ML = 1000.0
# Looked at on a coarser grid: finding lungs takes a second then, and their volume is still right to a few percent.
_COARSE_MM = 2.5
# A picture narrower than this is a cut-out and shows no air around the patient: lung may reach its sides.
_WHOLE_CHEST_MM = 180.0


class Lungs:
    """Lung tissue on a coarser grid of the volume.

    Attributes:
        volume_ml: of all that was found.
    """

    def __init__(self, mask: NDArray[np.bool_], strides: tuple[int, int, int], spacing_mm: tuple[float, ...]) -> None:
        self._mask, self._strides, self._spacing_mm = mask, strides, spacing_mm
        self.volume_ml = float(np.count_nonzero(mask) * np.prod(spacing_mm) / _MM3_PER_ML)

    def distance_mm(self, index: tuple[float, float, float]) -> float | None:
        """From a voxel (x, y, z) of the volume to the nearest lung, to about 2 mm; None if there is no lung."""
        places = np.argwhere(self._mask)
        if not len(places):
            return None
        here = np.array(index) / self._strides
        return float(np.sqrt((((places - here) * self._spacing_mm) ** 2).sum(axis=1).min()))


def find_lungs(values_hu: NDArray[Any], affine_lps: NDArray[np.float64]) -> Lungs:
    """Air inside the chest.

    Args:
        values_hu: (x, y, z).
        affine_lps: (4, 4), voxel index to millimetres in the patient.
    """
    spacing = spacing_of(affine_lps)
    x, y, z = (max(1, round(_COARSE_MM / mm)) for mm in spacing)
    air = values_hu[::x, ::y, ::z] < _AIR_BELOW_HU
    coarse_mm = (spacing[0] * x, spacing[1] * y, spacing[2] * z)
    parts, count = ndimage.label(air)
    left_out = np.bincount(parts.ravel(), minlength=count + 1) * np.prod(coarse_mm) / _MM3_PER_ML < _SMALLEST_PART_ML
    left_out[0] = True
    foot_to_head = int(np.argmax(np.abs(affine_lps[2, :3]) / spacing))
    across = [axis for axis in range(3) if axis != foot_to_head]
    if min(values_hu.shape[axis] * spacing[axis] for axis in across) >= _WHOLE_CHEST_MM:
        for axis in across:
            for side in (0, -1):
                left_out[np.unique(np.take(parts, side, axis=axis))] = True
    return Lungs(~left_out[parts], (x, y, z), coarse_mm)
