"""What every bundle owes its users; a new bundle is found by this test without being named.

It reads what the bundle says of itself, and so holds for flat pictures and volumes, one channel and several.
CONTRACT_BUNDLES names another folder of bundles than this repository's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import network_shape, write_data_for
from monai.bundle import ConfigParser, ConfigWorkflow

from clinibundle.bundle.configs import config_file, read_config
from clinibundle.bundle.description import Bundle
from clinibundle.phantoms.write import PHANTOMS, write_phantom_cases
from clinibundle.pictures.read import case_name
from clinibundle.workflows.prepare import LAYOUTS
from clinibundle.workflows.stored import read_stored
from repository import ROOT

FOLDER = Path(os.environ.get("CONTRACT_BUNDLES", ROOT / "bundles")).resolve()
BUNDLES = sorted(path.parent.parent for path in FOLDER.glob("*/configs/metadata.json"))
# One for each fold.
CASES = 5
# MONAI's metadata schema of 2024-07-25.
REQUIRED_METADATA = [
    "schema",
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
]
# What inference is made of, which is plain data so that it can be run without trust.
PLAIN_SECTIONS = ("network_def", "preprocessing", "inferer", "postprocessing")
# Makes clinibundle unimportable: a bundle runs where only MONAI and its own named packages are.
WITHOUT_CLINIBUNDLE = (
    "import sys; sys.modules['clinibundle'] = None; import runpy; sys.argv[0] = 'monai.bundle'; "
    "runpy.run_module('monai.bundle', run_name='__main__')"
)

each_bundle = pytest.mark.parametrize("root", BUNDLES, ids=lambda root: root.name, scope="module")


@pytest.fixture(scope="module")
def data(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for the bundle: its phantom, or pictures made by its metadata; not to be changed."""
    folder, bundle = tmp_path_factory.mktemp("made") / root.name, Bundle(root)
    if bundle.data.phantom is None:
        return write_data_for(bundle, folder, CASES)
    write_phantom_cases(bundle.data.phantom, folder, CASES, seed=7, dicom=False)
    return folder


def monai_bundle(*arguments: str, cwd: Path) -> str:
    """Runs plain `python -m monai.bundle` in an environment without clinibundle; its output."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_CLINIBUNDLE, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return run.stdout + run.stderr


def test_there_is_a_bundle_to_test() -> None:
    assert BUNDLES


@each_bundle
def test_metadata_holds_what_the_schema_requires(root: Path) -> None:
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    assert [key for key in REQUIRED_METADATA if key not in metadata] == []
    assert metadata["version"] in metadata["changelog"]
    # MONAI compares versions as strings, where 10 comes before 9.
    assert all(int(part) < 10 for part in metadata["version"].split("."))
    for tensor in [
        *metadata["network_data_format"]["inputs"].values(),
        *metadata["network_data_format"]["outputs"].values(),
    ]:
        assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= set(tensor)
        assert len(tensor["channel_def"]) == tensor["num_channels"]


@each_bundle
def test_every_description_file_is_valid(root: Path) -> None:
    bundle = Bundle(root)
    assert bundle.measure.findings and bundle.report.columns
    assert bundle.data.phantom is None or bundle.data.phantom in PHANTOMS
    assert set(bundle.data.layouts) <= set(LAYOUTS)
    labels = {finding.label for finding in bundle.measure.findings}
    assert bundle.dicom is None or {segment.label for segment in bundle.dicom.segments} == labels


@each_bundle
@pytest.mark.parametrize("file", ["LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf"])
def test_files_that_a_bundle_comes_with_are_there(root: Path, file: str) -> None:
    assert (root / file).stat().st_size > 0


@each_bundle
def test_weights_are_small_and_hold_nothing_but_tensors(root: Path) -> None:
    weights = root / "models" / "model.pt"
    assert weights.stat().st_size <= 8 * 2**20
    state = torch.load(weights, map_location="cpu", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())


@each_bundle
def test_inference_sections_are_plain_data(root: Path) -> None:
    config = ConfigParser.load_config_file(str(config_file(root, "inference")))
    for section in PLAIN_SECTIONS:
        assert [text for text in strings_in(config[section]) if text.startswith("$")] == [], section
        assert "_mode_" not in json.dumps(config[section]), section


def strings_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return [value] if isinstance(value, str) else []


@each_bundle
def test_network_is_the_same_in_every_config(root: Path) -> None:
    networks = [
        ConfigParser.load_config_file(str(config_file(root, name)))["network_def"]
        for name in ("train", "evaluate", "inference")
    ]
    assert networks[0] == networks[1] == networks[2]


def network_of(root: Path) -> torch.nn.Module:
    """The bundle's network with its weights, for inference."""
    parser = read_config(root, "inference")
    parser.parse()
    network: torch.nn.Module = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(root / "models" / "model.pt", map_location="cpu", weights_only=True))
    return network


