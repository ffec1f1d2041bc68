import numpy as np
import pytest

from clinibundle.errors import DataFolderError
from clinibundle.metrics.split_merge_picture import LEGEND, split_and_merge_pixels, split_merge_picture
from made_sections import drawn, probability_of, true_cells

SPLIT, MERGE, BOTH, ONE, INTERIOR = LEGEND.values()


def pixels_of(picture, colour):
    return (picture == colour).all(axis=2)


def test_a_line_through_a_cell_and_a_gap_between_two_are_marked_from_end_to_end():
    truth = drawn(*["........#....#....."] * 9)
    proposal = drawn(*["...#....#....#....."] * 9)
    proposal[3:6, 13] = True
    splits, merges = split_and_merge_pixels(proposal, truth)
    assert [tuple(at) for at in np.argwhere(splits)] == [(row, 3) for row in range(9)]
    assert [tuple(at) for at in np.argwhere(merges)] == [(row, 13) for row in (3, 4, 5)]


def test_shifted_and_thicker_membranes_and_islands_are_not_marked():
    truth, proposal = np.ones((2, 20, 30), bool)
    truth[:, 8:12] = proposal[:, 11:17] = False
    truth[2:5, 20:24] = proposal[10:13, 20:24] = False
    splits, merges = split_and_merge_pixels(proposal, truth)
    assert not splits.any() and not merges.any()


def test_a_cell_cut_out_of_another_is_a_split():
    truth, proposal = np.ones((2, 12, 12), bool)
    proposal[3:8, 3:8] = False
    proposal[4:7, 4:7] = True
    splits, _ = split_and_merge_pixels(proposal, truth)
    assert 8 <= np.count_nonzero(splits) <= 16


def test_the_picture_has_the_colours_of_the_legend_and_no_others():
    truth = true_cells(100, 20)
    proposal = np.where(probability_of(truth) > 0.6, 1, 0)
    picture = split_merge_picture(proposal, truth)
    assert (picture.shape, picture.dtype) == ((100, 100, 3), np.uint8)
    assert {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} <= set(LEGEND.values())
    assert len(set(LEGEND.values())) == len(LEGEND) == 5


def test_each_colour_means_what_the_legend_says():
    truth = drawn(".........#....", ".........#....", ".........#....", ".........#....", "..............")
    truth[4, 9] = False
    proposal = truth.copy()
    proposal[:, 4] = False
    proposal[2, 9] = True
    proposal[0, 10] = False
    picture = split_merge_picture(proposal, truth, line_px=1)
    np.testing.assert_array_equal(pixels_of(picture, SPLIT), np.arange(14) == [[4]] * 5)
    assert np.argwhere(pixels_of(picture, MERGE)).tolist() == [[2, 9]]
    assert np.argwhere(pixels_of(picture, ONE)).tolist() == [[0, 10]]
    assert np.argwhere(pixels_of(picture, BOTH)).tolist() == [[0, 9], [1, 9], [3, 9], [4, 9]]
    thick = split_merge_picture(proposal, truth, line_px=3)
    np.testing.assert_array_equal(pixels_of(thick, SPLIT), np.isin(np.arange(14), [3, 4, 5]) & np.ones((5, 1), bool))


def test_numbered_cells_that_touch_are_parted():
    truth = np.array([[1, 1, 1, 2, 2, 2]] * 3)
    _, merges = split_and_merge_pixels(np.ones((3, 6), int), truth)
    assert np.argwhere(merges).tolist() == [[row, 2] for row in range(3)]
    splits, merges = split_and_merge_pixels(truth, truth)
    assert not splits.any() and not merges.any()


def test_shapes_must_agree():
    with pytest.raises(DataFolderError, match="same rows and columns"):
        split_merge_picture(np.ones((2, 2), int), np.ones((2, 3), int))
