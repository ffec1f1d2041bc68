"""Results of a large picture, tile by tile in a folder: each appears whole or not at all; any window can be read."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.errors import OutputError

# Of decoded tiles that neighbouring windows share.
_KEPT_BYTES = 96 * 2**20


@dataclass(frozen=True)
class TileGrid:
    """How a picture is laid out in tiles.

    Attributes:
        shape: rows, columns of the picture.
        tile: rows, columns of a tile; those at the end may be cut off.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]

    @property
    def counts(self) -> tuple[int, int]:
        """Tiles down and across."""
        return -(-self.shape[0] // self.tile[0]), -(-self.shape[1] // self.tile[1])

    def __len__(self) -> int:
        down, across = self.counts
        return down * across

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Places of all tiles, row by row."""
        down, across = self.counts
        return ((i, j) for i in range(down) for j in range(across))

    def slices(self, place: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a tile."""
        rows, columns = (
            slice(number * length, min((number + 1) * length, size))
            for number, length, size in zip(place, self.tile, self.shape, strict=True)
        )
        return rows, columns

    def around(self, place: tuple[int, int], reach: int) -> tuple[slice, slice]:
        """Rows and columns of a tile and so many pixels around it, inside the picture."""
        rows, columns = (
            slice(max(0, along.start - reach), min(size, along.stop + reach))
            for along, size in zip(self.slices(place), self.shape, strict=True)
        )
        return rows, columns


def inner(outer: tuple[slice, slice], core: tuple[slice, slice]) -> tuple[slice, slice]:
    """Where `core` lies in an array that holds `outer`."""
    rows, columns = (
        slice(within.start - along.start, within.stop - along.start) for along, within in zip(outer, core, strict=True)
    )
    return rows, columns


class TileStore:
    """Tiles of one result in a folder of their own.

    Args:
        folder: made if it is not there.
        grid: the layout.
        dtype: of the values.
    """

    def __init__(self, folder: Path, grid: TileGrid, dtype: Any) -> None:
        self._folder, self.grid, self.dtype = folder, grid, np.dtype(dtype)
        self._decoded: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns of the picture."""
        return self.grid.shape

    def has(self, place: tuple[int, int]) -> bool:
        """Whether a tile was written."""
        return self._path(place).is_file()

    def write(self, place: tuple[int, int], values: NDArray[Any]) -> None:
        """Keeps a tile; a run that is killed meanwhile leaves none."""
        path = self._path(place)
        beside = path.with_suffix(".partial")
        beside.write_bytes(zlib.compress(np.ascontiguousarray(values, self.dtype).tobytes(), 1))
        beside.replace(path)
        self._decoded.pop(place, None)

    def tile(self, place: tuple[int, int]) -> NDArray[Any]:
        """Values of a tile; not to be written to.

        Raises:
            OutputError: if it is damaged.
        """
        if place in self._decoded:
            self._decoded.move_to_end(place)
            return self._decoded[place]
        rows, columns = self.grid.slices(place)
        try:
            data = zlib.decompress(self._path(place).read_bytes())
            values = np.frombuffer(data, self.dtype).reshape(rows.stop - rows.start, columns.stop - columns.start)
        except (OSError, ValueError, zlib.error) as error:
            raise OutputError(f"an intermediate tile of the result is damaged; remove {self._folder.parent}") from error
        self._decoded[place] = values
        held = sum(kept.nbytes for kept in self._decoded.values())
        while held > _KEPT_BYTES and len(self._decoded) > 1:
            held -= self._decoded.popitem(last=False)[1].nbytes
        return values

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Values of a window inside the picture, of whatever tiles it lies in."""
        window = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        height, width = self.grid.tile
        for i in range(rows.start // height, -(-rows.stop // height)):
            for j in range(columns.start // width, -(-columns.stop // width)):
                down, across = self.grid.slices((i, j))
                shared = tuple(
                    slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in ((rows, down), (columns, across))
                )
                part = (shared[0], shared[1])
                window[inner((rows, columns), part)] = self.tile((i, j))[inner((down, across), part)]
        return window

    def _path(self, place: Sequence[int]) -> Path:
        return self._folder / f"{place[0]}-{place[1]}.z"
