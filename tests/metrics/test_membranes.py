import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from clinibundle.errors import DataFolderError
from clinibundle.metrics.membranes import cells_of_labels, cells_of_probability, require_same_shape, thin_borders
from clinibundle.metrics.rand_scores import overlaps
from made_sections import drawn, probability_of, true_cells

label_maps = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))


def flood(numbers):
    """The watershed of Vincent and Soille on a binary picture, queue and all, as the challenge's program has it."""
    waits, found = -2, np.where(numbers == 0, -1, numbers)
    queue = []
    for column, row in np.argwhere(numbers.T == 0):
        if any(found[at] > 0 for at in beside(row, column, numbers.shape)):
            queue.append((row, column))
            found[row, column] = waits
    takes_over = False
    for here in queue:
        for at in beside(*here, numbers.shape):
            if found[at] > 0:
                if found[here] == waits or (found[here] == 0 and takes_over):
                    found[here] = found[at]
                elif found[here] > 0 and found[here] != found[at]:
                    found[here], takes_over = 0, False
            elif found[at] == 0:
                if found[here] == waits:
                    found[here], takes_over = 0, True
            elif found[at] == -1:
                found[at] = waits
                queue.append(at)
    return np.maximum(found, 0)


def beside(row, column, shape):
    around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return [(down, right) for down, right in around if 0 <= down < shape[0] and 0 <= right < shape[1]]


def test_pieces_of_the_interior_are_cells_and_a_diagonal_membrane_parts_them():
    label = drawn("...#", "..#.", ".#..", "#...").astype(np.uint8) * 255
    cells = cells_of_labels(label)
    assert cells.numbers.max() == 2
    assert cells.numbers[0, 0] != cells.numbers[3, 3]
    np.testing.assert_array_equal(cells.interior, label == 255)


def test_corners_do_not_join_cells():
    assert cells_of_labels(drawn(".#", "#.")).numbers.max() == 2


def test_numbers_that_differ_are_cells_though_they_touch_or_lie_apart():
    label = np.array([[7, 7, 3, 3, 0, 7], [7, 7, 3, 3, 0, 7]])
    cells = cells_of_labels(label)
    np.testing.assert_array_equal(cells.numbers, label)
    # A line of membrane between 7 and 3, for pixels and warping.
    np.testing.assert_array_equal(cells.interior, [[1, 0, 1, 1, 0, 1]] * 2)


@given(label_maps)
def test_cells_of_other_numbers_are_never_joined_in_the_interior(numbers):
    pieces, count = ndimage.label(cells_of_labels(numbers).interior)
    if len(np.unique(numbers[numbers > 0])) > 1:
        assert all(len(np.unique(numbers[pieces == piece])) == 1 for piece in range(1, count + 1))


def test_interior_lies_above_the_threshold_and_not_at_it():
    probability = np.array([[0.0, 0.25, 0.5, 1.0]])
    assert cells_of_probability(probability, 0.5).interior.tolist() == [[False, False, False, True]]
    assert cells_of_probability(probability, 0.0).interior.tolist() == [[False, True, True, True]]
    assert not cells_of_probability(probability, 1.0).interior.any()
    assert cells_of_probability(probability, 0.25).confidence.tolist() == [[0.25, 0, 0.25, 0.75]]


def test_thick_membrane_between_two_cells_is_thinned_to_one_pixel_and_an_island_vanishes():
    numbers = np.repeat([[1, 1, 0, 0, 0, 2, 2]], 5, axis=0)
    np.testing.assert_array_equal(thin_borders(numbers), np.repeat([[1, 1, 1, 0, 2, 2, 2]], 5, axis=0))
    island = np.ones((5, 5), int)
    island[1:4, 1:4] = 0
    assert (thin_borders(island) == 1).all()


@given(label_maps)
def test_thinning_changes_no_cell_and_leaves_none_touching(numbers):
    # Cells that touch already have no membrane to thin.
    numbers = np.where(cells_of_labels(numbers).interior, numbers, 0)
    thinned = thin_borders(numbers)
    np.testing.assert_array_equal(thinned[numbers > 0], numbers[numbers > 0])
    for here, there in ((thinned[:, 1:], thinned[:, :-1]), (thinned[1:], thinned[:-1])):
        assert not ((here != there) & (here > 0) & (there > 0)).any()
    assert (thinned > 0).any() == (numbers > 0).any()


@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8])
def test_thinned_borders_score_as_those_of_the_challenge_s_flooding(threshold):
    truth = true_cells(120, 25)
    numbers = cells_of_probability(probability_of(truth), threshold).numbers
    ours, theirs = (overlaps(thin(numbers), truth) for thin in (thin_borders, flood))
    assert ours.rand == pytest.approx(theirs.rand, abs=1e-3)
    assert ours.information == pytest.approx(theirs.information, abs=1e-3)


def test_labels_that_are_no_labels_are_refused():
    with pytest.raises(TypeError, match=r"not float64 of shape \(2, 2\): threshold a probability first"):
        cells_of_labels(np.ones((2, 2)))
    with pytest.raises(TypeError, match="plane"):
        cells_of_labels(np.ones((2, 2, 2), int))
    with pytest.raises(DataFolderError, match=r"\(2, 3\) and the true label \(3, 2\)"):
        require_same_shape(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(DataFolderError, match="section by section"):
        require_same_shape(np.ones((2, 3, 3)), np.ones((2, 3, 3)))
