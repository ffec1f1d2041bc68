"""A picture of what a proposal did wrong to the cells of a section: where it splits one, where it merges two.

Membrane that is merely thicker or thinner, or shifted by less than its thickness, is not coloured: the truth is warped
to the proposal, and of what still differs the pixels are merge errors whose flip would join two true cells (see
`warping`). The same with the roles exchanged gives the split errors: membranes of the proposal inside a true cell.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clinibundle.metrics.binary import Mask
from clinibundle.metrics.membranes import LabelMap, cells_of_labels, require_same_shape
from clinibundle.metrics.warping import splits_and_mergers, warp

# Split and merge are Okabe and Ito's vermilion and blue, which readers who confuse red and green tell apart.
LEGEND = MappingProxyType(
    {
        "split error: membrane that parts a true cell": (213, 94, 0),
        "merge error: no membrane between two true cells": (0, 114, 178),
        "membrane in both": (60, 60, 60),
        "membrane in one of them": (170, 170, 170),
        "interior": (255, 255, 255),
    }
)
"""What each colour of `split_merge_picture` means, in red, green and blue from 0 to 255."""


def split_merge_picture(proposal: LabelMap, truth: LabelMap, line_px: int = 3) -> NDArray[np.uint8]:
    """The section in the colours of `LEGEND`.

    Args:
        proposal: (rows, columns), 0 on membrane; see `membranes.cells_of_labels`.
        truth: the same.
        line_px: thickness of the coloured lines, 1 or more.

    Returns:
        (rows, columns, 3).

    Raises:
        DataFolderError: the shapes differ.
    """
    splits, merges = split_and_merge_pixels(proposal, truth)
    ours, true = cells_of_labels(proposal).interior, cells_of_labels(truth).interior
    split, merge, both, one, interior = (np.array(colour, np.uint8) for colour in LEGEND.values())
    picture = np.where((ours & true)[..., None], interior, np.where((ours | true)[..., None], one, both))
    picture[_thicken(splits, line_px)] = split
    picture[_thicken(merges, line_px)] = merge
    return picture.astype(np.uint8)


def split_and_merge_pixels(proposal: LabelMap, truth: LabelMap) -> tuple[Mask, Mask]:
    """Lines of one pixel: where the proposal's membrane parts a true cell, and where it should part two and does not.

    Args:
        proposal: (rows, columns), 0 on membrane; see `membranes.cells_of_labels`.
        truth: the same.

    Raises:
        DataFolderError: the shapes differ.
    """
    require_same_shape(proposal, truth)
    ours, true = cells_of_labels(proposal).interior, cells_of_labels(truth).interior
    _, merges = splits_and_mergers(warp(true, ours), ours)
    _, splits = splits_and_mergers(warp(ours, true), true)
    return splits, merges


def _thicken(lines: Mask, line_px: int) -> Mask:
    thick: Mask = ndimage.binary_dilation(lines, np.ones((line_px, line_px)))
    return thick
