"""A bundle whose right answer is known without a network: one convolution that calls bright pixels foreground."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml

NETWORK = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
LOAD = [
    {"_target_": "LoadImaged", "keys": "image", "image_only": True},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0, "maxv": 1},
]
LOAD_BOTH = [
    {"_target_": "LoadImaged", "keys": ["image", "label"], "image_only": True},
    {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
    {"_target_": "ScaleIntensityd", "keys": ["image", "label"], "minv": 0, "maxv": 1},
]
INFERER = {"_target_": "SlidingWindowInferer", "roi_size": [64, 64], "sw_batch_size": 2, "overlap": 0.25}
SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
LEAVE_PROBABILITY = [
    {"_target_": "SplitDimd", "keys": "pred", "output_postfixes": ["background", "bright"]},
    {"_target_": "CopyItemsd", "keys": "pred_bright", "names": "probability"},
]
DEVICE = "$torch.device('cpu')"


def make_toy_bundle(root: Path, threshold: float = 0.5) -> Path:
    """Writes the bundle; a pixel is foreground where the picture, scaled to 0..1, lies above the threshold."""
    configs = root / "configs"
    for folder in (configs, root / "models", root / "docs"):
        folder.mkdir(parents=True)
    (root / "docs" / "README.md").write_text("# toy\n\nFinds what is bright.\n")
    (root / "LICENSE").write_text("Apache-2.0\n")
    weights = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        weights.weight.copy_(torch.tensor([0.0, 50.0]).reshape(2, 1, 1, 1))
        weights.bias.copy_(torch.tensor([50.0 * threshold, 0.0]))
    torch.save(weights.state_dict(), root / "models" / "model.pt")
    (configs / "metadata.json").write_text(json.dumps(_metadata()))
    for name, content in _configs().items():
        (configs / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return root


def _metadata() -> dict[str, object]:
    tensor = {"type": "image", "spatial_shape": ["*", "*"], "dtype": "float32", "value_range": [0, 1]}
    return {
        "version": "0.2.0",
        "monai_version": "1.6.1",
        "pytorch_version": "2.13.0",
        "numpy_version": "2.0.0",
        "required_packages_version": {},
        "task": "Bright spots",
        "description": "Finds what is bright.",
        "authors": "nobody",
        "copyright": "none",
        "network_data_format": {
            "inputs": {"image": {**tensor, "format": "magnitude", "modality": "CR", "num_channels": 1}},
            "outputs": {"pred": {**tensor, "format": "segmentation", "num_channels": 2}},
        },
    }


def _configs() -> dict[str, object]:
    network = "$@network_def.to(@device)"
    return {
        "inference": {
            "bundle_root": ".",
            "weights": "$@bundle_root + '/models/model.pt'",
            "device": DEVICE,
            "network_def": NETWORK,
            "network": network,
            "preprocessing": {"_target_": "Compose", "transforms": LOAD},
            "inferer": INFERER,
            "postprocessing": {
                "_target_": "Compose",
                "transforms": [
                    SOFTMAX,
                    {"_target_": "CopyItemsd", "keys": "pred", "times": 1, "names": "probability"},
                    ARGMAX,
                    {"_target_": "SaveImaged", "keys": "pred", "output_dir": "unused"},
                ],
            },
        },
        "evaluate": {
            "pathlib": "$import pathlib",
            "bundle_root": ".",
            "dataset_dir": "data",
            "fold": None,
            "weights": "$@bundle_root + '/models/model.pt'",
            "device": DEVICE,
            "network_def": NETWORK,
            "network": network,
            "pictures": "$sorted((pathlib.Path(@dataset_dir) / 'images').iterdir())",
            "dataset": {
                "_target_": "Dataset",
                "data": "$[{'image': str(p), 'label': str(p.parent.parent / 'labels' / p.name)} for p in @pictures]",
                "transform": {"_target_": "Compose", "transforms": LOAD_BOTH},
            },
            "inferer": INFERER,
            "postprocessing": {"_target_": "Compose", "transforms": [SOFTMAX, ARGMAX]},
        },
        # Learns nothing, and leaves what a training leaves.
        "train": {
            "pathlib": "$import pathlib",
            "shutil": "$import shutil",
            "torch": "$import torch",
            "bundle_root": ".",
            "dataset_dir": "data",
            "output_dir": "runs",
            "run_dir": "$@output_dir + '/toy_bright/one'",
            "resume_path": None,
            "device": DEVICE,
            "epochs": 1,
            "learning_rate": 0.1,
            "learnt": "$torch.load(@bundle_root + '/models/model.pt')",
            "initialize": ["$pathlib.Path(@run_dir).mkdir(parents=True, exist_ok=True)"],
            "training": [
                "$shutil.copy(@bundle_root + '/models/model.pt', @run_dir + '/model.pt')",
                "$torch.save({'model': @learnt}, @run_dir + '/checkpoint_epoch=' + str(@epochs) + '.pt')",
            ],
        },
        "dicom": {
            "object": "radiograph",
            "rules": [{"name": "modality", "keywords": ["Modality"], "accept": ["CR", "DX"], "missing": "refused"}],
            "segments": [
                {
                    "label": 1,
                    "name": "Bright",
                    "category": {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Altered Structure"},
                    "type": {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"},
                }
            ],
        },
        "measure": {"findings": [{"label": 1, "name": "bright"}], "metrics": ["dice", "hd95"]},
        "report": {
            "title": "Bright spots",
            "columns": [{"key": "fraction", "heading": "Share", "format": ".1%"}],
            "colours": [[200, 0, 0]],
        },
        "data": {"phantom": "chest_radiograph", "layouts": ["image_label_pairs"]},
    }


def make_toy_volume_bundle(root: Path, threshold_hu: float = 0.0) -> Path:
    """The same for CT: a voxel is foreground where it lies above the threshold, in Hounsfield units."""
    make_toy_bundle(root)
    configs = root / "configs"
    weights = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        weights.weight.copy_(torch.tensor([0.0, 0.1]).reshape(2, 1, 1, 1, 1))
        weights.bias.copy_(torch.tensor([0.1 * threshold_hu, 0.0]))
    torch.save(weights.state_dict(), root / "models" / "model.pt")
    metadata = json.loads((configs / "metadata.json").read_text())
    for tensors in metadata["network_data_format"].values():
        for tensor in tensors.values():
            tensor["spatial_shape"] = ["*", "*", "*"]
    metadata["network_data_format"]["inputs"]["image"]["modality"] = "CT"
    (configs / "metadata.json").write_text(json.dumps(metadata))
    inference = yaml.safe_load((configs / "inference.yaml").read_text())
    inference["network_def"] = {**NETWORK, "_target_": "torch.nn.Conv3d"}
    inference["preprocessing"]["transforms"] = LOAD[:2]
    inference["inferer"] = {**INFERER, "roi_size": [64, 64, 64]}
    (configs / "inference.yaml").write_text(yaml.safe_dump(inference, sort_keys=False))
    evaluate = yaml.safe_load((configs / "evaluate.yaml").read_text())
    evaluate |= {"network_def": inference["network_def"], "inferer": inference["inferer"]}
    evaluate["dataset"]["transform"]["transforms"] = LOAD_BOTH[:2]
    evaluate["postprocessing"]["transforms"] = [SOFTMAX, *LEAVE_PROBABILITY, ARGMAX]
    (configs / "evaluate.yaml").write_text(yaml.safe_dump(evaluate, sort_keys=False))
    dicom = yaml.safe_load((configs / "dicom.yaml").read_text())
    dicom |= {"object": "volume", "units": "hounsfield", "rules": VOLUME_RULES}
    (configs / "dicom.yaml").write_text(yaml.safe_dump(dicom, sort_keys=False))
    report = yaml.safe_load((configs / "report.yaml").read_text())
    report["columns"] = [{"key": "volume_ml", "heading": "Volume", "unit": "ml", "format": ".2f"}]
    (configs / "report.yaml").write_text(yaml.safe_dump(report, sort_keys=False))
    return root


VOLUME_RULES = [
    {"name": "modality", "keywords": ["Modality"], "accept": ["CT"], "missing": "refused"},
    {"name": "image_type", "keywords": ["ImageType"], "refuse_words": ["LOCALIZER"], "missing": "fits"},
    {"name": "plane", "keywords": ["plane"], "accept": ["axial"]},
    {"name": "slices", "keywords": ["slices"], "at_least": 2},
    {"name": "slice_spacing", "keywords": ["slice_spacing_mm"], "at_most": 10, "prefer_at_most": 3},
]
