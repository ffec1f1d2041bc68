import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clinibundle.geometry import scaling_affine, spacing_of, to_patient_mm, turn_lps_ras

AFFINES = arrays(np.float64, (4, 4), elements=st.floats(-1e3, 1e3)).map(
    lambda affine: np.vstack([affine[:3], [0, 0, 0, 1]])
)
SIZES = st.tuples(*[st.floats(1e-3, 1e3)] * 3)


@given(AFFINES)
def test_turning_twice_is_as_before(affine):
    np.testing.assert_array_equal(turn_lps_ras(turn_lps_ras(affine)), affine)


@given(AFFINES, st.tuples(*[st.floats(-50, 50)] * 3))
def test_turning_moves_left_to_right_and_back_to_front_and_leaves_the_height(affine, index):
    x, y, z = to_patient_mm(affine, index)
    np.testing.assert_allclose(to_patient_mm(turn_lps_ras(affine), index), (-x, -y, z), rtol=1e-9, atol=1e-6)


@given(AFFINES)
def test_turning_leaves_the_spacing(affine):
    assert spacing_of(turn_lps_ras(affine)) == spacing_of(affine)


def test_turning_does_not_change_the_affine_it_is_given():
    affine = np.eye(4)
    turn_lps_ras(affine)
    np.testing.assert_array_equal(affine, np.eye(4))


@given(SIZES, st.floats(0, 6.28), st.floats(0, 6.28))
def test_the_spacing_is_that_of_the_axes_however_they_are_turned(sizes, first, second):
    around_z = [[np.cos(first), -np.sin(first), 0], [np.sin(first), np.cos(first), 0], [0, 0, 1]]
    around_x = [[1, 0, 0], [0, np.cos(second), -np.sin(second)], [0, np.sin(second), np.cos(second)]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(around_z) @ around_x @ np.diag(sizes)
    assert spacing_of(affine) == pytest.approx(sizes)


def test_a_sheared_stack_has_the_distance_along_its_axis():
    affine = np.diag([0.5, 0.5, 3, 1.0])
    affine[1, 2] = 4
    assert spacing_of(affine) == pytest.approx((0.5, 0.5, 5))


@pytest.mark.parametrize(
    ("spacing", "diagonal"),
    [(None, [1, 1, 1, 1]), ((), [1, 1, 1, 1]), ((0.2, 0.3), [0.2, 0.3, 1, 1]), ((0.2, 0.3, 4), [0.2, 0.3, 4, 1])],
)
def test_a_picture_without_a_place_is_only_scaled(spacing, diagonal):
    np.testing.assert_array_equal(scaling_affine(spacing), np.diag(diagonal).astype(float))


def test_a_voxel_lies_where_the_affine_puts_it():
    affine = np.array([[0, -0.7, 0, 3], [0.5, 0, 0, -20], [0, 0, 2, 9], [0, 0, 0, 1.0]])
    assert to_patient_mm(affine, (0, 0, 0)) == (3, -20, 9)
    assert to_patient_mm(affine, (2, 10, 1)) == pytest.approx((-4, -19, 11))
    assert to_patient_mm(affine, (0.5, 0, 0)) == pytest.approx((3, -19.75, 9))
