"""Results go to standard output, all else to standard error; --json, --quiet and --verbose keep their word."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import Program, write_squares


@pytest.fixture
def place(tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a bundle in bundles/ and a data folder."""
    (tmp_path / "bundles").mkdir()
    toy_bundle.rename(tmp_path / "bundles" / "toy_bright")
    write_squares(tmp_path / "data", "bjm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ALONE = "segment toy_bright data/images/b.png -o out"
SEVERAL = "segment toy_bright data/images -o out"
EVALUATE = "evaluate toy_bright --dataset-dir data -o out"
CHECK = "check toy_bright --dataset-dir data"
TRAIN = "train toy_bright --dataset-dir data"


@pytest.mark.parametrize("line", ["list", CHECK, ALONE, SEVERAL, EVALUATE])
def test_json_is_one_document_and_nothing_else(place: Path, clinibundle: Program, line: str) -> None:
    run = clinibundle(*line.split(), "--json")
    assert run.code == 0
    assert json.loads(run.out) is not None


def test_json_says_of_each_case_what_became_of_it(place: Path, clinibundle: Program) -> None:
    (place / "data" / "images" / "j.png").write_text("no picture")
    run = clinibundle(*SEVERAL.split(), "--json")
    cases = {case["case"]: case for case in json.loads(run.out)}
    assert run.code == 1
    assert cases["b"]["findings"][0]["name"] == "bright" and cases["b"]["refused"] is None
    assert cases["j"]["findings"] == [] and "cannot be read as a picture" in cases["j"]["refused"]


@pytest.mark.parametrize("line", [CHECK, ALONE, SEVERAL, EVALUATE, TRAIN, "prepare toy_bright data made"])
def test_quiet_leaves_the_results_alone(place: Path, clinibundle: Program, line: str) -> None:
    run = clinibundle(*line.split(), "--quiet")
    assert (run.code, run.err) == (0, "")
    assert run.out.strip()


STAGES = {
    CHECK: ["Looking at pictures and labels (3)"],
    ALONE: ["reading the file", "loading toy_bright 0.2.0", "outlining, measuring and writing"],
    SEVERAL: ["reading the folder", "loading toy_bright 0.2.0", "segmenting (3)"],
    EVALUATE: ["loading toy_bright 0.2.0", "measuring (3)"],
}


@pytest.mark.parametrize(("line", "stages"), STAGES.items())
def test_without_a_terminal_there_is_one_line_a_stage(
    place: Path, clinibundle: Program, line: str, stages: list[str]
) -> None:
    assert clinibundle(*line.split()).err.splitlines() == stages


def test_on_a_terminal_progress_shows_how_far_it_is(place: Path) -> None:
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "clinibundle", *CHECK.split()],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={"TERM": "xterm", "COLUMNS": "80"},
    )
    shown = b""
    while b"3/3" not in shown:
        shown += os.read(ours, 4096)
    assert run.communicate()[0] == b"no problems found\n"
    assert b"Looking at pictures and labels" in shown and b"0:00:0" in shown


def test_verbose_tells_what_was_doubtful(place: Path, clinibundle: Program) -> None:
    run = clinibundle(*ALONE.split(), "--verbose")
    assert "pixel_spacing: a picture file carries no pixel spacing" in run.err


def test_results_of_a_case_are_a_table_for_people(place: Path, clinibundle: Program) -> None:
    heading, row, where = clinibundle(*ALONE.split()).out.splitlines()
    assert heading.split() == ["Case", "Finding", "Share", "Warnings"]
    assert row.split()[:3] == ["b", "bright", "7.8%"]
    assert where == "results in out; open report.html to look at them. Not for diagnostic use."


@pytest.mark.parametrize("name", ["[bold]a", "a[", "[a.png]", ":lung:", "a\x1b[31mb"])
def test_names_of_files_are_shown_as_they_are(place: Path, clinibundle: Program, name: str) -> None:
    (place / "data" / "images" / "b.png").rename(place / "data" / "images" / f"{name}.png")
    run = clinibundle("segment", "toy_bright", f"data/images/{name}.png", "-o", "out")
    assert run.code == 0
    assert name.replace("\x1b", " ") in run.out


def test_several_cases_end_with_1_if_one_is_refused(place: Path, clinibundle: Program) -> None:
    (place / "data" / "images" / "j.png").write_text("no picture")
    run = clinibundle(*SEVERAL.split())
    assert run.code == 1
    assert [line for line in run.err.splitlines() if line.startswith("refused: ")] == [
        "refused: j: 'j.png' cannot be read as a picture: it is damaged, truncated or something else"
    ]
    assert [row["status"] for row in csv.DictReader((place / "out" / "summary.csv").open())] == [
        "done", "refused", "done",
    ]  # fmt: skip
    assert sorted(path.name for path in (place / "out").iterdir()) == ["b", "m", "summary.csv"]


