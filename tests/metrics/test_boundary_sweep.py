import json
import time
from dataclasses import asdict

import numpy as np
import pytest

from clinibundle.errors import DataFolderError
from clinibundle.metrics.binary import binary_metrics
from clinibundle.metrics.boundary_sweep import THRESHOLDS, BoundarySweep, best_over_sections, sweep_thresholds
from clinibundle.metrics.membrane_scores import LOWER_IS_BETTER, SCORES, scores_at, scores_of_labels, squared_error
from clinibundle.metrics.membranes import thin_borders
from clinibundle.metrics.rand_scores import overlaps
from made_sections import drawn, probability_of, true_cells

LIMIT_S = 10.0
"""Processor time of a whole sweep of 512 x 512; 2 to 4 s on the machine it was written on."""


def section(seed=0, size=100):
    truth = true_cells(size, 18, seed)
    return probability_of(truth, seed), truth


def test_two_cells_with_a_gap_have_the_scores_found_by_hand():
    truth = drawn("...#...", "...#...", "...#...").astype(np.uint8)
    probability = np.where(truth, 0.9, 0.2)
    probability[1, 3] = 0.6
    # Of 21 pixels 18 are interior, and one of the 3 of membrane is taken for it.
    scores = scores_at(probability, truth, 0.5)
    assert scores["pixel_error"] == pytest.approx(1 - 2 * 18 / (2 * 18 + 1))
    assert scores["pixel_disagreement"] == pytest.approx(1 / 21)
    assert scores["iou_interior"] == pytest.approx(18 / 19)
    assert scores["iou_membrane"] == pytest.approx(2 / 3)
    # Two cells of 9 in one: Σ p² = Σ t² = 1/2, Σ s² = 1.
    assert (scores["v_rand"], scores["v_rand_split"], scores["v_rand_merge"]) == pytest.approx((2 / 3, 1, 1 / 2))
    assert scores["rand_error"] == pytest.approx(1 / 3)
    assert (scores["v_info"], scores["v_info_merge"]) == (0, 0)
    assert scores["warping_error"] == scores["warping_error_splits_mergers"] == pytest.approx(1 / 21)
    # With the gap closed only thicker membranes could cost.
    perfect = scores_at(probability, truth, 0.7)
    assert perfect == {name: float(name not in LOWER_IS_BETTER) for name in SCORES}


def test_thick_membranes_cost_rand_error_but_not_the_thinned_scores():
    truth = drawn(".....#.....", ".....#.....").astype(int)
    proposal = drawn("...#####...", "...#####...").astype(int)
    scores = scores_of_labels(proposal, truth)
    assert scores["v_rand"] == scores["v_info"] == 1
    # Of 20 pixels 8 are alone: Σ p² = Σ s² = 2 · 6² + 8, Σ t² = 2 · 10²
    assert scores["rand_error"] == pytest.approx(1 - 2 * 80 / (80 + 200))
    assert scores["warping_error"] == 0


def test_a_label_map_is_scored_by_its_own_numbers_and_parted_where_cells_touch():
    truth = np.array([[1, 1, 0, 2, 2]] * 2)
    scores = scores_of_labels(np.array([[1, 1, 1, 2, 2]] * 2), truth)
    assert (scores["rand_error"], scores["v_rand"], scores["v_info"]) == (0, 1, 1)
    assert scores["warping_error"] == scores["pixel_disagreement"] == 0


def test_a_label_without_cells_has_no_cluster_scores_and_pixels_follow_the_rule():
    nothing = np.zeros((4, 4), int)
    scores = scores_of_labels(nothing, nothing)
    assert [scores[name] for name in ("rand_error", "v_rand", "v_info", "v_info_split")] == [None] * 4
    assert (scores["pixel_error"], scores["iou_interior"], scores["iou_membrane"]) == (0, 1, 1)
    something = scores_of_labels(np.ones((4, 4), int), nothing)
    assert (something["pixel_error"], something["iou_membrane"], something["v_rand"]) == (1, 0, None)
    missed = scores_of_labels(nothing, np.ones((4, 4), int))
    assert (missed["pixel_error"], missed["warping_error"], missed["warping_error_splits_mergers"]) == (1, 1, 1)
    assert missed["v_rand"] == pytest.approx(2 / 17)


