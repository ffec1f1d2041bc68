import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler

from clinibundle.metrics.boundary_sweep import THRESHOLDS, best_over_sections, sweep_thresholds
from clinibundle.metrics.membrane_metric import MembraneScore
from clinibundle.metrics.membrane_scores import scores_at
from made_sections import probability_of, true_cells


@pytest.fixture(scope="module")
def sections():
    truths = [true_cells(64, 10, seed) for seed in (1, 2, 3)]
    return [(probability_of(truth, seed), truth) for seed, truth in enumerate(truths)]


def batch(sections):
    """Probabilities of (membrane, interior), and labels of 0 and 1 as MONAI's transforms leave them."""
    interior = torch.stack([torch.from_numpy(probability) for probability, _ in sections])
    labels = torch.stack([torch.from_numpy((truth > 0).astype(np.float32))[None] for _, truth in sections])
    return torch.stack([1 - interior, interior], dim=1), labels


@pytest.mark.parametrize("name", ["v_rand", "v_info_split", "rand_error", "pixel_error", "warping_error"])
def test_at_a_threshold_it_is_the_mean_over_sections(sections, name):
    metric = MembraneScore(name, threshold=0.6)
    expected = [scores_at(probability, truth > 0, 0.6)[name] for probability, truth in sections]
    found = metric(*batch(sections))
    assert found[:, 0].tolist() == pytest.approx(expected)
    assert metric.aggregate().item() == pytest.approx(np.mean(expected))
    metric.reset()
    metric(*batch(sections[:1]))
    assert metric.aggregate().item() == pytest.approx(expected[0])


def test_without_a_threshold_it_is_the_best_for_all_sections_together(sections):
    metric = MembraneScore()
    for one in sections:
        metric(*batch([one]))
    expected = best_over_sections([sweep_thresholds(probability, truth > 0) for probability, truth in sections])
    assert metric.best() == pytest.approx(expected["v_rand"])
    assert metric.aggregate().item() == pytest.approx(expected["v_rand"].value)
    assert metric.get_buffer().shape == (3, len(THRESHOLDS))


def test_lists_meta_tensors_and_interior_alone_are_taken_as_well(sections):
    predictions, labels = batch(sections)
    whole = MembraneScore("v_info", threshold=0.5)
    whole(predictions, labels)
    listed = MembraneScore("v_info", threshold=0.5)
    listed([MetaTensor(one[1:]) for one in predictions], [MetaTensor(one) for one in labels])
    inverse = MembraneScore("v_info", threshold=0.5, interior_channel=0)
    inverse(predictions.flip(1).half().float(), labels)
    assert listed.aggregate() == whole.aggregate() == pytest.approx(inverse.aggregate().item(), abs=1e-3)


def test_a_section_without_cells_is_left_out_of_the_mean(sections):
    predictions, labels = batch(sections[:2])
    labels[1] = 0
    metric = MembraneScore(threshold=0.5)
    metric(predictions, labels)
    assert metric.aggregate().item() == scores_at(sections[0][0], sections[0][1] > 0, 0.5)["v_rand"]
    metric.reset()
    metric(predictions[1:], labels[1:])
    assert math.isnan(metric.aggregate().item())


def test_ignite_gets_one_number(sections):
    engine = Engine(lambda _, one: batch([one]))
    IgniteMetricHandler(MembraneScore(threshold=0.5)).attach(engine, "v_rand")
    engine.run(sections)
    expected = [scores_at(probability, truth > 0, 0.5)["v_rand"] for probability, truth in sections]
    assert engine.state.metrics["v_rand"] == pytest.approx(np.mean(expected))


def test_what_cannot_be_meant_is_refused(sections):
    with pytest.raises(ValueError, match=r"no score 'v_rant' \(did you mean 'v_rand'"):
        MembraneScore("v_rant")
    with pytest.raises(ValueError, match="v_rand_merge alone has no best threshold that means anything"):
        MembraneScore("v_rand_merge")
    with pytest.raises(ValueError, match="no section has been scored yet"):
        MembraneScore().aggregate()
    with pytest.raises(ValueError, match="needs the true label"):
        MembraneScore()(torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match="goes from -3 to 5"):
        MembraneScore()(torch.tensor([[[[-3.0, 5.0]]]]), torch.ones(1, 1, 1, 2))
