"""What a folder, DICOMDIR, zip or file holds: every series, every volume in it, and whatever was left out."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydicom.fileset import FileSet

from clinibundle.console import Talk
from clinibundle.errors import UnreadableInput
from clinibundle.files import short_hash
from clinibundle.workflows.studies import describe_studies
from dicom.made_volumes import save, save_all
from made_ball import PATIENT, axial, ball_series, save_ball, tells

QUIET = Talk(quiet=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def only_volume(path: Path) -> dict[str, Any]:
    (study,) = describe_studies(path, QUIET)["studies"]
    (series,) = study["series"]
    (volume,) = series["volumes"]
    return volume


def test_a_series_is_told_whole(tmp_path: Path) -> None:
    made = ball_series(SeriesDescription="Thorax 2.5 mm")
    save_all(made, tmp_path / "study")
    (tmp_path / "study" / "note.txt").write_text("Dear colleague")
    uid = str(made[0].SeriesInstanceUID)
    found = describe_studies(tmp_path / "study", QUIET)
    assert found == {
        "studies": [
            {
                "study": short_hash(str(made[0].StudyInstanceUID)),
                "series": [
                    {
                        "series_uid": uid,
                        "modality": "CT",
                        "description": "Thorax 2.5 mm",
                        "objects": 12,
                        "volumes": [
                            {
                                "key": uid,
                                "slices": 12,
                                "shape": [40, 48],
                                "plane": "axial",
                                "apart_by": "",
                                "spacing_mm": [2.5, 1.1, 0.8],
                                "tilt_degrees": 0.0,
                                "problem": None,
                            }
                        ],
                    }
                ],
            }
        ],
        "skipped": [{"name": "note.txt", "reason": "it is no DICOM file (neither preamble nor a DICOM header)"}],
        "files": 13,
        "patients": 1,
    }
    assert json.loads(json.dumps(found)) == found


def test_studies_series_and_patients_are_told_apart(tmp_path: Path) -> None:
    first = ball_series()
    save_all(first, tmp_path / "s" / "a")
    save_ball(tmp_path / "s" / "b", StudyInstanceUID=str(first[0].StudyInstanceUID))
    save_ball(tmp_path / "s" / "c", PatientID="SP-2")
    found = describe_studies(tmp_path / "s", QUIET)
    assert [len(study["series"]) for study in found["studies"]] == [2, 1]
    assert (found["patients"], found["files"]) == (2, 36)


def a_missing_slice(folder: Path) -> None:
    save_ball(folder)
    (folder / "IM0005").unlink()


def two_passes(folder: Path) -> None:
    one, other = ball_series(), ball_series(AcquisitionNumber=2)
    for first, second in zip(one, other, strict=True):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(second, keyword, first[keyword].value)
    save_all(one + other, folder)


def a_slice_twice(folder: Path) -> None:
    made = ball_series()
    save_all([*made, ball_series(**{k: str(made[0][k].value) for k in SERIES})[3]], folder)


SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
FAULTS = {
    "a missing slice": (
        a_missing_slice,
        r"slice spacing varies from 2.5 to 5 mm .limit 0.1 mm., worst between instance 5 and instance 7; "
        r"at least 1 slice is missing",
    ),
    "a tilted gantry": (
        lambda folder: save_ball(folder, axial(shear=(0, 1.0))),
        r"the gantry was tilted by 21\.8 degrees; --correct-tilt straightens it",
    ),
    "no positions": (lambda folder: save_ball(folder, ImagePositionPatient=None), "without a usable ImagePosition"),
    "a slice twice": (a_slice_twice, "1 more pictures lie at the position of one of its slices"),
}


@pytest.mark.parametrize(("make", "words"), FAULTS.values(), ids=FAULTS)
def test_a_volume_that_is_not_sound_says_why(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path / "study")
    assert re.search(words, only_volume(tmp_path / "study")["problem"])


def test_slices_at_one_place_count_once(tmp_path: Path) -> None:
    a_slice_twice(tmp_path / "study")
    assert only_volume(tmp_path / "study")["slices"] == 12


def test_a_tilted_volume_has_its_spacing_along_the_normal(tmp_path: Path) -> None:
    volume = only_volume(save_ball(tmp_path / "study", axial(shear=(0, 1.0))))
    assert (volume["spacing_mm"], volume["tilt_degrees"]) == ([2.5, 1.1, 0.8], 21.8)


def test_volumes_of_one_series_are_told_apart_and_can_be_named(tmp_path: Path) -> None:
    two_passes(tmp_path / "study")
    (series,) = describe_studies(tmp_path / "study", QUIET)["studies"][0]["series"]
    assert [volume["key"] for volume in series["volumes"]] == [f"{series['series_uid']}#{n}" for n in (1, 2)]
    assert [volume["slices"] for volume in series["volumes"]] == [12, 12]
    assert [re.search("AcquisitionNumber .", v["apart_by"])[0] for v in series["volumes"]] == [
        "AcquisitionNumber 1", "AcquisitionNumber 2",
    ]  # fmt: skip


@pytest.mark.parametrize("thickness", ["2.5", None])
def test_a_single_picture_has_its_thickness_as_spacing_if_it_is_known(tmp_path: Path, thickness: str | None) -> None:
    (first, *_) = ball_series(SliceThickness=thickness)
    volume = only_volume(save(first, tmp_path / "IM1"))
    assert volume["spacing_mm"] == [thickness and float(thickness), 1.1, 0.8]
    assert (volume["slices"], volume["problem"]) == (1, None)


def test_objects_without_pictures_are_counted_by_kind(tmp_path: Path) -> None:
    (first, *_) = ball_series(Modality="SR", Rows=None, PixelData=None)
    save(first, tmp_path / "s" / "report")
    (series,) = describe_studies(tmp_path / "s", QUIET)["studies"][0]["series"]
    assert (series["volumes"], series["other_objects"]) == ([], {"SR": 1})


def zipped(source: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(source.rglob("*")):
            archive.write(file, file.relative_to(source))
    return path


def disc(folder: Path) -> Path:
    files = FileSet()
    for dataset in ball_series():
        files.add(dataset)
    files.write(folder)
    return folder


def test_folder_zip_dicomdir_and_zipped_disc_say_the_same(tmp_path: Path) -> None:
    disc(tmp_path / "cd")
    expected = describe_studies(tmp_path / "cd", QUIET)
    assert only_volume(tmp_path / "cd")["slices"] == 12
    assert (expected["files"], expected["skipped"]) == (12, [])
    for path in (tmp_path / "cd" / "DICOMDIR", zipped(tmp_path / "cd", tmp_path / "cd.zip")):
        assert describe_studies(path, QUIET) == expected


def test_a_zip_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    archive = zipped(save_ball(tmp_path / "study"), tmp_path / "study.zip")
    assert only_volume(archive)["slices"] == 12
    assert list((tmp_path / "tmp").iterdir()) == []
    # What lay in a temporary folder is not kept either.
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("by", ["folder", "DICOMDIR", "zip"])
def test_what_a_dicomdir_lists_and_is_not_there_is_told(tmp_path: Path, by: str) -> None:
    files = sorted(p for p in disc(tmp_path / "cd").rglob("*") if p.is_file() and p.name != "DICOMDIR")
    for file in files[-2:]:
        file.unlink()
    path = {"folder": tmp_path / "cd", "DICOMDIR": tmp_path / "cd" / "DICOMDIR"}.get(by)
    found = describe_studies(path or zipped(tmp_path / "cd", tmp_path / "cd.zip"), QUIET)
    (series,) = found["studies"][0]["series"]
    assert (series["missing"], series["objects"], series["volumes"][0]["problem"]) == (2, 10, None)
    assert [item["reason"] for item in found["skipped"]] == ["the DICOMDIR lists it, and it is not there"] * 2
    assert found["files"] == 12


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "there is nothing at"),
        (lambda p: p.mkdir(), "the folder is empty: expected DICOM files"),
        (lambda p: p.write_text("hello"), "none of the 1 files is a DICOM object; the first, 'x': it is no DICOM file"),
        (lambda p: p.write_bytes(b"PK\x03\x04"), "the zip is damaged"),
        (os.mkfifo, "is neither a file nor a folder; name one"),
        (lambda p: shutil.rmtree(disc(p) / "PT000000"), "the first, 'listed file 1': the DICOMDIR lists it, and it is"),
    ],
    ids=["nothing", "empty folder", "text", "damaged zip", "pipe", "disc without its files"],
)
def test_where_nothing_is_dicom_it_is_refused(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(UnreadableInput, match=words):
        describe_studies(tmp_path / "x", QUIET)


def test_who_the_patient_is_is_told_if_asked_and_only_then(tmp_path: Path) -> None:
    save_ball(tmp_path / "Quixote" / "Alonso")
    (tmp_path / "Quixote" / "letter to LM-1605.txt").write_text("Dear colleague")
    for _ in range(2):
        assert tells(json.dumps(describe_studies(tmp_path / "Quixote", QUIET))) == []
    (study,) = describe_studies(tmp_path / "Quixote", QUIET, identified=True)["studies"]
    assert {key: study[key] for key in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate")} == {
        key: PATIENT[key] for key in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate")
    }
    assert study["AccessionNumber"] == "ACC-1615"
    assert study["series"][0]["description"] == "Alonso axial"
