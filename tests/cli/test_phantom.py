import json
from pathlib import Path

import nibabel as nib
import pydicom
import pytest

from clinibundle.phantoms import write
from clinibundle.phantoms.chest_ct import make_chest_ct
from command_line import Program


@pytest.fixture(autouse=True)
def small_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "make_chest_ct", lambda seed: make_chest_ct(seed, (16, 32, 32), (18.0, 12.0, 12.0)))


def with_phantom(bundle: Path, kind: str) -> Path:
    (bundle / "configs" / "data.yaml").write_text(f"phantom: {kind}\n")
    return bundle


def test_a_bundle_of_volumes_gets_volumes(toy_bundle: Path, clinibundle: Program, tmp_path: Path) -> None:
    run = clinibundle("phantom", with_phantom(toy_bundle, "chest_ct"), tmp_path / "made", "--cases", 2, "--dicom")
    assert (run.code, run.err) == (0, "")
    assert run.out == f"2 made-up cases in {tmp_path / 'made'}\n"
    rows = json.loads((tmp_path / "made" / "datalist.json").read_text())["training"]
    for row in rows:
        assert nib.load(tmp_path / "made" / row["image"]).shape == (32, 32, 16)
        assert nib.load(tmp_path / "made" / row["label"]).shape == (32, 32, 16)
        files = list((tmp_path / "made" / "dicom" / row["group"]).iterdir())
        assert {pydicom.dcmread(file).Modality for file in files} == {"CT"}
        assert len(files) == 16


def test_a_kind_that_nobody_knows_is_refused_with_the_known_ones(
    toy_bundle: Path, clinibundle: Program, tmp_path: Path
) -> None:
    run = clinibundle("phantom", with_phantom(toy_bundle, "chest_tc"), tmp_path / "made")
    assert run.code == 1
    assert "did you mean 'chest_ct'?" in run.err
    assert not (tmp_path / "made").exists()
