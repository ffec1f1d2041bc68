"""The values of a picture or label file just as they are stored.

`clinibundle.pictures.read` gives what a network is to see; here nothing is turned, scaled or made grey, because the
question is whether the file is in order.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from nibabel.filebasedimages import ImageFileError
from numpy.lib.recfunctions import structured_to_unstructured
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from clinibundle.errors import UnreadableInput
from clinibundle.pictures.read import NIFTI_SUFFIXES, TIFF_SUFFIXES

# What Pillow, tifffile, nibabel and gzip raise for damaged files, each at other places.
_DAMAGE = (
    OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, IndexError, RuntimeError, MemoryError,
    struct.error, zlib.error, ImageFileError, Image.DecompressionBombError,
)  # fmt: skip
_COLOUR_AXES = "SC"


@dataclass(frozen=True, eq=False)
class Stored:
    """Values of a file.

    Attributes:
        array: as the library gives it: (rows, columns[, colours]) of pictures, (i, j, k[, ...]) of NIfTI.
        spatial_shape: of it, what is space: (rows, columns), (pages, rows, columns) or (i, j, k).
        channels: how many values stand at a place.
        affine: NIfTI only, voxel index to millimetres as the file has it.
    """

    array: NDArray[Any]
    spatial_shape: tuple[int, ...]
    channels: int
    affine: NDArray[np.float64] | None = None


def read_stored(path: Path, palette_as_colours: bool = False) -> Stored:
    """Decodes the whole file.

    Args:
        path: the file.
        palette_as_colours: of a picture with a palette, give the colours seen and not the numbers stored.

    Raises:
        UnreadableInput: if it is damaged, cut short, or no picture at all.
    """
    name = path.name.lower()
    try:
        if name.endswith(NIFTI_SUFFIXES):
            return _read_nifti(path)
        return _read_tiff(path) if name.endswith(TIFF_SUFFIXES) else _read_picture(path, palette_as_colours)
    except _DAMAGE as error:
        raise UnreadableInput(
            f"'{path.name}' cannot be read to its end: it is damaged, cut short, too large or no picture; "
            "copy it anew from where it came"
        ) from error


def _read_picture(path: Path, palette_as_colours: bool) -> Stored:
    with Image.open(path) as picture:
        array = np.asarray(picture.convert("RGB") if palette_as_colours and picture.mode in ("P", "PA") else picture)
    return Stored(array, array.shape[:2], array.shape[2] if array.ndim == 3 else 1)


def _read_tiff(path: Path) -> Stored:
    with tifffile.TiffFile(path) as tiff:
        series: Any = tiff.series[0]
        axes = str(series.axes)
        try:
            array = series.asarray()
        except ValueError:
            # LZW, JPEG and others want a further package; Pillow brings them along.
            with Image.open(path) as pages:
                array = np.stack([np.asarray(page) for page in ImageSequence.Iterator(pages)]).reshape(series.shape)
    sizes = list(zip(axes, array.shape, strict=True))
    spatial = tuple(int(size) for axis, size in sizes if axis not in _COLOUR_AXES)
    return Stored(array, spatial, int(np.prod([size for axis, size in sizes if axis in _COLOUR_AXES])))


def _read_nifti(path: Path) -> Stored:
    image: Any = nibabel.load(path)
    array = np.asanyarray(image.dataobj)
    if array.dtype.names:  # colours
        array = structured_to_unstructured(array)
    channels = int(np.prod(array.shape[3:]))
    return Stored(
        array, tuple(int(size) for size in array.shape[:3]), channels, np.asarray(image.affine, dtype=np.float64)
    )
