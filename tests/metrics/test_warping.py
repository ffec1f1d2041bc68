import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import euler_number, label

from clinibundle.errors import DataFolderError
from clinibundle.metrics.warping import MEMBRANE_PIECES, RING, SIMPLE, splits_and_mergers, warp, warping_errors
from made_sections import drawn, probability_of, true_cells


@st.composite
def pairs(draw, side=9):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=side))
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


def blobs(size, seed):
    """A truth and a proposal with long borders in different places."""
    random = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(random.normal(size=(size, size)), 2) for _ in range(2)]
    return smooth[0] > 0, smooth[0] + 0.7 * smooth[1] > 0


def neighbours(code):
    """3 x 3, with membrane in the middle."""
    patch = np.zeros((3, 3), bool)
    for bit, (down, right) in enumerate(RING):
        patch[1 + down, 1 + right] = code >> bit & 1
    return patch


def topology(interior):
    """Cells, membranes and the Euler number of the cells, membrane being beyond the picture."""
    padded = np.pad(interior, 1)
    return label(padded, connectivity=1).max(), label(~padded, connectivity=2).max(), euler_number(padded, 1)


def flipped(mask, place):
    other = mask.copy()
    other[place] ^= True
    return other


def cells_of(interior):
    return label(np.pad(interior, 1), connectivity=1)[1:-1, 1:-1]


def warp_pass_by_pass(truth, proposal, confidence):
    """What the challenge's program does: all pixels that differ are visited in every pass."""
    warped = np.pad(truth, 1)
    places = [(row + 1, column + 1) for column, row in np.argwhere((truth != proposal).T)]
    places.sort(key=lambda at: -confidence[at[0] - 1, at[1] - 1])
    changed = True
    while changed:
        changed = False
        for at in places:
            if warped[at] != proposal[at[0] - 1, at[1] - 1] and is_simple(warped, at):
                warped[at] ^= True
                changed = True
    return warped[1:-1, 1:-1]


def is_simple(mask, at):
    around = mask[at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2]
    return SIMPLE[sum(int(around[1 + down, 1 + right]) << bit for bit, (down, right) in enumerate(RING))]


@pytest.mark.parametrize("code", range(256))
def test_a_pixel_is_simple_if_its_flip_leaves_the_numbers_of_cells_and_membranes_around_it(code):
    without, with_middle = neighbours(code), neighbours(code)
    with_middle[1, 1] = True

    def pieces(patch):
        return label(patch, connectivity=1).max(), label(~patch, connectivity=2).max()

    assert SIMPLE[code] == (pieces(without) == pieces(with_middle))
    assert MEMBRANE_PIECES[code] == pieces(with_middle)[1]


def test_the_neighbours_are_the_eight_and_edges_alternate_with_corners():
    assert len(set(RING)) == 8
    assert [abs(down) + abs(right) for down, right in RING] == [2, 1] * 4


@pytest.mark.parametrize("seed", [1, 2])
def test_equal_masks_cost_nothing(seed):
    truth, _ = blobs(40, seed)
    assert warping_errors(truth, truth) == (0, 0)


@pytest.mark.parametrize(("true", "proposed"), [((12, 13), (13, 14)), ((12, 18), (15, 27)), ((10, 30), (20, 21))])
def test_a_shifted_thicker_or_thinner_membrane_costs_nothing(true, proposed):
    truth, proposal = np.ones((2, 30, 40), bool)
    truth[:, slice(*true)] = proposal[:, slice(*proposed)] = False
    assert warping_errors(truth, proposal) == (0, 0)
    np.testing.assert_array_equal(warp(truth, proposal), proposal)


def test_a_membrane_that_lies_beside_the_true_one_is_a_merger_and_a_split():
    truth, proposal = np.ones((2, 30, 40), bool)
    truth[:, 12] = proposal[:, 14] = False
    # All 30 pixels of the true one, and one of the other.
    splits, mergers = splits_and_mergers(warp(truth, proposal), proposal)
    assert (np.count_nonzero(splits), np.count_nonzero(mergers)) == (1, 30)


def test_a_membrane_may_be_shifted_only_where_that_is_allowed():
    truth, proposal, allowed = np.ones((3, 30, 40), bool)
    truth[:, 12:20] = proposal[:, 16:24] = False
    allowed[:, 22:] = False
    warped = warp(truth, proposal, allowed=allowed)
    np.testing.assert_array_equal(warped, [(np.arange(40) < 16) | (np.arange(40) >= 22)] * 30)


def test_an_island_of_membrane_in_a_cell_costs_each_of_its_pixels_and_a_missed_one_costs_one():
    whole, with_island = np.ones((2, 10, 10), bool)
    with_island[3:6, 4:8] = False
    assert warping_errors(whole, with_island) == (12 / 100, 0)
    assert warping_errors(with_island, whole) == (1 / 100, 0)


def test_a_line_through_a_cell_costs_its_thickness_as_a_split():
    whole, with_line = np.ones((2, 9, 20), bool)
    with_line[:, 10] = False
    assert warping_errors(whole, with_line) == (1 / 180, 1 / 180)
    with_line[:, 11] = False
    assert warping_errors(whole, with_line) == (2 / 180, 2 / 180)


