from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from monai.transforms import Compose, RandFlipd, RandSpatialCropd
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.segmentation import find_boundaries

from clinibundle.errors import BundleError
from clinibundle.transforms.weight_map import (
    WeightMapd,
    class_balance,
    part_touching_cells,
    separation,
    weight_map,
)


def brute_force(cells, w0=10.0, sigma=5.0):
    """The second term of equation 2, outside cells, by one distance transform for each cell."""
    first, second = np.full(cells.shape, np.inf), np.full(cells.shape, np.inf)
    for number in np.unique(cells[cells > 0]):
        distance = ndimage.distance_transform_edt(cells != number)
        first, second = np.minimum(first, distance), np.minimum(second, np.maximum(first, distance))
    return np.where(cells == 0, w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2)), 0.0)


def tissue(size=512, number=136, seed=0):
    """Cells side by side with membranes between, numbered from 1."""
    seeds = np.random.default_rng(seed).uniform(0, size, (number, 2))
    _, nearest = KDTree(seeds).query(np.stack(np.indices((size, size)), -1))
    regions = 1 + nearest
    return np.where(ndimage.binary_dilation(find_boundaries(regions), iterations=2), 0, regions)


@given(
    cells=hnp.arrays(
        st.sampled_from([np.uint8, np.int32, np.float32]),
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=14),
        elements=st.sampled_from([0, 0, 0, 1, 2, 3, 7, 200]),
    ),
    sigma=st.sampled_from([0.3, 1.0, 2.5, 5.0]),
    w0=st.sampled_from([1.0, 10.0]),
)
def test_any_cells_get_the_weights_of_one_distance_transform_per_cell(cells, sigma, w0):
    found = weight_map(cells, w0, sigma, class_weights=(0.5, 2.0), instances=True)
    expected = brute_force(cells, w0, sigma) + np.where(cells > 0, 2.0, 0.5)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6


def test_a_picture_of_136_cells_gets_the_weights_of_the_brute_force_in_a_small_part_of_its_time():
    cells = tissue()
    assert len(np.unique(cells)) == 137
    start = time.process_time()
    expected = brute_force(cells)
    between = time.process_time()
    found = separation(cells)
    end = time.process_time()
    assert np.abs(found - expected).max() < 1e-6
    # About a hundredth; what else runs on the machine counts for both.
    assert end - between < (between - start) / 15


@pytest.mark.parametrize(("sigma", "factor"), [(5.0, 1), (5.0, 2**16), (40.0, 1), (40.0, 2**16), (0.1, 1)])
def test_wide_sigmas_and_large_numbers_are_exact_too(sigma, factor):
    cells = factor * tissue(size=90, number=9)
    assert np.abs(separation(cells, sigma=sigma) - brute_force(cells, sigma=sigma)).max() < 1e-6


def test_weights_in_gaps_are_those_worked_out_by_hand():
    cells = np.zeros((3, 9), np.int64)
    cells[:, :2], cells[:, 3:5], cells[:, 8] = 1, 2, 3
    weights = separation(cells)[1]
    # One pixel between cells 1 and 2; three between 2 and 3, which are 1 + 3, 2 + 2 and 3 + 1 away from them.
    assert weights[2] == pytest.approx(10 * math.exp(-(2**2) / 50))
    assert weights[5:8].tolist() == pytest.approx([10 * math.exp(-(4**2) / 50)] * 3)
    assert weights[[0, 1, 3, 4, 8]].tolist() == [0] * 5


@pytest.mark.parametrize("cells", [np.zeros((6, 7), np.int64), np.eye(6, dtype=np.int64), np.full((4, 4), 3)])
def test_without_two_cells_there_is_nothing_to_separate(cells):
    assert not separation(cells).any()


def test_classes_that_are_there_weigh_the_same_in_sum_and_a_pixel_one_on_average():
    inside = np.zeros((10, 10), bool)
    inside[:2, :5] = True
    balanced = class_balance(inside)
    assert balanced[inside].sum() == pytest.approx(balanced[~inside].sum())
    assert balanced.mean() == pytest.approx(1)
    assert (class_balance(np.ones((3, 3), bool)) == 1).all() and (class_balance(np.zeros((3, 3), bool)) == 1).all()


def test_given_class_weights_are_those_of_background_and_cells():
    assert class_balance(np.array([[False, True]]), (0.25, 3)).tolist() == [[0.25, 3]]


@pytest.mark.parametrize("value", [True, 1, 255])
def test_a_diagonal_gap_of_one_pixel_parts_the_cells_of_a_binary_mask(value):
    mask = np.where(np.eye(9, dtype=bool), 0, value).astype(bool if value is True else np.uint8)
    numbered = np.triu(np.full((9, 9), 1), 1) + np.tril(np.full((9, 9), 2), -1)
    assert np.array_equal(weight_map(mask), weight_map(numbered))
    assert weight_map(mask)[4, 4] > 9


def test_a_mask_of_one_value_is_binary_unless_said_otherwise():
    pieces = np.array([[5, 5, 0, 5, 5]])
    assert weight_map(pieces, class_weights=(1, 1))[0, 2] > 10
    assert weight_map(pieces, class_weights=(1, 1), instances=True)[0, 2] == 1


