"""Writes label maps in the family of the input, on its own grid, and reads them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from clinibundle.errors import OutputError
from clinibundle.geometry import scaling_affine, turn_lps_ras
from clinibundle.volume import Volume

_MAX_PNG_LABEL = 65_535


def write_label_map(folder: Path, label_map: NDArray[np.integer[Any]], volume: Volume) -> Path:
    """Writes `mask.png`, `mask.tif` or `mask.nii.gz` and compares it with the label map.

    Args:
        folder: where to.
        label_map: axes as `volume.array`.
        volume: the source, whose family and grid the mask takes.

    Raises:
        OutputError: if the label map does not lie on the volume's grid, holds labels that the file cannot, or reads
            back differently.
    """
    if label_map.shape != volume.spatial_shape:
        raise OutputError(
            f"the mask has the shape {label_map.shape}, its source {volume.spatial_shape}; please report this"
        )
    family = volume.source.family
    lowest, highest = int(label_map.min(initial=0)), int(label_map.max(initial=0))
    if lowest < 0:
        raise OutputError(f"label {lowest} cannot be written, labels count from 0; please report this")
    if family == "png" and highest > _MAX_PNG_LABEL:
        raise OutputError(f"label {highest} does not fit into a PNG of 16 bits; give the picture as TIFF or NIfTI")
    path = folder / f"mask.{family}"
    stored = label_map.astype(np.min_scalar_type(highest))
    if family == "nii.gz":
        _write_nifti(path, stored, volume)
        found = np.asarray(nibabel.load(path).dataobj).reshape(stored.shape)
    else:
        write_labels(path, stored)
        found = (tifffile.imread(path) if family == "tif" else np.asarray(Image.open(path))).T
    if not np.array_equal(found, label_map):
        raise OutputError(f"{path.name} reads back differently from the mask; nothing was kept, please report this")
    return path


def write_labels(path: Path, label_map: NDArray[np.integer[Any]]) -> None:
    """Writes a label map (x, y[, z]) as PNG or TIFF, a page per slice, by the path's ending.

    Raises:
        OutputError: if PNG cannot hold its labels or its slices.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, label_map.T, compression="zlib")
        return
    if label_map.ndim != 2 or label_map.max(initial=0) > _MAX_PNG_LABEL:
        raise OutputError(
            f"a label map of {' × '.join(map(str, label_map.shape))} with labels up to {label_map.max(initial=0)} does "
            "not fit into a PNG; name a TIFF or NIfTI file"
        )
    smallest = np.uint8 if label_map.max(initial=0) <= np.iinfo(np.uint8).max else np.uint16
    Image.fromarray(np.ascontiguousarray(label_map.T.astype(smallest))).save(path, "PNG", optimize=False)


def _write_nifti(path: Path, stored: NDArray[Any], volume: Volume) -> None:
    header = volume.source.nifti_header
    if header is None:
        affine = scaling_affine(volume.spacing_mm) if volume.affine_lps is None else volume.affine_lps
        nibabel.save(nibabel.Nifti1Image(stored, turn_lps_ras(affine)), path)
        return
    # The source's own header keeps both of its codes (qform, sform) and its shape, a trailing axis of 1 included.
    header = header.copy()
    header.set_data_dtype(stored.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    shape = tuple(int(size) for size in header.get_data_shape())
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    nibabel.save(kind(stored.reshape(shape), None, header), path)
