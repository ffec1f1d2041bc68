"""Reads a picture file into a Volume, grey or colour, without ever changing its grid."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from PIL import Image

from clinibundle.checks import Check
from clinibundle.errors import DAMAGE, UnreadableInput, UnsuitableInput
from clinibundle.geometry import spacing_of, turn_lps_ras
from clinibundle.volume import Source, Volume

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
TIFF_SUFFIXES = (".tif", ".tiff")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
# What a file of RASTER_SUFFIXES may hold; Pillow would open a TIFF stack or a PostScript program by any name.
_RASTER_FORMATS = ("PNG", "JPEG", "BMP")
PICTURE_SUFFIXES = (*RASTER_SUFFIXES, *TIFF_SUFFIXES, *NIFTI_SUFFIXES)
# 400 million pixels, the size of a large histology overview; more is refused before memory is taken.
MAX_PIXELS = 400_000_000
# ITU-R BT.601 luma, what Pillow's own conversion uses.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_EXIF_ORIENTATION = 274


def is_picture(path: Path) -> bool:
    """Whether the name says that this is a picture we read."""
    return path.name.lower().endswith(PICTURE_SUFFIXES)


def read_picture(path: Path, spatial_dims: int, channels: int) -> Volume:
    """Reads a picture as a network with that many spatial dimensions and input channels wants it.

    Args:
        path: the file.
        spatial_dims: 2 or 3.
        channels: 1 turns colour into grey, with a check that says so; 3 keeps or repeats it.

    Raises:
        UnreadableInput: if the file is damaged or no picture.
        UnsuitableInput: if its number of dimensions does not fit.
    """
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return _read_nifti(path, spatial_dims)
    pixels, checks = _read_tiff(path) if path.suffix.lower() in TIFF_SUFFIXES else _read_raster(path)
    if spatial_dims != 2:
        raise UnsuitableInput(f"'{path.name}' is a flat picture; this bundle takes volumes ({spatial_dims} dimensions)")
    pixels, colour_check = _to_channels(pixels, channels)
    checks.append(colour_check)
    if not np.isfinite(pixels).all() or pixels.min() == pixels.max():
        raise UnsuitableInput(f"'{path.name}' shows nothing: all its pixels have one value or none")
    turned = pixels.transpose(1, 0, 2) if pixels.ndim == 3 else pixels.T
    return Volume(
        array=np.asarray(turned, dtype=np.float32),
        affine_lps=None,
        spacing_mm=None,
        meaning="colour" if pixels.ndim == 3 else "grey",
        source=Source("picture", case_name(path), "tif" if path.suffix.lower() in TIFF_SUFFIXES else "png"),
        checks=(
            *checks,
            Check(
                "pixel_spacing",
                "warning",
                None,
                None,
                "a picture file carries no pixel spacing, so areas in mm² are not known",
            ),
        ),
        facts={"Kind": "picture", "Rows × columns": f"{pixels.shape[0]} × {pixels.shape[1]}"},
    )


def case_name(path: Path) -> str:
    """The file's name without its ending."""
    name = path.name
    for suffix in sorted(PICTURE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def _read_raster(path: Path) -> tuple[NDArray[Any], list[Check]]:
    checks: list[Check] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_RASTER_FORMATS) as picture:
                _refuse_huge(path, picture.width * picture.height)
                orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
                if orientation != 1:
                    text = (
                        "the file asks viewers to turn the picture; it was segmented as stored, "
                        "and the mask fits the stored pixels"
                    )
                    checks.append(Check("exif_orientation", "warning", str(orientation), "1", text))
                as_read = {"LA": "L", "1": "L", "L": None, "I": None, "F": None, "RGB": None}
                mode = None if picture.mode.startswith("I;16") else as_read.get(picture.mode, "RGB")
                pixels = np.asarray(picture if mode is None else picture.convert(mode))
    except Image.DecompressionBombError as error:
        # Pillow's own limit, which is lower than ours.
        raise UnreadableInput(f"'{path.name}' declares more pixels than can be opened; cut or shrink it") from error
    except DAMAGE as error:
        raise UnreadableInput(
            f"'{path.name}' cannot be read as a picture: it is damaged, truncated or something else"
        ) from error
    return pixels, checks


