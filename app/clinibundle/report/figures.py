"""What a report shows: pictures with outlines as PNG bytes, charts as SVG text; pure functions of arrays."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from clinibundle.report.axes import Axes, nice_span

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255

#: Bright on grey films and apart for colour-blind readers; label 1 takes the first.
PALETTE: Sequence[Colour] = (
    (0, 190, 255),
    (255, 176, 0),
    (70, 215, 120),
    (245, 105, 210),
    (255, 95, 75),
    (165, 150, 255),
)
_FILL_OPACITY = 0.22
# Grey values of a noisy CT are off by 3 of 255 on average, at 10 ms and 10 to 25 kB a slice of 448 px.
_WEBP_QUALITY, _WEBP_EFFORT = 70, 2
_LINE_COLOURS = ("#0072b2", "#d55e00", "#008f68", "#b8618f", "#7a6fd0")  # at least 3:1 on white and on near-black
_LINE_DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 2")


def colour_of(label: int, colours: Sequence[Colour] = PALETTE) -> Colour:
    """The colour of a label from 1 on; with more labels than colours they come round again."""
    return colours[(label - 1) % len(colours)]


def plain_png(
    picture: NDArray[Any],
    max_side: int = 900,
    limits: tuple[float, float] | None = None,
    step_mm: tuple[float, float] | None = None,
) -> bytes:
    """A picture as PNG.

    Args:
        picture: (rows, columns) of any number type, or (rows, columns, 3) uint8.
        max_side: a longer picture is shrunk by area to this many pixels.
        limits: grey values shown black and white; the percentiles 1 and 99 of the shrunk picture if not given.
        step_mm: width and height of a pixel; if they differ, the picture is stretched to its true proportions.
    """
    return _png(_displayed(picture, max_side, limits, step_mm))


def grey_webp(
    picture: NDArray[Any], max_side: int, limits: tuple[float, float], step_mm: tuple[float, float] | None = None
) -> bytes:
    """A picture as lossy WebP, half of a JPEG's bytes and a tenth of a PNG's; arguments as for `plain_png`."""
    stream = io.BytesIO()
    image = Image.fromarray(_displayed(picture, max_side, limits, step_mm))
    image.save(stream, format="WEBP", quality=_WEBP_QUALITY, method=_WEBP_EFFORT)
    return stream.getvalue()


def overlay_png(
    grey: NDArray[Any],
    label_map: NDArray[Any],
    colours: Sequence[Colour] = PALETTE,
    max_side: int = 900,
    limits: tuple[float, float] | None = None,
    step_mm: tuple[float, float] | None = None,
) -> bytes:
    """The same picture with each label as a translucent fill within a line of 2 px on its border.

    Args:
        grey: (rows, columns) of any number type, or (rows, columns, 3) uint8.
        label_map: (rows, columns), whole numbers of any type, 0 is background.
        colours: of the labels, see `colour_of`.
        max_side: a longer picture is shrunk by area to this many pixels; no label vanishes by that.
        limits: as for `plain_png`.
        step_mm: as for `plain_png`.
    """
    if label_map.shape != grey.shape[:2]:
        raise ValueError(f"label map of shape {label_map.shape} does not lie on a picture of shape {grey.shape[:2]}")
    shown = _displayed(grey, max_side, limits, step_mm)
    canvas = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown.copy()
    labels = _shrunk_labels(label_map, shown.shape[:2])

    palette = np.array(colours, dtype=np.uint8)
    inside = labels > 0
    fill = palette[(labels[inside] - 1) % len(palette)]
    canvas[inside] = np.rint(canvas[inside] * (1 - _FILL_OPACITY) + fill * _FILL_OPACITY).astype(np.uint8)

    # One pixel on either side of the border; on the background side the neighbouring label gives the colour.
    highest = ndimage.maximum_filter(labels, size=3)
    border = highest != ndimage.minimum_filter(labels, size=3)
    owner = np.where(inside, labels, highest)[border]
    canvas[border] = palette[(owner - 1) % len(palette)]
    return _png(canvas)


def line_chart_svg(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
    width: int = 640,
    height: int = 320,
) -> str:
    """Curves as an inline `<svg>` in the colour of the text around it; `svg_file` makes a file's content of it.

    Args:
        series: name to points (x, y) in drawing order; a y that is not finite interrupts the line.
        x_label: under the x axis.
        y_label: left of the y axis.
        y_limits: values at the lower and upper end; from the data if not given. What lies beyond is cut off.
        width: px.
        height: px.
    """
    points = [(x, y) for line in series.values() for x, y in line if math.isfinite(y)]
    xs, ys = [x for x, _ in points] or [0.0, 1.0], [y for _, y in points] or [0.0, 1.0]
    x_span = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, min(xs) + 0.5)
    axes = Axes(x_span, y_limits or nice_span(min(ys), max(ys), parts=5)[:2], width, height)

    lines, legend, legend_x = "", "", axes.x_px(x_span[0])
    for number, (name, line) in enumerate(series.items()):
        pen = (
            f'fill="none" stroke="{_LINE_COLOURS[number % len(_LINE_COLOURS)]}" stroke-width="2" '
            f'stroke-dasharray="{_LINE_DASHES[number % len(_LINE_DASHES)]}"'
        )
        lines += f'<path d="{_line_path(axes, line)}" {pen} stroke-linecap="round" stroke-linejoin="round"/>'
        legend += f'<path d="M{legend_x:.0f} 12h24" {pen}/><text x="{legend_x + 30:.0f}" y="16">{escape(name)}</text>'
        legend_x += 54 + 6.6 * len(name)
    return axes.draw(lines, x_label, y_label, f"{y_label} over {x_label}: {', '.join(series)}", legend)


def histogram_svg(values: Sequence[float], x_label: str, parts: int = 20, width: int = 640, height: int = 240) -> str:
    """How often values occur, as an inline `<svg>`, with a dashed line at their mean.

    Args:
        values: those that are not finite are left out.
        x_label: what the values are.
        parts: about this many bars, between round numbers.
        width: px.
        height: px.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high, step = nice_span(min(finite, default=0.0), max(finite, default=1.0), parts)
    counts, edges = np.histogram(finite, bins=round((high - low) / step), range=(low, high))
    axes = Axes((low, high), (0.0, nice_span(0, max(int(counts.max()), 5), parts=4)[1]), width, height)
    bars = "".join(
        f'<rect x="{axes.x_px(left) + 0.5:.1f}" y="{axes.y_px(count):.1f}" fill="{_LINE_COLOURS[0]}" '
        f'width="{axes.x_px(right) - axes.x_px(left) - 1:.1f}" height="{axes.y_px(0) - axes.y_px(count):.1f}"/>'
        for left, right, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
        if count
    )
    summary = f"Histogram of {x_label}: no values"
    if finite:
        mean = sum(finite) / len(finite)
        bars += f'<path d="M{axes.x_px(mean):.1f} 0V{height}" stroke="currentColor" stroke-dasharray="5 4"/>'
        summary = f"Histogram of {x_label}: {len(finite)} values from {min(finite):.4g} to {max(finite):.4g}"
    return axes.draw(bars, x_label, "cases", summary)


