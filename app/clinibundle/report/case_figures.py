"""The pictures of a segmentation report: the film, or the telling slices of a volume, with the outline drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.report.figures import Colour, overlay_png, plain_png
from clinibundle.report.page import Figure
from clinibundle.volume import Volume

_SLICES_SHOWN = 3


def case_figures(
    volume: Volume,
    label_map: NDArray[np.integer[Any]],
    colours: Sequence[Colour],
    window: tuple[float, float] | None = None,
) -> list[Figure]:
    """Figures with and without the outline.

    Args:
        volume: flat, or (x, y, z).
        label_map: on its grid.
        colours: of the labels.
        window: values shown black and white; by percentiles if not given.
    """
    if label_map.ndim == 2:
        picture = np.swapaxes(volume.array, 0, 1)
        outlined = overlay_png(picture, label_map.T, colours, limits=window)
        return [Figure("the picture with the outline that was found", outlined, plain_png(picture, limits=window))]
    figures = []
    for k in key_slices(label_map):
        picture = volume.array[:, :, k].T
        outlined = overlay_png(picture, label_map[:, :, k].T, colours, limits=window)
        caption = f"slice {k + 1} of {label_map.shape[2]} with the outline that was found"
        figures.append(Figure(caption, outlined, plain_png(picture, limits=window)))
    return figures


def key_slices(label_map: NDArray[np.integer[Any]], count: int = _SLICES_SHOWN) -> list[int]:
    """The slices (third axis) that tell most: those with the largest outline, well apart; the middle one if empty."""
    areas = np.count_nonzero(label_map, axis=(0, 1)).astype(np.int64)
    if not areas.any():
        return [label_map.shape[2] // 2]
    apart = max(1, label_map.shape[2] // 20)
    found: list[int] = []
    left = areas.copy()
    while left.any() and len(found) < count:
        best = int(left.argmax())
        found.append(best)
        left[max(0, best - apart) : best + apart + 1] = 0
    return found
