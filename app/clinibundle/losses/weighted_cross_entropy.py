"""Cross entropy with a weight for each pixel, alone and together with Dice.

Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597), equation 1; the weights are those of
`clinibundle.transforms.weight_map` and travel as the label's last channel. MONAI's and torch's cross entropies know
weights of classes, not of pixels.
"""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.losses import DiceLoss
from torch.nn.functional import cross_entropy

from clinibundle.errors import BundleError


class WeightedCrossEntropyLoss(torch.nn.Module):
    """Softmax cross entropy of each pixel times its weight, averaged over all pixels of the batch.

    The paper's sum, divided by the number of pixels, so that a learning rate fits any size of picture; with weight 1
    everywhere it is the plain cross entropy. Computed in float32 whatever the network's precision.
    """

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            logits: (batch, classes, ...), two classes or more.
            target: (batch, 2, ...), class number and weight; or (batch, 1, ...), class number, and weight 1 everywhere.
        """
        classes, weights = split_target(logits, target)
        each = cross_entropy(_plain(logits).float(), classes[:, 0].long(), reduction="none")
        return (each if weights is None else each * weights[:, 0]).mean()


class DiceWeightedCrossEntropyLoss(torch.nn.Module):
    """`lambda_dice` times MONAI's softmax Dice loss plus `lambda_ce` times the weighted cross entropy.

    The Dice term does not know the weights: it has to see the picture as it will be measured.

    Args:
        lambda_dice, lambda_ce: of the two terms.
        include_background: whether class 0 takes part in the Dice term.
        batch: take the Dice term over the whole batch at once, not per picture.
    """

    def __init__(
        self,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        include_background: bool = True,
        batch: bool = False,
    ) -> None:
        super().__init__()
        self.lambda_dice, self.lambda_ce = lambda_dice, lambda_ce
        self.dice = DiceLoss(include_background=include_background, softmax=True, to_onehot_y=True, batch=batch)
        self.cross_entropy = WeightedCrossEntropyLoss()

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar; arguments as in `WeightedCrossEntropyLoss`."""
        classes, _ = split_target(logits, target)
        dice: torch.Tensor = self.dice(_plain(logits).float(), classes)
        weighted: torch.Tensor = self.cross_entropy(logits, target)
        return self.lambda_dice * dice + self.lambda_ce * weighted


def split_target(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Class number and weight, each (batch, 1, ...); None if the target has no weights.

    Raises:
        BundleError: target and logits do not fit each other.
    """
    if logits.shape[1] < 2:
        raise BundleError("softmax needs a network with two output channels or more, found one; set out_channels to 2")
    if target.shape[1] not in {1, 2} or target.shape[2:] != logits.shape[2:] or len(target) != len(logits):
        raise BundleError(
            f"the target has the shape {tuple(target.shape)}; the network's answer has {tuple(logits.shape)}, which "
            "needs the same batch and picture size and one channel for the class number, or two with the weight"
        )
    target = _plain(target)
    return target[:, :1], target[:, 1:] if target.shape[1] == 2 else None


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    # MetaTensor dispatch costs more than the arithmetic at this size.
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
