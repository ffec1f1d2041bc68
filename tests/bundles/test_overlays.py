"""Overlays of configs/networks and configs/losses fit every bundle whose network sees flat pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_data import write_data_for

from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import Bundle
from clinibundle.phantoms.write import write_phantom_cases
from repository import ROOT

BUNDLES = [
    path.parent.parent
    for path in sorted(ROOT.glob("bundles/*/configs/metadata.json"))
    if len(Bundle(path.parent.parent).metadata.network_data_format["inputs"]["image"]["spatial_shape"]) == 2
]
NETWORKS, LOSSES = (sorted((ROOT / "configs" / kind).glob("*.yaml")) for kind in ("networks", "losses"))

each_bundle = pytest.mark.parametrize("root", BUNDLES, ids=lambda root: root.name, scope="module")


@pytest.fixture(scope="module")
def data(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle, folder = Bundle(root), tmp_path_factory.mktemp("made") / root.name
    if bundle.data.phantom is None:
        return write_data_for(bundle, folder, 2)
    write_phantom_cases(bundle.data.phantom, folder, 2, seed=7, dicom=False)
    return folder


def parsed(root: Path, name: str, overlay: Path, **settings: Any) -> Any:
    parser = read_config(root, name, [overlay], settings)
    parser["device"] = "$torch.device('cpu')"
    return parser


def test_there_are_overlays_and_bundles_to_test() -> None:
    assert len(BUNDLES) >= 2 and len(NETWORKS) >= 4 and len(LOSSES) >= 8


@each_bundle
@pytest.mark.parametrize("overlay", NETWORKS, ids=lambda path: path.stem)
def test_a_network_answers_in_the_pictures_size_in_all_workflows_alike(root: Path, overlay: Path) -> None:
    networks = []
    for name in ("train", "evaluate", "inference"):
        parser = parsed(root, name, overlay)
        networks.append(
            {**parser["network_def"], **{key: parser[key] for key in ("input_channels", "output_channels")}}
        )
    assert networks[0] == networks[1] == networks[2]
    network = parser.get_parsed_content("network_def").eval()
    with torch.inference_mode():
        answer = network(torch.rand(1, networks[0]["input_channels"], 96, 64))
    assert answer.shape == (1, networks[0]["output_channels"], 96, 64)


@each_bundle
@pytest.mark.parametrize("overlay", LOSSES, ids=lambda path: path.stem)
def test_a_loss_takes_the_bundles_labels_and_falls_as_answers_get_better(
    root: Path, data: Path, overlay: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stored = {"store_dir": str(data.parent / "store")} if "store_dir" in read_config(root, "train") else {}
    parser = parsed(root, "train", overlay, dataset_dir=str(data), fold=None, output_dir=str(data.parent), **stored)
    dataset = parser.get_parsed_content("train#dataset")
    label = next(row["label"] for row in dataset if len(torch.unique(row["label"][:1])) > 1)[None]
    loss = parser.get_parsed_content("loss")
    torch.manual_seed(0)
    logits = torch.randn(1, parser["output_channels"], *label.shape[2:], requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    values = []
    for _ in range(40):
        value = loss(logits, label)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.6 * values[0] and logits.isfinite().all()
