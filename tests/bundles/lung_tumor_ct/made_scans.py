"""Small chests drawn with NumPy, written as volumes and as pictures of slices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, ornt_transform
from numpy.typing import NDArray
from PIL import Image

FLESH_HU, LUNG_HU, TUMOUR_HU = 40, -850, 30
Point = tuple[float, float, float]


def draw_chest(
    size: tuple[int, int, int] = (140, 100, 6),
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 3.0),
    tumour_mm: Point | None = (55.0, -5.0, 0.0),
    radius_mm: float = 11.0,
    seed: int = 0,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU and label (x, y, z) in LPS: an elliptical body, two lungs 55 mm from its middle, and a ball in one of them."""
    x, y, z = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(size, spacing_mm, strict=True)), indexing="ij"
    )
    hu = np.full(size, -1000.0)
    hu[(x / 125) ** 2 + (y / 88) ** 2 < 1] = FLESH_HU
    for side in (-55, 55):
        hu[((x - side) / 38) ** 2 + (y / 60) ** 2 < 1] = LUNG_HU
    label = np.zeros(size, np.uint8)
    if tumour_mm is not None:
        label[sum((axis - middle) ** 2 for axis, middle in zip((x, y, z), tumour_mm, strict=True)) < radius_mm**2] = 1
        hu[label > 0] = TUMOUR_HU
    hu += np.random.default_rng(seed).normal(0, 10, size)
    return np.rint(hu).clip(-1024).astype(np.int16), label


def lps_affine(spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """As NIfTI wants it, of an array whose axes run to the patient's left, back and head."""
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = (70, 50, -9)
    return affine


def write_volume(
    folder: Path,
    name: str,
    hu: NDArray[np.int16],
    label: NDArray[np.uint8],
    spacing_mm: Sequence[float] = (2.0, 2.0, 3.0),
    axes: str = "LPS",
    affine: NDArray[np.float64] | None = None,
    ending: str = "nii.gz",
    **facts: Any,
) -> dict[str, Any]:
    """Writes arrays that lie in LPS, or as `affine` says, with their axes in another order; gives their row."""
    row: dict[str, Any] = {"group": name, **facts}
    for kind, values in (("image", hu), ("label", label)):
        volume = nibabel.Nifti1Image(values, lps_affine(spacing_mm) if affine is None else affine)
        turned = volume.as_reoriented(ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(axes)))
        row[kind] = str(folder / f"{kind}s" / f"{name}.{ending}")
        Path(row[kind]).parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(turned, row[kind])
    return row


def write_pictures(
    folder: Path, group: str, hu: NDArray[np.int16], label: NDArray[np.uint8], numbers: Sequence[int], **facts: Any
) -> list[dict[str, Any]]:
    """Writes slices of arrays in LPS as they are seen, 16 bit, HU + 1024; gives a row for each."""
    rows = []
    for place, number in enumerate(numbers):
        row: dict[str, Any] = {"group": group, "original_slice_index": number, **facts}
        pictures = (hu[:, :, place].T.astype(np.int32) + 1024).astype(np.uint16), label[:, :, place].T * np.uint8(255)
        for kind, picture in zip(("image", "label"), pictures, strict=True):
            row[kind] = str(folder / f"{kind}s" / f"{group}_z{number:03}.png")
            Path(row[kind]).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(row[kind])
        rows.append(row)
    return rows


def write_list(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    (folder / "datalist.json").write_text(json.dumps({"training": list(rows)}))
    return folder
