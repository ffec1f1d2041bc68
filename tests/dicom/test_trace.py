"""Masks to polygons: which pixels they contain, filled by other means than ours; where they run; how long they are."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.draw import polygon2mask

from clinibundle.dicom.trace import keyholed_outlines_of, outlines_of

masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda shape: arrays(bool, shape))


def drawn(*rows):
    return np.array([[sign == "#" for sign in row] for row in rows])


SHAPES = {
    "nothing": drawn("...", "..."),
    "everything": drawn("###", "###"),
    "one pixel": drawn("...", ".#.", "..."),
    "the only pixel": drawn("#"),
    "a line at the border": drawn("####", "...."),
    "corners that touch": drawn("#..", ".#.", "#.#"),
    "a hole": drawn("####", "#..#", "####"),
    "holes whose corners touch": drawn("####", "#.##", "##.#", "####"),
    "an island in a hole": drawn("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"),
    "holes above each other": drawn("###", "#.#", "###", "#.#", "###", "#.#", "###"),
    "holes beside each other": drawn("#####", "#.#.#", "#####"),
    "a hole below a bay": drawn("##.##", "##.##", "#####", "##.##", "#####"),
    "a hole with holes below on either side": drawn("#######", "#.....#", "#######", "#.###.#", "#######"),
}


def examples(test):
    for mask in SHAPES.values():
        test = example(mask=mask)(test)
    return test


def filled(loop, shape):
    """By scikit-image, which takes (row, column)."""
    return polygon2mask(shape, loop[:, ::-1])


def area(loop):
    """By the shoelace formula."""
    x, y = loop.T
    return abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2


def distance_to(loop, points):
    """Of points (points, 2) to the nearest edge of a loop."""
    start, along = loop[:, None], (np.roll(loop, -1, axis=0) - loop)[:, None]
    share = ((points - start) * along).sum(axis=2) / (along**2).sum(axis=2)
    nearest = start + np.clip(share, 0, 1)[:, :, None] * along
    return np.linalg.norm(points - nearest, axis=2).min(axis=0)


@examples
@settings(max_examples=100, deadline=None)
@given(mask=masks)
def test_outlines_combined_by_exclusion_contain_the_mask_and_no_more(mask):
    found = np.zeros(mask.shape, bool)
    for loop in outlines_of(mask):
        found ^= filled(loop, mask.shape)
    np.testing.assert_array_equal(found, mask)


@examples
@settings(max_examples=100, deadline=None)
@given(mask=masks)
def test_keyholed_outlines_contain_the_mask_each_pixel_once(mask):
    # A sum: to readers that unite contours, and to those that combine them by exclusion, it is the same.
    found = np.zeros(mask.shape, int)
    for loop in keyholed_outlines_of(mask):
        found += filled(loop, mask.shape)
    np.testing.assert_array_equal(found, mask)


@examples
@settings(max_examples=60, deadline=None)
@given(mask=masks)
def test_there_is_a_keyholed_outline_for_each_part_and_its_holes_are_no_area_of_it(mask):
    parts, count = ndimage.label(mask)
    _, around = ndimage.label(~np.pad(mask, 1), np.ones((3, 3)))
    loops = keyholed_outlines_of(mask)
    assert len(loops) == count
    # Four more corners are cut off outside than filled up, an eighth of a pixel each, and fewer for each hole.
    assert sum(map(area, loops)) == mask.sum() - (count - (around - 1)) / 2
    assert all(len(set(parts[filled(loop, mask.shape)].tolist())) == 1 for loop in loops)


@examples
@settings(max_examples=60, deadline=None)
@given(mask=masks)
def test_outlines_keep_off_each_other_and_off_the_centres_of_pixels(mask):
    loops = outlines_of(mask)
    points = [tuple(point) for loop in loops for point in loop]
    assert len(points) == len(set(points))
    y, x = np.indices(mask.shape)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    for number, loop in enumerate(loops):
        assert distance_to(loop, centres).min() > 0.35
        for other in loops[number + 1 :]:
            assert distance_to(loop, other).min() > 0.35


@pytest.mark.parametrize("name", SHAPES)
def test_what_has_no_hole_needs_no_channel(name):
    mask = SHAPES[name]
    loops = outlines_of(mask)
    has_hole = (ndimage.binary_fill_holes(mask, np.ones((3, 3))) != mask).any()
    assert (sum(map(len, keyholed_outlines_of(mask))) > sum(map(len, loops))) == has_hole


def test_straight_edges_take_two_points_however_long():
    mask = np.zeros((300, 400), bool)
    mask[10:290, 20:380] = True
    (loop,) = outlines_of(mask)
    assert len(loop) == 8
    assert (loop.min(axis=0).tolist(), loop.max(axis=0).tolist()) == ([19.5, 9.5], [379.5, 289.5])


def test_a_round_outline_takes_fewer_points_than_the_edges_of_its_pixels_have_corners():
    y, x = np.indices((200, 200)) - 99.5
    disc = np.hypot(x, y) < 80
    corners = sum(
        (disc[: 200 - 1, :-1].astype(int) + disc[1:, :-1] + disc[:-1, 1:] + disc[1:, 1:] == count).sum()
        for count in (1, 3)
    )
    (loop,) = outlines_of(disc)
    assert len(loop) < 0.8 * corners


def test_a_large_mask_full_of_holes_is_still_exact():
    mask = np.random.default_rng(5).random((150, 170)) < 0.7
    found = np.zeros(mask.shape, int)
    for loop in keyholed_outlines_of(mask):
        found += filled(loop, mask.shape)
    np.testing.assert_array_equal(found, mask)
