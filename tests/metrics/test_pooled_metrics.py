import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clinibundle.metrics.binary import Counts, binary_metrics, count_pixels
from clinibundle.metrics.pooled import count_where_empty, pool, summarise_groups, summarise_where_truth

NOTHING = Counts(tp=0, fp=0, fn=0, tn=100)
FALSE_FIND = Counts(tp=0, fp=10, fn=0, tn=90)
MISSED = Counts(tp=0, fp=0, fn=10, tn=90)
FOUND = Counts(tp=30, fp=10, fn=20, tn=40)
# Slices of two patients: one with a tumour in two slices, and one without.
SLICES, PATIENTS = [FOUND, MISSED, NOTHING, FALSE_FIND, NOTHING], ["a", "a", "a", "b", "b"]

masks = st.integers(0, 2**12 - 1).map(lambda code: np.array([code >> bit & 1 for bit in range(12)], bool).reshape(3, 4))


def test_pooled_ratios_are_those_found_by_hand():
    pooled = pool(SLICES, PATIENTS)
    # tp 30, fp 20, fn 30, tn 420
    assert {name: figure["value"] for name, figure in pooled.items()} == {
        "dice": 60 / 110,
        "iou": 30 / 80,
        "accuracy": 450 / 500,
        "sensitivity": 30 / 60,
        "specificity": 420 / 440,
        "ppv": 30 / 50,
        "npv": 420 / 450,
    }
    assert {figure["n"] for figure in pooled.values()} == {5}


def test_the_interval_of_a_pooled_ratio_is_over_draws_of_patients():
    pooled = pool(SLICES, PATIENTS)
    # aa has tp 60, fp 20, fn 60; bb has fp 20 alone; ab is the whole.
    assert pooled["dice"]["ci95"] == [0, pytest.approx(60 / 100)]
    # bb has nothing to find and so no sensitivity; aa and ab have the same.
    assert pooled["sensitivity"]["ci95"] == [0.5, 0.5]


def test_a_pooled_ratio_without_meaning_is_not_known_and_empty_masks_follow_the_rule():
    pooled = pool([NOTHING, NOTHING], ["a", "b"])
    assert pooled["dice"] == {"value": 1, "ci95": [1, 1], "n": 2}
    assert pooled["sensitivity"] == {"value": None, "ci95": [None, None], "n": 2}


def test_each_group_weighs_the_same_by_the_pixels_of_all_its_cases():
    by_group = summarise_groups(SLICES, PATIENTS)
    # a: 2 · 30 / (2 · 30 + 10 + 30); b: a false find alone.
    assert by_group["dice"]["mean"] == pytest.approx((60 / 100 + 0) / 2)
    assert by_group["dice"]["ci95"] == [0, pytest.approx(60 / 100)]
    assert by_group["dice"]["n"] == 2
    assert (by_group["sensitivity"]["mean"], by_group["sensitivity"]["n"]) == (0.5, 1)


def test_cases_with_something_to_find_are_averaged_alone_and_missed_ones_with_them():
    rows = [counts.ratios() for counts in SLICES]
    found = summarise_where_truth(rows, ["dice"], SLICES, PATIENTS)
    assert (found["dice"]["mean"], found["dice"]["n"]) == (pytest.approx((60 / 90 + 0) / 2), 2)
    assert summarise_where_truth(rows[3:], ["dice"], SLICES[3:], PATIENTS[3:])["dice"]["n"] == 0


def test_cases_without_anything_to_find_are_counted_with_those_in_which_nothing_was_found():
    found = count_where_empty(SLICES, PATIENTS)
    assert found == {"cases": 3, "nothing_found": 2, "share": pytest.approx(2 / 3), "ci95": [0.5, 1]}
    assert count_where_empty([FOUND], ["a"]) == {"cases": 0, "nothing_found": 0, "share": None, "ci95": [None, None]}


@given(masks, masks)
def test_ratios_of_counts_are_the_metrics_of_the_masks(prediction, truth):
    ratios = count_pixels(prediction, truth).ratios()
    metrics = binary_metrics(prediction, truth)
    del metrics["hd95_px"]
    assert ratios == metrics


@given(masks, masks, masks, masks)
def test_pooled_cases_are_one_large_picture(prediction, truth, second_prediction, second_truth):
    pooled = pool([count_pixels(prediction, truth), count_pixels(second_prediction, second_truth)], ["a", "b"], 0, 20)
    side_by_side = binary_metrics(np.hstack([prediction, second_prediction]), np.hstack([truth, second_truth]))
    assert {name: figure["value"] for name, figure in pooled.items()} == {
        name: value for name, value in side_by_side.items() if name != "hd95_px"
    }


def test_the_interval_of_a_pooled_ratio_is_that_of_scipy():
    random = np.random.default_rng(3)
    cases = random.integers(1, 200, size=(60, 4))
    patients = random.integers(20, size=60)
    sums = np.stack([np.bincount(patients, weights=column) for column in cases.T])[:3]
    expected = stats.bootstrap(
        tuple(sums[:, sums.any(axis=0)]),
        lambda tp, fp, fn, axis=-1: 2 * tp.sum(axis) / (2 * tp + fp + fn).sum(axis),
        paired=True,
        method="percentile",
        n_resamples=5000,
    ).confidence_interval
    pooled = pool([Counts(*case) for case in cases.tolist()], [f"{patient:02}" for patient in patients], resamples=5000)
    low, high = pooled["dice"]["ci95"]
    assert (low, high) == pytest.approx(tuple(expected), abs=0.05 * (high - low))


def test_the_order_of_cases_changes_nothing_and_every_number_is_plain():
    turned = pool(SLICES[::-1], PATIENTS[::-1])
    assert turned == pool(SLICES, PATIENTS)
    assert summarise_groups(SLICES[::-1], PATIENTS[::-1]) == summarise_groups(SLICES, PATIENTS)
    json.dumps([turned, count_where_empty(SLICES, PATIENTS)], allow_nan=False)
