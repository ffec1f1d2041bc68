"""Loading for evaluation: volumes, and pictures of slices as small volumes with their neighbours."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImage, Transform
from monai.utils import ensure_tuple

from .datalist import PICTURE_OFFSET_HU, with_neighbours


class LoadScand(Transform):
    """Reads `image` as (1, x, y, z) in HU, and `label` as 0 and 1 on its own grid.

    A picture of a slice becomes a volume of `slices`, its neighbours and itself in the middle, laid out in LPS; its
    label is (1, x, y).

    Args:
        unknown_spacing_mm: pixel size of pictures that do not state theirs.
    """

    def __init__(self, unknown_spacing_mm: float) -> None:
        self.unknown_spacing_mm = unknown_spacing_mm
        self._load = LoadImage(image_only=True, ensure_channel_first=True, dtype=torch.float32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        row["label"] = (self._load(row["label"]) > 0).float()
        if "slices" not in row:
            row["image"] = self._load(row["image"])
            return row
        rows_mm, columns_mm = row.get("spacing_mm") or (self.unknown_spacing_mm,) * 2
        affine = torch.diag(torch.tensor([-columns_mm, -rows_mm, 1.0, 1.0], dtype=torch.float64))
        stack = torch.stack([self._load(path).as_tensor() for path in row["slices"]], dim=-1)
        path = row["image"]
        row["image"] = MetaTensor(stack - PICTURE_OFFSET_HU, affine=affine, meta={"filename_or_obj": path})
        return row


class KeepOwnSliced(Transform):
    """Of what was found in the small volume of a picture, keeps the middle slice, as (1, x, y)."""

    def __init__(self, keys: KeysCollection) -> None:
        self.keys = ensure_tuple(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        if "slices" in row:
            for key in self.keys:
                row[key] = row[key][..., row[key].shape[-1] // 2]
        return row


def measured_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with neighbours and without what evaluation does not need, which may differ from row to row."""
    needed = ("image", "label", "slices", "spacing_mm")
    return [
        {key: row[key] for key in needed if row.get(key) is not None and (key != "spacing_mm" or "slices" in row)}
        for row in with_neighbours(rows)
    ]
