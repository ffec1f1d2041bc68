"""A refusal is one sentence on standard error; nothing is written, and no traceback is shown without --debug."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clinibundle.errors import Dangerous, NeedsTrust
from command_line import Program, files_in, write_squares


@pytest.fixture
def place(tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a bundle, and much that must be refused."""
    write_squares(tmp_path / "data", "ab")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "black.png")
    for name in ("study.zip", "bundle.zip"):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    write_squares(tmp_path / "bad", "ab")
    (tmp_path / "bad" / "datalist.json").write_text("[")
    monkeypatch.chdir(tmp_path)
    return tmp_path


REFUSED = {
    "nothing there": ("segment toy_bright nothing -o out", "there is nothing at 'nothing'"),
    "empty folder": ("segment toy_bright empty -o out", "the folder is empty"),
    "no picture": ("segment toy_bright text.png -o out", "'text.png' cannot be read as a picture"),
    "black picture": ("segment toy_bright black.png -o out", "'black.png' shows nothing"),
    "damaged zip": ("segment toy_bright study.zip -o out", "the zip is damaged or cut off"),
    "zipped bundle": ("segment bundle.zip data -o out", "'bundle.zip' is neither the folder of a bundle nor a zip"),
    "no bundle": ("segment empty data -o out", "'empty' is no bundle"),
    "full output": ("segment toy_bright data/images/a.png -o full", "'full' is not empty"),
    "file as output": ("segment toy_bright data/images/a.png -o text.png", "'text.png' is a file"),
    "full output of phantom": ("phantom toy_bright full", "'full' is not empty"),
    "full output of prepare": ("prepare toy_bright data full", "'full' is not empty"),
    "full output of evaluate": ("evaluate toy_bright --dataset-dir data -o full", "'full' is not empty"),
    "no data to evaluate": ("evaluate toy_bright --dataset-dir nothing -o out", "'nothing' is no folder"),
    "no data to check": ("check toy_bright --dataset-dir nothing", "'nothing' is no folder"),
    "no data to train": ("train toy_bright --dataset-dir nothing -o out", "'nothing' is no folder"),
    "no source": ("prepare toy_bright nothing out", "'nothing' is no folder"),
    "unknown layout": ("prepare toy_bright empty out", "has no layout that this bundle takes"),
    "damaged list": ("evaluate toy_bright --dataset-dir bad -o out", "datalist.json is no list of cases"),
    "no weights": ("evaluate toy_bright --dataset-dir data -o out --weights nothing.pt", "there are no weights at"),
    "config that cannot be built": (
        "train toy_bright --dataset-dir data -o out --set run_dir='@nothing'",
        "cannot be built",
    ),
}  # fmt: skip


@pytest.mark.parametrize("volume", ["normal", "quiet"])
@pytest.mark.parametrize(("line", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_is_one_sentence_and_writes_nothing(
    place: Path, clinibundle: Program, line: str, words: str, volume: str
) -> None:
    before = files_in(place)
    run = clinibundle(*line.split(), *(["--quiet"] if volume == "quiet" else []))
    told = run.err.splitlines()
    assert run.code == 1 and run.out == ""
    assert told[-1].startswith("refused: ") and words in told[-1]
    assert len(told) == 1 if volume == "quiet" else not any(text.startswith("refused") for text in told[:-1])
    assert files_in(place) == before


def test_a_refusal_stays_one_line_whatever_a_file_is_called(place: Path, clinibundle: Program) -> None:
    name = "two\nlines\x1b[31m [bold]:lung:.png"
    (place / name).write_text("no picture")
    run = clinibundle("segment", "toy_bright", name, "-o", "out", "-q")
    assert run.err.startswith("refused: 'two lines [31m [bold]:lung:.png' cannot be read")
    assert len(run.err.splitlines()) == 1 and "\x1b" not in run.err


def test_a_file_name_in_an_unknown_encoding_is_refused_and_the_others_are_done(
    place: Path, clinibundle: Program
) -> None:
    (place / "data" / "images" / "a.png").rename(place / "data" / "images" / os.fsdecode(b"M\xfcller.png"))
    run = clinibundle("segment", "toy_bright", "data/images", "-o", "out", "--json")
    assert run.code == 1
    assert "refused: M?ller: the file name 'M?ller' has letters in an unknown encoding; rename the file\n" in run.err
    assert {case["case"]: case["refused"] is None for case in json.loads(run.out)} == {"M?ller": False, "b": True}


def test_debug_shows_where_it_was_refused(place: Path, clinibundle: Program) -> None:
    run = clinibundle("segment", "toy_bright", "nothing", "-o", "out", "--debug")
    assert run.code == 1 and "Traceback" in run.err
    assert run.err.splitlines()[-1].startswith("refused: there is nothing")
    assert clinibundle("show", "toy_brigth", "--debug").code == 2


@pytest.mark.parametrize(("error", "code"), [(NeedsTrust("why"), 3), (Dangerous("why"), 4)])
def test_trust_and_danger_have_exit_codes_of_their_own(
    place: Path, clinibundle: Program, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("clinibundle.workflows.catalogue.model_card", refuse)
    assert clinibundle("show", "toy_bright") == (code, "", "refused: why\n")


@pytest.mark.parametrize(
    ("workflow", "line"),
    [
        ("segment.segment", "segment toy_bright data/images/a.png -o out"),
        ("evaluate.evaluate", "evaluate toy_bright --dataset-dir data -o out"),
        ("train.train", "train toy_bright --dataset-dir data -o out"),
        ("prepare.prepare", "prepare toy_bright data out"),
        ("check.check_data_folder", "check toy_bright --dataset-dir data"),
        ("catalogue.describe_bundles", "list"),
    ],
)
def test_an_internal_error_shows_neither_traceback_nor_its_message(
    place: Path, clinibundle: Program, monkeypatch: pytest.MonkeyPatch, workflow: str, line: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LookupError("Quixote^Alonso")

    monkeypatch.setattr(f"clinibundle.workflows.{workflow}", fail)
    run = clinibundle(*line.split())
    assert (run.code, run.out) == (1, "")
    assert run.err == "refused: an internal error (LookupError); run again with --debug to see where, and report it\n"
    shown = clinibundle(*line.split(), "--debug")
    assert shown.code == 1 and "Traceback" in shown.err and "Quixote^Alonso" in shown.err
