"""All scores of the ISBI 2012 challenge for one section, at one threshold.

    pixel_error             1 - F-score of the interior's pixels: the challenge's pixel error (U-Net 0.0611)
    pixel_disagreement      share of pixels that differ, which is the squared error of the thresholded proposal
    iou_interior, iou_membrane
    rand_error              1 - V_Rand without border thinning: the challenge's Rand error of 2012 (U-Net 0.0382)
    v_rand, v_rand_split, v_rand_merge      after border thinning, the challenge's scores since 2015
    v_info, v_info_split, v_info_merge      the same; see `rand_scores`
    warping_error           Jain's, all topological errors
    warping_error_splits_mergers            the challenge's (U-Net 0.000353); see `warping`

All lie in [0, 1]; of the errors lower is better, of the others higher. Sources: the challenge's page of evaluation and
its program, package trainableSegmentation.metrics of Fiji's Trainable Weka Segmentation. Pixels follow the rule of
`metrics.binary` for empty masks; V_Rand, V_Info and Rand error are None where the truth has no cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clinibundle.metrics.binary import Counts, count_pixels
from clinibundle.metrics.membranes import (
    Cells,
    LabelMap,
    cells_of_labels,
    cells_of_probability,
    require_same_shape,
    thin_borders,
)
from clinibundle.metrics.rand_scores import overlaps
from clinibundle.metrics.warping import warping_errors

Scores = dict[str, float | None]


def scores_at(probability: NDArray[np.floating], truth: LabelMap, threshold: float) -> Scores:
    """Of a picture of probabilities.

    Args:
        probability: (rows, columns), that a pixel is interior, 0 to 1.
        truth: (rows, columns), see `membranes.cells_of_labels`.
        threshold: 0 to 1; interior lies above it.

    Raises:
        DataFolderError: the shapes differ.
    """
    require_probability(probability)
    return compare_cells(cells_of_probability(probability, threshold), cells_of_labels(truth))


def scores_of_labels(proposal: LabelMap, truth: LabelMap) -> Scores:
    """Of a label map, as a watershed makes it.

    Args:
        proposal: (rows, columns), see `membranes.cells_of_labels`.
        truth: the same.

    Raises:
        DataFolderError: the shapes differ.
    """
    return compare_cells(cells_of_labels(proposal), cells_of_labels(truth))


def compare_cells(proposal: Cells, truth: Cells) -> Scores:
    """Every score, in the order in which tables show them."""
    require_same_shape(proposal.interior, truth.interior)
    return pixel_scores(proposal, truth) | cluster_scores(proposal, truth) | warping_scores(proposal, truth)


def pixel_scores(proposal: Cells, truth: Cells) -> Scores:
    """`pixel_error` to `iou_membrane`."""
    interior = count_pixels(proposal.interior, truth.interior)
    ratios = interior.ratios()
    membrane = Counts(tp=interior.tn, fp=interior.fn, fn=interior.fp, tn=interior.tp)
    return {
        "pixel_error": 1 - (ratios["dice"] or 0),
        "pixel_disagreement": (interior.fp + interior.fn) / sum(interior),
        "iou_interior": ratios["iou"],
        "iou_membrane": membrane.ratios()["iou"],
    }


def cluster_scores(proposal: Cells, truth: Cells) -> Scores:
    """`rand_error` to `v_info_merge`; None where the truth has no cell."""
    plain = overlaps(proposal.numbers, truth.numbers)
    thinned = overlaps(thin_borders(proposal.numbers), truth.numbers)
    scores: Scores = {"rand_error": 1 - plain.rand.value if plain else None}
    for name, score in (
        ("v_rand", thinned.rand if thinned else None),
        ("v_info", thinned.information if thinned else None),
    ):
        scores |= {
            name: score.value if score else None,
            f"{name}_split": score.split if score else None,
            f"{name}_merge": score.merge if score else None,
        }
    return scores


def warping_scores(proposal: Cells, truth: Cells) -> Scores:
    """`warping_error` and `warping_error_splits_mergers`."""
    errors = warping_errors(truth.interior, proposal.interior, proposal.confidence)
    return {"warping_error": errors.all, "warping_error_splits_mergers": errors.splits_and_mergers}


def squared_error(probability: NDArray[np.floating], truth: LabelMap) -> float:
    """Mean squared difference of probability and true interior, the challenge's second reading of pixel error.

    Args:
        probability: (rows, columns), that a pixel is interior, 0 to 1.
        truth: (rows, columns), 0 on membrane.

    Raises:
        DataFolderError: the shapes differ.
    """
    require_probability(probability)
    require_same_shape(probability, truth)
    return float(np.mean(np.square(probability.astype(np.float64) - cells_of_labels(truth).interior)))


def require_probability(probability: NDArray[np.floating]) -> None:
    """Real numbers from 0 to 1 and no others."""
    if not np.issubdtype(probability.dtype, np.floating):
        raise TypeError(f"a probability must hold real numbers, not {probability.dtype}: divide 8-bit values by 255")
    low, high = float(probability.min()), float(probability.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"a probability must lie between 0 and 1, and this one goes from {low:g} to {high:g}")


SCORES: dict[str, Callable[[Cells, Cells], Scores]] = {
    "pixel_error": pixel_scores,
    "pixel_disagreement": pixel_scores,
    "iou_interior": pixel_scores,
    "iou_membrane": pixel_scores,
    "rand_error": cluster_scores,
    "v_rand": cluster_scores,
    "v_rand_split": cluster_scores,
    "v_rand_merge": cluster_scores,
    "v_info": cluster_scores,
    "v_info_split": cluster_scores,
    "v_info_merge": cluster_scores,
    "warping_error": warping_scores,
    "warping_error_splits_mergers": warping_scores,
}
"""Each score's name and what computes it, in the order of tables."""

LOWER_IS_BETTER = frozenset(name for name in SCORES if "error" in name or name == "pixel_disagreement")

WHOLE = {name: name.removesuffix("_split").removesuffix("_merge") for name in SCORES}
"""The score that each belongs to: a part alone is perfect where all is one cell, or every pixel one."""