def test_evaluate_ends_with_1_if_a_case_is_refused(place: Path, clinibundle: Program) -> None:
    (place / "data" / "images" / "j.png").write_text("no picture")
    run = clinibundle(*EVALUATE.split())
    assert run.code == 1
    assert "2 cases, 0 missed, 1 could not be read" in run.out
    assert str(place) not in run.err and "refused: j: " in run.err
    content = json.loads((place / "out" / "metrics.json").read_text())
    assert content["cases"] == 2 and content["refused"][0]["case"] == "j"


def test_check_ends_with_1_and_lists_every_problem(place: Path, clinibundle: Program) -> None:
    for name in "bj":
        (place / "data" / "images" / f"{name}.png").write_text("no picture")
    (place / "data" / "labels" / "m.png").unlink()
    run = clinibundle(*CHECK.split(), "--json")
    assert run.code == 1
    found = {(problem["case"], problem["kind"]) for problem in json.loads(run.out) if problem["severity"] == "error"}
    assert found == {
        ("images/b.png", "unreadable"), ("images/j.png", "unreadable"), ("images/m.png", "image_without_label"),
    }  # fmt: skip


def test_show_shows_the_whole_card(place: Path, clinibundle: Program) -> None:
    words = [f"word{number}" for number in range(60)]
    card = f"# toy\n\n- {' '.join(words)}\n\n```\n{' '.join(words)}\n```\n"
    (place / "bundles" / "toy_bright" / "docs" / "README.md").write_text(card)
    shown = clinibundle("show", "toy_bright").out.split()
    assert [shown.count(word) for word in words] == [2] * len(words)


def test_list_says_what_is_at_hand_and_from_where(place: Path, clinibundle: Program) -> None:
    rows = {row["name"]: row for row in json.loads(clinibundle("list", "--json").out)}
    assert rows["toy_bright"] == {
        "name": "toy_bright", "version": "0.2.0", "task": "Bright spots", "modality": "CR", "metric": "dice",
        "weights": "terms not stated", "from": "bundles",
    }  # fmt: skip
    assert "toy_bright" in clinibundle("list").out


def test_prepare_tells_what_was_left_out_and_what_was_changed(place: Path, clinibundle: Program) -> None:
    square = np.asarray(Image.open(place / "data" / "labels" / "b.png"))
    Image.fromarray(np.stack([square] * 3, axis=-1)).save(place / "data" / "labels" / "b.png")
    (place / "data" / "labels" / "m.png").unlink()
    run = clinibundle("prepare", "toy_bright", "data", "made", "--verbose")
    assert run.code == 0
    assert "warning: images/m.png left out: no label has its name" in run.err
    assert "  images/b.png: label was a colour picture without colours, saved as a grey one" in run.err
    assert run.out == "2 cases (image_label_pairs) in made; 1 files left out, 1 changed on the way\n"


def test_options_of_phantom_reach_the_writer(
    place: Path, clinibundle: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("clinibundle.phantoms.write.write_phantom_cases", lambda *a, **k: asked.append((a, k)))
    run = clinibundle("phantom", "toy_bright", "made", "--cases", "8", "--seed", "3", "--dicom", "--overwrite")
    assert run.out == "8 made-up cases in made\n"
    assert asked == [(("chest_radiograph", Path("made"), 8, 3, True), {"overwrite": True})]


def test_the_terms_of_the_weights_are_said_once(place: Path, clinibundle: Program) -> None:
    path = place / "bundles" / "toy_bright" / "configs" / "metadata.json"
    terms = {"name": "CC BY-NC 4.0", "commercial_use": False, "reason": "from the training data"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_licence": terms}))
    run = clinibundle(*SEVERAL.split())
    assert run.err.count("the weights of toy_bright are for non-commercial use only (CC BY-NC 4.0)") == 1
    assert "CC BY-NC 4.0" in (place / "out" / "b" / "report.html").read_text()


def test_overlays_for_training_and_inference_alike_can_be_used_by_both(place: Path, clinibundle: Program) -> None:
    (place / "both.yaml").write_text("# for all\nlearning_rate: 0.5\nweights: $@bundle_root + '/models/model.pt'\n")
    for line in (ALONE, EVALUATE, TRAIN):
        run = clinibundle(*line.split(), "--overlay", "both.yaml", *(["--overwrite"] if line == EVALUATE else []))
        assert run.code == 0, run.err
