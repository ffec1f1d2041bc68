"""What a bundle says of itself: read whole, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from clinibundle.bundle.description import LOWER_IS_BETTER, MEMBRANE_METRICS, Bundle, without_unit
from clinibundle.errors import BundleError
from clinibundle.metrics.binary import binary_metrics


def describe(root: Path, main_metric: str | None = None, **measure: object) -> Bundle:
    """The bundle with another main metric and other entries in measure.yaml."""
    metadata, description = root / "configs" / "metadata.json", root / "configs" / "measure.yaml"
    if main_metric is not None:
        metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "main_metric": main_metric}))
    description.write_text(yaml.safe_dump({**yaml.safe_load(description.read_text()), **measure}))
    return Bundle(root)


def test_the_table_of_directions_holds_every_metric_that_can_be_computed() -> None:
    mask = np.ones((2, 2), bool)
    for spacing in (None, (1.0, 1.0)):
        found = [without_unit(name) for name in binary_metrics(mask, mask, spacing)]
        assert [*found, *MEMBRANE_METRICS] == list(LOWER_IS_BETTER)


def test_the_directions_are_those_of_the_numbers() -> None:
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    perfect, bad = binary_metrics(truth, truth), binary_metrics(np.roll(truth, 6, axis=0), truth)
    for name, value in perfect.items():
        assert (value < bad[name]) == LOWER_IS_BETTER[without_unit(name)], name


@pytest.mark.parametrize(("metric", "meant"), [("dise", "dice"), ("hd95_mm", "hd95"), ("sensitvity", "sensitivity")])
def test_a_mistyped_metric_is_refused_with_what_was_meant(toy_bundle: Path, metric: str, meant: str) -> None:
    bundle = describe(toy_bundle, metrics=["dice", metric])
    with pytest.raises(BundleError) as refused:
        _ = bundle.measure
    told = str(refused.value)
    assert (
        f"toy_bright/configs/measure.yaml: 'metrics': there is no metric '{metric}' (did you mean '{meant}'?)" in told
    )
    assert "\n" not in told and "accuracy" in told


def test_a_main_metric_that_is_not_measured_is_refused(toy_bundle: Path) -> None:
    bundle = describe(toy_bundle, "hd59", metrics=["dice", "hd95"], also_compare={"dice_other": "pred"})
    with pytest.raises(BundleError) as refused:
        _ = bundle.measure
    assert str(refused.value) == (
        "toy_bright/configs/metadata.json: the main_metric 'hd59' (did you mean 'hd95'?) is none of those that "
        "measure.yaml names: dice, hd95, dice_other; name one of them"
    )


@pytest.mark.parametrize(("main", "lower"), [("hd95", True), ("iou", False), ("dice_other", False)])
def test_it_is_known_whether_less_of_the_main_metric_is_better(toy_bundle: Path, main: str, lower: bool) -> None:
    bundle = describe(toy_bundle, main, metrics=["iou", "hd95"], also_compare={"dice_other": "pred"})
    assert bundle.measure.metrics == ["iou", "hd95"] and bundle.lower_is_better is lower