def svg_file(svg: str) -> str:
    """An inline chart as the content of a file of its own, dark on white."""
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="color:#222;background:#fff" ', 1)


def _displayed(
    picture: NDArray[Any],
    max_side: int,
    limits: tuple[float, float] | None,
    step_mm: tuple[float, float] | None,
) -> NDArray[np.uint8]:
    """The picture shrunk, stretched and scaled to 0..255: (rows, columns) or (rows, columns, 3)."""
    if picture.ndim == 3 and (picture.shape[2] != 3 or picture.dtype != np.uint8):
        raise ValueError(f"a colour picture is (rows, columns, 3) uint8, not {picture.shape} {picture.dtype}")
    shrunk = _resized(picture, _shown_size(picture.shape[:2], max_side, step_mm or (1.0, 1.0)))
    if picture.ndim == 3:
        return shrunk.astype(np.uint8)
    grey = np.nan_to_num(shrunk.astype(np.float32))
    low, high = limits or np.percentile(grey, (1, 99))
    scaled = np.clip((grey - low) / ((high - low) or 1), 0, 1)
    return np.rint(scaled * 255).astype(np.uint8)


def _shown_size(shape: tuple[int, ...], max_side: int, step_mm: tuple[float, float]) -> tuple[int, int]:
    """Columns and rows of square pixels as small as the picture's finer ones, or as large as `max_side` demands."""
    width, height = (pixels * step / min(step_mm) for pixels, step in zip(shape[::-1], step_mm, strict=True))
    scale = min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The picture with so many columns and rows; by area where it is shrunk, between pixels where it is stretched."""
    rows, columns = picture.shape[:2]
    if size == (columns, rows):
        return picture
    image = Image.fromarray(picture if picture.dtype == np.uint8 else picture.astype(np.float32))
    shrinks = size[0] <= columns and size[1] <= rows
    return np.asarray(image.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR))


def _shrunk_labels(label_map: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The label map sampled at pixel centres of a (rows, columns) grid; a label too small for that keeps a dot."""
    if label_map.dtype.kind not in "iu":  # a mask of True and False, or labels that a network's tools left as float
        label_map = label_map.astype(np.int32)
    row_scale, column_scale = (small / large for small, large in zip(shape, label_map.shape, strict=True))
    rows = ((np.arange(shape[0]) + 0.5) / row_scale).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) / column_scale).astype(int)
    sampled = label_map[np.ix_(rows, columns)].astype(np.int64)
    kept = np.zeros(int(label_map.max(initial=0)) + 1, dtype=bool)
    kept[0] = kept[sampled] = True
    lost = np.nonzero(~kept[label_map])
    sampled[(lost[0] * row_scale).astype(int), (lost[1] * column_scale).astype(int)] = label_map[lost]
    return sampled


def _png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _line_path(axes: Axes, line: Sequence[tuple[float, float]]) -> str:
    """SVG path data; each run of finite points starts with a move, and a lone point is a line of no length."""
    path, pen_down = "", False
    for x, y in line:
        if math.isfinite(y):
            place = f"{axes.x_px(x):.1f} {axes.y_px(y):.1f}"
            path += f"L{place}" if pen_down else f"M{place}L{place}"
        pen_down = math.isfinite(y)
    return path
