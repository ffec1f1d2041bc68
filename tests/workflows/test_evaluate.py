from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from monai.bundle import ConfigWorkflow
from PIL import Image

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_bundle
from clinibundle.console import Talk
from clinibundle.errors import BundleError, DataFolderError
from clinibundle.workflows.evaluate import evaluate
from clinibundle.workflows.segment import SegmentOptions, segment
from command_line import write_squares

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


@pytest.fixture
def squares(toy_bundle: Path, tmp_path: Path) -> tuple[Bundle, Path]:
    """The toy bundle, and a data folder without a list whose cases b, j, m, c, a lie in folds 0 to 4 by their hash."""
    return Bundle(toy_bundle), write_squares(tmp_path / "data", "bjmca")


def table(out: Path) -> dict[str, dict[str, str]]:
    return {row["case"]: row for row in csv.DictReader((out / "per_case.csv").open())}


def test_the_figures_say_what_was_measured(squares: tuple[Bundle, Path], tmp_path: Path, monkeypatch) -> None:
    bundle, data = squares
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half.yaml").write_text("inferer#overlap: 0.5\n")
    weights = shutil.copy(bundle.weights, tmp_path / "mine.pt")
    settings = {"fold": 2, "weights": str(weights), "inferer::sw_batch_size": 1}
    content = evaluate(bundle, data, tmp_path / "out", [tmp_path / "half.yaml"], settings, "cpu", False, QUIET)
    assert (content["dataset"], content["fold"], content["overlays"]) == ("data", 2, ["half.yaml"])
    assert content["settings"] == {"fold": 2, "weights": "mine.pt", "inferer::sw_batch_size": 1}
    assert content["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert str(tmp_path) not in (tmp_path / "out" / "metrics.json").read_text()
    assert "fold 2" in (tmp_path / "out" / "report.html").read_text()


def test_the_fold_that_an_overlay_asks_for_is_told_too(squares: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, data = squares
    (tmp_path / "fold.yaml").write_text("fold: 3\n")
    assert evaluate(bundle, data, tmp_path / "3", [tmp_path / "fold.yaml"], {}, "cpu", False, QUIET)["fold"] == 3
    assert evaluate(bundle, data, tmp_path / "all", [], {}, "cpu", False, QUIET)["fold"] is None


def test_without_a_list_the_table_has_the_folds_of_the_hash_rule(squares: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, data = squares
    run(bundle, data, tmp_path / "out")
    assert {name: row["fold"] for name, row in table(tmp_path / "out").items()} == dict(
        zip("bjmca", "01234", strict=True)
    )
    assert {row["group"] for row in table(tmp_path / "out").values()} == set("bjmca")


def test_one_fold_by_hash_has_that_fold_in_the_table(lungs: Bundle, tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data", "bjmca")
    run(lungs, data, tmp_path / "out", fold=1)
    assert {name: row["fold"] for name, row in table(tmp_path / "out").items()} == {"j": "1"}


def test_names_with_dots_stay_apart(squares: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, data = squares
    for folder in ("images", "labels"):
        for old, new in (("b", "a.1"), ("j", "a.2")):
            (data / folder / f"{old}.png").rename(data / folder / f"{new}.png")
    run(bundle, data, tmp_path / "out")
    assert set(table(tmp_path / "out")) == {"a.1", "a.2", "m", "c", "a"}


def test_pictures_of_one_name_are_told_apart_by_their_place(lungs: Bundle, tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data", "bjm")
    for folder in ("images", "labels"):
        (data / folder / "ward").mkdir()
        (data / folder / "j.png").rename(data / folder / "ward" / "b.png")
    pairs = ["b.png", "ward/b.png", "m.png"]
    rows = [{"image": f"images/{name}", "label": f"labels/{name}", "group": name, "fold": 0} for name in pairs]
    (data / "datalist.json").write_text(json.dumps({"training": rows}))
    run(lungs, data, tmp_path / "out")
    assert {name: row["group"] for name, row in table(tmp_path / "out").items()} == {
        "images/b.png": "b.png", "images/ward/b.png": "ward/b.png", "m": "m.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("main", "column", "worst"),
    # The square found is columns 12 to 29. Of b one column was missed, of m most of the truth; j alone has false finds.
    [("hd95", "hd95_px", "m"), ("dice", "dice", "m"), ("specificity", "specificity", "j")],
)
def test_the_worst_cases_by_the_main_metric_come_first(
    squares: tuple[Bundle, Path], tmp_path: Path, main: str, column: str, worst: str
) -> None:
    bundle, data = squares
    metadata = bundle.root / "configs" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "main_metric": main}))
    measure = bundle.root / "configs" / "measure.yaml"
    measure.write_text(
        yaml.safe_dump({**yaml.safe_load(measure.read_text()), "metrics": ["dice", "hd95", "specificity"]})
    )
    # The network finds what is bright, so the truth is what differs.
    for name, left, right in (("b", 12, 31), ("j", 16, 30), ("m", 12, 47)):
        label = np.asarray(Image.open(data / "labels" / f"{name}.png")).copy()
        rows = label.any(axis=1)
        label[:] = 0
        label[np.ix_(rows, range(left, right))] = 255
        Image.fromarray(label).save(data / "labels" / f"{name}.png")
    content = run(bundle, data, tmp_path / "out")
    assert next(iter(content["summary"])) == column
    page = (tmp_path / "out" / "report.html").read_text()
    value = table(tmp_path / "out")[worst][column]
    assert re.findall(r"\b([a-z]): " + column, page)[0] == worst and f"{worst}: {column} {float(value):.3f}" in page
    assert f"Worst {column} first" in page and re.search(r'scope="row">([a-z])</th>', page)[1] == worst
    assert f"{column} of the single cases" in page and f"<li>{column} " in page


def test_a_case_without_a_value_of_the_main_metric_is_shown(squares: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, data = squares
    metadata = bundle.root / "configs" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "main_metric": "sensitivity"}))
    measure = bundle.root / "configs" / "measure.yaml"
    measure.write_text(yaml.safe_dump({**yaml.safe_load(measure.read_text()), "metrics": ["sensitivity"]}))
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(data / "labels" / "c.png")
    run(bundle, data, tmp_path / "out")
    assert table(tmp_path / "out")["c"]["sensitivity"] == ""
    assert "c: no sensitivity" in (tmp_path / "out" / "report.html").read_text()


def test_a_bundle_whose_main_metric_is_not_measured_is_refused_before_anything_is_run(
    squares: tuple[Bundle, Path], tmp_path: Path
) -> None:
    bundle, data = squares
    metadata = bundle.root / "configs" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "main_metric": "iou"}))
    bundle.weights.unlink()
    with pytest.raises(BundleError, match="main_metric 'iou'"):
        run(bundle, data, tmp_path / "out")


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
