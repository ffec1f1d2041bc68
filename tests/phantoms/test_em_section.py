import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from clinibundle.phantoms.em_section import make_em_section, make_em_stack

SHAPE = (256, 200)


@pytest.fixture(scope="module")
def stacks():
    return [make_em_stack(seed, 3, SHAPE) for seed in range(3)]


def test_the_same_seed_gives_the_same_stack_and_another_one_another(stacks):
    again = make_em_stack(1, 3, SHAPE)
    assert np.array_equal(again.grey, stacks[1].grey) and np.array_equal(again.cells, stacks[1].cells)
    assert not np.array_equal(stacks[0].cells, stacks[1].cells)


def test_a_stack_has_8_bit_grey_and_numbered_cells(stacks):
    for stack in stacks:
        assert stack.grey.dtype == np.uint8 and stack.grey.shape == stack.cells.shape == (3, *SHAPE)
        assert stack.cells.dtype == np.int32 and stack.cells.min() == 0


def test_membranes_take_up_what_they_do_in_real_sections_and_are_dark(stacks):
    for stack in stacks:
        membrane = stack.cells == 0
        assert 0.12 < membrane.mean() < 0.35
        assert stack.grey[membrane].mean() < stack.grey[~membrane].mean() - 30


def test_no_two_cells_touch(stacks):
    for section in (section for stack in stacks for section in stack.cells):
        for axis in (0, 1):
            first, second = np.moveaxis(section, axis, 0)[:-1], np.moveaxis(section, axis, 0)[1:]
            assert not ((first != second) & (first > 0) & (second > 0)).any()


def test_most_cells_go_on_in_the_next_section(stacks):
    for stack in stacks:
        for one, other in zip(stack.cells[:-1], stack.cells[1:], strict=True):
            both = (one > 0) & (other > 0)
            assert (one[both] == other[both]).mean() > 0.7
        # Three sections apart more has changed than in one step.
        assert (stack.cells[0] == stack.cells[1]).mean() > (stack.cells[0] == stack.cells[2]).mean()


def test_a_single_section_has_its_truth_beside_it():
    grey, interior = make_em_section(5)
    assert grey.shape == interior.shape == (512, 512) and interior.dtype == np.bool_
    assert 60 < label(interior)[1] < 250
    # What surrounds the interior is membrane.
    rim = binary_dilation(interior) & ~interior
    assert grey[rim].mean() < grey[interior].mean()


def test_noise_is_as_asked_for():
    silent, noisy = (make_em_stack(3, 1, SHAPE, noise=sigma).grey[0].astype(float) for sigma in (0, 12))
    assert np.std(noisy - silent) == pytest.approx(12, rel=0.1)
