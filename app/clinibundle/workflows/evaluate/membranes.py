"""Sections of electron microscopy: the scores of the challenge for the cells, and for the probability by threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.errors import BundleError
from clinibundle.metrics.boundary_sweep import BoundarySweep, best_over_sections, sweep_thresholds
from clinibundle.metrics.membrane_scores import SCORES, Scores, scores_of_labels
from clinibundle.metrics.split_merge_picture import split_merge_picture


@dataclass(frozen=True, eq=False)
class SectionScores:
    """The scores of one section.

    Attributes:
        cells: of the cells that the bundle tells apart.
        sweep: of its probability of interior, over thresholds.
        errors: (rows, columns, 3), where cells are split and merged.
    """

    cells: Scores
    sweep: BoundarySweep
    errors: NDArray[np.uint8]


def measure_section(data: Mapping[str, Any], truth: NDArray[np.bool_], fixed_threshold: float) -> SectionScores:
    """Compares `cells` and `probability`, which evaluate.yaml leaves, with the truth.

    Args:
        data: what is left of the case.
        truth: (x, y), interior.
        fixed_threshold: of the bundle, chosen on training data.

    Raises:
        BundleError: if one of them is not there, or lies on another grid.
    """
    found = {}
    for key in ("cells", "probability"):
        if key not in data or np.shape(data[key]) != (1, *truth.shape):
            raise BundleError(f"evaluate.yaml leaves no '{key}' of one channel on the grid of 'label'; mend it")
        found[key] = np.asarray(data[key])[0].T
    labels = truth.T.astype(np.uint8)
    probability = np.clip(found["probability"].astype(np.float64), 0, 1)
    return SectionScores(
        scores_of_labels(found["cells"].astype(np.int32), labels),
        sweep_thresholds(probability, labels, fixed_threshold),
        split_merge_picture(found["cells"].astype(np.int32), labels),
    )


def summarise_sections(sections: Sequence[SectionScores]) -> dict[str, Any]:
    """`membranes` of metrics.json: means over sections.

    Of each score: that of the cells, that of the probability cut at the fixed threshold, and the best over the
    thresholds of the challenge, one threshold for all sections, as it ranks stacks. The last one is chosen on what is
    measured, so it flatters.
    """
    sweeps = [section.sweep for section in sections]
    best = best_over_sections(sweeps)
    return {
        "cells": {name: _mean([section.cells[name] for section in sections]) for name in SCORES},
        "fixed_threshold": sweeps[0].fixed_threshold,
        "at_fixed_threshold": {name: _mean([sweep.fixed[name] for sweep in sweeps]) for name in SCORES},
        "best_over_thresholds": {name: best[name]._asdict() for name in SCORES},
        "squared_error": _mean([sweep.squared_error for sweep in sweeps]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 6) if known else None