def _read_tiff(path: Path) -> tuple[NDArray[Any], list[Check]]:
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = len(tiff.pages)
            first: Any = tiff.pages[0]
            _refuse_huge(path, math.prod(first.shape) * pages)
            if pages > 1:
                raise UnsuitableInput(f"'{path.name}' is a stack of {pages} pages; this bundle takes single pictures")
            if first.compression not in tifffile.TIFF.DECOMPRESSORS:
                raise UnreadableInput(
                    f"'{path.name}' is compressed with {first.compression.name}, which takes the package imagecodecs "
                    "to read; install it, or save the picture as PNG"
                )
            photometric, table = first.photometric, first.colormap
            pixels = np.asarray(first.asarray())
            if photometric == tifffile.PHOTOMETRIC.PALETTE and table is not None:
                pixels = np.moveaxis(table[:, pixels], 0, -1)
    except (*DAMAGE, tifffile.TiffFileError) as error:
        raise UnreadableInput(
            f"'{path.name}' cannot be read as a TIFF picture: it is damaged, truncated or something else"
        ) from error
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[2] == 4 and photometric == tifffile.PHOTOMETRIC.RGB:
        pixels = pixels[..., :3]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise UnsuitableInput(f"'{path.name}' has the shape {pixels.shape}; expected a grey or RGB picture")
    if photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return pixels, []
    pixels = pixels.astype(np.float32)
    text = "grey values were turned once, so that bright is dense"
    check = Check("photometric_interpretation", "fixed", "MINISWHITE", "MINISBLACK", text)
    return pixels.max() + pixels.min() - pixels, [check]


def _read_nifti(path: Path, spatial_dims: int) -> Volume:
    try:
        image: Any = nibabel.load(path)
        _refuse_huge(path, math.prod(image.shape))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.asarray(image.dataobj, dtype=np.float32)
            placed = np.asarray(image.affine, dtype=np.float64)
            unit = image.header.get_xyzt_units()[0]
    except (*DAMAGE, HeaderDataError, ImageFileError) as error:
        raise UnreadableInput(
            f"'{path.name}' cannot be read as NIfTI: it is damaged, truncated or something else"
        ) from error
    shape = array.shape
    while array.ndim > spatial_dims and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != spatial_dims:
        raise UnsuitableInput(f"'{path.name}' has the shape {shape}; this bundle takes {spatial_dims} dimensions")
    if not np.isfinite(array).all() or array.min() == array.max():
        raise UnsuitableInput(f"'{path.name}' shows nothing: all its voxels have one value, or some have none")
    spacing, check = _nifti_spacing(placed, unit, spatial_dims)
    return Volume(
        array=array,
        affine_lps=None if spacing is None else turn_lps_ras(placed),
        spacing_mm=spacing,
        meaning="grey",
        source=Source("volume", case_name(path), "nii.gz", nifti_header=image.header.copy()),
        checks=(check,),
        facts={"Kind": "NIfTI", "Shape": " × ".join(str(size) for size in shape)},
    )


def _nifti_spacing(affine: NDArray[np.float64], unit: str, spatial_dims: int) -> tuple[tuple[float, ...] | None, Check]:
    """Voxel size; None where the header gives the voxels an impossible one."""
    spacing = spacing_of(affine)[:spatial_dims]
    if not np.isfinite(affine).all() or min(spacing) <= 0:
        detail = "the NIfTI header gives the voxels no possible size, so sizes in mm are not known"
        return None, Check("voxel_size", "warning", None, None, detail)
    shown = [round(size, 6) for size in spacing]
    if unit == "mm":
        return spacing, Check("voxel_size", "passed", shown, None, "voxel size from the NIfTI header")
    detail = "the NIfTI header does not say that its voxel size is in mm; mm is assumed"
    return spacing, Check("voxel_size", "warning", shown, None, detail)


def _refuse_huge(path: Path, pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise UnreadableInput(f"'{path.name}' declares {pixels} pixels, more than the limit of {MAX_PIXELS}")


def _to_channels(pixels: NDArray[Any], channels: int) -> tuple[NDArray[Any], Check]:
    if channels == 1 and pixels.ndim == 3:
        if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
            return pixels[..., 0], Check(
                "colour", "fixed", "RGB", "grey", "the three colours are the same; one was taken"
            )
        detail = (
            "a colour picture was given where grey is expected; its brightness was taken, "
            "colours and drawn marks may mislead"
        )
        return pixels.astype(np.float32) @ _LUMA, Check("colour", "warning", "RGB", "grey", detail)
    if channels == 3 and pixels.ndim == 2:
        return np.stack([pixels] * 3, axis=-1), Check(
            "colour", "warning", "grey", "RGB", "a grey picture was given where colour is expected"
        )
    return pixels, Check("colour", "passed", "RGB" if pixels.ndim == 3 else "grey", None, "as expected")
