from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clinibundle.mirror import mirrored_crop, mirrored_index


def test_the_border_pixel_is_the_mirror_and_the_picture_goes_on_for_ever() -> None:
    assert mirrored_index(-3, 9, 4).tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert mirrored_index(-2, 3, 1).tolist() == [0, 0, 0, 0, 0]
    assert mirrored_index(-2, 4, 2).tolist() == [0, 1, 0, 1, 0, 1]


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)), border=st.lists(st.integers(0, 30), min_size=4, max_size=4)
)
def test_a_picture_with_a_border_is_numpys(size: tuple[int, int], border: list[int]) -> None:
    picture = np.arange(size[0] * size[1]).reshape(size)
    top, bottom, left, right = border
    expected = np.pad(picture, ((top, bottom), (left, right)), mode="reflect")
    found = mirrored_crop(torch.from_numpy(picture), [-top, -left], [size[0] + bottom, size[1] + right])
    assert np.array_equal(found.numpy(), expected)


@given(start=st.integers(-40, 40), length=st.integers(1, 40), size=st.integers(1, 12))
def test_a_window_anywhere_is_cut_from_the_endless_picture(start: int, length: int, size: int) -> None:
    endless = np.pad(np.arange(size), 100, mode="reflect")
    expected = endless[100 + start : 100 + start + length]
    assert mirrored_crop(torch.arange(size), [start], [start + length]).tolist() == expected.tolist()


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_the_axes_before_the_pictures_are_kept(leading: tuple[int, ...]) -> None:
    pictures = torch.randn(*leading, 5, 6)
    found = mirrored_crop(pictures, [-1, 2], [6, 5])
    assert found.shape == (*leading, 7, 3)
    assert torch.equal(found[..., 1:6, :], pictures[..., 2:5]) and torch.equal(found[..., 0, :], pictures[..., 1, 2:5])


def test_a_window_inside_is_no_copy() -> None:
    picture = torch.randn(1, 50, 60)
    assert (
        mirrored_crop(picture, [10, 20], [30, 60]).untyped_storage().data_ptr() == picture.untyped_storage().data_ptr()
    )
