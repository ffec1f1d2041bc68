"""Connected components of a mask that is seen tile by tile, as scipy.ndimage.label finds them on the whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from clinibundle.pictures.tiles import TileGrid, TileStore


class TiledComponents:
    """4-connected components, numbered from 1 in the order of their first pixels, row by row.

    First every tile is added, then `close` is called, then each tile can be asked for.

    Args:
        store: int32, of its own; what the parts are called within their tile is kept there meanwhile.
    """

    def __init__(self, store: TileStore) -> None:
        self._store, self.grid = store, store.grid
        # Of each tile: how many parts were found before it, its last row and its last column.
        self._before: dict[tuple[int, int], int] = {}
        self._bottoms: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._rights: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._pairs: list[NDArray[np.int64]] = []
        self._sizes: list[NDArray[np.int64]] = []
        self._firsts: list[NDArray[np.int64]] = []
        self._found = 0
        self._numbers: NDArray[np.int32] = np.zeros(1, np.int32)
        self.sizes: NDArray[np.int64] = np.zeros(1, np.int64)
        self.firsts: NDArray[np.int64] = np.zeros(1, np.int64)
        """By number, 0 first, once closed: pixels, and where the first pixel lies in the picture, row by row."""

    def add(self, place: tuple[int, int], mask: NDArray[np.bool_]) -> None:
        """Looks at a tile; row by row, the upper left one first."""
        parts, count = ndimage.label(mask)
        self._store.write(place, parts)
        self._before[place] = self._found
        self._sizes.append(np.bincount(parts.ravel(), minlength=count + 1)[1:])
        self._firsts.append(first_pixels(parts, count, self.grid, place))
        named = np.where(parts > 0, parts.astype(np.int64) + self._found, 0)
        above, left = (
            self._bottoms.pop((place[0] - 1, place[1]), None),
            self._rights.pop((place[0], place[1] - 1), None),
        )
        for other, edge in ((above, named[0]), (left, named[:, 0])):
            if other is not None:
                both = (other > 0) & (edge > 0)
                self._pairs.append(np.unique(np.stack([other[both], edge[both]]), axis=1))
        self._bottoms[place], self._rights[place] = named[-1].copy(), named[:, -1].copy()
        self._found += count

    def close(self, least_px: int = 1) -> int:
        """Joins what continues in the next tile; smaller components are dropped. How many there are."""
        pairs = np.concatenate([np.zeros((2, 0), np.int64), *self._pairs], axis=1) - 1
        links = coo_array((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), (self._found, self._found))
        count, group = connected_components(links, directed=False)
        sizes, firsts = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
        np.add.at(sizes, group, np.concatenate([np.zeros(0, np.int64), *self._sizes]))
        np.minimum.at(firsts, group, np.concatenate([np.zeros(0, np.int64), *self._firsts]))
        kept = np.flatnonzero(sizes >= least_px)
        kept = kept[np.argsort(firsts[kept])]
        number = np.zeros(count, np.int32)
        number[kept] = np.arange(1, len(kept) + 1)
        self._numbers = np.concatenate([np.zeros(1, np.int32), number[group]])
        self.sizes, self.firsts = (np.concatenate([[0], values[kept]]) for values in (sizes, firsts))
        return len(kept)

    def tile(self, place: tuple[int, int]) -> NDArray[np.int32]:
        """Numbers of the components in a tile; 0 outside them, and in those that were dropped."""
        parts = self._store.tile(place)
        return np.where(parts > 0, self._numbers[np.where(parts > 0, parts + self._before[place], 0)], 0)


def first_pixels(labels: NDArray[np.int32], count: int, grid: TileGrid, place: tuple[int, int]) -> NDArray[np.int64]:
    """Of labels 1 to `count` in a tile, where their first pixel lies in the picture; those that are absent lie last."""
    rows, columns = grid.slices(place)
    first = np.full(count + 1, np.iinfo(np.int64).max)
    numbers, at = np.unique(labels, return_index=True)
    row, column = np.divmod(at, labels.shape[1])
    first[numbers] = (row + rows.start) * np.int64(grid.shape[1]) + column + columns.start
    return first[1:]
