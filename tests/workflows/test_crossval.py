"""Cross-validation: every fold trained without its cases, measured on them alone, and all networks joined."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError
from clinibundle.phantoms.write import write_phantom_cases
from clinibundle.workflows.crossval import CrossValidation
from clinibundle.workflows.evaluate import evaluate
from clinibundle.workflows.train import train
from repository import ROOT
from toy_bundle import make_toy_bundle

OVERLAY = ROOT / "configs" / "experiment" / "crossval.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six films in folds of the phantoms' own."""
    folder = tmp_path_factory.mktemp("crossval") / "data"
    write_phantom_cases("chest_radiograph", folder, cases=6, seed=7, dicom=False)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(make_toy_bundle(tmp_path / "toy_bright"))


def folds_of(data: Path) -> list[int]:
    return sorted({row["fold"] for row in json.loads((data / "datalist.json").read_text())["training"]})


def test_every_case_is_measured_once_by_the_network_of_its_fold(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    folds = folds_of(data)
    found = CrossValidation(str(bundle.root), str(data), str(tmp_path / "run"), folds, device="cpu").run()
    assert found["cases"] == 6
    with (tmp_path / "run" / "out_of_fold" / "per_case.csv").open() as stream:
        assert sorted({int(row["fold"]) for row in csv.DictReader(stream)}) == folds
    for fold in folds:
        run = tmp_path / "run" / f"fold_{fold}"
        assert torch.load(run / "last.pt", weights_only=True).keys() == torch.load(bundle.weights).keys()


def test_started_again_it_trains_only_what_is_missing(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    folds = folds_of(data)[:2]
    validation = CrossValidation(str(bundle.root), str(data), str(tmp_path / "run"), folds, device="cpu")
    validation.run()
    first, second = (tmp_path / "run" / f"fold_{fold}" / "last.pt" for fold in folds)
    before = first.stat().st_mtime_ns
    second.unlink()
    validation.run()
    assert first.stat().st_mtime_ns == before and second.is_file()


def test_the_ensemble_is_an_overlay_that_can_be_measured(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    folds = folds_of(data)[:2]
    CrossValidation(str(bundle.root), str(data), str(tmp_path / "run"), folds, device="cpu").run()
    overlay = tmp_path / "run" / "ensemble.yaml"
    assert len(yaml.safe_load(overlay.read_text())["network_def"]["networks"]) == 2
    single = evaluate(bundle, data, tmp_path / "single", [], {}, "cpu", False, Talk(quiet=True))
    vote = evaluate(bundle, data, tmp_path / "vote", [overlay], {}, "cpu", False, Talk(quiet=True))
    # The toy learns nothing, so both members are the bundle's own network.
    assert vote["summary"] == single["summary"] and vote["weights_sha256"] != single["weights_sha256"]


def test_as_an_overlay_of_train_it_hands_the_other_overlays_on(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    rate = tmp_path / "rate.yaml"
    rate.write_text("learning_rate: 0.25\n")
    run = train(
        bundle, data, tmp_path / "runs", [rate, OVERLAY], {"folds": folds_of(data)[:2], "epochs": 3}, "cpu", False,
        Talk(quiet=True),
    )  # fmt: skip
    for fold in folds_of(data)[:2]:
        handed_on = yaml.safe_load((run / f"fold_{fold}" / "overlay.yaml").read_text())
        assert handed_on["learning_rate"] == 0.25 and "training" not in handed_on and "run_dir" not in handed_on
        # Three epochs were asked for.
        assert (run / f"fold_{fold}" / "checkpoint_epoch=3.pt").is_file()
    assert (run / "out_of_fold" / "report.html").is_file() and (run / "ensemble.pt").is_file()


def test_a_fold_whose_training_fails_is_told_with_its_log(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    path = bundle.root / "configs" / "train.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "training": ["$1 / 0"]}))
    with pytest.raises(ClinibundleError, match=r"training of fold 0 stopped; the end of '.*fold_0/log.txt' says why"):
        CrossValidation(str(bundle.root), str(data), str(tmp_path / "run"), [0], device="cpu").run()
    assert "ZeroDivisionError" in (tmp_path / "run" / "fold_0" / "log.txt").read_text()
