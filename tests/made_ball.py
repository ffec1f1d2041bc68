"""A small CT of a patient with a name, in which a bright ball lies at a known place; for tests of several rooms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset

from dicom.made_volumes import ct_series, lps_grid, save_all

SHAPE = (12, 40, 48)
"""Slices, rows, columns."""
SPACING_MM = (0.8, 1.1, 2.5)
"""Of columns, rows, slices."""
ORIGIN_MM = (-31.0, 12.5, -140.0)
RADIUS_MM = 7.0
AIR_HU, BALL_HU = -1000, 300
PATIENT = {
    "PatientName": "Quixote^Alonso",
    "PatientID": "LM-1605",
    "PatientBirthDate": "15470929",
    "StudyDate": "16050116",
    "SeriesDate": "16050116",
    "AccessionNumber": "ACC-1615",
    "StudyDescription": "Thorax, Quixote",
    "SeriesDescription": "Alonso axial",
}
SECRETS = ("Quixote", "Alonso", "LM-1605", "15470929", "16050116", "ACC-1615")


def axial(**changes: Any) -> np.ndarray:
    """(4, 4) affine, voxel index (column, row, slice) to millimetres in LPS; `turn` and `shear` as of `lps_grid`."""
    return lps_grid(SPACING_MM, ORIGIN_MM, **changes)


def centre_of(affine: np.ndarray, index: Sequence[float] = (29.3, 14.6, 6.4)) -> np.ndarray:
    """Where the ball's middle lies in millimetres: in no plane of symmetry of the grid."""
    return (affine @ [*index, 1.0])[:3]


def ball(affine: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Hounsfield units (slices, rows, columns) of a ball in air."""
    z, y, x = np.indices(shape)
    places = np.stack([x, y, z], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(places - centre_of(affine), axis=-1) <= RADIUS_MM
    return np.where(inside, BALL_HU, AIR_HU).astype(np.int16)


def ball_series(affine: np.ndarray | None = None, **changes: Any) -> list[FileDataset]:
    """The ball's CT as slices; changes as of `ct_series`."""
    affine = axial() if affine is None else affine
    return ct_series(ball(affine), affine, **{**PATIENT, **changes})


def save_ball(folder: Path, affine: np.ndarray | None = None, **changes: Any) -> Path:
    """The same as files, named as people do."""
    return save_all(ball_series(affine, **changes), folder)


def tells(*texts: str | bytes) -> list[str]:
    """What of the patient stands in any of the texts."""
    joined = "\n".join(text if isinstance(text, str) else text.decode("latin-1") for text in texts).casefold()
    return [secret for secret in SECRETS if secret.casefold() in joined]
