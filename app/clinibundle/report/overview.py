"""An overview of a volume: the brightest values of a slab through the findings, from the front and from the side.

A maximum over the whole of a CT shows bones and the table, and hides what lies within; over a few centimetres it shows
findings among vessels. So a slab is looked through that the findings take up, or where they are many or large, the part
of it that holds most of them. What each picture shows is said below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clinibundle.report.figures import Colour, plain_png
from clinibundle.report.marks import diameters_of, edges_svg, marks_svg, numbers_svg
from clinibundle.report.page import Figure
from clinibundle.report.views import BACK, LEFT, View, patient_view_of
from clinibundle.volume import Volume

_MARGIN_MM = 5.0
# Ribs and spine come in with more.
_THICKEST_MM = 40.0
_MAX_SIDE = 640
_TEXT_SHARE = 1 / 26
_FROM = {BACK: "From the front (coronal)", LEFT: "From the side (sagittal)"}


@dataclass(frozen=True, eq=False)
class _Slab:
    """The part of a volume that is looked through: steps from `first` to before `last` along the axis looked along."""

    first: int
    last: int
    step_mm: float
    holds_all: bool

    @property
    def thickness_mm(self) -> float:
        return (self.last - self.first) * self.step_mm


def overviews(
    volume: Volume,
    label_map: NDArray[np.integer[Any]],
    colours: Sequence[Colour],
    window: tuple[float, float] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> list[Figure]:
    """A coronal and a sagittal maximum-intensity projection of a slab, with the silhouette of every label.

    None of a flat picture, of a volume without a place in the patient, and where nothing is outlined.
    Takes a byte per voxel of the box around a label, one label after the other.

    Args:
        volume: (x, y, z).
        label_map: on its grid.
        colours: of the labels.
        window: values shown black and white; by percentiles of each picture if not given.
        findings: as in measurements.json; lesions are numbered.
    """
    if label_map.ndim != 3 or volume.affine_lps is None:
        return []
    views = {along: patient_view_of(label_map.shape, volume.affine_lps, along) for along in _FROM}
    silhouettes: dict[int, list[tuple[int, NDArray[np.bool_]]]] = {along: [] for along in views}
    depths = {along: np.zeros(label_map.shape[view.across], np.int64) for along, view in views.items()}
    for label, box in enumerate(ndimage.find_objects(label_map), start=1):
        if box is None:
            continue
        mask = label_map[box] == label
        for along, view in views.items():
            silhouettes[along].append((label, _silhouette(view, mask, box, label_map.shape)))
            others = tuple(axis for axis in range(3) if axis != view.across)
            depths[along][box[view.across]] += np.count_nonzero(mask, axis=others)
    if not depths[BACK].any():
        return []
    numbered = [one for one in map(diameters_of, findings) if one is not None]
    found = []
    for along, view in views.items():
        slab = _slab(depths[along], view.across_mm)
        # Reduced as it lies, without a copy of the slab. NaN counts only where there is nothing else.
        values = np.moveaxis(volume.array, view.across, 0)[slab.first : slab.last]
        png = plain_png(view.picture(np.fmax.reduce(values, axis=0)), _MAX_SIDE, window, view.step_mm)
        edges = edges_svg(view, silhouettes[along], colours)
        marks = marks_svg(view, edges, numbers_svg(view, numbered, _TEXT_SHARE))
        found.append(Figure(_caption(along, view, slab), png, None, marks))
    return found


def _silhouette(
    view: View, mask: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Of a mask within its box, hung as the view is: (rows, columns) of the whole volume."""
    others = [axis for axis in range(3) if axis != view.across]
    flat = np.zeros([shape[axis] for axis in others], np.bool_)
    flat[tuple(box[axis] for axis in others)] = mask.any(axis=view.across)
    return view.picture(flat)


def _slab(outlined: NDArray[np.int64], step_mm: float) -> _Slab:
    """All that is outlined and a margin, or the part of it that holds most.

    Args:
        outlined: voxels per step along the axis looked along, some above 0.
        step_mm: along it.
    """
    steps = np.flatnonzero(outlined)
    margin, most = round(_MARGIN_MM / step_mm), max(1, round(_THICKEST_MM / step_mm))
    first, last = max(0, int(steps[0]) - margin), min(len(outlined), int(steps[-1]) + 1 + margin)
    if last - first <= most:
        return _Slab(first, last, step_mm, holds_all=True)
    held = np.convolve(outlined[first:last], np.ones(most, np.int64), mode="valid")
    # The middle of equal ones, so that a small finding lies within and not at the edge.
    best = first + int(np.median(np.flatnonzero(held == held.max())))
    return _Slab(best, best + most, step_mm, holds_all=False)


def _caption(along: int, view: View, slab: _Slab) -> str:
    words = f"{_FROM[along]}: the brightest values of the {slab.thickness_mm:.0f} mm that hold "
    if slab.holds_all:
        words += "the findings, with their silhouettes"
    else:
        words += "most of what is outlined, with the silhouettes of all findings, those before and behind it too"
    if view.is_oblique:
        words += f"; seen along the picture's own axes, which lean up to {view.oblique_degrees:.0f}° from the patient's"
    return words