@each_bundle
def test_network_in_and_output_are_as_metadata_says(root: Path) -> None:
    tensors = Bundle(root).metadata.network_data_format
    inputs, outputs = tensors["inputs"]["image"], tensors["outputs"]["pred"]
    with torch.inference_mode():
        answer = network_of(root)(torch.zeros(1, inputs["num_channels"], *network_shape(inputs)))
    assert tuple(answer.shape) == (1, outputs["num_channels"], *network_shape(outputs))
    assert torch.isfinite(answer).all()


@each_bundle
def test_training_has_monais_required_and_optional_properties(root: Path, data: Path, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(config_file(root, "train")),
        meta_file=str(root / "configs" / "metadata.json"),
        workflow_type="train",
        bundle_root=str(root),
        dataset_dir=str(data),
        output_dir=str(tmp_path),
    )
    workflow.initialize()
    assert not workflow.check_properties()


@each_bundle
def test_inference_has_monais_required_and_optional_properties(root: Path, data: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(config_file(root, "inference")),
        meta_file=str(root / "configs" / "metadata.json"),
        workflow_type="infer",
        bundle_root=str(root),
        dataset_dir=str(data / "images"),
    )
    workflow.initialize()
    assert not workflow.check_properties()


@each_bundle
def test_plain_monai_trains_resumes_evaluates_and_infers_from_another_folder(
    root: Path, data: Path, tmp_path: Path
) -> None:
    def run(name: str, run_id: str, dataset_dir: Path, *arguments: str) -> str:
        configs = ["--bundle_root", str(root), "--config_file", str(config_file(root, name))]
        return monai_bundle("run", run_id, *configs, "--dataset_dir", str(dataset_dir), *arguments, cwd=tmp_path)

    folder = tmp_path / "run"
    small = ["--batch_size", "2", "--val_interval", "1", "--run_dir", str(folder)]
    if "samples_per_epoch" in read_config(root, "train"):
        small += ["--samples_per_epoch", "8"]
    first = run("train", "training", data, "--epochs", "1", *small)
    assert progress_lines(first) == ["1/1"]
    resumed = run(
        "train", "training", data, "--epochs", "2", *small, "--resume_path", str(folder / "checkpoint_epoch=1.pt")
    )
    assert progress_lines(resumed) == ["2/2"]
    assert {path.name for path in folder.glob("*.pt")} == {
        "model.pt", "checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt",
    }  # fmt: skip
    assert list(folder.glob("events.out.tfevents.*"))

    figures = tmp_path / "figures"
    run("evaluate", "evaluating", data, "--weights", str(folder / "model.pt"), "--output_dir", str(figures))
    assert any(np.isfinite(value) for table in figures.glob("*.csv") for value in numbers_in(table))

    masks = tmp_path / "masks"
    run("inference", "run", data / "images", "--output_dir", str(masks))
    for picture in (data / "images").iterdir():
        # A file, or a folder of the case's own.
        (mask,) = (path for path in masks.rglob(f"{case_name(picture)}*") if path.is_file())
        answer = read_stored(mask)
        assert answer.spatial_shape == read_stored(picture).spatial_shape and answer.channels == 1
        assert np.array_equal(answer.array, np.rint(answer.array))
    assert not list(tmp_path.glob("models")) and not list(root.glob("runs"))


def progress_lines(log: str) -> list[str]:
    """Which epoch each line is on that tells loss, validation, speed and the time left."""
    return re.findall(r"epoch (\d+/\d+) .*loss .*validation .* s per epoch .* left", log)


def numbers_in(table: Path) -> list[float]:
    """Every cell that is a number, whatever stands between the cells."""
    cells = re.split(r"[,;\t\n]", table.read_text())
    return [float(cell) for cell in cells if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?|nan|inf", cell)]


@each_bundle
def test_checkpoint_exports_to_torchscript_that_answers_alike(root: Path, tmp_path: Path) -> None:
    exported = tmp_path / "model.ts"
    monai_bundle(
        "ckpt_export", "network_def", "--filepath", str(exported), "--ckpt_file", str(root / "models/model.pt"),
        "--meta_file", str(root / "configs/metadata.json"), "--config_file", str(config_file(root, "inference")),
        "--bundle_root", str(root), cwd=tmp_path,
    )  # fmt: skip
    inputs = Bundle(root).metadata.network_data_format["inputs"]["image"]
    picture = torch.rand(1, inputs["num_channels"], *network_shape(inputs), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(torch.jit.load(exported)(picture), network_of(root)(picture), atol=1e-4)
