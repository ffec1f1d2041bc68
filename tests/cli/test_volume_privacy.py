"""Who the patient of a CT is stands in no word, file name, report, table or cache of studies, convert and segment."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.fileset import FileSet

from command_line import Program, files_in, start_process
from dicom.made_volumes import enhanced, save, save_all
from made_ball import PATIENT, axial, ball, ball_series, save_ball, tells
from toy_bundle import make_toy_volume_bundle

# As archives and people name folders.
PLACE = "Quixote_Alonso_LM-1605/ACC-1615/1605-01-16"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a bundle whose rules look at free text, and a cache of its own."""
    root = make_toy_volume_bundle(tmp_path / "bundles" / "toy_ct")
    with (root / "configs" / "dicom.yaml").open("a") as stream:
        stream.write(
            "minimum_score: -9\n"
            "measurements:\n  measurements:\n"
            "  - key: volume_ml\n"
            "    concept: {value: '118565006', scheme: SCT, meaning: Volume}\n"
            "    unit: {value: mL, scheme: UCUM, meaning: milliliter}\n"
        )
    described = (root / "configs" / "dicom.yaml").read_text()
    rule = "- {name: words, keywords: [SeriesDescription, StudyDescription], accept: [abdomen], otherwise: doubtful}\n"
    (root / "configs" / "dicom.yaml").write_text(described.replace("rules:\n", "rules:\n" + rule))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sound(folder: Path) -> None:
    save_ball(folder / PLACE)


def tilted(folder: Path) -> None:
    save_ball(folder / PLACE, axial(shear=(0, 1.0)))


def gap(folder: Path) -> None:
    save_ball(folder / PLACE)
    (folder / PLACE / "IM0005").unlink()


def two_series(folder: Path) -> None:
    save_ball(folder / PLACE)
    save_ball(folder / PLACE / "Alonso 2")


def no_positions(folder: Path) -> None:
    save_ball(folder / PLACE, ImagePositionPatient=None)


def conflict(folder: Path) -> None:
    made = ball_series()
    (extra,) = ball_series(SeriesInstanceUID=str(made[0].SeriesInstanceUID))[4:5]
    extra.StudyInstanceUID, extra.FrameOfReferenceUID = made[0].StudyInstanceUID, made[0].FrameOfReferenceUID
    extra.PixelData = bytes(len(extra.PixelData))
    save_all([*made, extra], folder / PLACE)


def truncated(folder: Path) -> None:
    save_ball(folder / PLACE)
    path = folder / PLACE / "IM0005"
    path.write_bytes(path.read_bytes()[:-900])


def other_units(folder: Path) -> None:
    save_ball(folder / PLACE, RescaleType="OD")


def multi_frame(folder: Path) -> None:
    save(enhanced(ball(axial()), axial(), **PATIENT), folder / PLACE / "Quixote.dcm")


def with_letters(folder: Path) -> None:
    save_ball(folder / PLACE)
    (folder / "about Quixote.txt").write_text("Dear colleague")
    (folder / "ACC-1615.dcm").write_bytes(b"\0" * 128 + b"DICM")


def a_disc_with_files_missing(folder: Path) -> None:
    files = FileSet()
    for dataset in ball_series():
        files.add(dataset)
    files.write(folder)
    sorted(p for p in folder.rglob("IM*") if p.is_file())[-1].unlink()


INPUTS: list[Callable[[Path], None]] = [
    sound, tilted, gap, two_series, no_positions, conflict, truncated, other_units, multi_frame, with_letters,
    a_disc_with_files_missing,
]  # fmt: skip


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(folder))
    return path


