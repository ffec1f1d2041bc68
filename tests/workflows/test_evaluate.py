from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from PIL import Image

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_bundle
from clinibundle.console import Talk
from clinibundle.errors import BundleError, DataFolderError
from clinibundle.workflows.evaluate import evaluate
from clinibundle.workflows.segment import SegmentOptions, segment

QUIET = Talk(quiet=True)
METRICS = ["dice", "iou", "hd95", "accuracy", "sensitivity", "specificity", "ppv", "npv"]


@pytest.fixture(scope="module")
def lungs() -> Bundle:
    return Bundle(find_bundle("lung_xray"))


@pytest.fixture
def data(phantoms: Path, tmp_path: Path) -> Path:
    for sub in ("images", "labels"):
        shutil.copytree(phantoms / sub, tmp_path / "data" / sub)
    shutil.copy(phantoms / "datalist.json", tmp_path / "data")
    return tmp_path / "data"


def run(bundle: Bundle, data: Path, out: Path, **settings: object) -> dict[str, object]:
    return evaluate(bundle, data, out, (), settings, "cpu", False, QUIET)


def test_every_promised_metric_is_there_with_its_interval(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    content = run(lungs, data, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == content
    assert {name.split("_")[0] for name in content["summary"]} == set(METRICS)
    # The phantoms' list gives spacing, so the distance is in millimetres and says so.
    assert "hd95_mm" in content["summary"]
    for values in content["summary"].values():
        assert values["ci95"][0] <= values["mean"] <= values["ci95"][1]
    assert (content["cases"], content["missed"]) == (6, 0)
    rows = list(csv.DictReader((tmp_path / "out" / "per_case.csv").open()))
    assert [row["group"] for row in rows] == [f"phantom-{n:03}" for n in range(6)]
    assert np.mean([float(row["dice"]) for row in rows]) == pytest.approx(content["summary"]["dice"]["mean"], abs=1e-5)
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_the_figure_is_that_of_the_mask_that_segment_writes(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    run(lungs, data, tmp_path / "out")
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "out" / "per_case.csv").open())}
    segment(lungs, data / "images" / "phantom-002.png", tmp_path / "seg", SegmentOptions(device="cpu"), QUIET)
    mask = np.asarray(Image.open(tmp_path / "seg" / "mask.png")) > 0
    truth = np.asarray(Image.open(data / "labels" / "phantom-002.png")) > 0
    assert float(rows["phantom-002"]["dice"]) == pytest.approx(
        2 * (mask & truth).sum() / (mask.sum() + truth.sum()), abs=1e-4
    )


def test_the_figure_is_that_of_plain_monai(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    ours = run(lungs, data, tmp_path / "ours")["summary"]
    workflow = ConfigWorkflow(
        config_file=str(lungs.root / "configs" / "evaluate.yaml"),
        logging_file=False,
        bundle_root=str(lungs.root),
        dataset_dir=str(data),
        output_dir=str(tmp_path / "monai"),
        run_id="evaluating",
    )
    workflow.initialize()
    workflow.run()
    theirs = workflow.parser.get_parsed_content("evaluator").state.metrics
    assert theirs["val_mean_dice"] == pytest.approx(ours["dice"]["mean"], abs=1e-5)
    assert float(theirs["val_accuracy"]) == pytest.approx(ours["accuracy"]["mean"], abs=1e-4)


def test_one_fold_can_be_measured_alone(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    assert run(lungs, data, tmp_path / "out", fold=0)["cases"] == 2


def test_the_other_readers_convention_can_be_asked_for(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    content = run(lungs, data, tmp_path / "out", convention="heart_included")["summary"]
    assert content["dice"]["mean"] == pytest.approx(content["dice_heart_included"]["mean"])


def test_a_case_that_cannot_be_read_is_listed_and_counted(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    (data / "images" / "phantom-003.png").write_bytes(b"no picture")
    content = run(lungs, data, tmp_path / "out")
    assert content["cases"] == 5 and [r["case"] for r in content["refused"]] == ["phantom-003"]
    assert "phantom-003" in (tmp_path / "out" / "report.html").read_text()


def test_rows_with_and_without_spacing_share_a_table(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    listing = json.loads((data / "datalist.json").read_text())
    del listing["training"][0]["spacing_mm"]
    (data / "datalist.json").write_text(json.dumps(listing))
    summary = run(lungs, data, tmp_path / "out")["summary"]
    assert (summary["hd95_px"]["n"], summary["hd95_mm"]["n"]) == (1, 5)


def test_a_missed_case_counts_as_zero_and_is_counted(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    black = np.zeros((300, 300), np.uint8)
    black[:2, :2] = 255
    Image.fromarray(black).save(data / "images" / "phantom-000.png")
    label = np.zeros((300, 300), np.uint8)
    label[200:280, 20:40] = 255
    Image.fromarray(label).save(data / "labels" / "phantom-000.png")
    content = run(lungs, data, tmp_path / "out")
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "out" / "per_case.csv").open())}
    assert float(rows["phantom-000"]["dice"]) < 0.1 and content["cases"] == 6


def test_nothing_measurable_is_refused_and_leaves_nothing(lungs: Bundle, data: Path, tmp_path: Path) -> None:
    for picture in (data / "images").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(DataFolderError, match="none of the 6 cases could be measured"):
        run(lungs, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_data_folder_is_refused_with_what_was_expected(lungs: Bundle, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(BundleError, match="expected images/ and labels/"):
        run(lungs, tmp_path / "data", tmp_path / "out")
