import math

import numpy as np
import pytest

from clinibundle.report.views import BACK, HEAD, LEFT, patient_view_of, slice_view_of

SHAPE = (20, 30, 10)
DICOM_AXIAL = np.diag([2.0, 3.0, 5.0, 1.0])  # rows run left, columns run back, slices run to the head
NIFTI_RAS = np.diag([-2.0, -3.0, 5.0, 1.0])


def turned(degrees, affine=DICOM_AXIAL):
    """The affine turned about the axis from foot to head."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine


def test_axial_dicom_slices_are_hung_as_they_are_stored():
    view = slice_view_of(SHAPE, DICOM_AXIAL, None)
    flat = np.arange(600).reshape(20, 30)
    assert np.array_equal(view.picture(flat), flat.T)
    assert view.letters == ("R", "L", "A", "P")
    assert view.size_mm == (40, 90)
    assert view.place_mm((0, 0, 7)) == (1, 1.5)  # the centre of the first pixel
    assert view.place_mm((-0.5, 29.5, 7)) == (0, 90)  # lower left corner of the picture


def test_slices_stored_towards_the_right_and_front_are_turned_to_hang_alike():
    view = slice_view_of(SHAPE, NIFTI_RAS, None)
    flat = np.arange(600).reshape(20, 30)
    assert np.array_equal(view.picture(flat), flat.T[::-1, ::-1])
    assert view.letters == ("R", "L", "A", "P")
    assert view.place_mm((0, 0, 0)) == (39, 88.5)


@pytest.mark.parametrize("degrees", [0, 20, -30])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_any_stored_order_shows_the_same_patient(degrees, order, signs):
    """A voxel that is brighter than the others lies where the patient has it, and where `place_mm` says."""
    volume = np.zeros(SHAPE)
    volume[3, 25, 8] = 1  # far to the right, far back, near the head
    affine = turned(degrees)
    for axis, sign in enumerate(signs):
        if sign < 0:
            volume = np.flip(volume, axis)
            affine = affine @ np.linalg.inv(flip(axis, SHAPE[axis]))
    volume, affine = volume.transpose(order), affine[:, [*order, 3]]
    index = np.argwhere(volume)[0]
    expected = {
        BACK: ((3.5 * 2, 1.5 * 5), ("R", "L", "H", "F")),
        LEFT: ((25.5 * 3, 1.5 * 5), ("A", "P", "H", "F")),
        HEAD: ((3.5 * 2, 25.5 * 3), ("R", "L", "A", "P")),
    }
    for along, (place, letters) in expected.items():
        view = patient_view_of(volume.shape, affine, along)
        picture = view.picture(volume.max(axis=view.across))
        row, column = np.argwhere(picture)[0]
        assert view.place_mm(index) == pytest.approx(place)
        assert ((column + 0.5) * view.step_mm[0], (row + 0.5) * view.step_mm[1]) == pytest.approx(place)
        assert view.letters == letters
        assert view.oblique_degrees == pytest.approx(abs(degrees), abs=1e-4)


def flip(axis, size):
    """(4, 4): the index in an array turned round along an axis, of an index before."""
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = -1, size - 1
    return matrix


def test_a_volume_without_a_place_in_the_patient_keeps_its_order_and_has_no_sides():
    view = slice_view_of(SHAPE, None, (2.0, 3.0, 5.0))
    assert (view.letters, view.size_mm, view.is_oblique) == (None, (40, 90), False)
    assert slice_view_of(SHAPE, None, None).size_mm == (20, 30)