def test_a_gap_between_two_cells_costs_its_length_as_a_merger():
    parted, with_gap = np.ones((2, 9, 20), bool)
    parted[:, 10] = with_gap[:, 10] = False
    with_gap[3:7, 10] = True
    assert warping_errors(parted, with_gap) == (4 / 180, 4 / 180)


def test_a_diagonal_line_parts_two_cells():
    parted = ~np.eye(8, dtype=bool)
    with_gap = parted.copy()
    with_gap[4, 4] = True
    assert warping_errors(parted, with_gap) == (1 / 64, 1 / 64)


def test_a_lost_and_an_added_cell_are_neither_splits_nor_mergers():
    one = drawn("......#####", "......#####", "......#####", "......#####")
    two = drawn("......#####", "......#..##", "......#..##", "......#####")
    # All of an added cell stays, as a cell is not made by flips; a lost one shrinks to a pixel.
    assert warping_errors(one, two) == (4 / 44, 0)
    assert warping_errors(two, one) == (1 / 44, 0)


def test_what_lies_beyond_the_picture_is_membrane():
    """A line from the border to an island makes no split: the cell goes round the island."""
    truth, proposal = np.ones((2, 9, 11), bool)
    truth[3:6, 4:7] = proposal[3:6, 4:7] = False
    proposal[4, :4] = False
    splits, mergers = splits_and_mergers(warp(truth, proposal), proposal)
    assert not splits.any() and not mergers.any()
    assert warping_errors(truth, proposal).all == 1 / 99
    # With a second line to the other side the cell is cut, but by neither of the two pixels alone.
    proposal[4, 7:] = False
    assert warping_errors(truth, proposal) == (2 / 99, 0)


def test_a_proposal_without_interior_has_missed_everything():
    truth, nothing = np.ones((5, 5), bool), np.zeros((5, 5), bool)
    assert warping_errors(truth, nothing) == (1, 1)
    assert warping_errors(nothing, nothing) == (0, 0)
    assert warping_errors(nothing, truth) == (1, 0)


@given(pairs())
def test_warping_keeps_the_topology_and_ends_where_no_flip_is_left(pair):
    truth, proposal = pair
    warped = warp(truth, proposal)
    assert topology(warped) == topology(truth)
    assert (warped == truth)[truth == proposal].all()
    for place in map(tuple, np.argwhere(warped != proposal)):
        assert not is_simple(np.pad(warped, 1), (place[0] + 1, place[1] + 1))


@pytest.mark.parametrize("seed", range(4))
def test_warping_of_long_borders_keeps_the_topology(seed):
    truth, proposal = blobs(80, seed)
    warped = warp(truth, proposal)
    assert topology(warped) == topology(truth)
    assert 0 < np.count_nonzero(warped != proposal) < 0.5 * np.count_nonzero(truth != proposal)


@given(pairs(), st.integers(0, 2**16))
def test_the_result_is_that_of_whole_passes_in_order_of_confidence(pair, seed):
    truth, proposal = pair
    # Few values, so that some are equal.
    confidence = np.random.default_rng(seed).integers(0, 4, truth.shape).astype(np.float32)
    np.testing.assert_array_equal(warp(truth, proposal, confidence), warp_pass_by_pass(truth, proposal, confidence))
    np.testing.assert_array_equal(warp(truth, proposal), warp_pass_by_pass(truth, proposal, np.zeros_like(confidence)))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_the_result_on_a_section_is_that_of_whole_passes(threshold):
    numbers = true_cells(90, 15)
    probability = probability_of(numbers)
    confidence = np.abs(probability - np.float32(threshold))
    np.testing.assert_array_equal(
        warp(numbers > 0, probability > threshold, confidence),
        warp_pass_by_pass(numbers > 0, probability > threshold, confidence),
    )


@given(pairs())
def test_splits_cut_a_cell_and_mergers_join_two(pair):
    # Any mask will do for the warped truth.
    warped, proposal = pair
    splits, mergers = splits_and_mergers(warped, proposal)
    before = cells_of(warped)
    for place in map(tuple, np.argwhere(warped != proposal)):
        after = cells_of(flipped(warped, place))
        if warped[place]:
            rest = (before == before[place]) & (after > 0)
            assert splits[place] == (len(np.unique(after[rest])) > 1)
        else:
            joined = (after == after[place]) & (before > 0)
            assert mergers[place] == (len(np.unique(before[joined])) > 1)
    assert not (splits & ~(warped & ~proposal)).any()
    assert not (mergers & ~(proposal & ~warped)).any()


def test_shapes_must_agree():
    with pytest.raises(DataFolderError, match="same rows and columns"):
        warp(np.ones((2, 2), bool), np.ones((2, 3), bool))
    with pytest.raises(DataFolderError, match="same rows and columns"):
        warping_errors(np.ones((2, 2), bool), np.zeros((2, 3), bool))
