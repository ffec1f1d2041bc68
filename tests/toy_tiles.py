"""A bundle that is asked tile by tile: two convolutions of known weights call dark pixels membrane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

NETWORK = {
    "_target_": "monai.networks.blocks.Convolution",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "kernel_size": 5,
    "conv_only": True,
}
CELLS = {
    "_target_": "clinibundle.transforms.instances.CellsOfProbabilityd",
    "keys": "pred",
    "smoothing_px": 1.0,
    "seed_probability": 0.8,
    "min_seed_px": 4,
    "levels": [0.7, 0.5],
    "steps": 3,
    "min_cell_px": 6,
}


METRICS = ["rand_error", "v_rand", "warping_error", "dice"]


def make_tiled_bundle(root: Path, tile_size: int = 32, **inferer: Any) -> Path:
    """Writes the bundle; interior is where the blurred section lies above its mean."""
    configs = root / "configs"
    for folder in (configs, root / "models", root / "docs"):
        folder.mkdir(parents=True)
    (root / "docs" / "README.md").write_text("# toy tiles\n")
    weight = torch.zeros(2, 1, 5, 5)
    weight[1] = 6 / 25
    torch.save({"conv.weight": weight, "conv.bias": torch.tensor([0.0, 0.5])}, root / "models" / "model.pt")
    tensor = {"type": "image", "spatial_shape": ["*", "*"], "dtype": "float32", "value_range": []}
    metadata = {
        "main_metric": "rand_error",
        "version": "0.1.0",
        "task": "Cells",
        "description": "Finds what is bright.",
        "network_data_format": {
            "inputs": {"image": {**tensor, "num_channels": 1}},
            "outputs": {"pred": {**tensor, "num_channels": 2}},
        },
        "memory": {"fixed_mib": 10, "bytes_per_voxel": 100},
    }
    (configs / "metadata.json").write_text(json.dumps(metadata))
    load = [
        {"_target_": name, "keys": "image"} for name in ("LoadImaged", "EnsureChannelFirstd", "NormalizeIntensityd")
    ]
    split = {"_target_": "SplitDimd", "keys": "pred", "output_postfixes": ["membrane", "interior"]}
    contents = {
        "inference": {
            "bundle_root": ".",
            "device": "$torch.device('cpu')",
            "network_def": NETWORK,
            "preprocessing": {"_target_": "Compose", "transforms": load},
            "inferer": {
                "_target_": "clinibundle.inferers.overlap_tile.OverlapTileInferer",
                **{"tile_size": tile_size, "halo": 4, "multiple": 2, **inferer},
            },
            "postprocessing": {
                "_target_": "Compose",
                "transforms": [
                    {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                    split,
                    {"_target_": "DeleteItemsd", "keys": ["pred", "pred_membrane"]},
                    {"_target_": "CopyItemsd", "keys": "pred_interior", "times": 2, "names": ["probability", "pred"]},
                    CELLS,
                ],
            },
        },
        "measure": {"findings": [{"label": 1, "name": "cells"}], "metrics": METRICS, "fixed_threshold": 0.4},
        "report": {
            "title": "Cells",
            "columns": [{"key": "cells", "heading": "Cells"}, {"key": "median_area_px", "heading": "Median area"}],
            "colours": [[0, 160, 220], [230, 120, 0]],
        },
    }
    contents["evaluate"] = _evaluate(contents["inference"])
    for name, content in contents.items():
        (configs / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return root


def _evaluate(inference: dict[str, Any]) -> dict[str, Any]:
    both = ["image", "label"]
    load = [{"_target_": name, "keys": both} for name in ("LoadImaged", "EnsureChannelFirstd")]
    steps = list(inference["postprocessing"]["transforms"])
    steps[-1:] = [
        {"_target_": "CopyItemsd", "keys": "pred", "names": "cells"},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        {**CELLS, "keys": "cells"},
    ]
    return {
        **{key: inference[key] for key in ("bundle_root", "device", "network_def", "inferer")},
        "pathlib": "$import pathlib",
        "dataset_dir": "data",
        "weights": "$@bundle_root + '/models/model.pt'",
        "network": "$@network_def.to(@device)",
        "pictures": "$sorted((pathlib.Path(@dataset_dir) / 'images').iterdir())",
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': str(p), 'label': str(p.parent.parent / 'labels' / p.name)} for p in @pictures]",
            "transform": {
                "_target_": "Compose",
                "transforms": [
                    *load,
                    {"_target_": "AsDiscreted", "keys": "label", "threshold": 0.5},
                    {"_target_": "NormalizeIntensityd", "keys": "image"},
                ],
            },
        },
        "postprocessing": {"_target_": "Compose", "transforms": steps},
    }
