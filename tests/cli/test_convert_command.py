"""`convert` on the command line: what it says, in which form, and that it starts without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from command_line import Program, files_in
from made_ball import axial, save_ball
from toy_bundle import make_toy_volume_bundle


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a study, a label map on it, and a bundle in bundles/."""
    save_ball(tmp_path / "study", SeriesDescription="Thorax")
    labels = np.zeros((48, 40, 12), np.uint8)
    labels[4:9, 10:20, 3:6] = 1
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1.0, -1, 1, 1]) @ axial()), tmp_path / "labels.nii.gz")
    make_toy_volume_bundle(tmp_path / "bundles" / "toy_ct")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_series_becomes_nifti_and_what_was_doubtful_is_a_warning(clinibundle: Program) -> None:
    ran = clinibundle("convert", "study", "-o", "ct.nii.gz")
    assert (ran.code, ran.out) == (0, "wrote ct.nii.gz\n")
    assert ran.err.splitlines() == [
        "reading headers (12)",
        "reading slices (12)",
        "warning: pixel_spacing: pixels are not square; taken as stated",
    ]
    assert nibabel.load("ct.nii.gz").shape == (48, 40, 12)
    told = clinibundle("convert", "study", "-o", "ct.nii.gz", "--overwrite", "--verbose").err
    assert "  slice_spacing: 12 slices, evenly 2.5 mm apart" in told


def test_json_is_one_document(clinibundle: Program) -> None:
    found = json.loads(clinibundle("convert", "study", "-o", "ct.nii", "--json").out)
    assert (found["output"], found["labels"]) == ("ct.nii", {})
    assert all(check.keys() == {"name", "status", "value", "limit", "detail"} for check in found["checks"])
    assert {check["name"] for check in found["checks"]} >= {"slice_order", "slice_spacing", "gantry_tilt", "units"}
    found = json.loads(clinibundle("convert", "labels.nii.gz", "-o", "s.dcm", "--source", "study", "--json").out)
    assert found["labels"] == {"1": "Label 1"}


def test_a_bundle_says_what_the_labels_of_a_seg_mean(clinibundle: Program) -> None:
    ran = clinibundle("convert", "labels.nii.gz", "-o", "s.dcm", "--source", "study", "--bundle", "toy_ct", "-q")
    assert (ran.code, ran.out, ran.err) == (0, "label 1: Bright\nwrote s.dcm\n", "")
    (segment,) = pydicom.dcmread("s.dcm").SegmentSequence
    assert segment.SegmentLabel == "Bright" and segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
    assert clinibundle("convert", "s.dcm", "-o", "b.nii.gz", "--segment", "Bright", "-q").out.startswith("label 1: Bri")


WRONG = {
    "no output": ("convert study", 2, "--output"),
    "another ending": ("convert study -o ct.png", 2, "'ct.png' has another ending"),
    "no source": ("convert labels.nii.gz -o s.dcm", 2, "name the series with --source"),
    "into the input": ("convert study -o study/ct.nii", 2, "never written to"),
    "into the source": ("convert labels.nii.gz -o study/s.dcm --source study", 2, "never written to"),
    "mistyped bundle": ("convert labels.nii.gz -o s.dcm --source study --bundle toy_tc", 2, "did you mean 'toy_ct'?"),
    "mistyped segment": ("convert seg.dcm -o b.nii.gz --segment Brigth", 2, "did you mean 'Bright'?"),
    "nothing there": ("convert nothing -o ct.nii", 1, "there is nothing at 'nothing'"),
    "output there": ("convert study -o labels.nii.gz", 1, "add --overwrite"),
    "no such series": ("convert study -o ct.nii --series 1.2.3", 1, "no series 1.2.3 in the input"),
    "no volume": ("convert bundles -o ct.nii", 1, "is a DICOM image"),
}


@pytest.mark.parametrize(("line", "code", "words"), WRONG.values(), ids=WRONG)
def test_what_is_refused_or_wrong_leaves_everything_as_it_was(
    place: Path, clinibundle: Program, line: str, code: int, words: str
) -> None:
    clinibundle("convert", "labels.nii.gz", "-o", "seg.dcm", "--source", "study", "--bundle", "toy_ct", "-q")
    before = files_in(place)
    ran = clinibundle(*line.split())
    assert (ran.code, ran.out) == (code, "")
    assert words in " ".join(ran.err.replace("│", " ").split())
    assert files_in(place) == before


def test_a_bundle_without_names_for_its_labels_is_refused(place: Path, clinibundle: Program) -> None:
    (place / "bundles" / "toy_ct" / "configs" / "dicom.yaml").unlink()
    ran = clinibundle("convert", "labels.nii.gz", "-o", "s.dcm", "--source", "study", "--bundle", "toy_ct")
    assert ran.code == 2 and "does not say what its labels are called in DICOM" in ran.err


def test_which_volume_was_taken_is_said(place: Path, clinibundle: Program) -> None:
    save_ball(place / "study" / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    told = clinibundle("convert", "study", "-o", "ct.nii").err
    assert "series …" in told and "of 2: score 1: fits every rule" in told
    assert "ImageType says 'LOCALIZER'" in told


@pytest.mark.parametrize(
    "line",
    [
        "convert study -o ct.nii.gz",
        "convert labels.nii.gz -o s.dcm --source study --bundle toy_ct",
        "convert seg.dcm -o b.nii.gz --source study",
    ],
)
def test_torch_and_monai_are_not_imported(place: Path, clinibundle: Program, line: str) -> None:
    clinibundle("convert", "labels.nii.gz", "-o", "seg.dcm", "--source", "study", "-q")
    (place / "no").mkdir()
    for name in ("torch", "monai"):
        (place / "no" / f"{name}.py").write_text("raise ImportError('imported to convert')")
    ran = subprocess.run(
        [sys.executable, "-m", "clinibundle", *line.split()],
        env={**os.environ, "PYTHONPATH": str(place / "no")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].startswith("wrote ")
