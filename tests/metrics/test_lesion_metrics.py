import itertools
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.metrics import compute_froc_curve_data, compute_froc_score
from scipy import ndimage

from clinibundle.errors import DataFolderError
from clinibundle.metrics.froc import FROC_RATES, froc, froc_score, sensitivity_at
from clinibundle.metrics.lesions import (
    Hit,
    HitRule,
    LesionMatch,
    lesion_metrics,
    match_lesions,
    match_over_confidences,
    summarise_finds,
)

ANY = HitRule("any")
HALF_DICE = HitRule("dice", 0.5)


def line(text):
    """A label map (x, 1, 1) drawn as a text: digits are lesions."""
    return np.array([int(voxel) if voxel.isdigit() else 0 for voxel in text]).reshape(-1, 1, 1)


@st.composite
def scans(draw, most=5):
    shape = draw(array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4))
    numbers = st.integers(0, most)
    return draw(arrays(np.uint16, shape, elements=numbers)), draw(arrays(np.uint16, shape, elements=numbers))


RULES = st.builds(HitRule, st.sampled_from(["iou", "dice"]), st.sampled_from([0.1, 0.25, 0.5, 0.9])) | st.just(ANY)


def overlap(predicted, truth, p, t, rule):
    """By sets of voxels; 0 if it is no hit."""
    ours, theirs = ({tuple(v) for v in np.argwhere(labels == n)} for labels, n in ((predicted, p), (truth, t)))
    both = len(ours & theirs)
    value = 2 * both / (len(ours) + len(theirs)) if rule.overlap == "dice" else both / len(ours | theirs)
    return value if both and value >= (rule.threshold or 0) else 0.0


def best_by_trying_all(predicted, truth, rule):
    """The most hits, and the largest sum of overlaps with so many, of all ways to give true lesions a predicted one."""
    ours, theirs = (sorted(set(labels.ravel().tolist()) - {0}) for labels in (predicted, truth))
    overlaps = {(p, t): overlap(predicted, truth, p, t, rule) for p in ours for t in theirs}
    best = (0, 0.0)
    for given_to in itertools.permutations([*ours, *[None] * len(theirs)], len(theirs)):
        values = [overlaps[p, t] for p, t in zip(given_to, theirs, strict=True) if p is not None]
        hits = [value for value in values if value]
        best = max(best, (len(hits), sum(hits)))
    return best


def found(hits=0, missed=0, false_finds=0):
    """A match with so many of each."""
    pairs = tuple(Hit(n, n, 1.0, 1.0) for n in range(1, hits + 1))
    missed = tuple(range(hits + 1, hits + missed + 1))
    return LesionMatch(pairs, missed, tuple(range(hits + 1, hits + false_finds + 1)))


def test_a_tiny_scan_has_the_values_found_by_hand():
    truth = line("1111..22..3.")
    predicted = line(".111..2.5.4.")

    assert match_lesions(predicted, truth, HALF_DICE) == LesionMatch(
        (Hit(1, 1, iou=3 / 4, dice=6 / 7), Hit(2, 2, iou=1 / 2, dice=2 / 3), Hit(4, 3, iou=1.0, dice=1.0)), (), (5,)
    )
    assert lesion_metrics(predicted, truth, voxel_ml=0.5, rule=HitRule("iou", 0.6)) == {
        "true_lesions": 3,
        "predicted_lesions": 4,
        "found_lesions": 2,
        "missed_lesions": 1,
        "false_finds": 2,
        "lesion_sensitivity": 2 / 3,
        "lesion_ppv": 2 / 4,
        "volume_error_ml": -0.5,
        "absolute_volume_error_ml": 0.5,
        "relative_volume_error": -1 / 7,
    }


@pytest.mark.parametrize(
    ("rule", "is_hit"),
    [
        (HitRule("iou", 0.5), True),
        (HitRule("iou", 0.51), False),
        (HitRule("dice", 2 / 3), True),
        (HitRule("dice", 0.67), False),
        (ANY, True),
    ],
    ids=str,
)
def test_an_overlap_of_just_the_threshold_is_a_hit(rule, is_hit):
    assert bool(match_lesions(line("11."), line(".1."), rule).hits) is is_hit


