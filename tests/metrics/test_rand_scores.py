import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error, variation_of_information

from clinibundle.errors import DataFolderError
from clinibundle.metrics.rand_scores import overlaps

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)


@st.composite
def label_pairs(draw, membrane=0):
    shape = draw(shapes)
    proposal, truth = (draw(hnp.arrays(np.int64, shape, elements=st.integers(low, 5))) for low in (membrane, 0))
    assume((truth > 0).any())
    return proposal, truth


def test_two_cells_merged_into_one():
    truth = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2]])
    found = overlaps(np.ones((2, 5), int), truth)
    # Σ p² = 2 · 1/4, Σ s² = 1, Σ t² = 1/2
    assert found.rand == pytest.approx((2 / 3, 1, 1 / 2))
    # Nothing is known of the truth; one cell splits nothing.
    assert found.information == (0, 1, 0)


def test_a_cell_split_in_two():
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2]])
    proposal = np.array([[1, 1, 2, 2, 0, 3, 3, 3, 3]])
    found = overlaps(proposal, truth)
    # Σ p² = Σ s² = 1/16 + 1/16 + 1/4, Σ t² = 1/2
    assert found.rand == pytest.approx((6 / 7, 3 / 4, 1))
    # H(S) = 3/2 bit, H(T) = 1 bit = I
    assert found.information == pytest.approx((4 / 5, 2 / 3, 1))


def test_a_proposed_membrane_inside_a_true_cell_makes_each_of_its_pixels_a_cell():
    truth = np.array([[1] * 8])
    found = overlaps(np.array([[4, 4, 4, 4, 4, 4, 0, 0]]), truth)
    assert found.rand == pytest.approx((2 * 38 / (64 + 38), 38 / 64, 1))
    assert found.information == (0, 0, 1)
    truth = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
    found = overlaps(np.array([[1, 1, 1, 0, 0, 2, 2, 2]]), truth)
    entropy = -(2 * 3 / 8 * math.log2(3 / 8) + 2 / 8 * math.log2(1 / 8))
    assert found.information == pytest.approx((2 / (1 + entropy), 1 / entropy, 1))


def test_pixels_of_true_membrane_do_not_count():
    truth = np.array([[1, 1, 0, 0, 0, 2, 2]])
    for membrane in ([0, 0, 0], [1, 1, 1], [1, 0, 2], [9, 8, 7]):
        found = overlaps(np.array([[1, 1, *membrane, 2, 2]]), truth)
        assert found.rand == found.information == (1, 1, 1)


def test_without_a_true_cell_there_is_no_score_and_one_cell_on_both_sides_is_perfect():
    assert overlaps(np.ones((3, 3), int), np.zeros((3, 3), int)) is None
    one = overlaps(np.full((3, 3), 5), np.ones((3, 3), int))
    assert one.rand == one.information == (1, 1, 1)


def test_a_proposal_that_is_membrane_all_over_splits_everything_and_merges_nothing():
    found = overlaps(np.zeros((4, 5), int), np.ones((4, 5), int))
    assert found.rand == pytest.approx((2 / 21, 1 / 20, 1))
    assert found.information == (0, 0, 1)


@given(label_pairs())
def test_information_is_that_of_scikit_image(pair):
    proposal, truth = pair
    inside = truth > 0
    # scikit-image takes membrane for one cell: each of its pixels gets a number of its own here.
    proposed = np.where(proposal > 0, proposal, 100 + np.arange(proposal.size).reshape(proposal.shape))[inside]
    split, merge = variation_of_information(truth[inside], proposed)
    of_proposal, of_truth = (variation_of_information(np.ones_like(c), c)[0] for c in (proposed, truth[inside]))
    found = overlaps(proposal, truth).information
    assert found.split == pytest.approx(1 - split / of_proposal if of_proposal > 1e-9 else 1, abs=1e-9)
    assert found.merge == pytest.approx(1 - merge / of_truth if of_truth > 1e-9 else 1, abs=1e-9)
    assert found.value == pytest.approx(
        1 - (split + merge) / (of_proposal + of_truth) if of_proposal + of_truth > 1e-9 else 1, abs=1e-9
    )


@given(label_pairs())
def test_overlaps_give_the_adapted_rand_error_of_scikit_image(pair):
    proposal, truth = pair
    numbered = np.where(proposal > 0, proposal, 100 + np.arange(proposal.size).reshape(proposal.shape))
    # It counts pairs of different pixels, and so each square less the pixels themselves.
    both, proposed, true = (int((sizes**2).sum() - sizes.sum()) for sizes in overlaps(proposal, truth))
    assume(proposed > 0 and true > 0)
    # What it calls precision is the share of the true pairs (so in 0.26), and recall that of the proposed ones.
    error, of_true, of_proposed = adapted_rand_error(truth, numbered)
    assert (1 - error, of_true, of_proposed) == pytest.approx(
        (2 * both / (proposed + true), both / true, both / proposed)
    )


@given(label_pairs(membrane=1))
def test_rand_score_is_that_of_scikit_image_where_single_pixels_hardly_count(pair):
    proposal, truth = (np.kron(labels, np.ones((30, 30), int)) for labels in pair)
    error, of_true, of_proposed = adapted_rand_error(truth, proposal)
    assert overlaps(proposal, truth).rand == pytest.approx((1 - error, of_true, of_proposed), abs=2e-3)


@given(label_pairs(), st.permutations(range(1, 6)))
def test_scores_lie_in_bounds_and_do_not_depend_on_the_numbers_of_cells(pair, others):
    proposal, truth = pair
    found = overlaps(proposal, truth)
    renumbered = overlaps(np.array([0, *others])[proposal] * 1000, truth * 2**40)
    for score, again in ((found.rand, renumbered.rand), (found.information, renumbered.information)):
        assert all(0 <= value <= 1 for value in score)
        assert score == pytest.approx(again)


def test_shapes_must_agree():
    with pytest.raises(DataFolderError, match="same rows and columns"):
        overlaps(np.ones((2, 2), int), np.ones((2, 3), int))
