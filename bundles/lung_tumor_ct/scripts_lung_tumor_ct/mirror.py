"""Slices with a tumour made into slices without: the healthy half of the chest, and its mirror image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import RandomizableTransform

from .zones import NEAR_LUNG, TUMOUR

_BODY_ABOVE_HU = -500
_AIR_HU = -1024
# The tumour's neighbouring slices are not known here: theirs may reach this much nearer to the middle.
_MARGIN_PX = 10
# So much of the healthy half must lie in or near lung.
_LUNG_SHARE = 0.1


class RandMirrorHealthyHalfd(RandomizableTransform):
    """Puts the mirror image of the half without tumour in the place of the other one; reads and gives `image`, `zones`.

    The slices that came without tumour came without neighbours. Without this, neighbours that differ would tell a
    network that there is a tumour somewhere. Where the tumour lies near the middle nothing is done.

    Reads `image` (channels, x, y) in HU and `zones` (1, x, y), x from the patient's right to the left, before the crop.

    Args:
        prob: chance that a slice with tumour is made into one without, where that can be done.
    """

    def __init__(self, prob: float) -> None:
        super().__init__(prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        self.randomize(None)
        zones: torch.Tensor = row["zones"]
        tumour_at = np.flatnonzero((zones[0] == TUMOUR).any(dim=1).numpy())
        if not self._do_transform or not tumour_at.size:
            return row
        body = (row["image"][0] > _BODY_ABOVE_HU).sum(dim=1).numpy()
        middle = round(float(np.average(np.arange(len(body)) + 0.5, weights=body))) if body.any() else 0
        left_of_middle = tumour_at.max() < middle - _MARGIN_PX
        if not left_of_middle and tumour_at.min() < middle + _MARGIN_PX:
            return row
        healthy = zones[0, middle:] if left_of_middle else zones[0, :middle]
        if float((healthy >= NEAR_LUNG).float().mean()) < _LUNG_SHARE:
            return row
        row["image"] = _mirrored(row["image"], middle, left_of_middle, float(_AIR_HU))
        row["zones"] = _mirrored(zones, middle, left_of_middle, 0)
        return row


def _mirrored(values: torch.Tensor, middle: int, from_right: bool, outside: float) -> torch.Tensor:
    """(channels, x, y): what lies beyond `middle` along x, or before it, on both sides of it."""
    mirrored = values.clone()
    replaced = mirrored[:, :middle].flip(1) if from_right else mirrored[:, middle:]
    source = values[:, middle:] if from_right else values[:, :middle].flip(1)
    replaced = torch.full_like(replaced, outside)
    shared = min(replaced.shape[1], source.shape[1])
    replaced[:, :shared] = source[:, :shared]
    if from_right:
        mirrored[:, :middle] = replaced.flip(1)
    else:
        mirrored[:, middle:] = replaced
    return mirrored