def test_touching_without_a_common_voxel_is_no_overlap():
    assert match_lesions(line("11.."), line("..11"), ANY) == LesionMatch((), (1,), (1,))


def test_a_find_that_covers_two_lesions_has_found_one():
    match = match_lesions(line("111111"), line("11.222"), ANY)
    assert [(hit.predicted, hit.true) for hit in match.hits] == [(1, 2)]
    assert (match.missed, match.false_finds) == ((1,), ())


def test_of_two_finds_on_one_lesion_the_second_is_false():
    match = match_lesions(line("1..222"), line("111111"), ANY)
    assert [(hit.predicted, hit.true) for hit in match.hits] == [(2, 1)]
    assert (match.missed, match.false_finds) == ((), (1,))


def test_a_hit_that_greedy_matching_would_miss_is_found():
    # 1 overlaps 1 best, yet 2 has no other find: 1 - 2 and 2 - 1 are two hits.
    match = match_lesions(line("2211111"), line("1111.22"), ANY)
    assert [(hit.predicted, hit.true) for hit in match.hits] == [(1, 2), (2, 1)]


@settings(max_examples=150)
@given(scans(most=4), RULES)
def test_no_other_matching_has_more_hits_or_as_many_that_overlap_better(scan, rule):
    match = match_lesions(*scan, rule)
    values = [hit.dice if rule.overlap == "dice" else hit.iou for hit in match.hits]
    hits, total = best_by_trying_all(*scan, rule)
    assert len(match.hits) == hits
    assert sum(values) == pytest.approx(total)
    assert all(overlap(*scan, hit.predicted, hit.true, rule) for hit in match.hits)


@given(scans(), RULES)
def test_every_lesion_is_in_one_place_and_the_sides_can_be_swapped(scan, rule):
    match = match_lesions(*scan, rule)
    predicted, true = (set(labels.ravel().tolist()) - {0} for labels in scan)
    assert sorted([*(hit.predicted for hit in match.hits), *match.false_finds]) == sorted(predicted)
    assert sorted([*(hit.true for hit in match.hits), *match.missed]) == sorted(true)
    assert len(match_lesions(*scan[::-1], rule).hits) == len(match.hits)


@given(scans(), RULES)
def test_lesions_that_are_all_found_exactly_are_all_hits(scan, rule):
    match = match_lesions(scan[0], scan[0] * 3, rule)
    assert not match.missed and not match.false_finds
    assert all((hit.iou, hit.dice, hit.true) == (1, 1, 3 * hit.predicted) for hit in match.hits)


@pytest.mark.parametrize(
    ("predicted", "truth", "sensitivity", "ppv", "false_finds", "relative"),
    [
        ("....", "....", None, None, 0, None),
        ("1.2.", "....", None, 0, 2, None),
        ("....", "11.2", 0, None, 0, -1),
    ],
    ids=["nothing there", "false finds alone", "nothing found"],
)
def test_scans_without_lesions_follow_the_rule(predicted, truth, sensitivity, ppv, false_finds, relative):
    metrics = lesion_metrics(line(predicted), line(truth), 1.0, HALF_DICE)
    assert (metrics["lesion_sensitivity"], metrics["lesion_ppv"]) == (sensitivity, ppv)
    assert (metrics["false_finds"], metrics["relative_volume_error"]) == (false_finds, relative)


@given(scans(), RULES, st.floats(1e-4, 1))
def test_every_value_is_finite_or_none_and_the_counts_add_up(scan, rule, voxel_ml):
    metrics = lesion_metrics(*scan, voxel_ml, rule)
    json.dumps(metrics, allow_nan=False)
    assert metrics["found_lesions"] + metrics["missed_lesions"] == metrics["true_lesions"]
    assert metrics["found_lesions"] + metrics["false_finds"] == metrics["predicted_lesions"]
    error = ((scan[0] > 0).sum() - float((scan[1] > 0).sum())) * voxel_ml
    assert metrics["volume_error_ml"] == pytest.approx(error)
    assert metrics["absolute_volume_error_ml"] == abs(metrics["volume_error_ml"])


