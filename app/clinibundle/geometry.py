"""The only place where patient axes are turned: LPS of DICOM (left, posterior, superior) to RAS of NIfTI, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FLIP_LEFT_AND_POSTERIOR = np.diag([-1.0, -1.0, 1.0, 1.0])


def turn_lps_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """A (4, 4) voxel-to-millimetre affine in the other of the two conventions; doing it twice gives the same again."""
    return _FLIP_LEFT_AND_POSTERIOR @ affine


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Voxel size in mm along the three array axes of a (4, 4) affine."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def scaling_affine(spacing_mm: Sequence[float] | None) -> NDArray[np.float64]:
    """(4, 4) affine of a picture without a place in the patient: its spacing, or 1, on the diagonal."""
    spacing = list(spacing_mm or ())
    return np.diag(spacing + [1.0] * (4 - len(spacing)))


def to_patient_mm(affine: NDArray[np.float64], index: Sequence[float]) -> tuple[float, float, float]:
    """Place in the patient, in mm, of a voxel index (x, y, z); fractions are fine."""
    x, y, z = (affine @ np.array([*index, 1.0]))[:3]
    return float(x), float(y), float(z)
