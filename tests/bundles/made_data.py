"""A data folder that fits a bundle by what the bundle says of itself, for tests of bundles that name no phantom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clinibundle.bundle.description import Bundle

# Where the metadata leaves a side open, as in "*" and "16*n": it fits networks that halve it six times.
OPEN_SIDE = 64


def network_shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    """(x, y) or (x, y, z) of one of the network's tensors, as metadata.json states it."""
    return tuple(size if isinstance(size, int) else OPEN_SIDE for size in tensor["spatial_shape"])


def write_data_for(bundle: Bundle, folder: Path, cases: int) -> Path:
    """Noise with a bright box for each value of a label, PNG for flat pictures and NIfTI for volumes, a fold a case."""
    shape = network_shape(bundle.metadata.network_data_format["inputs"]["image"])
    allowed = bundle.data.label_values
    values = sorted(allowed[0] if allowed else {0, *(finding.label for finding in bundle.measure.findings)})
    ending = "png" if len(shape) == 2 else "nii.gz"
    random, rows = np.random.default_rng(0), []
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(cases):
        label = np.zeros(shape, np.uint8)
        for place, value in enumerate(values[1:], start=1):
            # Boxes side by side, each a few pixels elsewhere from case to case.
            width = shape[0] // (len(values) + 1)
            label[place * width : (place + 1) * width, shape[1] // 4 + number : 3 * shape[1] // 4] = value
        image = random.normal(60, 8, (*shape, bundle.channels)) + 100 * (label > 0)[..., None]
        row = {"image": f"images/case-{number}.{ending}", "label": f"labels/case-{number}.{ending}"}
        _write(folder / row["image"], image[..., 0] if bundle.channels == 1 else image)
        _write(folder / row["label"], label)
        rows.append({**row, "fold": number, "group": f"patient-{number}"})
    (folder / "datalist.json").write_text(json.dumps({"training": rows}))
    return folder


def _write(path: Path, array: NDArray[Any]) -> None:
    if path.suffix == ".png":
        Image.fromarray(np.swapaxes(array, 0, 1).astype(np.uint8)).save(path)
    else:
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.eye(4)), path)
