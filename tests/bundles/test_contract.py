"""What every bundle owes its users; a new bundle is found by this test without being named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import Bundle
from clinibundle.phantoms.write import PHANTOMS
from clinibundle.workflows.prepare import LAYOUTS
from repository import ROOT

BUNDLES = sorted(path.parent.parent for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
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

each_bundle = pytest.mark.parametrize("root", BUNDLES, ids=lambda root: root.name)


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
    config = ConfigParser.load_config_file(str(root / "configs" / "inference.yaml"))
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
        ConfigParser.load_config_file(str(root / "configs" / f"{n}.yaml"))["network_def"]
        for n in ("train", "evaluate", "inference")
    ]
    assert networks[0] == networks[1] == networks[2]


@each_bundle
def test_network_in_and_output_are_as_metadata_says(root: Path) -> None:
    inputs = json.loads((root / "configs" / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    parser = read_config(root, "inference")
    parser.parse()
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(root / "models" / "model.pt", map_location="cpu", weights_only=True))
    shape = [size if isinstance(size, int) else 64 for size in inputs["spatial_shape"]]
    with torch.inference_mode():
        answer = network(torch.zeros(1, inputs["num_channels"], *shape))
    outputs = Bundle(root).metadata.network_data_format["outputs"]["pred"]
    assert tuple(answer.shape) == (1, outputs["num_channels"], *shape)
    assert torch.isfinite(answer).all()


@each_bundle
def test_training_has_monais_required_and_optional_properties(root: Path, phantoms: Path, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(root / "configs" / "train.yaml"),
        meta_file=str(root / "configs" / "metadata.json"),
        workflow_type="train",
        bundle_root=str(root),
        dataset_dir=str(phantoms),
        output_dir=str(tmp_path),
        spatial_size=[64, 64],
    )
    workflow.initialize()
    assert not workflow.check_properties()


@each_bundle
def test_inference_has_monais_required_and_optional_properties(root: Path, phantoms: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(root / "configs" / "inference.yaml"),
        meta_file=str(root / "configs" / "metadata.json"),
        workflow_type="infer",
        bundle_root=str(root),
        dataset_dir=str(phantoms / "images"),
    )
    workflow.initialize()
    assert not workflow.check_properties()


@each_bundle
def test_plain_monai_trains_evaluates_and_infers_from_another_folder(
    root: Path, phantoms: Path, tmp_path: Path
) -> None:
    common = ["--bundle_root", str(root), "--dataset_dir"]
    small = ["--epochs", "2", "--batch_size", "2", "--val_interval", "1", "--run_dir", str(tmp_path / "run")]
    log = monai_bundle(
        "run",
        "training",
        "--config_file",
        str(root / "configs/train.yaml"),
        *common,
        str(phantoms),
        *small,
        cwd=tmp_path,
    )
    assert "epoch 2/2" in log and "validation Dice" in log and "left" in log
    weights = tmp_path / "run" / "model.pt"
    assert {path.name for path in (tmp_path / "run").glob("*.pt")} == {
        "model.pt",
        "checkpoint_epoch=1.pt",
        "checkpoint_epoch=2.pt",
    }
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))

    monai_bundle(
        "run", "evaluating", "--config_file", str(root / "configs/evaluate.yaml"), *common, str(phantoms),
        "--weights", str(weights), "--output_dir", str(tmp_path / "figures"), cwd=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "figures" / "metrics.csv").read_text().count("\n") >= 1

    monai_bundle(
        "run", "--config_file", str(root / "configs/inference.yaml"), *common, str(phantoms / "images"),
        "--output_dir", str(tmp_path / "masks"), cwd=tmp_path,
    )  # fmt: skip
    assert len(list((tmp_path / "masks").glob("*_mask.png"))) == 6
    assert not list(tmp_path.glob("models")) and not list(root.glob("runs"))


@each_bundle
def test_checkpoint_exports_to_torchscript_that_answers_alike(root: Path, tmp_path: Path) -> None:
    exported = tmp_path / "model.ts"
    monai_bundle(
        "ckpt_export", "network_def", "--filepath", str(exported), "--ckpt_file", str(root / "models/model.pt"),
        "--meta_file", str(root / "configs/metadata.json"), "--config_file", str(root / "configs/inference.yaml"),
        "--bundle_root", str(root), cwd=tmp_path,
    )  # fmt: skip
    parser = read_config(root, "inference")
    parser.parse()
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(root / "models" / "model.pt", map_location="cpu", weights_only=True))
    picture = torch.rand(1, 1, 256, 256)
    with torch.inference_mode():
        assert torch.allclose(torch.jit.load(exported)(picture), network(picture), atol=1e-4)
