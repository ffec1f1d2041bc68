"""A score of membrane segmentation as MONAI's and Ignite's validation take metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric

from clinibundle.errors import did_you_mean
from clinibundle.metrics.boundary_sweep import THRESHOLDS, Best, best_mean, mean_over_sections
from clinibundle.metrics.membrane_scores import SCORES, WHOLE, require_probability
from clinibundle.metrics.membranes import cells_of_labels, cells_of_probability


class MembraneScore(CumulativeIterationMetric):  # type: ignore[misc]
    """The mean over sections of one score of the ISBI 2012 challenge.

    Takes probabilities (batch, channels, rows, columns) or lists of (channels, rows, columns), and labels with one
    channel, 0 on membrane. `aggregate` gives the mean at the threshold, or at the best one for all sections together;
    NaN if no section has the score. Errors stay errors: of `v_rand` higher is better, of `rand_error` lower.

    Args:
        score: a name out of `membrane_scores.SCORES`. Only those that start with `warping` take longer than 0.1 s a
            section and threshold.
        threshold: interior lies above it; None for the best of `thresholds`, as the challenge has it.
        interior_channel: of the prediction; the last by default, which is right for (membrane, interior) and for
            interior alone.
        thresholds: to choose from.
    """

    def __init__(
        self,
        score: str = "v_rand",
        threshold: float | None = None,
        interior_channel: int = -1,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise ValueError(
                f"there is no score {score!r}{did_you_mean(score, SCORES)}; choose from {', '.join(SCORES)}"
            )
        if threshold is None and WHOLE[score] != score:
            raise ValueError(f"{score} alone has no best threshold that means anything; give the one of {WHOLE[score]}")
        self.score = score
        self.thresholds = tuple(thresholds) if threshold is None else (threshold,)
        self.interior_channel = interior_channel

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, thresholds); NaN where a section has no value."""
        if y is None:
            raise ValueError("a score needs the true label")
        rows = [
            self._section(prediction[self.interior_channel], label[0])
            for prediction, label in zip(y_pred, y, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def aggregate(self) -> torch.Tensor:
        """The mean of all sections since the last `reset`."""
        best = self.best()
        return torch.tensor(float("nan") if best.value is None else best.value, dtype=torch.float64)

    def best(self) -> Best:
        """The same with its threshold, which is worth keeping if it was chosen on training data."""
        values = self.get_buffer()
        if values is None:
            raise ValueError("no section has been scored yet")
        means = mean_over_sections(values.cpu().numpy())
        return best_mean(means, means, self.thresholds, self.score)

    def _section(self, probability: torch.Tensor, label: torch.Tensor) -> list[float]:
        picture = probability.float().cpu().numpy()
        require_probability(picture)
        truth = cells_of_labels(np.rint(label.cpu().numpy()).astype(np.int64))
        compute = SCORES[self.score]
        values = [compute(cells_of_probability(picture, at), truth)[self.score] for at in self.thresholds]
        return [float("nan") if value is None else value for value in values]
