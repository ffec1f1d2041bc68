"""Single cells of a section of any size, tile by tile; the same as `transforms.instances.cells_of` on the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinibundle.pictures.tiles import TileStore, inner
from clinibundle.transforms.instances import CERTAIN, InstanceRule
from clinibundle.workflows.sections.components import TiledComponents, first_pixels

PASSES = 4
"""How often `fill_cells` goes over all tiles."""


@dataclass(frozen=True)
class CellFacts:
    """What is known of the cells of a section.

    Attributes:
        areas_px: of cell 1, 2, ...
        interior_px: of all of them.
        certainty: mean probability of interior inside them; NaN without any.
    """

    areas_px: NDArray[np.int64]
    interior_px: int
    certainty: float


def fill_cells(
    probability: TileStore, rule: InstanceRule, cells: TileStore, work: Path, advance: Callable[[], None]
) -> CellFacts:
    """Writes the map of cells.

    Args:
        probability: of interior, 16 bits, whole.
        rule: how cells are told apart.
        cells: int32, of the same grid; filled.
        work: folder for what is needed meanwhile.
        advance: called after every tile of every pass.
    """
    grid = probability.grid
    seeds = TiledComponents(TileStore(work / "seeds", grid, np.int32))
    for place in grid:
        seen = grid.around(place, rule.smoothing_reach)
        seeds.add(place, rule.seeds(probability.read(*seen))[inner(seen, grid.slices(place))])
        advance()
    count = seeds.close(rule.min_seed_px)
    numbered = TileStore(work / "numbered_seeds", grid, np.int32)
    for place in grid:
        numbered.write(place, seeds.tile(place))
        advance()
    left = TiledComponents(TileStore(work / "left", grid, np.int32))
    sizes, firsts = np.zeros(count + 1, np.int64), np.full(count + 1, np.iinfo(np.int64).max)
    for place in grid:
        core, seen = grid.slices(place), grid.around(place, rule.growth_reach + rule.smoothing_reach)
        grown = rule.grown(numbered.read(*seen), probability.read(*seen))[inner(seen, core)]
        cells.write(place, grown)
        left.add(place, rule.interior(probability.tile(place)) & (grown == 0))
        sizes += np.bincount(grown.ravel(), minlength=count + 1)
        firsts[1:] = np.minimum(firsts[1:], first_pixels(grown, count, grid, place))
        advance()
    left.close()
    number, areas = _final_numbers(
        np.concatenate([sizes[1:], left.sizes[1:]]), np.concatenate([firsts[1:], left.firsts[1:]]), rule.min_cell_px
    )
    certain = 0
    for place in grid:
        grown, rest = cells.tile(place), left.tile(place)
        final = number[np.where(rest > 0, rest + count, grown)]
        certain += int(probability.tile(place)[final > 0].sum(dtype=np.int64))
        cells.write(place, final)
        advance()
    interior = int(areas.sum())
    return CellFacts(areas, interior, certain / interior / CERTAIN if interior else float("nan"))


def _final_numbers(
    sizes: NDArray[np.int64], firsts: NDArray[np.int64], least_px: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """For each provisional number, 0 first, the final one; and the areas by final number."""
    kept = np.flatnonzero(sizes >= max(least_px, 1))
    kept = kept[np.argsort(firsts[kept])]
    number = np.zeros(len(sizes) + 1, np.int32)
    number[kept + 1] = np.arange(1, len(kept) + 1)
    return number, sizes[kept]
