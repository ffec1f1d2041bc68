"""Single cells out of the probability that a pixel lies inside one: seeds where that is sure, and growth from there.

A membrane that is broken in one place joins two cells for whoever only cuts the probability at a half. Seeds lie where
the smoothed probability is high, which a thin breach is not; from there cells grow down to lower probabilities, step by
step, until they meet. It is the idea of a seeded watershed (Meyer 1994, Signal Processing 38, 113-125) with a stated
reach, which scikit-image's has not: what a pixel becomes depends on its neighbourhood alone (and on which seeds are one
component), so tiles of a picture of any size give the same answer as the whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray
from scipy import ndimage

CERTAIN = 65_535
"""Probability 1 in the 16 bits in which probabilities are kept."""
_TRUNCATE = 4.0


@dataclass(frozen=True)
class InstanceRule:
    """How cells are told apart; lengths in pixels, cells are 4-connected.

    Attributes:
        smoothing_px: standard deviation of the Gaussian that the probability is smoothed with.
        seed_probability: above which, smoothed, a seed lies.
        min_seed_px: smaller seeds are none.
        levels: falling probabilities down to which cells grow, one after the other; what lies below the last one
            (unsmoothed) is membrane.
        steps: by how many pixels cells grow at each level.
        min_cell_px: smaller ones become membrane, and what no seed reached is a cell of its own from here on.
    """

    smoothing_px: float = 2.0
    seed_probability: float = 0.85
    min_seed_px: int = 30
    levels: Sequence[float] = (0.8, 0.7, 0.6, 0.5)
    steps: int = 6
    min_cell_px: int = 20

    @property
    def smoothing_reach(self) -> int:
        """How far the smoothing looks."""
        return ceil(_TRUNCATE * self.smoothing_px)

    @property
    def growth_reach(self) -> int:
        """How far the growth looks, smoothing not counted."""
        return len(self.levels) * self.steps

    def smoothed(self, probability: NDArray[np.uint16]) -> NDArray[np.float32]:
        """(rows, columns), 0 to 1."""
        values = probability.astype(np.float32)
        if self.smoothing_px:
            # Beyond the picture it is mirrored, as the network saw it.
            values = ndimage.gaussian_filter(values, self.smoothing_px, mode="mirror", radius=self.smoothing_reach)
        return values / np.float32(CERTAIN)

    def interior(self, probability: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """What is no membrane."""
        return probability > np.float32(self.levels[-1] * CERTAIN)

    def seeds(self, probability: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """Where seeds lie, small ones among them."""
        return (self.smoothed(probability) > self.seed_probability) & self.interior(probability)

    def grown(self, seeds: NDArray[np.int32], probability: NDArray[np.uint16]) -> NDArray[np.int32]:
        """Numbered seeds, grown. Where two meet in the same step, the higher number takes the pixel."""
        smoothed, interior = self.smoothed(probability), self.interior(probability)
        cells = np.pad(seeds, 1)
        inner = cells[1:-1, 1:-1]
        for level in self.levels:
            # Below the last level smoothed values do not count: thin cells are smoothed away.
            allowed = interior if level == self.levels[-1] else interior & (smoothed > level)
            for _ in range(self.steps):
                highest = np.maximum(
                    np.maximum(cells[:-2, 1:-1], cells[2:, 1:-1]), np.maximum(cells[1:-1, :-2], cells[1:-1, 2:])
                )
                np.copyto(inner, highest, where=allowed & (inner == 0))
        return inner.copy()


def cells_of(probability: NDArray[np.uint16], rule: InstanceRule) -> NDArray[np.int32]:
    """Cells of a whole picture (rows, columns), numbered from 1 in the order in which their first pixels come."""
    seeds = in_order(without_small(ndimage.label(rule.seeds(probability))[0], rule.min_seed_px))
    cells = rule.grown(seeds, probability)
    left, _ = ndimage.label(rule.interior(probability) & (cells == 0))
    cells[left > 0] = left[left > 0] + int(cells.max(initial=0))
    return in_order(without_small(cells, rule.min_cell_px))


def without_small(labels: NDArray[np.int32], least_px: int) -> NDArray[np.int32]:
    """The same labels, those of fewer pixels gone."""
    small = np.bincount(labels.ravel()) < least_px
    return np.where(small[labels], 0, labels).astype(np.int32)


def in_order(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbered anew from 1, in the order in which their first pixels come, row by row."""
    numbers, first = np.unique(labels, return_index=True)
    kept = numbers > 0
    new = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    new[numbers[kept][np.argsort(first[kept])]] = np.arange(1, int(kept.sum()) + 1)
    return new[labels]


class CellsOfProbabilityd(MapTransform):  # type: ignore[misc]
    """Makes of the probability of interior (1, x, y) a map of cells (1, x, y), int32, numbered from 1; 0 is membrane.

    Args:
        keys: probabilities, 0 to 1.
        allow_missing_keys: whether a key may be absent.
        rule: arguments of `InstanceRule`.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **rule: Any) -> None:
        super().__init__(keys, allow_missing_keys)
        self.rule = InstanceRule(**rule)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Numbers follow the rows of the picture, which is the second axis here."""
        row = dict(data)
        for key in self.key_iterator(row):
            kept = in_16_bits(np.asarray(row[key])[0].T)
            cells = np.ascontiguousarray(cells_of(kept, self.rule).T)[None]
            row[key] = convert_to_dst_type(cells, row[key], dtype=torch.int32)[0]
        return row


def in_16_bits(probability: NDArray[Any]) -> NDArray[np.uint16]:
    """A probability, 0 to 1, as it is kept: 65535 is certain."""
    return np.asarray(np.rint(np.clip(probability, 0, 1) * CERTAIN), np.uint16)
