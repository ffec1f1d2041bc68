"""The report on sections: an overview, and a piece at its own resolution, with the cells drawn in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

import clinibundle
from clinibundle.bundle.description import Bundle
from clinibundle.checks import Check
from clinibundle.pictures.sections import Section, Stack
from clinibundle.pictures.tiles import TileStore
from clinibundle.report.figures import Colour, overlay_png, plain_png
from clinibundle.report.page import Figure
from clinibundle.report.segmentation import SegmentationReport, render_segmentation_report
from clinibundle.report.wording import Column

_SIDE = 1024
_SECTIONS_SHOWN = 3
_ROWS_AT_ONCE = 512


def section_figures(stack: Stack, cells: Sequence[TileStore], colours: Sequence[Colour]) -> list[Figure]:
    """Of the first, the middle and the last section; of a large one a thinned overview and its middle as it is."""
    last = len(stack.sections) - 1
    figures = []
    for number in sorted({0, last // 2, last})[:_SECTIONS_SHOWN]:
        section, own = stack.sections[number], cells[number]
        name = f"section {number + 1} of {last + 1}" if last else "the section"
        step = -(-max(section.shape) // _SIDE)
        if step > 1:
            text = f"{name}, every {step}th pixel"
            figures.append(_figure(_thinned(section, step), _thinned(own, step), colours, text))
        middle = tuple(slice(max(0, (n - _SIDE) // 2), max(0, (n - _SIDE) // 2) + min(n, _SIDE)) for n in section.shape)
        text = f"{name}, its middle" if step > 1 else name
        window = (middle[0], middle[1])
        figures.append(_figure(section.read(*window), own.read(*window), colours, text))
    return figures


def _thinned(source: Section | TileStore, step: int) -> NDArray[Any]:
    rows, columns = source.shape
    stripes = []
    height = max(step, _ROWS_AT_ONCE // step * step)
    for top in range(0, rows, height):
        stripe = source.read(slice(top, min(top + height, rows)), slice(0, columns))
        stripes.append(stripe[::step, ::step].copy())
    return np.concatenate(stripes)


def _figure(grey: NDArray[Any], cells: NDArray[np.integer[Any]], colours: Sequence[Colour], caption: str) -> Figure:
    # Neighbouring cells in colours of their own, by number.
    shown = np.where(cells > 0, (cells - 1) % len(colours) + 1, 0)
    return Figure(caption, overlay_png(grey, shown, colours, max_side=_SIDE), plain_png(grey, max_side=_SIDE), "")


def section_report(
    bundle: Bundle,
    weights_sha256: str,
    stack: Stack,
    findings: Sequence[Mapping[str, Any]],
    checks: Sequence[Check],
    figures: Sequence[Figure],
) -> str:
    """The page."""
    licence, described = bundle.metadata.weights_licence, bundle.report
    rows, columns = stack.sections[0].shape
    spacing_nm = None if stack.spacing_mm is None else [f"{1e6 * step:.4g}" for step in stack.spacing_mm]
    report = SegmentationReport(
        title=described.title,
        bundle_name=bundle.name,
        bundle_version=bundle.metadata.version,
        weights_sha256=weights_sha256,
        intended_use=bundle.metadata.intended_use,
        case=stack.case,
        made_at=datetime.now(timezone.utc).astimezone().isoformat(timespec="minutes"),
        software_version=clinibundle.__version__,
        source={
            "Kind": "stack of sections" if stack.is_stack else "section",
            "Sections": str(len(stack.sections)),
            "Rows × columns": f"{rows} × {columns}",
            "Pixel": "not stated" if spacing_nm is None else f"{' × '.join(spacing_nm)} nm",
        },
        findings=findings,
        finding_columns=[Column(c.key, c.heading, c.unit, c.format) for c in described.columns],
        checks=checks,
        figures=figures,
        colours=(),
        unknown_because=described.unknown_because,
        notices=[] if licence is None else [f"Terms of the weights: {licence.name}, {licence.reason}."],
        limits=described.limits,
    )
    return render_segmentation_report(report)
