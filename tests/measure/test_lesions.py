import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation
from skimage.measure import label as connected_parts

from clinibundle.measure.lesions import find_lesions, label_lesions, lesions_of, measure_lesions

UNIT = np.eye(4)
VOLUMES = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7))


def placed(spacing, turn=(0.0, 0.0, 0.0), origin=(-120.0, 35.0, -700.0)):
    """Affine of a grid that is turned about x, y, z by so many degrees."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def ellipsoid(semi_axes_mm, centre_mm, affine, shape):
    """The voxels whose centres lie in an ellipsoid along the patient's axes."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    return (((places - centre_mm) / semi_axes_mm) ** 2).sum(axis=-1) < 1


def scan_of_boxes(*boxes, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    for x, y, z in boxes:
        mask[slice(*x), slice(*y), slice(*z)] = True
    return mask


def rows_of(label_map, affine=UNIT, values=None, probability=None):
    probability = np.full(label_map.shape, 0.5) if probability is None else probability
    return measure_lesions(label_map, probability, values, affine, 3, "spot")


def test_voxels_that_touch_at_a_corner_are_one_lesion_and_a_gap_of_one_voxel_makes_two():
    mask = np.zeros((6, 6, 6), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = mask[4, 4, 4] = True
    assert [lesion.voxels for lesion in find_lesions(mask, UNIT)] == [2, 1]


@settings(max_examples=100)
@given(VOLUMES)
def test_lesions_are_the_parts_that_scikit_image_finds(mask):
    ours, theirs = label_lesions(mask, UNIT), connected_parts(mask, connectivity=3)
    np.testing.assert_array_equal(ours > 0, mask)
    pairs = np.unique(np.stack([ours[mask], theirs[mask]]), axis=1)
    assert pairs.shape[1] == ours.max() == theirs.max()


@settings(max_examples=100)
@given(VOLUMES, st.integers(0, 12))
def test_numbers_rise_from_one_as_volumes_fall_and_small_ones_are_gone(mask, fewest):
    voxel_ml = 0.7 * 0.7 * 1.25 / 1000
    affine = placed((0.7, 0.7, 1.25), turn=(10, 20, 30))
    sizes = np.bincount(connected_parts(mask, connectivity=3)[mask])
    label_map = label_lesions(mask, affine, minimum_volume_ml=fewest * voxel_ml)

    lesions = lesions_of(label_map, affine)
    assert [lesion.number for lesion in lesions] == list(range(1, len(lesions) + 1))
    assert [lesion.voxels for lesion in lesions] == sorted(sizes[sizes >= max(fewest, 1)], reverse=True)
    assert [lesion.volume_ml for lesion in lesions] == pytest.approx([lesion.voxels * voxel_ml for lesion in lesions])


def test_a_lesion_of_just_the_least_volume_stays_and_one_voxel_less_does_not():
    mask = scan_of_boxes([(0, 10), (0, 5), (0, 2)], [(12, 13), (0, 9), (0, 11)])
    kept = find_lesions(mask, placed((1, 1, 1)), minimum_volume_ml=0.1)
    assert [lesion.voxels for lesion in kept] == [100]


def test_of_equal_lesions_the_one_with_the_lowest_index_comes_first():
    mask = np.zeros((9, 9, 9), bool, order="F")
    mask[::2, ::2, ::2] = True
    mask[6:, 6:, 6:] = True
    label_map = label_lesions(mask, UNIT)
    numbers = label_map[mask & (label_map != 1)]
    assert numbers.tolist() == list(range(2, 2 + 5**3 - 2**3))


def test_the_volume_of_a_sheared_grid_is_that_of_its_voxels():
    affine = placed((0.8, 0.8, 2.0))
    affine[1, 2] = 0.7  # each slice lies 0.7 mm further back
    (lesion,) = find_lesions(scan_of_boxes([(2, 12), (2, 12), (2, 12)]), affine)
    assert lesion.volume_ml == pytest.approx(0.8 * 0.8 * 2.0)


def test_a_lesion_knows_its_box_its_voxels_and_its_place():
    mask = scan_of_boxes([(4, 7), (5, 6), (8, 12)])
    affine = placed((0.5, 2.0, 3.0), origin=(10.0, 20.0, 30.0))
    (lesion,) = find_lesions(mask, affine)
    assert lesion.box == (slice(4, 7), slice(5, 6), slice(8, 12))
    assert lesion.mask.all()
    assert lesion.centroid_lps_mm == pytest.approx((10 + 5 * 0.5, 20 + 5 * 2.0, 30 + 9.5 * 3.0))


def test_a_lesion_within_the_box_of_another_keeps_to_its_own_voxels():
    mask = scan_of_boxes([(2, 12), (2, 12), (2, 3)], [(2, 12), (2, 3), (2, 12)], [(8, 10), (8, 10), (8, 10)])
    large, small = find_lesions(mask, UNIT)
    assert (large.voxels, small.voxels) == (190, 8)
    assert large.mask.sum() == 190


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [0, 9])
def test_a_lesion_at_any_face_of_the_volume_touches_its_border(axis, end):
    mask = np.zeros((10, 10, 10), bool)
    mask[4:6, 4:6, 4:6] = True
    mask[tuple(end if along == axis else 2 for along in range(3))] = True
    assert [lesion.touches_border for lesion in find_lesions(mask, UNIT)] == [False, True]


def test_nothing_in_the_mask_is_no_lesion():
    empty = np.zeros((4, 5, 6), bool)
    assert find_lesions(empty, UNIT) == []
    assert label_lesions(empty, UNIT).shape == (4, 5, 6)
    assert rows_of(label_lesions(empty, UNIT)) == []


def test_more_lesions_than_16_bits_can_number_get_32():
    mask = np.zeros((84, 84, 84), bool)
    mask[::2, ::2, ::2] = True
    label_map = label_lesions(mask, UNIT)
    assert (label_map.dtype, label_map.max()) == (np.uint32, 42**3)
    assert label_lesions(mask[:40], UNIT).dtype == np.uint16


def test_numbers_that_no_voxel_has_are_left_out():
    label_map = np.zeros((5, 5, 5), np.uint16)
    label_map[1, 1, 1], label_map[3, 3, 3] = 2, 7
    assert [lesion.number for lesion in lesions_of(label_map, UNIT)] == [2, 7]
    assert [row["name"] for row in rows_of(label_map)] == ["spot 2", "spot 7"]


@pytest.mark.parametrize("array", [np.zeros((4, 4), bool), np.zeros((4, 4, 4, 1), bool), np.zeros((4, 4, 4), np.uint8)])
def test_what_is_no_mask_of_a_volume_is_refused(array):
    with pytest.raises(ValueError, match=r"axes|boolean"):
        label_lesions(array, UNIT)


def test_a_row_holds_what_measurements_want():
    mask = scan_of_boxes([(4, 8), (5, 8), (6, 8)], [(15, 16), (15, 16), (15, 16)])
    values = np.where(mask, 40.0, -800.0)
    values[4, 5, 6] = 64.0
    probability = np.where(mask, 0.9, 0.1)
    probability[15, 15, 15] = 0.6
    large, small = rows_of(label_lesions(mask, UNIT), placed((1.0, 1.0, 5.0)), values, probability)
    assert {key: value for key, value in large.items() if "diameter" not in key} == {
        "label": 3,
        "name": "spot 1",
        "lesion": 1,
        "voxels": 24,
        "volume_ml": pytest.approx(0.12),
        "axial_slice": 6,
        "mean_hu": 41.0,
        "confidence": pytest.approx(0.9),
        "centroid_lps_mm": [-114.5, 41.0, -667.5],
        "touches_border": False,
    }
    assert large["longest_axial_diameter_mm"] == 5.0
    assert large["longest_axial_diameter_ends_voxel"] == [[3.5, 4.5, 6.0], [7.5, 7.5, 6.0]]
    assert large["longest_axial_diameter_ends_lps_mm"] == [[-116.5, 39.5, -670.0], [-112.5, 42.5, -670.0]]
    assert large["perpendicular_diameter_mm"] == pytest.approx(5 * 3 / 4)
    assert (small["confidence"], small["axial_slice"]) == (0.6, 15)
    json.dumps([large, small], allow_nan=False)


def test_what_is_not_known_is_none_and_what_has_no_meaning_is_absent():
    (row,) = rows_of(np.ones((2, 2, 2), np.uint8), probability=np.full((2, 2, 2), np.nan))
    assert row["confidence"] is None
    assert "mean_hu" not in row


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 1.25), (0.9, 0.9, 3.0)])
def test_ellipsoids_have_the_measures_of_the_formula(spacing):
    affine, semi_axes, centre = placed(spacing, origin=(0.0, 0.0, 0.0)), (14.0, 9.0, 11.0), (25.3, 21.1, 30.4)
    mask = ellipsoid(semi_axes, centre, affine, (70, 60, 50))
    (row,) = rows_of(label_lesions(mask, affine), affine)
    pixel = math.hypot(*spacing[:2])
    assert row["volume_ml"] == pytest.approx(4 / 3 * math.pi * math.prod(semi_axes) / 1000, rel=0.02)
    assert row["centroid_lps_mm"] == pytest.approx(centre, abs=0.1)
    assert row["longest_axial_diameter_mm"] == pytest.approx(28, abs=pixel)
    assert row["perpendicular_diameter_mm"] == pytest.approx(18, abs=pixel)
    assert row["axial_slice"] == pytest.approx(centre[2] / spacing[2], abs=2)


