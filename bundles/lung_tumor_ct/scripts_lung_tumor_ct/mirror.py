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
        on_the_right = tumour_at.max() < middle - _MARGIN_PX
        if not on_the_right and tumour_at.min() < middle + _MARGIN_PX:
            return row
        healthy = zones[0, middle:] if on_the_right else zones[0, :middle]
        if float((healthy >= NEAR_LUNG).float().mean()) < _LUNG_SHARE:
            return row
        row["image"] = _mirrored(row["image"], middle, on_the_right, float(_AIR_HU))
        row["zones"] = _mirrored(zones, middle, on_the_right, 0)
        return row


def _mirrored(values: torch.Tensor, middle: int, onto_right: bool, outside: float) -> torch.Tensor:
    """(channels, x, y): one side of `middle` and its mirror image, which lies on the patient's right or left."""
    if not onto_right:
        return _mirrored(values.flip(1), values.shape[1] - middle, True, outside).flip(1)
    mirrored = values.clone()
    mirrored[:, :middle] = outside
    width = min(middle, values.shape[1] - middle)
    mirrored[:, middle - width : middle] = values[:, middle : middle + width].flip(1)
    return mirrored
