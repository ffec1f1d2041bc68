"""Deep supervision for networks that stack their answers, as MONAI's DynUNet does.

`monai.losses.DeepSupervisionLoss` takes a list of answers; given DynUNet's stack it raises a ValueError.
"""

from __future__ import annotations

import torch
from monai.losses import DeepSupervisionLoss


class StackedDeepSupervisionLoss(DeepSupervisionLoss):  # type: ignore[misc]
    """MONAI's loss, for answers of (batch, answers, channels, ...) as well; a single answer is judged as it is."""

    def forward(self, input: torch.Tensor | list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the loss at every resolution.

        Args:
            input: what the network gives in training; one axis more than `target` if answers are stacked.
            target: (batch, 1 or channels, ...).
        """
        if isinstance(input, torch.Tensor) and input.ndim == target.ndim + 1:
            input = list(torch.unbind(input, dim=1))
        found: torch.Tensor = super().forward(input, target)
        return found