@given(scans(), RULES, st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_a_threshold_of_confidence_keeps_the_lesions_that_are_sure_enough(scan, rule, confidence):
    predicted, truth = scan
    thresholds = [0.0, 0.2, 0.5, 0.8, 1.0]
    matches = match_over_confidences(predicted, truth, dict(enumerate(confidence)), thresholds, rule)
    for threshold, match in zip(thresholds, matches, strict=True):
        kept = np.array(confidence)[predicted] >= threshold
        assert match == match_lesions(np.where(kept, predicted, 0), truth, rule)
    hits = [len(match.hits) for match in matches]
    assert hits == sorted(hits, reverse=True)


def test_over_many_scans_sensitivity_is_that_of_all_lesions_and_false_finds_that_of_all_scans():
    matches = [found(hits=3, missed=1), found(hits=1, false_finds=5), found(), found(missed=3, false_finds=1)]
    summary = summarise_finds(matches, ["a", "a", "b", "c"])
    assert summary["lesion_sensitivity"]["mean"] == 4 / 8
    assert summary["lesion_sensitivity"]["n"] == 8
    assert summary["false_finds_per_scan"]["mean"] == 6 / 4
    assert summary["false_finds_per_scan"]["n"] == 4


def test_the_interval_draws_patients_and_not_lesions():
    all_of_one_patient = summarise_finds([found(hits=5), found(missed=5)], ["a", "a"])["lesion_sensitivity"]
    assert all_of_one_patient["ci95"] == [0.5, 0.5]
    of_two = summarise_finds([found(hits=5), found(missed=5)], ["a", "b"])["lesion_sensitivity"]
    assert of_two["ci95"] == [0.0, 1.0]


def test_scans_without_any_lesion_have_false_finds_and_no_sensitivity():
    summary = summarise_finds([found(false_finds=2), found()], ["a", "b"])
    assert (summary["lesion_sensitivity"]["mean"], summary["lesion_sensitivity"]["n"]) == (None, 0)
    assert summary["false_finds_per_scan"]["mean"] == 1


def detections(seed, scans_=12):
    """Label maps of finds that each cover one lesion exactly or none, with their confidences."""
    random = np.random.default_rng(seed)
    for _ in range(scans_):
        truth, predicted, confidence = np.zeros((40, 1, 1), int), np.zeros((40, 1, 1), int), {}
        for number, place in enumerate(range(0, 40, 4), start=1):
            is_lesion, is_find = random.random() < 0.4, random.random() < 0.7
            truth[place : place + 3] = number * is_lesion
            predicted[place : place + 3] = number * is_find
            if is_find:
                confidence[number] = float(np.round(random.beta(4, 2) if is_lesion else random.beta(2, 4), 3))
        yield predicted, truth, confidence


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_that_of_monai(seed):
    cases = list(detections(seed))
    lesions = sum(len(np.unique(truth[truth > 0])) for _, truth, _ in cases)
    true_finds, false_finds = [], []
    for predicted, truth, confidence in cases:
        for number, value in confidence.items():
            (true_finds if truth[predicted == number].any() else false_finds).append(value)
    rates, sensitivities = compute_froc_curve_data(np.array(false_finds), np.array(true_finds), lesions, len(cases))

    # MONAI has a point for every confidence but the least, in rising order, and one where nothing is sure enough.
    thresholds = [*sorted({*true_finds, *false_finds})[1:], 2.0]
    matches = [match_over_confidences(*case, thresholds, HALF_DICE) for case in cases]
    points = froc(thresholds, matches, [str(case) for case in range(len(cases))], resamples=10)
    assert [point.lesion_sensitivity["mean"] for point in points] == pytest.approx(sensitivities.tolist())
    assert [point.false_finds_per_scan["mean"] for point in points] == pytest.approx(rates.tolist())
    # Theirs runs straight from point to point, ours counts what a point reaches; steps are below the line.
    theirs = compute_froc_score(rates, sensitivities, FROC_RATES)
    assert theirs - 0.1 < froc_score(points) <= theirs + 1e-9


def test_a_threshold_of_the_probability_outlines_anew():
    truth = line("11111.22222")
    probability = np.array([9, 9, 9, 9, 9, 3, 6, 6, 6, 6, 6]).reshape(-1, 1, 1) / 10
    thresholds = [0.2, 0.5, 0.8]
    matches = [match_lesions(ndimage.label(probability >= t)[0], truth, HALF_DICE) for t in thresholds]
    points = froc(thresholds, [matches], ["a"])
    # Together they are one find, which covers one of the lesions by half; then two; then one alone.
    assert [point.lesion_sensitivity["mean"] for point in points] == [0.5, 1.0, 0.5]
    assert sensitivity_at(points, 0) == 1.0


def test_the_sensitivity_at_a_rate_is_the_best_that_a_point_reaches_with_so_few_false_finds():
    thresholds, groups = [0.9, 0.5, 0.1], ["a", "b"]
    matches = [
        [found(hits=1, missed=3), found(hits=2, missed=2, false_finds=1), found(hits=3, missed=1, false_finds=4)],
        [found(), found(false_finds=1), found(false_finds=4)],
    ]
    points = froc(thresholds, matches, groups)
    assert [point.threshold for point in points] == thresholds
    assert [sensitivity_at(points, rate) for rate in (0, 0.99, 1, 3.9, 4, 100)] == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert froc_score(points, rates=(0.5, 1, 8)) == pytest.approx((0.25 + 0.5 + 0.75) / 3)
    assert sensitivity_at(points[2:], 1) == 0.0


def test_without_a_true_lesion_there_is_no_score():
    points = froc([0.5], [[found(false_finds=1)]], ["a"])
    assert sensitivity_at(points, 1) is None
    assert froc_score(points) is None


def test_every_scan_needs_a_match_for_every_threshold():
    with pytest.raises(ValueError, match="zip"):
        froc([0.5, 0.9], [[found(), found()], [found()]], ["a", "b"])


def test_label_maps_of_two_shapes_are_refused_with_both_named():
    with pytest.raises(DataFolderError, match=r"\(3, 1, 1\).*\(4, 1, 1\)"):
        match_lesions(line("..."), line("...."), ANY)


def test_masks_without_numbers_are_refused():
    with pytest.raises(TypeError, match="numbered with integers, not bool"):
        match_lesions(line("11.") > 0, line("11."), ANY)


@pytest.mark.parametrize(
    ("overlap", "threshold"), [("iou", None), ("dice", 0.0), ("iou", 1.5), ("any", 0.1), ("dice", math.nan)]
)
def test_a_rule_without_a_sensible_threshold_is_refused(overlap, threshold):
    with pytest.raises(ValueError, match="threshold"):
        HitRule(overlap, threshold)


def test_a_rule_names_itself():
    assert list(map(str, [HALF_DICE, HitRule("iou", 0.1), ANY])) == [
        "Dice of at least 0.5",
        "IoU of at least 0.1",
        "any overlap",
    ]


def test_a_scan_with_thousands_of_false_finds_is_matched_in_seconds():
    random = np.random.default_rng(0)
    predicted = ndimage.label(random.random((200, 200, 60)) < 0.01)[0]
    truth = np.zeros(predicted.shape, np.uint16)
    truth[50:90, 50:90, 20:40] = 1
    start = time.process_time()
    match = match_lesions(predicted, truth, ANY)
    assert time.process_time() - start < 4
    assert len(match.hits) == 1
    assert len(match.false_finds) == predicted.max() - 1
