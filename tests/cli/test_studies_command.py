"""`studies` tells people and programs what is there; headers only, without torch, and nothing is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clinibundle.workflows.studies import describe_studies
from command_line import Program, files_in
from dicom.made_volumes import save
from made_ball import axial, ball_series, save_ball, tells


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a study, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_ball(tmp_path / "study" / "a", SeriesDescription="Thorax 2.5 mm")
    save_ball(tmp_path / "study" / "b", axial(shear=(0, 1.0)), StudyInstanceUID="1.2.3.4")
    (tmp_path / "study" / "note.txt").write_text("Dear colleague")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_is_the_one_document_that_the_workflow_makes(clinibundle: Program) -> None:
    from clinibundle.console import Talk

    for options in ([], ["--no-cache"], ["--quiet"]):
        ran = clinibundle("studies", "study", "--json", *options)
        assert (ran.code, json.loads(ran.out)) == (0, describe_studies(Path("study"), Talk(quiet=True)))


def test_people_can_copy_a_uid_whole_and_read_what_it_stands_for(clinibundle: Program) -> None:
    ran = clinibundle("studies", "study")
    lines = ran.out.splitlines()
    found = json.loads(clinibundle("studies", "study", "--json").out)
    for study in found["studies"]:
        assert f"study {study['study']}" in lines
        for series in study["series"]:
            at = lines.index(f"  {series['series_uid']}")
            assert "12 slices of 48 × 40, 0.8 × 1.1 × 2.5 mm, axial" in lines[at + 1]
    assert "    CT, Thorax 2.5 mm, 12 slices of 48 × 40, 0.8 × 1.1 × 2.5 mm, axial" in lines
    assert "    the gantry was tilted by 21.8 degrees; --correct-tilt straightens it" in lines
    assert lines[-1] == "patients: 1, studies: 2, files: 25 (1 left out, --verbose says why)"
    assert ran.err.splitlines() == ["reading headers (25)"]


def test_objects_without_pictures_have_a_line_too(clinibundle: Program) -> None:
    (report, *_) = ball_series(Modality="SR", Rows=None, PixelData=None, SeriesDescription="Findings")
    save(report, Path("report"))
    assert clinibundle("studies", "report", "-q").out.splitlines()[1:3] == [
        f"  {report.SeriesInstanceUID}", "    1 SR, Findings",
    ]  # fmt: skip


def test_verbose_says_what_was_left_out_and_why(clinibundle: Program) -> None:
    told = clinibundle("studies", "study", "--verbose").err
    assert "  left out note.txt: it is no DICOM file (neither preamble nor a DICOM header)" in told


def test_quiet_leaves_the_results_alone(clinibundle: Program) -> None:
    ran = clinibundle("studies", "study", "--quiet")
    assert (ran.code, ran.err) == (0, "") and ran.out


@pytest.mark.parametrize("path", ["nothing", "study/note.txt", "empty"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["", "json"])
def test_where_there_is_no_dicom_it_is_refused(clinibundle: Program, path: str, options: list[str]) -> None:
    Path("empty").mkdir()
    ran = clinibundle("studies", path, "--quiet", *options)
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.splitlines()) == 1 and ran.err.startswith("refused: ")


def test_nothing_of_the_study_is_changed_and_nothing_is_left_beside_it(place: Path, clinibundle: Program) -> None:
    before = files_in(place), {path: path.stat().st_mtime_ns for path in (place / "study").rglob("*")}
    clinibundle("studies", "study", "--no-cache")
    assert (files_in(place), {path: path.stat().st_mtime_ns for path in (place / "study").rglob("*")}) == before
    clinibundle("studies", "study")
    kept = {name for name in files_in(place) if name not in before[0]}
    assert kept == {"cache", "cache/clinibundle", "cache/clinibundle/headers.sqlite"}


def test_who_the_patient_is_is_said_if_asked_and_then_nothing_is_kept(clinibundle: Program) -> None:
    ran = clinibundle("studies", "study", "--identified")
    assert "PatientName Quixote^Alonso" in ran.out and "StudyDate 16050116" in ran.out
    assert tells(ran.err) == [] and not Path("cache").exists()


def test_torch_and_monai_are_not_imported(place: Path) -> None:
    (place / "no").mkdir()
    for name in ("torch", "monai"):
        (place / "no" / f"{name}.py").write_text("raise ImportError('imported for an overview')")
    command = [sys.executable, "-m", "clinibundle", "studies", "study", "--json"]
    ran = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(place / "no")}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "reading headers (25)\n")
    assert len(json.loads(ran.stdout)["studies"]) == 2
