"""Lesion by lesion: what was found in one scan, and what all scans say together.

Lesions of both masks are told apart by the same rule (`measure.lesions`: 26-connected). The least volume that the
bundle states holds for predictions alone, as `segment` lists no smaller ones; of the truth every lesion counts, and how
many of them are smaller is stated. Overlap and distances of the scan as a whole take the masks as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.bundle.description import MeasureDescription
from clinibundle.geometry import spacing_of, turn_lps_ras
from clinibundle.measure.lesions import label_lesions, voxel_volume_ml
from clinibundle.metrics.binary import Mask
from clinibundle.metrics.froc import CONFIDENCE_STEPS, FROC_RATES, FrocPoint, froc, froc_score, sensitivity_at
from clinibundle.metrics.lesions import (
    LabelMap,
    LesionMatch,
    lesion_metrics,
    match_lesions,
    match_over_confidences,
    summarise_finds,
)
from clinibundle.metrics.summary import summarise
from clinibundle.metrics.surface import surface_dice

_COUNTED = ("true_lesions", "predicted_lesions", "found_lesions", "missed_lesions", "false_finds")


@dataclass(frozen=True)
class ScanLesions:
    """What became of the lesions of one scan.

    Attributes:
        metrics: by name, in the order of tables.
        match: of all lesions.
        over_confidences: a match per step of `CONFIDENCE_STEPS`; None where the confidences are not known.
        true_below_minimum: true lesions that are smaller than what the bundle calls one.
    """

    metrics: Mapping[str, float | None]
    match: LesionMatch
    over_confidences: Sequence[LesionMatch] | None
    true_below_minimum: int


def measure_scan(
    prediction: Mask,
    truth: Mask,
    probability: NDArray[np.floating[Any]] | None,
    affine_ras: NDArray[np.float64],
    described: MeasureDescription,
) -> ScanLesions:
    """One scan, by the rules of a bundle.

    Args:
        prediction: (x, y, z).
        truth: same shape.
        probability: of the foreground, same shape, 0 to 1; the confidence of a lesion is its mean. None if not known.
        affine_ras: (4, 4), voxel index to millimetres.
        described: what a lesion and what a hit is.
    """
    affine = turn_lps_ras(affine_ras)
    minimum_ml, voxel_ml = _minimum_volume_ml(described), voxel_volume_ml(affine)
    predicted, true = label_lesions(prediction, affine, minimum_ml), label_lesions(truth, affine)
    distance = surface_dice(prediction, truth, spacing_of(affine), described.surface_tolerance_mm)
    over_confidences = None
    if probability is not None:
        confidence = _mean_inside(probability, predicted)
        over_confidences = match_over_confidences(predicted, true, confidence, CONFIDENCE_STEPS, described.hit)
    return ScanLesions(
        metrics={
            **lesion_metrics(predicted, true, voxel_ml, described.hit),
            _surface_dice_name(described): distance,
        },
        match=match_lesions(predicted, true, described.hit),
        over_confidences=over_confidences,
        true_below_minimum=int(np.count_nonzero(np.bincount(true[truth])[1:] * voxel_ml < minimum_ml)),
    )


def summarise_scans(
    scans: Sequence[ScanLesions], groups: Sequence[str], described: MeasureDescription
) -> dict[str, Any]:
    """The part `lesions` of metrics.json.

    Args:
        scans: of all volumes.
        groups: the group (patient) of each.
        described: what a lesion and what a hit was.
    """
    rows = [scan.metrics for scan in scans]
    of_scans = ("lesion_ppv", "volume_error_ml", "absolute_volume_error_ml", "relative_volume_error")
    return {
        "scans": len(scans),
        "hit_rule": str(described.hit),
        "minimum_volume_ml": _minimum_volume_ml(described),
        "surface_tolerance_mm": described.surface_tolerance_mm,
        **{name: sum(int(row[name] or 0) for row in rows) for name in _COUNTED},
        "true_lesions_below_minimum": sum(scan.true_below_minimum for scan in scans),
        **summarise_finds([scan.match for scan in scans], groups),
        "per_scan": summarise(rows, [*of_scans, _surface_dice_name(described)], groups),
        "froc": _froc(scans, groups),
    }


def _froc(scans: Sequence[ScanLesions], groups: Sequence[str]) -> dict[str, Any] | None:
    """None unless the confidences of all scans are known."""
    matches = [scan.over_confidences for scan in scans if scan.over_confidences is not None]
    if len(matches) < len(scans):
        return None
    points = froc(CONFIDENCE_STEPS, matches, groups)
    return {
        "score": froc_score(points),
        "sensitivity_at_false_finds_per_scan": {f"{rate:g}": sensitivity_at(points, rate) for rate in FROC_RATES},
        "points": [asdict(point) for point in _where_something_changes(points)],
    }


def _where_something_changes(points: Sequence[FrocPoint]) -> list[FrocPoint]:
    """The last one, before it becomes another, of equal points that follow each other."""
    before_others = [
        point
        for point, following in pairwise(points)
        if (point.lesion_sensitivity, point.false_finds_per_scan)
        != (following.lesion_sensitivity, following.false_finds_per_scan)
    ]
    return [*before_others, points[-1]]


def _mean_inside(probability: NDArray[np.floating[Any]], lesions: LabelMap) -> dict[int, float]:
    """The mean of each lesion, by number."""
    inside = lesions > 0
    numbers = lesions[inside]
    sums, sizes = np.bincount(numbers, weights=probability[inside]), np.bincount(numbers)
    return {number: float(sums[number] / sizes[number]) for number in range(1, len(sizes))}


def _minimum_volume_ml(described: MeasureDescription) -> float:
    return described.lesions.minimum_volume_ml if described.lesions else 0.0


def _surface_dice_name(described: MeasureDescription) -> str:
    """With its tolerance, without which it says nothing."""
    return f"surface_dice_{described.surface_tolerance_mm:g}mm"
