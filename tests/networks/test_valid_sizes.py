from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clinibundle.errors import UnsuitableInput
from clinibundle.networks.unet2015 import UNet2015
from clinibundle.networks.valid_sizes import (
    is_valid,
    margin,
    nearest_valid,
    output_size,
    valid_at_least,
    valid_at_most,
)

DEPTHS = st.integers(0, 5)
CONVOLUTIONS = st.integers(1, 3)


def walked(size: int, depth: int, convolutions: int) -> int | None:
    """The output's size, convolution by convolution; None where a pooling meets an odd size or nothing is left."""
    for _ in range(depth):
        size -= 2 * convolutions
        if size <= 0 or size % 2:
            return None
        size //= 2
    size -= 2 * convolutions
    for _ in range(depth):
        size = 2 * size - 2 * convolutions
    return size if size > 0 else None


# Depth 4, read off Fig. 1 of the paper: 572 570 568 | 284 282 280 | 140 138 136 | 68 66 64 | 32 30 28 | 56 54 52 |
# 104 102 100 | 200 198 196 | 392 390 388. Depth 1, by hand: 18 16 14 | 7 5 3 | 6 4 2.
@pytest.mark.parametrize(
    ("size", "depth", "output"), [(572, 4, 388), (188, 4, 4), (204, 4, 20), (18, 1, 2), (44, 2, 4), (5, 0, 1)]
)
def test_sizes_worked_out_by_hand(size: int, depth: int, output: int) -> None:
    assert is_valid(size, depth)
    assert output_size(size, depth) == output == walked(size, depth, 2)


@pytest.mark.parametrize(("depth", "expected"), [(0, 2), (1, 8), (2, 20), (3, 44), (4, 92)])
def test_margins_worked_out_by_hand(depth: int, expected: int) -> None:
    assert margin(depth) == expected


@given(size=st.integers(1, 800), depth=DEPTHS, convolutions=CONVOLUTIONS)
def test_valid_are_those_sizes_that_pool_evenly_and_leave_something(size: int, depth: int, convolutions: int) -> None:
    output = walked(size, depth, convolutions)
    assert is_valid(size, depth, convolutions) == (output is not None)
    if output is None:
        with pytest.raises(UnsuitableInput):
            output_size(size, depth, convolutions)
    else:
        assert output_size(size, depth, convolutions) == output


@given(size=st.integers(-5, 800), depth=DEPTHS, convolutions=CONVOLUTIONS)
def test_the_next_valid_sizes_are_those_that_a_search_finds(size: int, depth: int, convolutions: int) -> None:
    valid = [some for some in range(1600) if walked(some, depth, convolutions)]
    assert valid_at_least(size, depth, convolutions) == min(some for some in valid if some >= size)
    below = [some for some in valid if some <= size]
    if below:
        assert valid_at_most(size, depth, convolutions) == max(below)
    else:
        with pytest.raises(UnsuitableInput, match=rf"needs {valid[0]} or more"):
            valid_at_most(size, depth, convolutions)
    assert nearest_valid(size, depth, convolutions) == min(valid, key=lambda some: (abs(some - size), -some))


def test_a_refusal_names_the_nearest_size() -> None:
    with pytest.raises(UnsuitableInput, match=r"512 pixels .* depth 4; the nearest that does is 508"):
        output_size(512, 4)


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 150), width=st.integers(1, 150), depth=st.integers(1, 3))
def test_the_network_gives_what_is_foretold(height: int, width: int, depth: int) -> None:
    with torch.device("meta"):
        network = UNet2015(features=1, depth=depth)
        sizes = [valid_at_least(height, depth), valid_at_least(width, depth)]
        assert network(torch.empty(1, 1, *sizes)).shape[2:] == tuple(output_size(size, depth) for size in sizes)


@settings(deadline=None, max_examples=25)
@given(size=st.integers(1, 150), depth=st.integers(1, 3))
def test_the_network_takes_no_other_sizes(size: int, depth: int) -> None:
    with torch.device("meta"):
        network, picture = UNet2015(features=1, depth=depth), torch.empty(1, 1, valid_at_least(1, depth), size)
    if is_valid(size, depth):
        network(picture)
    else:
        with pytest.raises(UnsuitableInput):
            network(picture)
