"""Free-response operating characteristic (FROC): how sensitivity pays for false finds as a threshold is turned.

Two thresholds can be turned. That of the lesions' confidence keeps the outlines and drops the doubtful lesions
(`metrics.lesions.match_over_confidences`); it is how detectors are compared. That of the probability outlines anew: per
threshold, the mask is labelled and matched (`metrics.lesions.match_lesions`), as the bundle itself would with its
threshold set to that; lesions run together as it falls, so that sensitivity may fall too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clinibundle.metrics.lesions import LesionMatch, summarise_finds
from clinibundle.metrics.summary import Summary

FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False finds per scan at which detectors are usually compared (Setio et al., Med Image Anal 2017;42:1-13)."""

CONFIDENCE_STEPS = tuple(step / 100 for step in range(101))
"""Thresholds of a confidence between 0 and 1 where the same ones are wanted of every scan."""


@dataclass(frozen=True)
class FrocPoint:
    """What a threshold yields over many scans; the summaries are those of `metrics.lesions.summarise_finds`."""

    threshold: float
    lesion_sensitivity: Summary
    false_finds_per_scan: Summary


def froc(
    thresholds: Sequence[float],
    matches: Sequence[Sequence[LesionMatch]],
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = 2000,
) -> list[FrocPoint]:
    """A point per threshold, in the order of the thresholds.

    Args:
        thresholds: in any order.
        matches: of each scan, one a threshold.
        groups: the group (patient) of each scan.
        seed: of the bootstrap of the intervals.
        resamples: number of its draws.
    """
    points = []
    for threshold, at_threshold in zip(thresholds, zip(*matches, strict=True), strict=True):
        found = summarise_finds(at_threshold, groups, seed, resamples)
        points.append(FrocPoint(threshold, found["lesion_sensitivity"], found["false_finds_per_scan"]))
    return points


def sensitivity_at(points: Sequence[FrocPoint], false_finds_per_scan: float) -> float | None:
    """The best sensitivity of all points with at most so many false finds per scan, without interpolation.

    0 if no point has so few: a threshold that nothing passes has none. None if no scan has a true lesion.
    """
    best = 0.0
    for point in points:
        sensitivity, false_finds = point.lesion_sensitivity["mean"], point.false_finds_per_scan["mean"]
        if sensitivity is None or false_finds is None:
            return None
        if false_finds <= false_finds_per_scan:
            best = max(best, sensitivity)
    return best


def froc_score(points: Sequence[FrocPoint], rates: Sequence[float] = FROC_RATES) -> float | None:
    """The mean of `sensitivity_at` over rates of false finds per scan; None if no scan has a true lesion."""
    reached = [sensitivity for rate in rates if (sensitivity := sensitivity_at(points, rate)) is not None]
    return sum(reached) / len(reached) if reached else None