def told_by_files(folder: Path) -> list[str]:
    """What names and contents below a folder tell; DICOM objects belong to the patient and may."""
    texts: list[str | bytes] = []
    for name, content in files_in(folder).items():
        texts.append(name)
        if content and not name.endswith(".dcm"):
            texts.append(gzip.decompress(content) if name.endswith(".gz") else content)
    return tells(*texts)


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("make", INPUTS, ids=lambda make: make.__name__)
def test_nothing_that_is_said_or_written_names_anybody(
    place: Path, clinibundle: Program, make: Callable[[Path], None], form: str
) -> None:
    make(place / "input")
    source = place / "input" if form == "folder" else zipped(place / "input")
    (place / "results").mkdir()
    lines = [
        ["studies", source],
        ["studies", source, "-v"],
        ["studies", source, "--json"],
        ["convert", source, "-o", "results/ct.nii.gz", "-v"],
        ["convert", source, "-o", "results/straight.nii", "--json", "--correct-tilt"],
        ["segment", "toy_ct", source, "-o", "results/one", "-v"],
        ["segment", "toy_ct", source, "-o", "results/all", "--all", "--json", "--correct-tilt"],
    ]
    said = [clinibundle(*line) for line in lines]
    assert tells(*(ran.out + ran.err for ran in said)) == []
    # The last line is no internal error, so that what is tested is the program's own word.
    assert all("internal error" not in ran.err for ran in said)
    assert said[0].code == 0 and said[0].out
    assert told_by_files(place / "results") == []
    for file in (place / "cache").rglob("*"):
        assert file.is_dir() or tells(file.read_bytes()) == []


def test_the_inputs_above_would_tell_it(place: Path) -> None:
    sound(place / "input")
    assert len(told_by_files(place / "input")) >= 4


def test_objects_belong_to_the_patient_and_the_report_says_so_if_asked(place: Path, clinibundle: Program) -> None:
    sound(place / "input")
    ran = clinibundle("segment", "toy_ct", "input", "-o", "out", "--identified", "-v")
    assert ran.code == 0 and tells(ran.out + ran.err) == []
    page = (place / "out" / "report.html").read_text()
    assert all(secret in page for secret in ("Quixote^Alonso", "LM-1605", "15470929", "16050116", "ACC-1615"))
    (place / "out" / "report.html").unlink()
    assert told_by_files(place / "out") == []
    objects = sorted((place / "out").glob("*.dcm"))
    assert len(objects) == 5
    assert {str(pydicom.dcmread(path).PatientName) for path in objects} == {"Quixote^Alonso"}


def test_names_of_segments_are_hidden_where_they_name_the_patient(place: Path, clinibundle: Program) -> None:
    save_ball(place / "study")
    labels = np.zeros((48, 40, 12), np.uint8)
    labels[4:9, 10:20, 3:6] = 1
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1.0, -1, 1, 1]) @ axial()), "labels.nii.gz")
    for kind in ("seg", "rtstruct"):
        clinibundle("convert", "labels.nii.gz", "-o", f"{kind}.dcm", "--source", "study", "--as", kind)
        made = pydicom.dcmread(f"{kind}.dcm")
        if kind == "seg":
            made.SegmentSequence[0].SegmentLabel = "Tumour of Quixote"
        else:
            made.StructureSetROISequence[0].ROIName = "Tumour of Quixote"
        made.save_as(f"{kind}.dcm")
        for options in ([], ["--json"], ["-v"], ["--segment", "Tumour of Quixote"], ["--segment", "Tumour"]):
            line = ["convert", f"{kind}.dcm", "-o", "back.nii.gz", "--overwrite", "--source", "study", *options]
            ran = clinibundle(*line)
            assert ran.code in (0, 2)
            own_words = " ".join(map(str, options))
            assert tells(ran.out) == [] and (tells(ran.err) == [] or "Quixote" in own_words)


def test_warnings_of_the_libraries_never_reach_the_user(place: Path) -> None:
    save_ball(place / "input")
    with disable_value_validation():
        for path in (place / "input").iterdir():
            dataset = pydicom.dcmread(path)
            dataset.PatientID = "LM-1605 " * 12
            dataset.AccessionNumber = "ACC-1615 and much more than fits"
            dataset.PatientAge = "Quixote"
            dataset.add_new("PatientWeight", "DS", "12345678")
            dataset.save_as(path)
            path.write_bytes(path.read_bytes().replace(b"12345678", b"Quixote!"))
    # A process of its own, as pytest has its own way with warnings.
    for line in (
        ["studies", "input"], ["convert", "input", "-o", "ct.nii"], ["segment", "toy_ct", "input", "-o", "out"],
    ):  # fmt: skip
        process = start_process(*line, cwd=place)
        out, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
        assert tells(out + told) == [] and "pydicom" not in told
