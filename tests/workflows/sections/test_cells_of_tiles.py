from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from clinibundle.pictures.tiles import TileGrid, TileStore
from clinibundle.transforms.instances import InstanceRule, cells_of, in_16_bits, in_order
from clinibundle.workflows.sections.cells import fill_cells
from clinibundle.workflows.sections.components import TiledComponents


def whole(store: TileStore) -> np.ndarray:
    return store.read(slice(0, store.shape[0]), slice(0, store.shape[1]))


def field(shape: tuple[int, int], seed: int, width: float) -> np.ndarray:
    """A made-up probability: smooth noise, stretched so that about a fifth is membrane."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), width)
    return in_16_bits(np.clip(0.8 + 0.5 * smooth / smooth.std(), 0, 1))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    tile=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 1000),
    share=st.floats(0.1, 0.9),
)
def test_components_of_tiles_are_those_of_the_whole(tmp_path_factory, shape, tile, seed, share) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    grid = TileGrid(shape, tile)
    store = TileStore(tmp_path_factory.mktemp("tiles"), grid, np.int32)
    parts = TiledComponents(store)
    for place in grid:
        parts.add(place, mask[grid.slices(place)])
    count = parts.close()
    expected, expected_count = ndimage.label(mask)
    found = np.zeros(shape, np.int32)
    for place in grid:
        found[grid.slices(place)] = parts.tile(place)
    assert count == expected_count
    assert np.array_equal(found, in_order(expected))
    assert np.array_equal(parts.sizes[1:], np.bincount(found.ravel())[1:])


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(20, 130), st.integers(20, 130)),
    tile=st.tuples(st.integers(16, 90), st.integers(16, 90)),
    seed=st.integers(0, 1000),
    width=st.floats(1.5, 5),
    smoothing=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_cells_of_tiles_are_those_of_the_whole(tmp_path_factory, shape, tile, seed, width, smoothing) -> None:
    probability = field(shape, seed, width)
    rule = InstanceRule(smoothing_px=smoothing, seed_probability=0.8, min_seed_px=5, levels=(0.7, 0.5), steps=3)
    folder, grid = tmp_path_factory.mktemp("tiles"), TileGrid(shape, tile)
    stored = TileStore(folder / "probability", grid, np.uint16)
    for place in grid:
        stored.write(place, probability[grid.slices(place)])
    cells = TileStore(folder / "cells", grid, np.int32)
    steps: list[None] = []
    facts = fill_cells(stored, rule, cells, folder, lambda: steps.append(None))
    expected = cells_of(probability, rule)
    assert np.array_equal(whole(cells), expected)
    assert np.array_equal(facts.areas_px, np.bincount(expected.ravel())[1:])
    assert facts.interior_px == (expected > 0).sum()
    if expected.any():
        assert facts.certainty == pytest.approx(probability[expected > 0].mean() / 65535)
    assert len(steps) == 4 * len(grid)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    tile=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    data=st.data(),
)
def test_any_window_of_tiles_is_that_of_the_whole(tmp_path_factory, shape, tile, data) -> None:
    values = np.random.default_rng(0).integers(0, 60000, shape, dtype=np.uint16)
    store = TileStore(tmp_path_factory.mktemp("tiles"), TileGrid(shape, tile), np.uint16)
    for place in store.grid:
        store.write(place, values[store.grid.slices(place)])
    ends = [sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in shape]
    window = (slice(*ends[0]), slice(*ends[1]))
    assert np.array_equal(store.read(*window), values[window])


def test_a_tile_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    store = TileStore(tmp_path / "a", TileGrid((10, 10), (5, 5)), np.uint8)
    assert not store.has((0, 1))
    store.write((0, 1), np.ones((5, 5)))
    again = TileStore(tmp_path / "a", store.grid, np.uint8)
    assert again.has((0, 1)) and not again.has((1, 1))
    assert (again.tile((0, 1)) == 1).all()
