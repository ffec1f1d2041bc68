"""Slabs of neighbouring slices as small volumes, for three-dimensional networks: out of the same store as slices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from .crops import read_stack
from .slice_store import read_facts

_AIR_HU = -1024


class LoadSlabd(Transform):
    """Reads the slices around a slice from the store, from the feet upwards; beyond the scan there is air.

    Of a row with `store` and `slice` it makes `image`: (slices, x, y) float32 in HU and `zones`: (slices, x, y), see
    `zones.find_zones`; the slice itself is number slices // 2.

    Args:
        slices: how many.
    """

    def __init__(self, slices: int) -> None:
        self.slices = slices

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        count = len(read_facts(row["store"])["indices"])
        first = row["slice"] - self.slices // 2
        inside = range(max(first, 0), min(first + self.slices, count))
        images, zones = read_stack(row["store"], inside)
        before, after = inside.start - first, first + self.slices - inside.stop
        padding = ((before, after), (0, 0), (0, 0))
        row["image"] = torch.from_numpy(np.pad(images.astype(np.float32), padding, constant_values=_AIR_HU))
        row["zones"] = torch.from_numpy(np.pad(zones, padding))
        return row


class SlicesToVolumed(Transform):
    """Makes (1, x, y, slices) of the (slices, x, y) of `image` and `label`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in ("image", "label"):
            row[key] = row[key].movedim(0, -1)[None].contiguous()
        return row
