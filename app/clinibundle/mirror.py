"""A picture continued beyond its border by mirroring, as often as it takes.

As the authors of the U-Net do it (arXiv 1505.04597, Fig. 2, and their release): the border pixel is the mirror and is
not doubled, `c b | a b c d | c b`. `torch.nn.functional.pad` stops at one reflection and copies the whole picture.
"""

from __future__ import annotations

import torch


def mirrored_index(start: int, stop: int, size: int, device: torch.device | None = None) -> torch.Tensor:
    """Which of `size` pixels stand at the places start … stop − 1 of an axis that is mirrored at both ends for ever.

    Returns:
        (stop − start,), int64; for size 4, -3 … 8 is 3 2 1 0 1 2 3 2 1 0 1 2.
    """
    # There and back again is one period; a single pixel is its own mirror picture.
    period = max(2 * (size - 1), 1)
    place = torch.arange(start, stop, device=device) % period
    return (size - 1) - (place - (size - 1)).abs()


def mirrored_crop(image: torch.Tensor, starts: list[int], stops: list[int]) -> torch.Tensor:
    """A window of a picture that is mirrored at its borders for ever.

    Args:
        image: the last axes are the picture's; those before them, if any, are kept.
        starts: where the window begins along each of the picture's axes, in pixels; negative before the picture.
        stops: where it ends, exclusive; may lie beyond the picture.

    Returns:
        (..., *(stops − starts)); a view where the window lies inside the picture.
    """
    axes = image.ndim - len(starts)
    size = image.shape[axes:]
    inside = [starts[axis] >= 0 and stops[axis] <= size[axis] for axis in range(len(starts))]
    # What needs no mirroring is cut first, so that mirroring copies no more than a strip.
    for axis, plain in enumerate(inside):
        if plain:
            image = image.narrow(axes + axis, starts[axis], stops[axis] - starts[axis])
    for axis, plain in enumerate(inside):
        if not plain:
            index = mirrored_index(starts[axis], stops[axis], size[axis], image.device)
            image = image.index_select(axes + axis, index)
    return image
