"""Results on sections of any size, written tile by tile in the family of the input, and read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from clinibundle.errors import MissingExtra, OutputError
from clinibundle.pictures.sections import Family, open_sections
from clinibundle.pictures.tiles import TileStore

_TILE = 512
# What ImageJ opens itself, at once; larger files are tiled BigTIFF, which it reads through Bio-Formats.
_PLAIN_TIFF_BYTES = 2**30
_MM_PER_NM = 1e-6
_SMALLEST_OVERVIEW = 512
Spacing = tuple[float, float]


def write_sections(
    path: Path, stores: Sequence[TileStore], dtype: Any, family: Family, is_stack: bool, spacing_mm: Spacing | None
) -> Path:
    """Writes one result of all sections of a file.

    Args:
        path: without ending.
        stores: of each section.
        dtype: that the values are kept in.
        family: png, tif or ome.zarr.
        is_stack: whether there is an axis of sections, be it of one.
        spacing_mm: distance of pixels along (x, y).

    Returns:
        the file, or folder.

    Raises:
        OutputError: if it reads back differently.
        MissingExtra: for OME-Zarr without the package zarr.
    """
    target = path.with_name(f"{path.name}.{family}")
    dtype = np.dtype(dtype)
    if family == "png":
        Image.fromarray(_whole(stores[0], dtype)).save(target, "PNG")
    elif family == "ome.zarr":
        _write_zarr(target, stores, dtype, is_stack, spacing_mm)
    else:
        _write_tiff(target, stores, dtype, is_stack, spacing_mm)
    _compare(target, stores)
    return target


def smallest_type(highest: int) -> np.dtype[Any]:
    """The type that labels are kept in: 16 bits, or 32 where there are more."""
    return np.dtype(np.uint16 if highest <= np.iinfo(np.uint16).max else np.uint32)


def _whole(store: TileStore, dtype: np.dtype[Any]) -> NDArray[Any]:
    return store.read(slice(0, store.shape[0]), slice(0, store.shape[1])).astype(dtype)


def _write_tiff(
    path: Path, stores: Sequence[TileStore], dtype: np.dtype[Any], is_stack: bool, spacing_mm: Spacing | None
) -> None:
    rows, columns = stores[0].shape
    per_nm = None if spacing_mm is None else tuple(_MM_PER_NM / step for step in spacing_mm)
    if len(stores) * rows * columns * dtype.itemsize <= _PLAIN_TIFF_BYTES and dtype != np.uint32:
        shape = (len(stores), rows, columns) if is_stack else (rows, columns)
        described = {"axes": "ZYX" if is_stack else "YX", **({} if per_nm is None else {"unit": "nm"})}
        pages = (_whole(store, dtype) for store in stores)
        tifffile.imwrite(
            path, pages, shape=shape, dtype=dtype, imagej=True, resolution=per_nm, metadata=described
        )  # fmt: skip
        return
    resolution = None if per_nm is None else tuple(1e7 * number for number in per_nm)
    tifffile.imwrite(
        path,
        _tiles(stores, dtype),
        shape=(len(stores), rows, columns) if is_stack else (rows, columns),
        dtype=dtype,
        bigtiff=True,
        tile=(_TILE, _TILE),
        compression="zlib",
        photometric="minisblack",
        resolution=resolution,
        resolutionunit=None if resolution is None else "CENTIMETER",
        metadata={"axes": "ZYX" if is_stack else "YX"},
    )


def _tiles(stores: Sequence[TileStore], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for store in stores:
        for top in range(0, store.shape[0], _TILE):
            for left in range(0, store.shape[1], _TILE):
                yield store.read(
                    slice(top, min(top + _TILE, store.shape[0])), slice(left, min(left + _TILE, store.shape[1]))
                ).astype(dtype)


def _write_zarr(
    path: Path, stores: Sequence[TileStore], dtype: np.dtype[Any], is_stack: bool, spacing_mm: Spacing | None
) -> None:
    """OME-Zarr 0.4 (zarr format 2), which every reader knows; overviews are every second pixel of the level below."""
    try:
        import zarr
    except ImportError as error:
        raise MissingExtra("OME-Zarr", "zarr", "zarr") from error
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    rows, columns = stores[0].shape
    datasets = []
    level = 0
    while level == 0 or max(rows, columns) * 2 > _SMALLEST_OVERVIEW:
        lead = (len(stores),) if is_stack else ()
        array = group.create_array(
            str(level),
            shape=(*lead, rows, columns),
            chunks=(*(1 for _ in lead), min(_TILE, rows), min(_TILE, columns)),
            dtype=dtype,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        for number, store in enumerate(stores):
            place = (number,) if is_stack else ()
            for top in range(0, rows, _TILE):
                for left in range(0, columns, _TILE):
                    window = slice(top, min(top + _TILE, rows)), slice(left, min(left + _TILE, columns))
                    array[(*place, *window)] = _of_level(group, store, level, place, window, dtype)
        step = 2.0**level
        scale = [1.0] * len(lead) + [step * size / _MM_PER_NM for size in (spacing_mm or (_MM_PER_NM,) * 2)[::-1]]
        transform = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transform})
        rows, columns, level = -(-rows // 2), -(-columns // 2), level + 1
    unit = {} if spacing_mm is None else {"unit": "nanometer"}
    axes = [{"name": name, "type": "space", **(unit if name != "z" else {})} for name in ("zyx" if is_stack else "yx")]
    group.attrs["multiscales"] = [{"version": "0.4", "name": path.name, "axes": axes, "datasets": datasets}]


def _of_level(
    group: Any,
    store: TileStore,
    level: int,
    place: tuple[int, ...],
    window: tuple[slice, slice],
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    if level == 0:
        return store.read(*window).astype(dtype)
    below = group[str(level - 1)]
    doubled = tuple(
        slice(2 * along.start, min(2 * along.stop, size)) for along, size in zip(window, below.shape[-2:], strict=True)
    )
    return np.asarray(below[(*place, *doubled)])[::2, ::2]


def _compare(path: Path, stores: Sequence[TileStore]) -> None:
    if path.suffix == ".png":
        # A picture without any label is none that could be segmented, and would be refused.
        if not np.array_equal(np.asarray(Image.open(path)), _whole(stores[0], stores[0].dtype)):
            raise OutputError(f"{path.name} reads back differently; nothing was kept, please report this")
        return
    with open_sections(path) as written:
        sections = written.sections
        if len(sections) != len(stores) or sections[0].shape != stores[0].shape:
            raise OutputError(f"{path.name} reads back in another shape; nothing was kept, please report this")
        for section, store in zip(sections, stores, strict=True):
            for place in store.grid:
                if not np.array_equal(section.read(*store.grid.slices(place)), store.tile(place)):
                    raise OutputError(f"{path.name} reads back differently; nothing was kept, please report this")
