"""How many lesions were found, how many finds are false, and how far the volume is off.

A predicted lesion *hits* a true one if they overlap as a named rule demands (`HitRule`) and are matched to each other.
Matching is one to one: a find that covers two lesions has found one of them, and of two finds on one lesion the second
is false, since a list of lesions would be wrong by one in both cases. Of all matchings that is taken which has the most
hits, and of those the one with the largest sum of overlaps (assignment problem, scipy's linear_sum_assignment). Greedy
matching by falling overlap can miss a hit that is there, and its answer changes with the order of ties. Above an IoU of
1/2 (Dice 2/3) there is only one matching, as no two lesions can both overlap a third by that much.

The rule for scans without lesions, stated here alone; it follows that for empty masks in `metrics/binary.py`:

    predicted   true    lesion_sensitivity   lesion_ppv   false_finds   relative_volume_error
    none        none    None                 None         0             None
    some        none    None                 0            all           None
    none        some    0                    None         0             -1

A None is left out of a mean, and the summary's `n` says how many are in it. False finds are averaged over all scans,
those without a lesion among them. Over many scans, sensitivity is that of all lesions together (`summarise_finds`);
the mean of `lesion_sensitivity` over scans, in which a scan's only lesion weighs more, is another figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clinibundle.errors import DataFolderError
from clinibundle.metrics.summary import Summary, summarise

Mask = NDArray[np.bool_]
LabelMap = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class HitRule:
    """How much a predicted lesion has to overlap a true one to hit it.

    Attributes:
        overlap: `iou` (both / either), `dice` (twice both / the sum of sizes), or `any`: a single voxel will do.
        threshold: the least IoU or Dice of a hit, above 0 and up to 1; None for `any`.
    """

    overlap: Literal["iou", "dice", "any"]
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.overlap == "any":
            if self.threshold is not None:
                raise ValueError(f"a hit by any overlap has no threshold, found {self.threshold}")
        elif self.threshold is None or not 0 < self.threshold <= 1:
            raise ValueError(f"a hit by {self.overlap} needs a threshold above 0 and up to 1, found {self.threshold}")

    def __str__(self) -> str:
        """As tables and reports name it."""
        if self.overlap == "any":
            return "any overlap"
        return f"{'IoU' if self.overlap == 'iou' else 'Dice'} of at least {self.threshold:g}"


@dataclass(frozen=True)
class Hit:
    """A predicted and a true lesion that are matched, by their numbers, and how well they overlap."""

    predicted: int
    true: int
    iou: float
    dice: float


@dataclass(frozen=True)
class LesionMatch:
    """What became of the lesions of one scan; lesions are given by their numbers, in rising order."""

    hits: tuple[Hit, ...]
    missed: tuple[int, ...]
    false_finds: tuple[int, ...]


def match_lesions(predicted: LabelMap, truth: LabelMap, rule: HitRule) -> LesionMatch:
    """The lesions of one scan matched one to one, as this module's first lines say.

    Args:
        predicted: the number of its lesion in every voxel, 0 where none is.
        truth: the same of the true lesions, same shape.
        rule: what a hit is.

    Raises:
        DataFolderError: the label maps differ in shape.
    """
    return _match(_overlaps(predicted, truth), rule)


def match_over_confidences(
    predicted: LabelMap,
    truth: LabelMap,
    confidence: Mapping[int, float],
    thresholds: Sequence[float],
    rule: HitRule,
) -> list[LesionMatch]:
    """A match per threshold, of those predicted lesions alone whose confidence is at least that.

    For `froc`. The outlines stay as they are, so a lower threshold never has fewer hits.

    Args:
        predicted: the number of its lesion in every voxel, 0 where none is.
        truth: the same of the true lesions, same shape.
        confidence: of every predicted lesion, by number.
        thresholds: of the confidence.
        rule: what a hit is.

    Raises:
        DataFolderError: the label maps differ in shape.
    """
    overlaps = _overlaps(predicted, truth)
    sure = np.array([confidence[number] for number in overlaps.predicted.tolist()])
    return [_match(overlaps.of_predicted(sure >= threshold), rule) for threshold in thresholds]


def lesion_metrics(predicted: LabelMap, truth: LabelMap, voxel_ml: float, rule: HitRule) -> dict[str, float | None]:
    """Every metric of one scan, in the order in which tables show them.

    Args:
        predicted: the number of its lesion in every voxel, 0 where none is.
        truth: the same of the true lesions, same shape.
        voxel_ml: volume of a voxel.
        rule: what a hit is.

    Returns:
        The counts `true_lesions, predicted_lesions, found_lesions, missed_lesions, false_finds`, of which those found
        are the hits; `lesion_sensitivity`, hits / true lesions; `lesion_ppv`, hits / predicted lesions; and of the
        volume of all lesions together, predicted less true, `volume_error_ml`, `absolute_volume_error_ml` and
        `relative_volume_error` (in parts of the true volume). None where a ratio has no meaning.

    Raises:
        DataFolderError: the label maps differ in shape.
    """
    match = match_lesions(predicted, truth, rule)
    hits, missed, false_finds = len(match.hits), len(match.missed), len(match.false_finds)
    predicted_voxels, true_voxels = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
    error = predicted_voxels - true_voxels
    return {
        "true_lesions": hits + missed,
        "predicted_lesions": hits + false_finds,
        "found_lesions": hits,
        "missed_lesions": missed,
        "false_finds": false_finds,
        "lesion_sensitivity": _ratio(hits, hits + missed),
        "lesion_ppv": _ratio(hits, hits + false_finds),
        "volume_error_ml": error * voxel_ml,
        "absolute_volume_error_ml": abs(error) * voxel_ml,
        "relative_volume_error": _ratio(error, true_voxels),
    }


def summarise_finds(
    matches: Sequence[LesionMatch], groups: Sequence[str], seed: int = 0, resamples: int = 2000
) -> dict[str, Summary]:
    """What many scans say together, with intervals that are bootstrapped by group.

    Args:
        matches: one a scan.
        groups: the group (patient) of each scan.
        seed: of the bootstrap.
        resamples: number of its draws.

    Returns:
        `lesion_sensitivity` over all true lesions of all scans (`n` lesions), `false_finds_per_scan` over all scans
        (`n` scans).
    """
    lesions, patients = [], []
    for match, group in zip(matches, groups, strict=True):
        outcomes = [1.0] * len(match.hits) + [0.0] * len(match.missed)
        lesions += [{"lesion_sensitivity": outcome} for outcome in outcomes]
        patients += [group] * len(outcomes)
    scans = [{"false_finds_per_scan": float(len(match.false_finds))} for match in matches]
    return {
        **summarise(lesions, ["lesion_sensitivity"], patients, seed, resamples),
        **summarise(scans, ["false_finds_per_scan"], groups, seed, resamples),
    }


@dataclass(frozen=True, eq=False)
class _Overlaps:
    """The lesions of a scan and which of them overlap, all by their numbers.

    Attributes:
        predicted: (lesions,), rising.
        true: (lesions,), rising.
        pairs: (n, 2), a predicted and a true lesion that share a voxel.
        iou: (n,), of each pair.
        dice: (n,), of each pair.
    """

    predicted: NDArray[np.int64]
    true: NDArray[np.int64]
    pairs: NDArray[np.int64]
    iou: NDArray[np.float64]
    dice: NDArray[np.float64]

    def of_predicted(self, kept: Mask) -> _Overlaps:
        """Those of some of the predicted lesions alone."""
        stay = np.isin(self.pairs[:, 0], self.predicted[kept])
        return _Overlaps(self.predicted[kept], self.true, self.pairs[stay], self.iou[stay], self.dice[stay])


def _overlaps(predicted: LabelMap, truth: LabelMap) -> _Overlaps:
    _require_label_maps(predicted, truth)
    predicted_numbers, predicted_sizes = _numbers_and_sizes(predicted)
    true_numbers, true_sizes = _numbers_and_sizes(truth)
    shared = (predicted > 0) & (truth > 0)
    beyond_true = int(true_numbers.max(initial=0)) + 1
    codes, voxels = np.unique(predicted[shared].astype(np.int64) * beyond_true + truth[shared], return_counts=True)
    pairs = np.stack(np.divmod(codes, beyond_true), axis=1)
    sizes = predicted_sizes[np.searchsorted(predicted_numbers, pairs[:, 0])]
    sizes = sizes + true_sizes[np.searchsorted(true_numbers, pairs[:, 1])]
    return _Overlaps(predicted_numbers, true_numbers, pairs, iou=voxels / (sizes - voxels), dice=2 * voxels / sizes)


def _match(overlaps: _Overlaps, rule: HitRule) -> LesionMatch:
    score = overlaps.dice if rule.overlap == "dice" else overlaps.iou
    enough = np.flatnonzero(score >= (rule.threshold or 0.0))
    rows, row = np.unique(overlaps.pairs[enough, 0], return_inverse=True)
    columns, column = np.unique(overlaps.pairs[enough, 1], return_inverse=True)
    pair_at = np.full((len(rows), len(columns)), -1)
    pair_at[row, column] = enough
    # One hit more outweighs the overlaps of all the others, of which none is above 1.
    worth = np.zeros(pair_at.shape)
    worth[row, column] = min(worth.shape) + 1 + score[enough]
    matched = pair_at[linear_sum_assignment(worth, maximize=True)]
    hits = [
        Hit(
            int(overlaps.pairs[pair, 0]),
            int(overlaps.pairs[pair, 1]),
            float(overlaps.iou[pair]),
            float(overlaps.dice[pair]),
        )
        for pair in matched[matched >= 0]
    ]
    missed = np.setdiff1d(overlaps.true, [hit.true for hit in hits])
    false_finds = np.setdiff1d(overlaps.predicted, [hit.predicted for hit in hits])
    return LesionMatch(tuple(hits), tuple(missed.tolist()), tuple(false_finds.tolist()))


def _numbers_and_sizes(label_map: LabelMap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers that there are, rising, and how many voxels each has."""
    numbers, sizes = np.unique(label_map[label_map > 0], return_counts=True)
    return numbers.astype(np.int64), sizes.astype(np.int64)


def _ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def _require_label_maps(predicted: LabelMap, truth: LabelMap) -> None:
    if predicted.shape != truth.shape:
        raise DataFolderError(
            f"the predicted lesions have the shape {predicted.shape} and the true ones {truth.shape}, which must be "
            "the same; bring the label to the size of its image"
        )
    if not (np.issubdtype(predicted.dtype, np.integer) and np.issubdtype(truth.dtype, np.integer)):
        raise TypeError(
            f"lesions must be numbered with integers, not {predicted.dtype} and {truth.dtype}: label the masks first"
        )
