"""Scores of a section over all thresholds, as the ISBI 2012 challenge takes them, and the best of them.

The challenge scores a stack at each threshold from 0.0 to 1.0 in steps of 0.1, averages over its sections and takes the
best average: one threshold for the whole stack, chosen with the truth in hand. A result that claims to hold for new
sections has the threshold fixed beforehand, on training data; so both are given.

(The challenge's averages: V_Rand, V_Info and warping error over sections, as here. Rand error and pixel error of 2012
add up the counts of all sections first; with sections of one size and kind that is nearly the same.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clinibundle.metrics.membrane_scores import (
    LOWER_IS_BETTER,
    SCORES,
    WHOLE,
    Scores,
    compare_cells,
    require_probability,
    squared_error,
)
from clinibundle.metrics.membranes import LabelMap, cells_of_labels, cells_of_probability, require_same_shape

THRESHOLDS = tuple(tenth / 10 for tenth in range(11))
"""The challenge's. (Its warping error stops at 0.9; at 1.0 nothing is interior, and ours is the worst.)"""


class Best(NamedTuple):
    """A score and the threshold chosen for it, the lowest of equals; None where no section has the score."""

    value: float | None
    threshold: float | None


@dataclass(frozen=True)
class BoundarySweep:
    """The scores of `membrane_scores` of one section.

    `scores` has a value for each of `thresholds`, `fixed` those at `fixed_threshold`, `best` each score's best over
    `thresholds`. `squared_error` needs no threshold.
    """

    thresholds: tuple[float, ...]
    scores: dict[str, tuple[float | None, ...]]
    fixed_threshold: float
    fixed: Scores
    squared_error: float

    @property
    def best(self) -> dict[str, Best]:
        """Each score where it is best for this section, `..._split` and `..._merge` where their whole score is."""
        return best_over_sections([self])


def sweep_thresholds(
    probability: NDArray[np.floating],
    truth: LabelMap,
    fixed_threshold: float = 0.5,
    thresholds: Sequence[float] = THRESHOLDS,
) -> BoundarySweep:
    """Every score of one section at every threshold.

    Takes 2 to 4 s for 512 x 512 pixels, nearly all of it for the warping errors.

    Args:
        probability: (rows, columns), that a pixel is interior, 0 to 1.
        truth: (rows, columns), 0 on membrane; see `membranes.cells_of_labels`.
        fixed_threshold: chosen before this section was seen.
        thresholds: 0 to 1.

    Raises:
        DataFolderError: the shapes differ.
    """
    require_probability(probability)
    require_same_shape(probability, truth)
    true_cells = cells_of_labels(truth)
    rows = {
        threshold: compare_cells(cells_of_probability(probability, threshold), true_cells)
        for threshold in {*thresholds, fixed_threshold}
    }
    return BoundarySweep(
        thresholds=tuple(thresholds),
        scores={name: tuple(rows[threshold][name] for threshold in thresholds) for name in SCORES},
        fixed_threshold=fixed_threshold,
        fixed=rows[fixed_threshold],
        squared_error=squared_error(probability, truth),
    )


def best_over_sections(sweeps: Sequence[BoundarySweep]) -> dict[str, Best]:
    """Each score's mean over sections at the one threshold that is best for it, as the challenge ranks a stack.

    `..._split` and `..._merge` are given at the threshold of their whole score.

    Args:
        sweeps: at least one, all over the same thresholds. Sections without true cells are left out where they have no
            score.
    """
    thresholds = sweeps[0].thresholds
    if any(sweep.thresholds != thresholds for sweep in sweeps):
        raise ValueError("all sections must be swept over the same thresholds")
    means = {
        name: mean_over_sections(np.array([sweep.scores[name] for sweep in sweeps], np.float64)) for name in SCORES
    }
    return {name: best_mean(means[name], means[WHOLE[name]], thresholds, WHOLE[name]) for name in SCORES}


def mean_over_sections(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of (sections, thresholds) the mean at each threshold; a section without the score is NaN and left out.

    Returns:
        (thresholds,), empty if no section has the score.
    """
    known = values[~np.isnan(values).any(axis=1)]
    means: NDArray[np.float64] = known.mean(axis=0) if len(known) else np.empty(0)
    return means


def best_mean(
    means: NDArray[np.float64], deciding: NDArray[np.float64], thresholds: Sequence[float], name: str
) -> Best:
    """One of `means`: that at the threshold at which `deciding`, the means of the score `name`, is best."""
    if not (len(means) and len(deciding)):
        return Best(None, None)
    at = int(deciding.argmin() if name in LOWER_IS_BETTER else deciding.argmax())
    return Best(float(means[at]), float(thresholds[at]))
