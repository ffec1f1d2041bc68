"""The pictures of a segmentation report: the film, or the telling slices of a volume, with the outline drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.report.figures import Colour, overlay_png, plain_png
from clinibundle.report.page import Figure
from clinibundle.volume import Volume

_SLICES_SHOWN = 3


@dataclass(frozen=True)
class KeyPicture:
    """A telling picture of a case, with and without the outline.

    Attributes:
        slice_number: from 0; None for a flat picture.
        outlined, plain: PNG.
        caption: what is to be seen.
    """

    slice_number: int | None
    outlined: bytes
    plain: bytes
    caption: str

    @property
    def figure(self) -> Figure:
        """For the report."""
        return Figure(self.caption, self.outlined, self.plain)


def key_pictures(
    volume: Volume,
    label_map: NDArray[np.integer[Any]],
    colours: Sequence[Colour],
    window: tuple[float, float] | None = None,
) -> list[KeyPicture]:
    """The film itself, or the slices of a volume that tell most.

    Args:
        volume: flat, or (x, y, z).
        label_map: on its grid.
        colours: of the labels.
        window: values shown black and white; by percentiles if not given.
    """
    if label_map.ndim == 2:
        picture = np.swapaxes(volume.array, 0, 1)
        outlined = overlay_png(picture, label_map.T, colours, limits=window)
        plain = plain_png(picture, limits=window)
        return [KeyPicture(None, outlined, plain, "the picture with the outline that was found")]
    found = []
    for k in key_slices(label_map):
        picture = volume.array[:, :, k].T
        outlined = overlay_png(picture, label_map[:, :, k].T, colours, limits=window)
        caption = f"slice {k + 1} of {label_map.shape[2]} with the outline that was found"
        found.append(KeyPicture(k, outlined, plain_png(picture, limits=window), caption))
    return found


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
