"""A toy bundle for CT that looks at single slices with their neighbours as channels, and may be run in slabs.

It is made as bundles for thick slices are: turned to LPS, resampled within the slices only, neighbours by `Affined`, a
2-D network slice by slice, the probability back on the source grid, small objects removed by volume.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from toy_bundle import make_toy_volume_bundle

NEIGHBOURS = {"below_2": -2, "below_1": -1, "above_1": 1, "above_2": 2}
CHANNELS = ["slice", *NEIGHBOURS]
MEMORY = {
    "fixed_mib": 200,
    "bytes_per_voxel": 30,
    "bytes_per_network_voxel": 50,
    "network_spacing_mm": [1.4, 1.4, None],
    "slabs": {"axis": "SI", "halo_slices": 2, "statistics": "none"},
}
SMALL_MM3 = 30
CLEAN = {
    "_target_": "RemoveSmallObjectsd",
    "keys": "pred",
    "min_size": SMALL_MM3,
    "connectivity": 3,
    "by_measure": True,
}


def make_toy_slice_bundle(root: Path, memory: dict[str, Any] | None = MEMORY) -> Path:
    """Writes the bundle: a voxel is foreground where it and its neighbours, two slices up and down, are bright.

    Args:
        root: of the bundle.
        memory: what it states of its need; None for nothing.
    """
    make_toy_volume_bundle(root)
    configs = root / "configs"
    network = torch.nn.Conv2d(len(CHANNELS), 2, 1)
    with torch.no_grad():
        # No two neighbours weigh the same: a turned or shifted slab would be noticed.
        network.weight.copy_(torch.tensor([[0.0] * 5, [9.0, 6.0, 4.5, -3.5, 2.5]])[..., None, None])
        network.bias.copy_(torch.tensor([12.0, 0.0]))
    torch.save(network.state_dict(), root / "models" / "model.pt")
    metadata = json.loads((configs / "metadata.json").read_text())
    (configs / "metadata.json").write_text(json.dumps(metadata | ({"memory": memory} if memory else {})))
    inference = yaml.safe_load((configs / "inference.yaml").read_text())
    inference["network_def"] = {
        "_target_": "torch.nn.Conv2d",
        "in_channels": len(CHANNELS),
        "out_channels": 2,
        "kernel_size": 1,
    }
    inference["preprocessing"]["transforms"] = preprocessing()
    inference["inferer"] = {"_target_": "SliceInferer", "roi_size": [32, 32], "spatial_dim": 2, "sw_batch_size": 3}
    inference["postprocessing"]["transforms"] = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "SplitDimd", "keys": "pred", "output_postfixes": ["background", "bright"]},
        {"_target_": "DeleteItemsd", "keys": ["pred", "pred_background"]},
        {
            "_target_": "Invertd",
            "keys": "pred_bright",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
        },
        {"_target_": "CopyItemsd", "keys": "pred_bright", "times": 2, "names": ["probability", "pred"]},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        {"_target_": "CastToTyped", "keys": "pred", "dtype": "uint8"},
        CLEAN,
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "unused"},
    ]
    (configs / "inference.yaml").write_text(yaml.safe_dump(inference, sort_keys=False))
    return root


def preprocessing() -> list[dict[str, Any]]:
    """From a file to five channels of 1.4 mm, the slice first."""
    return [
        {"_target_": "LoadImaged", "keys": "image", "image_only": True},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS", "labels": None},
        {
            "_target_": "Spacingd",
            "keys": "image",
            "pixdim": [1.4, 1.4, -1],
            "mode": "bilinear",
            "padding_mode": "border",
            "dtype": "float32",
        },
        {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1000, "a_max": 400, "b_min": 0, "b_max": 1},
        {"_target_": "CopyItemsd", "keys": "image", "times": len(NEIGHBOURS), "names": list(NEIGHBOURS)},
        *(
            {
                "_target_": "Affined",
                "keys": name,
                "translate_params": [0, 0, step],
                "mode": "nearest",
                "padding_mode": "border",
            }
            for name, step in NEIGHBOURS.items()
        ),
        {"_target_": "CopyItemsd", "keys": "image", "names": "slice"},
        {"_target_": "ConcatItemsd", "keys": CHANNELS, "name": "image"},
        {"_target_": "DeleteItemsd", "keys": CHANNELS},
    ]
