"""A sheared stack made upright shows the same at the same place in the patient, and what is drawn there comes back."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_volumes import check_of, ct_series, lps_grid, noise, read, save_all
from scipy.ndimage import map_coordinates

from clinibundle.dicom.straighten import is_sheared, straighten
from clinibundle.volume import Source, Volume

OUTSIDE = -1024
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
SPACINGS = st.tuples(st.floats(0.3, 3), st.floats(0.3, 3), st.floats(0.5, 8))
SHEARS = st.tuples(*[st.floats(-4, 4)] * 2)
SHAPES = st.tuples(st.integers(3, 8), st.integers(3, 8), st.integers(2, 6))


def volume_of(array, affine):
    return Volume(array, affine, (1.0, 1.0, 1.0), "hounsfield", Source("dicom", "case", "nii.gz"))


def made(shape, affine, dtype=np.float32):
    return volume_of(noise(shape, dtype), affine)


def seen_from(volume, straight):
    """The source at the places of the straight grid's voxels, by interpolation in the patient."""
    there = np.indices(straight.array.shape).reshape(3, -1)
    back = np.linalg.inv(volume.affine_lps) @ straight.affine_lps @ np.vstack([there, np.ones(there.shape[1])])
    # On a slice, not a hair beside it.
    places = np.vstack([np.round(back[:2], 9), np.round(back[2], 6)])
    source = volume.array.astype(np.float64)
    return map_coordinates(source, places, order=1, mode="grid-constant", cval=OUTSIDE).reshape(straight.array.shape)


@settings(max_examples=40)
@given(shape=SHAPES, turn=ANGLES, spacing=SPACINGS, shear=SHEARS)
def test_a_straight_voxel_shows_what_the_source_shows_at_its_place(shape, turn, spacing, shear):
    volume = made(shape, lps_grid(spacing, turn=turn, shear=shear))
    straight, _ = straighten(volume, OUTSIDE)
    x, y, z = straight.affine_lps[:3, :3].T
    assert abs(x @ z) < 1e-9
    assert abs(y @ z) < 1e-9
    assert z @ np.cross(x, y) > 0
    np.testing.assert_allclose(straight.array, seen_from(volume, straight), atol=1e-2)


@settings(max_examples=30)
@given(shape=SHAPES, spacing=SPACINGS, shear=SHEARS)
def test_whole_numbers_stay_whole(shape, spacing, shear):
    volume = made(shape, lps_grid(spacing, shear=shear), np.int16)
    straight, _ = straighten(volume, OUTSIDE)
    assert straight.array.dtype == np.int16
    assert np.abs(straight.array - seen_from(volume, straight)).max() <= 0.51


@settings(max_examples=40)
@given(shape=SHAPES, turn=ANGLES, spacing=SPACINGS, shear=SHEARS)
def test_every_source_voxel_lies_on_the_straight_grid(shape, turn, spacing, shear):
    volume = made(shape, lps_grid(spacing, turn=turn, shear=shear))
    straight, _ = straighten(volume, OUTSIDE)
    corners = np.array(np.meshgrid(*[[0, size - 1] for size in shape])).reshape(3, -1)
    there = np.linalg.inv(straight.affine_lps) @ volume.affine_lps @ np.vstack([corners, np.ones(8)])
    assert (there[:3] > -1e-6).all()
    highest = np.array(straight.array.shape) - 1
    assert (there[:3].T - highest < 1e-6).all()


@settings(max_examples=40)
@given(shape=SHAPES, spacing=SPACINGS, shear=SHEARS, data=st.data())
def test_a_label_at_a_place_comes_back_within_half_a_pixel_of_it(shape, spacing, shear, data):
    volume = made(shape, lps_grid(spacing, shear=shear))
    straight, plan = straighten(volume, OUTSIDE)
    # Every straight voxel is its own label.
    labels = np.arange(straight.array.size).reshape(straight.array.shape)
    back = plan.back(labels)
    assert back.shape == shape
    index = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    place = volume.affine_lps @ [*index, 1]
    found = straight.affine_lps @ [*np.unravel_index(back[index], labels.shape), 1]
    off = np.linalg.inv(straight.affine_lps[:3, :3]) @ (found - place)[:3]
    assert np.abs(off[:2]).max() <= 0.5 + 1e-9
    assert abs(off[2]) < 1e-9


@settings(max_examples=30)
@given(shape=SHAPES, spacing=SPACINGS, shear=st.floats(-4, 4), axis=st.integers(0, 1), data=st.randoms())
def test_a_label_that_was_straightened_is_the_label_again(shape, spacing, shear, axis, data):
    # As a gantry tilts, about one axis; at a shift of exactly half a pixel either neighbour may be nearest.
    pixels = shear / spacing[axis] * np.arange(shape[2])
    assume((np.abs(np.abs(pixels % 1) - 0.5) > 1e-3).all())
    mask = np.random.default_rng(data.randrange(99)).integers(0, 2, shape).astype(np.float32)
    straight, plan = straighten(volume_of(mask, lps_grid(spacing, shear=np.eye(2)[axis] * shear)), 0.0)
    np.testing.assert_array_equal(plan.back(straight.array) > 0.5, mask > 0.5)


def test_a_shift_of_whole_pixels_is_exact():
    volume = made((6, 5, 4), lps_grid((0.5, 0.75, 3), shear=(-0.5, 1.5)), np.int16)
    straight, plan = straighten(volume, OUTSIDE)
    assert straight.array.shape == (9, 11, 4)
    for k in range(4):
        np.testing.assert_array_equal(straight.array[3 - k : 9 - k, 2 * k : 2 * k + 5, k], volume.array[..., k])
    assert np.count_nonzero(straight.array != OUTSIDE) == np.count_nonzero(volume.array != OUTSIDE)
    np.testing.assert_array_equal(plan.back(straight.array), volume.array)
    assert straight.spacing_mm == volume.spacing_mm
    check = check_of(straight, "straightened")
    assert (check.status, check.value) == ("fixed", 6)


@pytest.mark.parametrize(
    ("shear", "slices", "expected"),
    [((0, 0), 4, False), ((0.7, 0), 4, True), ((0, -0.7), 4, True), ((0.004, 0), 9, False), ((0.02, 0), 3, False)],
    ids=["upright", "along rows", "along columns", "angle of rounding", "shift of rounding"],
)
def test_what_the_gate_calls_tilted_is_sheared_and_nothing_else(tmp_path, shear, slices, expected):
    values = noise((slices, 5, 6))
    volume = read(save_all(ct_series(values, lps_grid(turn=(30, 0, 10), shear=shear)), tmp_path), tilt_allowed=True)
    assert is_sheared(volume) is expected
    assert check_of(volume, "gantry_tilt").status == ("fixed" if expected else "passed")


def test_pictures_without_a_place_and_left_handed_grids_are_not_sheared():
    mirrored = lps_grid() @ np.diag([-1, 1, 1, 1])
    assert not is_sheared(made((4, 5, 6), None))
    assert not is_sheared(made((4, 5, 6), mirrored))
    assert not is_sheared(volume_of(noise((4, 5)), lps_grid()))
    sheared = lps_grid(shear=(1, 0)) @ np.diag([-1, 1, 1, 1])
    volume = made((4, 5, 6), sheared)
    assert is_sheared(volume)
    straight, _ = straighten(volume, OUTSIDE)
    np.testing.assert_allclose(straight.array, seen_from(volume, straight), atol=1e-2)
    with pytest.raises(ValueError, match="without an affine"):
        straighten(made((4, 5, 6), None), OUTSIDE)