@given(hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 3)))
def test_no_parted_cells_touch_and_only_touching_pixels_are_taken(cells):
    parted = part_touching_cells(cells)
    for array in (parted, parted.T):
        assert not ((array[:-1] != array[1:]) & (array[:-1] > 0) & (array[1:] > 0)).any()
    padded = np.pad(cells, 1)
    middle = padded[1:-1, 1:-1]
    neighbours = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    touches = np.any([(each != middle) & (each > 0) for each in neighbours], axis=0) & (middle > 0)
    assert np.array_equal(parted, np.where(touches, 0, cells))


def test_the_transform_appends_the_map_to_a_label_of_classes_and_leaves_other_keys():
    mask = tissue(60, 6) > 0
    label = MetaTensor(torch.from_numpy(mask[None].astype(np.uint8)))
    row = WeightMapd("label")({"label": label, "image": "kept"})
    assert row["label"].shape == (2, 60, 60) and row["label"].dtype == torch.float32
    assert not isinstance(row["label"], MetaTensor) and row["image"] == "kept" and label.shape == (1, 60, 60)
    assert np.array_equal(row["label"][0].numpy(), mask)
    assert np.array_equal(row["label"][1].numpy(), weight_map(mask))


def test_a_label_that_marks_membranes_has_its_cells_in_class_0():
    membranes = (tissue(60, 6) == 0).astype(np.float32)
    weighted = WeightMapd("label", cell_class=0)({"label": membranes[None]})["label"].numpy()
    assert np.array_equal(weighted[0], membranes)
    assert np.array_equal(weighted[1], weight_map(membranes == 0))


def test_specks_are_no_cells_to_be_kept_apart():
    label = np.zeros((40, 40), np.uint8)
    label[5:35, 2:18] = label[5:35, 22:38] = 1
    clean = label.copy()
    label[1:3, 19:21] = label[20, 20] = 1
    weighed = [
        WeightMapd("label", class_weights=[1, 1], min_cell_px=size)({"label": torch.from_numpy(each)[None]})["label"]
        for each, size in ((label, 5), (clean, 0), (label, 0))
    ]
    # What it costs to get a pixel wrong is as without the specks, but on the specks themselves.
    same = label == clean
    assert torch.equal(weighed[0][1][same], weighed[1][1][same]) and not torch.equal(
        weighed[2][1][same], weighed[1][1][same]
    )
    assert torch.equal(weighed[0][0], torch.from_numpy(label).float()) and (weighed[0][1][label > 0] == 1).all()


def test_instance_numbers_become_a_class_and_touching_cells_get_a_gap():
    cells = np.zeros((20, 20), np.uint16)
    cells[4:16, 3:10], cells[4:16, 10:17] = 8, 300
    weighted = WeightMapd("label", class_weights=(0.5, 1), instances=True)({"label": cells[None]})["label"].numpy()
    assert set(np.unique(weighted[0])) == {0, 1}
    assert not weighted[0, 4:16, 9:11].any() and weighted[0, 4:16, 3:9].all() and weighted[0, 4:16, 11:17].all()
    # The gap is two pixels wide: 1 + 2.
    assert weighted[1, 10, 9] == pytest.approx(0.5 + 10 * math.exp(-(3**2) / 50))


def test_after_a_crop_the_weights_are_the_same_but_near_the_border():
    mask, reach = tissue(160, 14) > 0, 30
    weights = (0.5, 1.5)
    whole = WeightMapd("label", class_weights=weights)({"label": mask[None]})["label"]
    crop = WeightMapd("label", class_weights=weights)({"label": mask[None, 20:140, 10:150]})["label"]
    inner = (slice(None), slice(reach, -reach), slice(reach, -reach))
    # A cell that the crop cuts in two would be two cells; here none is.
    assert torch.allclose(crop[inner], whole[:, 20:140, 10:150][inner], atol=1e-6)


def test_monais_crops_and_flips_take_class_and_weight_along():
    mask = tissue(64, 6) > 0
    picture = torch.from_numpy(mask[None].astype(np.float32))
    steps = Compose(
        [
            WeightMapd("label"),
            RandSpatialCropd(["image", "label"], (40, 24), random_size=False),
            RandFlipd(["image", "label"], prob=1.0, spatial_axis=0),
        ]
    ).set_random_state(3)
    row = steps({"image": picture, "label": picture})
    assert row["label"].shape == (2, 40, 24)
    assert torch.equal(row["image"][0], row["label"][0])
    in_cells = row["label"][1][row["label"][0] > 0]
    assert in_cells.unique().numel() == 1 and row["label"][1].max() > in_cells.max()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"class_weights": [1, 2, 3]}, "class_weights are two"),
        ({"instances": True, "cell_class": 0}, "has no cell_class"),
        ({"sigma": 0}, "sigma must be a number of pixels above 0, found 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(BundleError, match=said):
        WeightMapd("label", **settings)({"label": torch.ones(1, 4, 4)})


def test_a_label_of_two_channels_is_refused():
    with pytest.raises(BundleError, match="'label' has 2 channels"):
        WeightMapd("label")({"label": torch.zeros(2, 4, 4)})
