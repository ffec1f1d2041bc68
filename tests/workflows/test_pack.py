"""Packing: complete, the same twice, and nothing in it that tells of a patient."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from clinibundle.exchange.inspection import inspect_bundle
from clinibundle.exchange.verdicts import Verdict
from command_line import Program
from repository import ROOT

BUNDLE = ROOT / "bundles" / "lung_xray"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "lung_xray.zip"
    command = [sys.executable, "-m", "clinibundle", "pack", str(BUNDLE), "--output", str(path), "--quiet"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return path


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Program:
    monkeypatch.chdir(tmp_path)
    return Program(monkeypatch, capsys)


def read(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.removeprefix(f"{BUNDLE.name}/"): archive.read(name) for name in archive.namelist()}


def test_the_same_bundle_gives_the_same_bytes(packed: Path, program: Program, tmp_path: Path) -> None:
    assert program("pack", BUNDLE, "--output", "again.zip").code == 0
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_the_manifest_names_every_file_with_its_fingerprint(packed: Path) -> None:
    files = read(packed)
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert manifest["name"] == "lung_xray" and manifest["version"] == metadata["version"]
    assert manifest["metrics"] == metadata["eval_metrics"] and manifest["parameters"] > 10**5
    assert manifest["weights_licence"]["name"] == metadata["weights_licence"]["name"]


def test_every_config_has_a_twin_in_json_and_keeps_what_was_written(packed: Path) -> None:
    files = read(packed)
    for path in (BUNDLE / "configs").glob("*.yaml"):
        assert files[f"configs/{path.name}"] == path.read_bytes()
        assert json.loads(files[f"configs/{path.stem}.json"]) == yaml.safe_load(path.read_text())


def test_it_is_clean_and_answers_its_own_test_case(packed: Path, program: Program, tmp_path: Path) -> None:
    assert inspect_bundle(packed).verdict is Verdict.CLEAN
    files = read(packed)
    case = json.loads(files["manifest.json"])["test_case"]
    (tmp_path / "input.png").write_bytes(files[case["input"]])
    (tmp_path / "expected.png").write_bytes(files[case["expected"]])
    assert program("segment", packed, "input.png", "--output-dir", "out").code == 0
    mask, expected = (np.asarray(Image.open(path)) for path in ("out/mask.png", "expected.png"))
    assert mask.shape == expected.shape and expected.any()
    assert 2 * (mask & expected).astype(bool).sum() / (mask.astype(bool).sum() + expected.astype(bool).sum()) > 0.99


def test_overlays_are_put_in_and_then_needed_packages_are_named(program: Program, tmp_path: Path) -> None:
    ran = program("pack", BUNDLE, "--output", "x.zip", "--overlay", "losses/weighted_ce", "--overlay", "hardware/cpu")
    assert ran.code == 0, ran.err
    files = read(tmp_path / "x.zip")
    train = json.loads(files["configs/train.json"])
    assert train["pixel_loss"]["_target_"].startswith("clinibundle.losses") and train["bundle_root"] == "."
    assert yaml.safe_load(files["configs/train.yaml"]) == train
    assert files["configs/train.yaml"].startswith(b"# With these overlays put in: weighted_ce, cpu")
    # What the overlays do not touch stays as it was written.
    assert files["configs/data.yaml"] == (BUNDLE / "configs" / "data.yaml").read_bytes()
    assert "clinibundle" in json.loads(files["configs/metadata.json"])["required_packages_version"]
    assert json.loads(files["manifest.json"])["overlays"] == ["weighted_ce", "cpu"]


def test_what_is_there_is_not_overwritten_unasked(packed: Path, program: Program) -> None:
    before = packed.read_bytes()
    ran = program("pack", BUNDLE, "--output", packed)
    assert ran.code == 1 and "--overwrite" in ran.err and packed.read_bytes() == before


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    root = tmp_path / "lung_xray"
    for path in BUNDLE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            to = root / path.relative_to(BUNDLE)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    return root


UID = "1.2.826.0.1.3680043.8.498.12345678901234567890"
TELLING = {
    "list of data": ("docs/datalist.json", b"{}"),
    "log": ("runs/a/log.txt", b"epoch 1"),
    "log of TensorBoard": ("docs/events.out.tfevents.1.host", b"x"),
    "checkpoint": ("models/checkpoint_epoch=3.pt", b"x"),
    "DICOM by its ending": ("docs/a.dcm", b"x"),
    "DICOM by its content": ("docs/a", bytes(128) + b"DICM" + bytes(20)),
    "volume": ("docs/example.nii.gz", b"x"),
    "folder of pictures": ("images/a.png", b"x"),
    "identifier of a study": ("docs/notes.md", f"bad in {UID}".encode()),
    "name of a person": ("docs/cases.csv", b"case,name\n1,Doe^Jane\n"),
    "header": ("docs/notes.txt", b"PatientID: 4711"),
    "path of a machine": ("docs/notes.md", b"trained on /home/jane/studies/2024"),
    "path of Windows": ("docs/notes.md", b"trained on D:\\studies\\2024"),
    "output of a notebook": ("docs/a.ipynb", json.dumps({"cells": [{"outputs": [{"text": "x"}]}]}).encode()),
}


@pytest.mark.parametrize("name", TELLING)
def test_what_could_tell_of_a_patient_is_refused_with_its_place(
    name: str, bundle: Path, program: Program, tmp_path: Path
) -> None:
    path, content = TELLING[name]
    (bundle / path).parent.mkdir(parents=True, exist_ok=True)
    (bundle / path).write_bytes(content)
    ran = program("pack", bundle, "--output", "x.zip")
    assert ran.code == 1 and "could tell of patients" in " ".join(ran.err.split())
    assert path in ran.err.replace("\\n", "")
    assert not (tmp_path / "x.zip").exists() and not list(tmp_path.glob(".*part"))


def test_a_bundle_that_every_clinic_would_refuse_is_not_packed(bundle: Path, program: Program, tmp_path: Path) -> None:
    (bundle / "scripts_lung_xray" / "extra.py").write_text("import subprocess\n")
    ran = program("pack", bundle, "--output", "x.zip")
    assert ran.code == 1 and "subprocess" in ran.err and not (tmp_path / "x.zip").exists()


def test_a_bundle_without_weights_is_not_packed(bundle: Path, program: Program, tmp_path: Path) -> None:
    (bundle / "models" / "model.pt").unlink()
    ran = program("pack", bundle, "--output", "x.zip")
    assert ran.code == 1 and "has no weights" in ran.err and not (tmp_path / "x.zip").exists()
