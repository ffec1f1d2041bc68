"""The worst cases of an evaluation and their figures, without keeping the masks of all cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from clinibundle.bundle.description import without_unit
from clinibundle.report.evaluation import goodness
from clinibundle.report.figures import overlay_png, plain_png
from clinibundle.report.page import Figure
from clinibundle.workflows.evaluate.measured import Masks, Measured

# Agreement, false finds, misses.
_BOTH, _FALSE, _MISSED = 1, 2, 3
_COLOURS = [(0, 160, 220), (240, 160, 0), (220, 40, 60)]
_SPLITS_AND_MERGERS = "orange where a cell is split, blue where two are merged, grey where a membrane is"
_MOST = 6
_MAX_SIDE = 480
_NIBABEL_LPS = nibabel.orientations.axcodes2ornt("LPS")


@dataclass(frozen=True, eq=False)
class _Case:
    """One of the worst.

    Attributes:
        caption: its name and its value.
        image: the file of its picture.
        labels: (x, y) of the picture or of one slice.
        slice_number: of a volume that is laid out in LPS, from 0; None for a flat picture.
        slices: how many it has.
        errors: (rows, columns, 3), where the cells of a section are split and merged; shown in place of the picture.
    """

    goodness: float
    caption: str
    image: str
    labels: NDArray[np.uint8]
    slice_number: int | None = None
    slices: int = 0
    errors: NDArray[np.uint8] | None = None


class WorstCases:
    """The few worst so far; of each only the one slice is kept that its figure shows.

    Args:
        metric: by which cases are judged, without its unit.
        lower_is_better: whether it is a distance.
        window: values of a volume shown black and white; by percentiles if not given.
    """

    def __init__(self, metric: str, lower_is_better: bool, window: tuple[float, float] | None) -> None:
        self._metric, self._lower_is_better, self._window = metric, lower_is_better, window
        self._worst: list[_Case] = []

    def consider(self, case: Measured, masks: Masks, image: str) -> None:
        """Keeps a case if it is among the worst; of equal ones the first."""
        # Its name has another unit where the spacing is not known.
        name = next((name for name in case.metrics if without_unit(name) == self._metric), self._metric)
        good = goodness(case.metrics, name, self._lower_is_better)
        if len(self._worst) == _MOST and good >= self._worst[-1].goodness:
            return
        value = case.metrics.get(name)
        caption = f"{case.facts['case']}: " + (f"no {name}" if value is None else f"{name} {value:.3f}")
        if case.section is None:
            self._worst.append(_kept(good, caption, image, masks))
        else:
            self._worst.append(_Case(good, caption, image, np.zeros((0, 0), np.uint8), errors=case.section.errors))
        self._worst = sorted(self._worst, key=lambda kept: kept.goodness)[:_MOST]

    def figures(self) -> list[Figure]:
        """The worst first; each picture is read anew."""
        return [_figure(case, self._window) for case in self._worst]


def _kept(good: float, caption: str, image: str, masks: Masks) -> _Case:
    labels = np.zeros(masks.truth.shape, np.uint8)
    labels[masks.truth] = _MISSED
    labels[masks.prediction] = _FALSE
    labels[masks.prediction & masks.truth] = _BOTH
    if masks.affine_ras is None:
        return _Case(good, caption, image, labels)
    upright = _in_lps(labels, masks.affine_ras)
    number = telling_slice(upright)
    return _Case(good, caption, image, upright[:, :, number].copy(), number, upright.shape[2])


def telling_slice(labels: NDArray[np.uint8]) -> int:
    """The slice (third axis) with most disagreement; else with most agreement; the middle one if there is nothing."""
    for kinds in ((_FALSE, _MISSED), (_BOTH,)):
        pixels = np.count_nonzero(np.isin(labels, kinds), axis=(0, 1))
        if pixels.any():
            return int(pixels.argmax())
    return int(labels.shape[2]) // 2


def _figure(case: _Case, window: tuple[float, float] | None) -> Figure:
    """The picture with agreement, false finds and misses in three colours."""
    if case.errors is not None:
        return Figure(f"{case.caption}; {_SPLITS_AND_MERGERS}", plain_png(case.errors, _MAX_SIDE))
    from monai.transforms import LoadImage

    picture: Any = LoadImage(image_only=True)(case.image)
    caption = case.caption
    if case.slice_number is not None:
        caption += f", slice {case.slice_number + 1} of {case.slices}"
        upright = _in_lps(np.asarray(picture), np.asarray(picture.affine, np.float64))
        picture = upright[:, :, min(case.slice_number, upright.shape[2] - 1)]
    grey = np.asarray(picture)
    if grey.shape[:2] != case.labels.shape:
        # A bundle may compare on any grid.
        grey, caption = np.zeros(case.labels.shape), f"{caption}, on a grid that is not the picture's"
    limits = None if case.slice_number is None else window
    return Figure(caption, overlay_png(np.swapaxes(grey, 0, 1), case.labels.T, _COLOURS, _MAX_SIDE, limits))


def _in_lps(array: NDArray[Any], affine_ras: NDArray[np.float64]) -> NDArray[Any]:
    """The same volume with its axes swapped and turned as radiologists look at it; nothing is copied."""
    turn = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(affine_ras), _NIBABEL_LPS)
    return np.asarray(nibabel.orientations.apply_orientation(array, turn))
