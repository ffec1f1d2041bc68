"""The network over a section of any size, tile by tile; what an earlier run finished is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clinibundle.bundle.tiles import GreyStatistics, TilePredictor
from clinibundle.errors import UnsuitableInput
from clinibundle.inferers.overlap_tile import tiles_along
from clinibundle.mirror import mirrored_index
from clinibundle.pictures.sections import Section
from clinibundle.pictures.tiles import TileGrid, TileStore
from clinibundle.transforms.instances import in_16_bits

_ROWS_AT_ONCE = 512


def grid_of(section: Section, predictor: TilePredictor) -> TileGrid:
    """The tiles in which `OverlapTileInferer` would walk over the section."""
    rows, columns = (tiles_along(size, predictor.tile_size, predictor.multiple)[0] for size in section.shape)
    return TileGrid(section.shape, (rows, columns))


def grey_statistics(section: Section, case: str) -> GreyStatistics:
    """Mean and standard deviation of a section, in one pass; of whole numbers exact, whatever the order.

    Raises:
        UnsuitableInput: if all its pixels have one value, or some have none.
    """
    count = section.shape[0] * section.shape[1]
    total = squares = 0.0
    counted = np.zeros(2**16, np.int64) if section.dtype in (np.uint8, np.uint16) else None
    for top in range(0, section.shape[0], _ROWS_AT_ONCE):
        values = section.read(slice(top, min(top + _ROWS_AT_ONCE, section.shape[0])), slice(0, section.shape[1]))
        if counted is not None:
            counted += np.bincount(values.ravel(), minlength=2**16)
        else:
            total += float(values.sum(dtype=np.float64))
            squares += float(np.square(values, dtype=np.float64).sum())
    if counted is not None:
        levels = np.arange(2**16, dtype=np.float64)
        total, squares = float(counted @ levels), float(counted @ levels**2)
    mean = total / count
    variance = squares / count - mean**2
    if not np.isfinite(variance) or variance <= 0:
        raise UnsuitableInput(f"'{case}' shows nothing: all its pixels have one value, or some have none")
    return GreyStatistics(mean, float(np.sqrt(variance)))


def fill_probability(
    section: Section, case: str, predictor: TilePredictor, store: TileStore, advance: Callable[[], None]
) -> None:
    """Writes the probability of interior, 16 bits, of every tile that is not there yet."""
    missing = [place for place in store.grid if not store.has(place)]
    for _ in range(len(store.grid) - len(missing)):
        advance()
    if not missing:
        return
    network = predictor.ready_for(grey_statistics(section, case) if predictor.needs_statistics else None)
    for place in missing:
        rows, columns = store.grid.slices(place)
        window = _mirrored_window(section, store.grid, place, predictor.halo)
        answer = network(window)
        top = (answer.shape[0] - store.grid.tile[0]) // 2
        left = (answer.shape[1] - store.grid.tile[1]) // 2
        core = answer[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
        store.write(place, in_16_bits(core))
        advance()


def _mirrored_window(section: Section, grid: TileGrid, place: tuple[int, int], halo: int) -> NDArray[np.float32]:
    """What the network sees of a section for a tile; beyond the border it is mirrored."""
    wanted = [
        np.asarray(mirrored_index(number * length - halo, (number + 1) * length + halo, size))
        for number, length, size in zip(place, grid.tile, grid.shape, strict=True)
    ]
    first = [int(along.min()) for along in wanted]
    plain = section.read(*(slice(start, int(along.max()) + 1) for start, along in zip(first, wanted, strict=True)))
    return np.asarray(plain[np.ix_(wanted[0] - first[0], wanted[1] - first[1])], np.float32)
