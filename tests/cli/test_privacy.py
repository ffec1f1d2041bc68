"""Who the patient is stands in no message, no file name and no report, unless --identified asks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import config

from clinibundle.phantoms.dicom_dx import write_dx_study
from command_line import Program, files_in, start_process

SECRETS = ("Quixote", "Alonso", "LM-1605", "15470929", "16050116", "ACC-1615")
PLACE = "Quixote_Alonso-15470929"
FILE = "LM-1605_Quixote-ACC1615-16.01.1605.dcm"


def film(folder: Path, name: str, seed: int = 1, **changes: object) -> Path:
    """A small film of a patient with a name, in a file of any name."""
    picture = np.full((96, 80), 300, np.uint16)
    picture[20:60, 10 + seed : 40] = 3000
    (path,) = write_dx_study(folder, [picture], seed, 0.5)
    dataset = pydicom.dcmread(path)
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Quixote^Alonso", "LM-1605", "15470929"
    dataset.StudyDate, dataset.AccessionNumber = "16050116", "ACC-1615"
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    path.unlink()
    dataset.save_as(folder / name)
    return folder / name


def tells(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret.casefold() in text.casefold()]


def told_by_pictures_and_texts(out: Path) -> list[str]:
    """What the names of all files tell, and the content of those that are no DICOM objects."""
    files = files_in(out)
    texts = [content.decode("latin-1") for name, content in files.items() if content and not name.endswith(".dcm")]
    return tells("\n".join([*files, *texts]))


@pytest.mark.parametrize("options", [[], ["-v"], ["--json"], ["--all", "-v"]], ids=" ".join)
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_film_that_is_segmented_names_nobody(
    toy_bundle: Path, tmp_path: Path, clinibundle: Program, options: list[str], what: str
) -> None:
    path = film(tmp_path / PLACE, FILE)
    run = clinibundle("segment", toy_bundle, path if what == "file" else path.parent, "-o", tmp_path / "out", *options)
    assert run.code == 0, run.err
    assert tells(run.out + run.err) == []
    assert told_by_pictures_and_texts(tmp_path / "out") == []
    (seg,) = (tmp_path / "out").rglob("segmentation.dcm")
    # The object belongs to the patient's study, so there the patient is named.
    assert pydicom.dcmread(seg).PatientID == "LM-1605"


def test_identified_names_the_patient_in_the_report_only(
    toy_bundle: Path, tmp_path: Path, clinibundle: Program
) -> None:
    path = film(tmp_path / PLACE, FILE)
    run = clinibundle("segment", toy_bundle, path, "-o", tmp_path / "out", "--identified", "-v")
    assert tells(run.out + run.err) == []
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Quixote" in report and "LM-1605" in report
    (tmp_path / "out" / "report.html").unlink()
    assert told_by_pictures_and_texts(tmp_path / "out") == []


REFUSED = {
    "modality": {"Modality": "CT"},
    "colour": {"PhotometricInterpretation": "PALETTE COLOR"},
    "frames": {"NumberOfFrames": "2"},
    "truncated": {"PixelData": b"\0" * 100},
    "flat": {"PixelData": b"\0" * (96 * 80 * 2)},
    "tiny": {"Rows": 2},
    "no rows": {"Rows": None},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED.keys())
def test_a_film_that_is_refused_names_nobody(
    toy_bundle: Path, tmp_path: Path, clinibundle: Program, changes: dict[str, object]
) -> None:
    path = film(tmp_path / PLACE, FILE, **changes)
    for source in (path, path.parent):
        run = clinibundle("segment", toy_bundle, source, "-o", tmp_path / "out", "-v")
        assert (run.code, run.out) == (1, "")
        assert run.err.splitlines()[-1].startswith("refused: ")
        assert tells(run.err) == []
    assert not (tmp_path / "out").exists()


def test_refused_and_skipped_ones_of_many_name_nobody(toy_bundle: Path, tmp_path: Path, clinibundle: Program) -> None:
    film(tmp_path / PLACE, FILE)
    film(tmp_path / PLACE, "Alonso-2.dcm", seed=2, Modality="CT")
    film(tmp_path / PLACE, "Alonso-3.dcm", seed=3, PixelData=b"\0" * 50)
    (tmp_path / PLACE / "Alonso-notes.txt").write_text("Quixote, born 15470929")
    run = clinibundle("segment", toy_bundle, tmp_path / PLACE, "-o", tmp_path / "out", "--all", "-v")
    assert run.code == 1 and run.err.count("refused: ") == 2
    assert tells(run.out + run.err) == []
    assert told_by_pictures_and_texts(tmp_path / "out") == []
    assert len((tmp_path / "out" / "summary.csv").read_text().splitlines()) == 4


def test_an_output_folder_in_the_input_is_refused_without_naming_it(
    toy_bundle: Path, tmp_path: Path, clinibundle: Program
) -> None:
    path = film(tmp_path / PLACE, FILE)
    run = clinibundle("segment", toy_bundle, path.parent, "-o", path.parent / "out")
    assert run.code == 2 and tells(run.err) == []


def test_warnings_of_the_dicom_library_never_reach_the_user(toy_bundle: Path, tmp_path: Path) -> None:
    path = film(tmp_path / PLACE, FILE)
    with config.disable_value_validation():
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "LM-1605 " * 12
        dataset.AccessionNumber = "ACC-1615 and much more than fits"
        dataset.PatientAge = "Quixote"
        dataset.add_new("PatientWeight", "DS", "12345678")
        dataset.OtherPatientIDs = ["LM-1605" * 20]
        dataset.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"12345678", b"Quixote!"))
    with pytest.warns(UserWarning, match="maximum length"):
        str(pydicom.dcmread(path))
    # A process of its own, as pytest has its own way with warnings.
    process = start_process("segment", toy_bundle, path, "-o", tmp_path / "out", "--device", "cpu", cwd=tmp_path)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert told.splitlines() == [
        "reading the file",
        "reading headers (1)",
        "loading toy_bright 0.2.0",
        "outlining, measuring and writing",
    ]
