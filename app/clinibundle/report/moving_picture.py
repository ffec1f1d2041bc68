"""A moving picture of a volume: one slice after the other, with the outline that was found."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from clinibundle.report.figures import Colour, colour_of
from clinibundle.volume import Volume

_SIDE_PX = 320
_MILLISECONDS = 80
_PALETTE_SIZE = 256
_DEFAULT_PERCENTILES = (1, 99)


def moving_picture_gif(
    volume: Volume,
    label_map: NDArray[np.integer[Any]],
    colours: Sequence[Colour],
    window: tuple[float, float] | None = None,
) -> bytes:
    """An endless GIF, from the first slice to the last.

    Args:
        volume: (x, y, z).
        label_map: on its grid.
        colours: of the labels, for lines of one pixel around them.
        window: values shown black and white; by percentiles if not given.
    """
    labels = max(1, int(label_map.max(initial=0)))
    lines = min(len(colours), labels)
    greys = _PALETTE_SIZE - lines
    low, high = window or np.percentile(volume.array[::4, ::4, ::4], _DEFAULT_PERCENTILES)
    step_x, step_y = (volume.spacing_mm or (1.0, 1.0, 1.0))[:2]
    columns, rows = label_map.shape[0] * step_x, label_map.shape[1] * step_y
    size = tuple(max(1, round(_SIDE_PX * side / max(columns, rows))) for side in (columns, rows))
    frames = []
    for k in range(label_map.shape[2]):
        scaled = (volume.array[:, :, k].T.astype(np.float32) - low) / max(high - low, 1e-6)
        grey = Image.fromarray((np.clip(scaled, 0, 1) * (greys - 1)).astype(np.uint8))
        frame = np.asarray(grey.resize(size, Image.Resampling.BILINEAR)).copy()
        shown = np.asarray(
            Image.fromarray(label_map[:, :, k].T.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
        )
        for label in np.unique(shown[shown > 0]):
            inside = shown == label
            frame[ndimage.binary_dilation(inside) & ~inside] = greys + (int(label) - 1) % lines
        frames.append(Image.fromarray(frame, mode="P"))
    palette = [value for level in range(greys) for value in [round(255 * level / (greys - 1))] * 3]
    palette += [value for number in range(1, lines + 1) for value in colour_of(number, colours)]
    for image in frames:
        image.putpalette(palette)
    stream = io.BytesIO()
    frames[0].save(
        stream,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=_MILLISECONDS,
        loop=0,
        optimize=False,
        disposal=1,
    )
    return stream.getvalue()
