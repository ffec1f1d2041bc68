import json
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou
from monai.metrics.confusion_matrix import compute_confusion_matrix_metric, get_confusion_matrix
from skimage.draw import ellipse
from skimage.metrics import hausdorff_distance
from skimage.segmentation import find_boundaries

from clinibundle.errors import DataFolderError
from clinibundle.metrics.binary import binary_metrics, hausdorff_95, is_missed

NAMES = ["dice", "iou", "hd95_px", "accuracy", "sensitivity", "specificity", "ppv", "npv"]
MONAI_NAMES = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "precision",
    "npv": "negative predictive value",
}


@st.composite
def mask_pairs(draw, empty=True):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9))
    prediction, truth = draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))
    assume(empty or (prediction.any() and truth.any()))
    return prediction, truth


def spacings(mask):
    """Exact in binary, so that scaling a distance rounds nothing."""
    return st.lists(st.integers(1, 40).map(lambda k: k / 8), min_size=mask.ndim, max_size=mask.ndim)


def blobs(shape, seed):
    """Two overlapping smooth objects with specks, as a network leaves them."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))

    def blob():
        centre = random.uniform(-0.4, 0.4, len(shape)).reshape(-1, *[1] * len(shape))
        radii = random.uniform(0.3, 0.9, len(shape)).reshape(centre.shape)
        return (((grid - centre) / radii) ** 2).sum(axis=0) < 1

    return blob() ^ (random.random(shape) < 0.002), blob()


def one_hot(mask):
    """(batch, channel, ...) with one foreground channel, as MONAI has it."""
    return torch.from_numpy(mask[None, None].astype(np.float32))


def monai_hd95(prediction, truth, spacing=None):
    return compute_hausdorff_distance(
        one_hot(prediction), one_hot(truth), include_background=True, percentile=95, spacing=spacing
    ).item()


def lungs(size, shift=0):
    picture = np.zeros((size, size), bool)
    for centre in (0.28, 0.72):
        picture[ellipse(0.5 * size + shift, centre * size + shift, 0.36 * size, 0.17 * size, shape=picture.shape)] = (
            True
        )
    return picture


def test_a_tiny_case_has_the_values_found_by_hand():
    truth = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    prediction = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]], bool)  # tp 2, fp 4, fn 2, tn 4

    metrics = binary_metrics(prediction, truth)

    assert list(metrics) == NAMES
    # To the truth: 0 0 1 1 1 √2, to the prediction: 0 0 1 1; ranks 4.75 of 0..5 and 2.85 of 0..3.
    assert metrics == pytest.approx(
        {
            "dice": 4 / 10,
            "iou": 2 / 8,
            "hd95_px": 1 + 0.75 * (math.sqrt(2) - 1),
            "accuracy": 6 / 12,
            "sensitivity": 2 / 4,
            "specificity": 4 / 8,
            "ppv": 2 / 6,
            "npv": 4 / 6,
        }
    )


def test_a_known_spacing_puts_the_distance_in_millimetres_along_each_axis():
    prediction, truth = np.zeros((2, 9, 9), bool)
    prediction[1, 2], truth[4, 6] = True, True  # 3 rows and 4 columns apart

    assert binary_metrics(prediction, truth)["hd95_px"] == 5
    metrics = binary_metrics(prediction, truth, spacing_mm=(2.0, 0.5))
    assert list(metrics) == [name.replace("_px", "_mm") for name in NAMES]
    assert metrics["hd95_mm"] == pytest.approx(math.hypot(3 * 2.0, 4 * 0.5))


def test_the_edge_of_the_picture_belongs_to_the_surface():
    truth = np.ones((21, 21), bool)
    prediction = np.zeros((21, 21), bool)
    prediction[10, 10] = True  # 10 from the nearest edge pixels, 10 √2 from the corners

    assert binary_metrics(prediction, truth)["hd95_px"] > 10


def test_both_empty_is_full_agreement():
    empty = np.zeros((3, 4), bool)

    assert list(binary_metrics(empty, empty).values()) == [1, 1, 0, 1, None, 1, None, 1]
    assert not is_missed(empty, empty)


@pytest.mark.parametrize(("spacing", "key", "diagonal"), [(None, "hd95_px", 5), ((2.0, 3.0), "hd95_mm", 6 * 5**0.5)])
def test_a_missed_case_has_the_worst_finite_values(spacing, key, diagonal):
    empty, truth = np.zeros((2, 3, 4), bool)
    truth[1, 1] = True

    metrics = binary_metrics(empty, truth, spacing)

    assert (metrics["dice"], metrics["iou"]) == (0, 0)
    assert metrics[key] == pytest.approx(diagonal if spacing is None else math.hypot(6, 12))
    assert (metrics["sensitivity"], metrics["ppv"], metrics["specificity"]) == (0, None, 1)
    assert is_missed(empty, truth)


def test_a_purely_false_finding_is_as_bad_as_a_missed_one_but_not_missed():
    prediction, empty = np.zeros((2, 3, 4), bool)
    prediction[1, 1] = True

    metrics = binary_metrics(prediction, empty)

    assert (metrics["dice"], metrics["iou"], metrics["hd95_px"]) == (0, 0, 5)
    assert (metrics["sensitivity"], metrics["ppv"], metrics["npv"]) == (None, 0, 1)
    assert not is_missed(prediction, empty)


def test_nothing_but_foreground_leaves_specificity_and_npv_open():
    full = np.ones((3, 4), bool)

    assert list(binary_metrics(full, full).values()) == [1, 1, 0, 1, 1, None, 1, None]


@given(mask_pairs(empty=False), st.data())
def test_no_distance_in_the_picture_is_worse_than_that_of_a_missed_case(masks, data):
    spacing = data.draw(spacings(masks[0]))

    worst = binary_metrics(np.zeros_like(masks[0]), masks[1], spacing)["hd95_mm"]
    assert binary_metrics(*masks, spacing)["hd95_mm"] < worst


@given(mask_pairs())
def test_every_value_is_finite_or_none_and_a_plain_number(masks):
    metrics = binary_metrics(*masks)

    assert all(value is None or (type(value) is float and math.isfinite(value)) for value in metrics.values())
    assert all(0 <= value <= 1 for name, value in metrics.items() if name != "hd95_px" and value is not None)
    json.dumps(metrics, allow_nan=False)


@given(mask_pairs())
def test_dice_iou_accuracy_and_distance_are_symmetric_and_the_ratios_swap(masks):
    there, back = binary_metrics(*masks), binary_metrics(*masks[::-1])

    for name in ("dice", "iou", "hd95_px", "accuracy"):
        assert there[name] == back[name]
    assert there["sensitivity"] == back["ppv"]
    assert there["specificity"] == back["npv"]


@given(mask_pairs())
def test_dice_follows_from_iou(masks):
    metrics = binary_metrics(*masks)

    assert metrics["dice"] == pytest.approx(2 * metrics["iou"] / (1 + metrics["iou"]))


@given(mask_pairs(), st.data())
def test_twice_the_spacing_is_twice_the_distance_and_nothing_else(masks, data):
    spacing = data.draw(spacings(masks[0]))

    once, twice = binary_metrics(*masks, spacing), binary_metrics(*masks, [2 * step for step in spacing])

    assert twice.pop("hd95_mm") == pytest.approx(2 * once.pop("hd95_mm"))
    assert once == twice


@given(mask_pairs(empty=False), st.integers(1, 5))
def test_an_empty_margin_around_the_picture_leaves_the_distance_as_it_is(masks, margin):
    padded = [np.pad(mask, margin) for mask in masks]

    assert binary_metrics(*padded)["hd95_px"] == binary_metrics(*masks)["hd95_px"]


@settings(max_examples=50, deadline=None)
@given(mask_pairs(empty=False), st.data())
def test_distances_of_any_masks_are_those_of_monai(masks, data):
    spacing = data.draw(spacings(masks[0]))

    assert binary_metrics(*masks)["hd95_px"] == pytest.approx(monai_hd95(*masks), rel=1e-5, abs=1e-5)
    assert binary_metrics(*masks, spacing)["hd95_mm"] == pytest.approx(monai_hd95(*masks, spacing), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((96, 128), (0.14, 0.2)), ((40, 33, 21), (0.7, 0.8, 2.5))], ids=["film", "scan"]
)
@pytest.mark.parametrize("seed", range(3))
def test_all_metrics_of_realistic_masks_are_those_of_monai(shape, spacing, seed):
    prediction, truth = blobs(shape, seed)
    confusion = get_confusion_matrix(one_hot(prediction), one_hot(truth), include_background=True)
    expected = {name: compute_confusion_matrix_metric(theirs, confusion).item() for name, theirs in MONAI_NAMES.items()}
    expected["dice"] = compute_dice(one_hot(prediction), one_hot(truth)).item()
    expected["iou"] = compute_iou(one_hot(prediction), one_hot(truth)).item()
    expected["hd95_mm"] = monai_hd95(prediction, truth, spacing)

    assert binary_metrics(prediction, truth, spacing) == pytest.approx(expected, rel=1e-5)
    assert binary_metrics(prediction, truth)["hd95_px"] == pytest.approx(monai_hd95(prediction, truth), rel=1e-5)


@settings(deadline=None)
@given(mask_pairs(empty=False))
def test_the_distance_stays_below_the_full_hausdorff_distance_of_scikit_image(masks):
    surfaces = [find_boundaries(np.pad(mask, 1), connectivity=1, mode="inner") for mask in masks]

    assert binary_metrics(*masks)["hd95_px"] <= hausdorff_distance(*surfaces) + 1e-9


def test_a_shifted_square_has_the_full_hausdorff_distance_of_scikit_image():
    truth = np.zeros((40, 40), bool)
    truth[5:15, 5:15] = True
    prediction = np.roll(truth, 20, axis=1)  # the far edge alone, a quarter of the surface, is 20 away

    assert (
        binary_metrics(prediction, truth)["hd95_px"] == hausdorff_distance(prediction, truth, method="standard") == 20
    )


def test_masks_of_two_shapes_are_refused_with_both_named():
    with pytest.raises(DataFolderError, match=r"\(3, 4\).*\(4, 3\)"):
        binary_metrics(np.zeros((3, 4), bool), np.zeros((4, 3), bool))


def test_label_maps_and_probabilities_are_refused():
    with pytest.raises(TypeError, match="boolean, not float64"):
        binary_metrics(np.full((3, 4), 0.2), np.zeros((3, 4), bool))


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0), (0.0, 1.0), (1.0, math.nan)])
def test_a_spacing_that_cannot_be_is_refused(spacing):
    with pytest.raises(ValueError, match="each of the 2 axes"):
        binary_metrics(np.zeros((3, 4), bool), np.zeros((3, 4), bool), spacing)


def test_the_arguments_stay_as_they_were():
    prediction, truth = blobs((30, 30), seed=0)
    copies = prediction.copy(), truth.copy()

    binary_metrics(prediction, truth)

    assert np.array_equal(prediction, copies[0])
    assert np.array_equal(truth, copies[1])


def test_any_memory_order_gives_the_same_distance():
    prediction, truth = blobs((30, 20, 10), seed=1)
    turned = [np.asfortranarray(mask)[::-1] for mask in (prediction, truth)]

    assert hausdorff_95(*turned, (1.0, 1.0, 3.0)) == pytest.approx(hausdorff_95(prediction, truth, (1.0, 1.0, 3.0)))


def test_a_large_film_takes_less_than_a_second_and_a_half():
    prediction, truth = lungs(2048, shift=12), lungs(2048)

    seconds = []
    for _ in range(3):  # the best of three: what the code takes, not what else the machine does
        start = time.process_time()
        binary_metrics(prediction, truth)
        seconds.append(time.process_time() - start)

    assert min(seconds) < 1.5