@settings(max_examples=60)
@given(
    VOLUMES.filter(np.any),
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.floats(-20, 20)] * 3),
    st.tuples(*[st.sampled_from([0.5, 0.8, 1.5, 5.0])] * 3),
)
def test_however_a_volume_is_stored_its_lesions_have_the_same_measures_and_lie_in_axial_slices(
    mask, axes, mirrored, turn, spacing
):
    affine = placed(spacing, turn)
    stored, its_affine = mask.transpose(axes), affine[:, [*axes, 3]].copy()
    for axis in np.flatnonzero(mirrored):
        stored = np.flip(stored, axis)
        its_affine[:, 3] += its_affine[:, axis] * (stored.shape[axis] - 1)
        its_affine[:, axis] *= -1

    def measures(label_map, grid):
        rows = rows_of(label_map, grid)
        return [[r["voxels"], r["longest_axial_diameter_mm"], r["touches_border"], *r["centroid_lps_mm"]] for r in rows]

    # Equal lesions may have changed their numbers.
    differ = cdist(
        measures(label_lesions(mask, affine), affine),
        measures(label_lesions(stored, its_affine), its_affine),
        "chebyshev",
    )
    assert differ.shape[0] == differ.shape[1]
    assert max(differ.min(axis=0).max(), differ.min(axis=1).max()) < 0.003
    for row in rows_of(label_lesions(stored, its_affine), its_affine):
        for key in ("longest_axial_diameter", "perpendicular_diameter"):
            start, end = np.array(row[f"{key}_ends_lps_mm"])
            assert np.linalg.norm(end - start) == pytest.approx(row[f"{key}_mm"], abs=0.002)
            # Across the slice, that is along the axis that was z, the ends do not differ.
            assert (end - start) @ affine[:3, 2] / spacing[2] == pytest.approx(0, abs=0.005)


def test_a_large_volume_is_labelled_in_seconds():
    mask = np.zeros((256, 256, 200), bool)
    random = np.random.default_rng(0)
    for x, y, z in random.integers(0, 180, (40, 3)):
        mask[x : x + 12, y : y + 12, z : z + 9] = True
    start = time.process_time()
    rows_of(label_lesions(mask, UNIT))
    assert time.process_time() - start < 4
