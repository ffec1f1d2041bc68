"""Windows of TIFF pages, read without decoding the whole page: sections of microscopes are larger than memory.

tifffile decodes whole pages, or hands a page to zarr, which is an extra here; what is done by hand is to find the tiles
or strips that a window touches.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from clinibundle.errors import DAMAGE, UnreadableInput, UnsuitableInput

# Of decoded tiles that neighbouring windows share.
_KEPT_BYTES = 64 * 2**20
# A tile or strip is decoded as a whole.
_LARGEST_PIECE_BYTES = 256 * 2**20
_UNITS_MM = {"nm": 1e-6, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3, "mm": 1.0, "cm": 10.0, "inch": 25.4}
_RESOLUTION_UNITS_MM = {2: 25.4, 3: 10.0}


class TiffPage:
    """One page of a TIFF file, read window by window.

    Args:
        path: the file.
        page: of an open `tifffile.TiffFile`, grey or RGB with all colours in one tile.

    Attributes:
        shape: rows, columns.
        dtype: of what is stored.
        samples: 1 grey, 3 colours.

    Raises:
        UnsuitableInput: if it holds something else, or pieces that are too large to be decoded.
    """

    def __init__(self, path: Path, page: Any) -> None:
        self._path, self._page = path, page
        self.shape = (int(page.imagelength), int(page.imagewidth))
        self.dtype = np.dtype(page.dtype)
        self.samples = int(page.samplesperpixel)
        self._decoded: OrderedDict[int, NDArray[Any]] = OrderedDict()
        if self.samples not in (1, 3) or (self.samples == 3 and page.planarconfig != tifffile.PLANARCONFIG.CONTIG):
            raise UnsuitableInput(
                f"'{path.name}' holds {self.samples} values a pixel; expected grey, or RGB side by side"
            )
        if page.compression not in tifffile.TIFF.DECOMPRESSORS:
            raise UnreadableInput(
                f"'{path.name}' is compressed with {page.compression.name}, which takes the package imagecodecs to "
                "read; install it, or save the picture without compression"
            )
        tiled = bool(page.is_tiled)
        height = int(page.tilelength if tiled else min(page.rowsperstrip, page.imagelength))
        self._piece = (height, int(page.tilewidth if tiled else page.imagewidth))
        self._whole_rows = bool(page.is_contiguous)
        piece_bytes = math.prod(self._piece) * self.dtype.itemsize * self.samples
        if not self._whole_rows and piece_bytes > _LARGEST_PIECE_BYTES:
            raise UnsuitableInput(
                f"'{path.name}' is compressed in pieces of {self._piece[0]} × {self._piece[1]} pixels, which have to "
                f"be decoded as a whole (limit {_LARGEST_PIECE_BYTES // 2**20} MiB); save it in tiles"
            )

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Stored values (rows, columns) or (rows, columns, 3) of a window that lies inside the page.

        Raises:
            UnreadableInput: if the file is damaged there.
        """
        try:
            return self._rows(rows)[:, columns] if self._whole_rows else self._from_pieces(rows, columns)
        except (*DAMAGE, tifffile.TiffFileError) as error:
            raise UnreadableInput(f"'{self._path.name}' is damaged or truncated") from error

    def _rows(self, rows: slice) -> NDArray[Any]:
        row_values = self.shape[1] * self.samples
        count = (rows.stop - rows.start) * row_values
        handle = self._page.parent.filehandle
        handle.seek(self._page.dataoffsets[0] + rows.start * row_values * self.dtype.itemsize)
        data = handle.read(count * self.dtype.itemsize)
        stored = np.frombuffer(data, self.dtype.newbyteorder(self._page.parent.byteorder))
        if stored.size != count:
            raise EOFError("fewer pixels than declared")
        own_order = stored.astype(self.dtype, copy=False)
        return own_order.reshape(rows.stop - rows.start, self.shape[1], *([3] if self.samples == 3 else []))

    def _from_pieces(self, rows: slice, columns: slice) -> NDArray[Any]:
        height, width = self._piece
        window = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.samples), self.dtype)
        across = -(-self.shape[1] // width)
        for down in range(rows.start // height, -(-rows.stop // height)):
            for along in range(columns.start // width, -(-columns.stop // width)):
                piece = self._piece_values(down * across + along)
                top, left = down * height, along * width
                r0, r1 = max(rows.start, top), min(rows.stop, top + height)
                c0, c1 = max(columns.start, left), min(columns.stop, left + width)
                target = window[r0 - rows.start : r1 - rows.start, c0 - columns.start : c1 - columns.start]
                target[...] = piece[r0 - top : r1 - top, c0 - left : c1 - left]
        return window if self.samples == 3 else window[..., 0]

    def _piece_values(self, index: int) -> NDArray[Any]:
        """(rows, columns, samples) of a tile or strip; what lies outside the page may be cut off."""
        if index in self._decoded:
            self._decoded.move_to_end(index)
            return self._decoded[index]
        handle = self._page.parent.filehandle
        handle.seek(self._page.dataoffsets[index])
        data = handle.read(self._page.databytecounts[index])
        decoded, _, shape = self._page.decode(data, index)
        if decoded is None:
            # An absent tile of a sparse file.
            decoded = np.full((1, *self._piece, self.samples), self._page.nodata, self.dtype)
            shape = decoded.shape
        piece: NDArray[Any] = decoded.reshape(decoded.shape[-3:])[: shape[1], : shape[2]]
        self._decoded[index] = piece
        held = sum(values.nbytes for values in self._decoded.values())
        while held > _KEPT_BYTES and len(self._decoded) > 1:
            held -= self._decoded.popitem(last=False)[1].nbytes
        return piece


def page_spacing_mm(tiff: tifffile.TiffFile, page: Any) -> tuple[float, float] | None:
    """Distance of neighbouring pixels along (x, y), by OME-XML, ImageJ's description, or the resolution tags.

    A resolution of 72 or 96 dots per inch is what programs write that know nothing of it, and is taken for nothing.
    """
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_spacing_mm(tiff.ome_metadata)
    resolution = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if None in resolution or any(bottom == 0 or top == 0 for top, bottom in resolution):
        return None
    per_unit = [top / bottom for top, bottom in resolution]
    described = tiff.imagej_metadata or {}
    unit_mm = _UNITS_MM.get(str(described.get("unit", "")).replace("\\u00B5", "µ"))
    if unit_mm is None:
        unit_mm = _RESOLUTION_UNITS_MM.get(int(page.tags.valueof("ResolutionUnit", 1)))
        if unit_mm == 25.4 and round(per_unit[0]) in (72, 96):
            return None
    return None if unit_mm is None else (unit_mm / per_unit[0], unit_mm / per_unit[1])


def _ome_spacing_mm(xml: str) -> tuple[float, float] | None:
    pixels = tifffile.xml2dict(xml).get("OME", {}).get("Image", {})
    pixels = (pixels[0] if isinstance(pixels, list) else pixels).get("Pixels", {})
    spacing_mm = []
    for axis in "XY":
        size, unit_mm = pixels.get(f"PhysicalSize{axis}"), _UNITS_MM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size is None or unit_mm is None:
            return None
        spacing_mm.append(float(size) * unit_mm)
    return spacing_mm[0], spacing_mm[1]
