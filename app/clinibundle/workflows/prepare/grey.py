"""Picture files of any kind turned into 8-bit grey pictures and two-valued masks, at their own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clinibundle.workflows.prepare.plan import LeaveOut
from clinibundle.workflows.stored import Stored

Grey = NDArray[np.uint8]


def grey_of(stored: Stored) -> tuple[Grey, tuple[str, ...]]:
    """The picture in 8-bit grey, and what had to be changed beyond taking one of three equal colours."""
    values = stored.array
    if stored.channels >= 3 and values.dtype == np.uint8:
        values = values[..., :3]
        if (values == values[..., :1]).all():
            return np.ascontiguousarray(values[..., 0]), ()
        return np.asarray(Image.fromarray(values).convert("L")), ("colour picture, turned to grey by its luminance",)
    if values.ndim == 3:
        values = values[..., 0]
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values), ()
    low, high = float(values.min()), float(values.max())
    stretched = (values.astype(np.float32) - low) * (255 / (high - low or 1))
    note = f"{values.dtype} values from {low:g} to {high:g}, stretched to 8 bit"
    return np.rint(stretched).astype(np.uint8), (note,)


def mask_of(stored: Stored) -> tuple[Grey, tuple[str, ...]]:
    """The mask with 0 and 255: values above half the largest one are inside; of colours the strongest counts."""
    values = stored.array[..., :3].max(axis=-1) if stored.channels >= 3 else stored.array
    values = values[..., 0] if values.ndim == 3 else values
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    peak = values.max()
    inside = values > peak / 2
    clean = ((values == 0) | (values == peak)).all()
    notes = () if clean else (f"mask had values between 0 and {peak:g}, cut at half",)
    return np.where(inside, np.uint8(255), np.uint8(0)), notes


def fitted_mask(mask: Grey, shape: tuple[int, ...]) -> tuple[Grey, tuple[str, ...]]:
    """The mask at the picture's size, (rows, columns).

    Raises:
        LeaveOut: if picture and mask have different aspect ratios, so that nobody knows what lies where.
    """
    if mask.shape == shape:
        return mask, ()
    rows, columns = shape
    mask_rows, mask_columns = mask.shape
    sizes = f"mask of {mask_rows} × {mask_columns} pixels, picture of {rows} × {columns}"
    # Whoever scaled one of them rounded to whole pixels: half a pixel along each side is no other ratio.
    if 2 * abs(mask_rows * columns - mask_columns * rows) > max(rows + columns, mask_rows + mask_columns):
        raise LeaveOut(f"{sizes}: the aspect ratios differ, so it is not known what lies where")
    resized = Image.fromarray(mask).resize((columns, rows), Image.Resampling.NEAREST)
    return np.asarray(resized), (f"{sizes}; the mask was resized by nearest neighbour",)


def write_png(pixels: Grey, path: Path) -> None:
    """Writes an 8-bit grey PNG."""
    # Level 1 halves the time for large films and costs a tenth in size.
    Image.fromarray(pixels).save(path, compress_level=1)
