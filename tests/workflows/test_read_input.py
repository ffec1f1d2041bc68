"""Volumes of files that say no units, as bundles take them that want Hounsfield units."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import UnsuitableInput
from clinibundle.volume import Volume
from clinibundle.workflows.read_input import DicomOptions, find_cases
from toy_bundle import make_toy_volume_bundle


def read(tmp_path: Path, low: int, high: int) -> Volume:
    path = tmp_path / "scan.nii.gz"
    values = np.linspace(low, high, 4 * 5 * 6).reshape(4, 5, 6).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    bundle = Bundle(make_toy_volume_bundle(tmp_path / "toy"))
    assert bundle.dicom is not None and bundle.dicom.units == "hounsfield"
    (case,) = find_cases(path, bundle, DicomOptions(), Talk(quiet=True))
    return case.read()[0]


def test_values_with_air_are_taken_as_hounsfield_units_and_the_report_says_so(tmp_path: Path) -> None:
    volume = read(tmp_path, -1000, 400)
    assert volume.meaning == "hounsfield"
    (check,) = (check for check in volume.checks if check.name == "hounsfield_units")
    assert (check.status, check.value) == ("passed", [-1000, 400]) and "assumed" in check.detail


def test_values_without_air_are_doubtful(tmp_path: Path) -> None:
    (check,) = (check for check in read(tmp_path, -100, 400).checks if check.name == "hounsfield_units")
    assert check.status == "warning" and "lowest value -100" in check.detail


def test_values_stored_with_an_offset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableInput, match="run from 0 to 4095; Hounsfield units are expected"):
        read(tmp_path, 0, 4095)