def test_scores_are_those_of_their_parts():
    probability, truth = section()
    scores = scores_at(probability, truth, 0.6)
    pixels = binary_metrics(probability > 0.6, truth > 0)
    assert scores["pixel_error"] == pytest.approx(1 - pixels["dice"])
    assert scores["pixel_disagreement"] == pytest.approx(1 - pixels["accuracy"])
    assert scores["iou_membrane"] == pytest.approx(binary_metrics(probability <= 0.6, truth == 0)["iou"])
    assert scores == scores_at(probability.astype(np.float64), truth.astype(np.uint8), np.float32(0.6))
    assert squared_error(probability, truth) == pytest.approx(np.mean((probability - (truth > 0)) ** 2), rel=1e-5)


def test_a_sweep_has_the_scores_at_each_threshold_and_at_the_fixed_one():
    probability, truth = section()
    sweep = sweep_thresholds(probability, truth, fixed_threshold=0.63)
    assert THRESHOLDS == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert list(sweep.scores) == list(sweep.fixed) == list(SCORES)
    for at in (0.3, 0.7):
        row = {name: values[THRESHOLDS.index(at)] for name, values in sweep.scores.items()}
        assert row == scores_at(probability, truth, at)
    assert sweep.fixed == scores_at(probability, truth, 0.63)
    assert sweep.squared_error == squared_error(probability, truth)
    json.dumps([asdict(sweep), sweep.best], allow_nan=False)


def test_the_best_is_the_lowest_error_or_the_highest_score_and_its_parts_are_taken_there():
    probability, truth = section()
    sweep = sweep_thresholds(probability, truth)
    assert 0 < sweep.best["v_rand"].threshold < 1
    for name in ("pixel_error", "rand_error", "warping_error", "warping_error_splits_mergers"):
        assert sweep.best[name].value == min(sweep.scores[name])
    for name in ("v_rand", "v_info", "iou_interior"):
        assert sweep.best[name].value == max(sweep.scores[name])
    at = THRESHOLDS.index(sweep.best["v_rand"].threshold)
    for part in ("v_rand_split", "v_rand_merge"):
        assert sweep.best[part] == (sweep.scores[part][at], THRESHOLDS[at])
    split, merge = sweep.best["v_info_split"].value, sweep.best["v_info_merge"].value
    assert sweep.best["v_info"].value == pytest.approx(2 * split * merge / (split + merge))


def test_sections_share_one_threshold_and_one_without_cells_is_left_out():
    def swept(v_rand, rand_error):
        columns = dict.fromkeys(SCORES, (0.5, 0.5, 0.5)) | {"v_rand": v_rand, "rand_error": rand_error}
        return BoundarySweep((0.2, 0.4, 0.6), columns, 0.5, {}, 0.0)

    best = best_over_sections(
        [
            swept((0.9, 0.8, 0.1), (0.1, 0.3, 0.2)),
            swept((0.1, 0.7, 0.8), (0.5, 0.3, 0.2)),
            swept((None,) * 3, (None,) * 3),
        ]
    )
    assert best["v_rand"] == (pytest.approx(0.75), 0.4)
    assert best["rand_error"] == (pytest.approx(0.2), 0.6)
    assert best["v_info"] == (0.5, 0.2)
    assert best_over_sections([swept((None,) * 3, (None,) * 3)])["v_rand"] == (None, None)
    with pytest.raises(ValueError, match="the same thresholds"):
        best_over_sections([swept((1, 1, 1), (0, 0, 0)), BoundarySweep((0.5,), {}, 0.5, {}, 0.0)])


def test_thinned_scores_are_of_thinned_borders():
    probability, truth = section()
    numbers = np.where(probability > 0.6, truth, 0)
    assert scores_of_labels(numbers, truth)["v_rand"] == overlaps(thin_borders(numbers), truth).rand.value


def test_what_is_no_probability_is_refused():
    truth = np.ones((2, 2), int)
    with pytest.raises(TypeError, match="not uint8: divide 8-bit values by 255"):
        scores_at(np.full((2, 2), 255, np.uint8), truth, 0.5)
    with pytest.raises(ValueError, match=r"goes from 0\.5 to 255"):
        sweep_thresholds(np.array([[0.5, 255], [1, 1]]), truth)
    with pytest.raises(ValueError, match="goes from nan"):
        scores_at(np.full((2, 2), np.nan), truth, 0.5)
    with pytest.raises(DataFolderError, match="same rows and columns"):
        sweep_thresholds(np.ones((2, 3)), truth)


def test_a_whole_sweep_of_a_section_takes_seconds():
    truth = true_cells(512, 130)
    probability = probability_of(truth)
    start = time.process_time()
    sweep = sweep_thresholds(probability, truth, fixed_threshold=0.6)
    assert time.process_time() - start < LIMIT_S
    assert sweep.best["v_rand"].value > 0.8
