"""How well one predicted mask agrees with the true one.

The rule for empty masks, for all bundles and stated here alone (`agreement_where_empty` and, for overlaps alone,
`Counts.ratios` are its code):

    prediction  truth   dice, iou   hd95
    empty       empty   1           0
    something   empty   0           diagonal of the picture     a purely false finding
    empty       sth.    0           diagonal of the picture     a missed case, counted by `is_missed`

A missed case thus weighs on every mean with a finite worst case. (MONAI's HausdorffDistanceMetric gives NaN or inf
there, and its mean then drops the very cases that went wrong: MONAI issue #9095; hence metrics of our own.)
Accuracy, sensitivity, specificity, ppv and npv are None where their denominator is zero, such as the sensitivity where
nothing was to be found; a None is left out of the mean, and the summary's `n` says how many cases are in it.

With tp, fp, fn, tn the numbers of true and false, positive and negative pixels:

    dice = 2 tp / (2 tp + fp + fn)          iou = tp / (tp + fp + fn)
    sensitivity = tp / (tp + fn)            specificity = tn / (tn + fp)
    ppv = tp / (tp + fp)                    npv = tn / (tn + fn)
    accuracy = (tp + tn) / (tp + fp + fn + tn)

All of them lie in [0, 1]. hd95 is in pixels (`hd95_px`) or, where the spacing is known, in millimetres (`hd95_mm`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from clinibundle.errors import DataFolderError

Mask = NDArray[np.bool_]


class Counts(NamedTuple):
    """The numbers of true and false, positive and negative pixels: of one case, or of several added up."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def has_truth(self) -> bool:
        """Whether there was something to find."""
        return self.tp + self.fn > 0

    @property
    def has_finding(self) -> bool:
        """Whether something was found."""
        return self.tp + self.fp > 0

    def ratios(self) -> dict[str, float | None]:
        """`dice, iou, accuracy, sensitivity, specificity, ppv, npv`, by this module's formulas and its rule."""
        tp, fp, fn, tn = self
        found_or_true = tp + fp + fn
        return {
            "dice": 2 * tp / (tp + found_or_true) if found_or_true else 1.0,
            "iou": tp / found_or_true if found_or_true else 1.0,
            "accuracy": _ratio(tp + tn, sum(self)),
            "sensitivity": _ratio(tp, tp + fn),
            "specificity": _ratio(tn, tn + fp),
            "ppv": _ratio(tp, tp + fp),
            "npv": _ratio(tn, tn + fn),
        }


class Agreement(NamedTuple):
    """The metrics that a rule gives a value where a mask is empty: overlaps in [0, 1], hd95 in units of the spacing."""

    dice: float
    iou: float
    hd95: float


def binary_metrics(prediction: Mask, truth: Mask, spacing_mm: Sequence[float] | None = None) -> dict[str, float | None]:
    """Every metric of one case, in the order in which tables show them.

    Args:
        prediction: boolean, two or three axes.
        truth: boolean, same shape.
        spacing_mm: distance of neighbouring pixels along each axis of the arrays; None if unknown.

    Returns:
        `dice, iou, hd95_px` (`hd95_mm` if the spacing is given), `accuracy, sensitivity, specificity, ppv, npv`.
        Always finite; None where a ratio has no meaning.

    Raises:
        DataFolderError: the masks differ in shape.
    """
    ratios = count_pixels(prediction, truth).ratios()
    spacing = _spacing_or_ones(spacing_mm, prediction.ndim)
    by_rule = agreement_where_empty(prediction, truth, spacing)
    hd95 = hausdorff_95(prediction, truth, spacing) if by_rule is None else by_rule.hd95
    return {
        "dice": ratios.pop("dice"),
        "iou": ratios.pop("iou"),
        "hd95_px" if spacing_mm is None else "hd95_mm": hd95,
        **ratios,
    }


def count_pixels(prediction: Mask, truth: Mask) -> Counts:
    """Of one case.

    Raises:
        DataFolderError: the masks differ in shape.
    """
    _require_masks(prediction, truth)
    tp = int(np.count_nonzero(prediction & truth))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Counts(tp, fp, fn, prediction.size - tp - fp - fn)


def is_missed(prediction: Mask, truth: Mask) -> bool:
    """Whether there was something to find and nothing was found."""
    return bool(truth.any() and not prediction.any())


def agreement_where_empty(prediction: Mask, truth: Mask, spacing: Sequence[float]) -> Agreement | None:
    """The rule of this module's first lines; None where both masks hold something and need no rule.

    The diagonal runs between the outer corners of the picture, sqrt(Σ (size · spacing)²), and so is longer than any
    distance that two masks in it can have.
    """
    if prediction.any() and truth.any():
        return None
    if prediction.any() or truth.any():
        diagonal = math.hypot(*(size * step for size, step in zip(truth.shape, spacing, strict=True)))
        return Agreement(dice=0.0, iou=0.0, hd95=diagonal)
    return Agreement(dice=1.0, iou=1.0, hd95=0.0)


def hausdorff_95(prediction: Mask, truth: Mask, spacing: Sequence[float]) -> float:
    """The 95th percentile Hausdorff distance of two masks that both hold something, in units of `spacing`.

    max(P95 of d(x, ∂truth) over x in ∂prediction, P95 of d(x, ∂prediction) over x in ∂truth), distances between pixel
    centres. As MONAI 1.6's compute_hausdorff_distance(percentile=95) does it: the surface ∂ is the mask without its
    erosion by the cross of direct neighbours (4 in a plane, 6 in a volume), what lies beyond the picture counts as
    outside, and the percentile is interpolated linearly, each direction for itself and not pooled.

    Args:
        prediction: boolean, two or three axes, not empty.
        truth: boolean, same shape, not empty.
        spacing: distance of neighbouring pixels along each axis.
    """
    # What is beyond this box is in neither mask, as what is beyond the picture: surfaces and distances stay the same.
    box = ndimage.find_objects((prediction | truth).view(np.uint8))[0]
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (prediction, truth)]
    return max(_directed_95(start, end, spacing) for start, end in (surfaces, surfaces[::-1]))


def _directed_95(start: Mask, end: Mask, spacing: Sequence[float]) -> float:
    """The 95th percentile over the pixels of one surface of the distance to the nearest pixel of the other."""
    # A tree of surface points takes a quarter of the time of a distance transform in 2-D, a tenth in 3-D.
    distances, _ = KDTree(np.argwhere(end) * spacing).query(np.argwhere(start) * spacing)
    return float(np.percentile(distances, 95))


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def _require_masks(prediction: Mask, truth: Mask) -> None:
    if prediction.shape != truth.shape:
        raise DataFolderError(
            f"the prediction has the shape {prediction.shape} and the true mask {truth.shape}, which must be the same; "
            "bring the label to the size of its image"
        )
    if prediction.dtype != np.bool_ or truth.dtype != np.bool_:
        raise TypeError(f"masks must be boolean, not {prediction.dtype} and {truth.dtype}: compare with a label first")


def _spacing_or_ones(spacing_mm: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    """Plain floats, one an axis; ones, that is pixels, where the spacing is unknown."""
    if spacing_mm is None:
        return (1.0,) * axes
    spacing = tuple(float(step) for step in spacing_mm)
    if len(spacing) != axes or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing {spacing} must hold one positive number for each of the {axes} axes")
    return spacing
