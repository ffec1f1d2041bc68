import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clinibundle.metrics.summary import bootstrap_interval, summarise


def width(summary):
    low, high = summary["ci95"]
    return high - low


def test_mean_median_and_spread_are_those_found_by_hand():
    rows = [{"dice": value} for value in (0.5, 0.9, 0.7, 0.9)]

    summary = summarise(rows, ["dice"], list("abcd"))["dice"]

    assert list(summary) == ["mean", "std", "ci95", "median", "n"]
    assert summary["mean"] == pytest.approx(0.75)
    assert summary["median"] == pytest.approx(0.8)
    assert summary["std"] == pytest.approx(math.sqrt((0.0625 + 2 * 0.0225 + 0.0025) / 3))
    assert summary["n"] == 4
    assert 0.5 <= summary["ci95"][0] < 0.75 < summary["ci95"][1] <= 0.9


def test_cases_without_a_value_are_left_out_and_counted():
    rows = [{"ppv": 0.5, "hd95_mm": 2.0}, {"ppv": None}, {"ppv": 1.0}]

    summary = summarise(rows, ["ppv", "hd95_mm"], list("abc"))

    assert (summary["ppv"]["mean"], summary["ppv"]["n"]) == (0.75, 2)
    assert (summary["hd95_mm"]["mean"], summary["hd95_mm"]["n"]) == (2.0, 1)


@pytest.mark.parametrize("rows", [[], [{"ppv": None}, {}]], ids=["no cases", "no values"])
def test_a_metric_without_any_value_has_none_everywhere(rows):
    summary = summarise(rows, ["ppv"], ["a"] * len(rows))

    assert summary == {"ppv": {"mean": None, "std": None, "ci95": [None, None], "median": None, "n": 0}}


def test_a_single_case_has_no_spread():
    summary = summarise([{"dice": 0.8}], ["dice"], ["a"])["dice"]

    assert summary == {"mean": 0.8, "std": 0.0, "ci95": [0.8, 0.8], "median": 0.8, "n": 1}


def test_a_single_group_gives_an_interval_without_width():
    summary = summarise([{"dice": value} for value in (0.5, 0.7, 0.9)], ["dice"], ["a"] * 3)["dice"]

    assert summary["ci95"] == pytest.approx([0.7, 0.7])
    assert summary["std"] == pytest.approx(0.2)


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    values = np.random.default_rng(1).random(30)
    rows = [{"dice": value, "iou": value / 2} for value in values]
    groups = [f"patient-{i}" for i in range(30)]

    first = summarise(rows, ["dice"], groups, seed=5)

    assert summarise(rows, ["iou", "dice"], groups, seed=5)["dice"] == first["dice"]
    assert summarise(rows[::-1], ["dice"], groups[::-1], seed=5)["dice"]["ci95"] == pytest.approx(first["dice"]["ci95"])
    assert summarise(rows, ["dice"], groups, seed=6)["dice"]["ci95"] != first["dice"]["ci95"]


def test_alike_cases_of_one_patient_widen_the_interval():
    values = np.repeat(np.random.default_rng(2).random(20), 5)  # 20 patients, 5 identical films each
    rows = [{"dice": value} for value in values]

    alone = summarise(rows, ["dice"], [f"film-{i}" for i in range(100)])["dice"]
    grouped = summarise(rows, ["dice"], [f"patient-{i // 5}" for i in range(100)])["dice"]

    assert grouped["mean"] == alone["mean"]
    assert grouped["std"] == alone["std"]
    assert width(grouped) == pytest.approx(math.sqrt(5) * width(alone), rel=0.15)


def test_a_group_counts_by_its_cases_as_in_the_mean():
    values, groups = np.array([0.0, 1.0, 1.0, 1.0]), np.array(["a", "b", "b", "b"])

    # The draws are aa, ab, ba, bb with the means 0, 3/4, 3/4, 1: a mean over the means of groups would have 1/2.
    assert bootstrap_interval(values, groups) == (0.0, 1.0)
    assert bootstrap_interval(np.append(values, [1.0] * 396), np.append(groups, ["b"] * 396))[0] == 0.0


def test_only_groups_with_a_value_are_drawn():
    rows = [{"ppv": 0.25}, {"ppv": 0.75}, *[{"ppv": None}] * 50]
    groups = [f"patient-{i}" for i in range(52)]

    assert summarise(rows, ["ppv"], groups) == summarise(rows[:2], ["ppv"], groups[:2])


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_that_of_scipy(seed):
    random = np.random.default_rng(seed)
    values, patients = random.beta(8, 2, size=120), random.integers(40, size=120)
    sums, sizes = np.bincount(patients, weights=values), np.bincount(patients)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]

    expected = stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis=-1: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
    ).confidence_interval
    low, high = bootstrap_interval(values, patients.astype(str), resamples=20_000)

    assert (low, high) == pytest.approx(tuple(expected), abs=0.05 * (high - low))


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    random = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        patients = np.repeat(random.normal(size=40), 3)  # three films a patient
        low, high = bootstrap_interval(
            patients + random.normal(scale=0.2, size=120), np.repeat(np.arange(40).astype(str), 3), resamples=500
        )
        covered += low <= 0 <= high

    assert 0.90 <= covered / 300 <= 0.98


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.none() | st.floats(0, 1e4), st.sampled_from("abcde")), max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_every_number_is_plain_and_finite_and_within_the_values(cases, seed):
    rows, groups = [{"hd95_px": value} for value, _ in cases], [group for _, group in cases]

    summary = summarise(rows, ["hd95_px"], groups, seed=seed, resamples=50)["hd95_px"]

    json.dumps(summary, allow_nan=False)
    values = [value for value, _ in cases if value is not None]
    assert summary["n"] == len(values)
    if values:
        low, high = summary["ci95"]
        rounding = 1e-9 * max(values)
        assert min(values) - rounding <= low <= high <= max(values) + rounding
        assert min(values) - rounding <= summary["mean"] <= max(values) + rounding


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused_rather_than_averaged(value):
    with pytest.raises(ValueError, match="NaN or infinite"):
        summarise([{"dice": 0.5}, {"dice": value}], ["dice"], ["a", "b"])


def test_every_row_needs_its_group():
    with pytest.raises(ValueError, match="zip"):
        summarise([{"dice": 0.5}], ["dice"], ["a", "b"])
