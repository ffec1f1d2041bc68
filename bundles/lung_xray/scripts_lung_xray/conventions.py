"""Two ways to outline a lung, and how one network learns from both.

Montgomery and Shenzhen leave out the lung that hides behind the heart and the dome (`heart_excluded`); other readers
draw it in (`heart_included`). The network tells three classes apart: 0 background, 1 lung, 2 lung behind the heart.
A picture outlined by either convention only says to which *group* of classes a pixel belongs, so loss and metric add up
the probabilities of the group: the marginal loss of Shi et al., "Marginal loss and exclusion loss for partially
supervised multi-organ segmentation", Medical Image Analysis 70 (2021), section 3.2. MONAI has no such loss.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

CONVENTIONS = ("heart_excluded", "heart_included")
FOREGROUND_CLASSES: tuple[tuple[int, ...], ...] = ((1,), (1, 2))


class EncodeConventiond(MapTransform):
    """Writes the convention of a row into its mask, so that loss and metric find it: value = lung + 2 * convention.

    Args:
        keys: masks (1 or more channels, ...), lung where the first channel is above 0.5; others stay as they are.
        convention_key: names the entry that holds one of `CONVENTIONS`; it is removed.

    Raises:
        ValueError: for an unknown convention.
    """

    def __init__(self, keys: KeysCollection, convention_key: str = "convention") -> None:
        super().__init__(keys)
        self.convention_key = convention_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        convention = row.pop(self.convention_key)
        if convention not in CONVENTIONS:
            raise ValueError(f"outline convention '{convention}' is unknown: expected one of {', '.join(CONVENTIONS)}")
        for key in self.key_iterator(row):
            mask, extras = row[key][:1], row[key][1:]
            encoded = (mask > 0.5).to(torch.float32) + 2 * CONVENTIONS.index(convention)
            row[key] = torch.cat([encoded, extras]) if len(extras) else encoded
        return row


def split_encoded(label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mask (0 or 1) and the convention's index of an encoded label; both of the label's shape."""
    codes = label.round().long()
    return codes % 2, codes // 2


def foreground_probability(probability: torch.Tensor, convention: torch.Tensor, class_axis: int = 1) -> torch.Tensor:
    """Probability that a pixel belongs to the lung as its picture's convention draws it.

    Args:
        probability: class probabilities, (batch, class, ...).
        convention: index into `CONVENTIONS` per pixel, (batch, 1, ...).
        class_axis: 0 for tensors without the batch axis.

    Returns:
        (batch, 1, ...).
    """
    groups = [
        probability.index_select(class_axis, torch.tensor(classes, device=probability.device)).sum(
            class_axis, keepdim=True
        )
        for classes in FOREGROUND_CLASSES
    ]
    result = groups[0]
    for index, group in enumerate(groups[1:], start=1):
        result = torch.where(convention == index, group, result)
    return result


class FollowConventiond(Transform):
    """For measuring: turns class probabilities and an encoded label into binary masks by the label's convention.

    Args:
        pred_key: class probabilities, (class, ...).
        label_key: encoded label, (1, ...).
        also_key: if given, the mask by the last convention is left there too, whatever the label's convention is.
    """

    def __init__(self, pred_key: str = "pred", label_key: str = "label", also_key: str | None = None) -> None:
        self.pred_key, self.label_key, self.also_key = pred_key, label_key, also_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        mask, convention = split_encoded(_plain(row[self.label_key]))
        probability = _plain(row[self.pred_key])
        row[self.pred_key] = (foreground_probability(probability, convention, class_axis=0) > 0.5).float()
        row[self.label_key] = mask.float()
        if self.also_key is not None:
            last = torch.full_like(convention, len(CONVENTIONS) - 1)
            row[self.also_key] = (foreground_probability(probability, last, class_axis=0) > 0.5).float()
        return row


class MarginalDiceCELoss(torch.nn.Module):
    """Dice plus cross entropy of the group of classes that a picture's convention calls lung.

    For a picture whose convention names all but the background it equals MONAI's `DiceCELoss(softmax=True,
    include_background=False)` on the two groups.

    Args:
        lambda_dice: weight of the Dice term, taken per picture.
        lambda_ce: weight of the cross entropy term, taken per pixel.
        smooth: keeps the Dice term defined for an empty mask.
        pixel_loss: of two classes, from logits (batch, 2, H, W) and a label (batch, 1 or more, H, W), 0 or 1 in its
            first channel; takes the place of all that.
    """

    def __init__(
        self,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        smooth: float = 1e-5,
        pixel_loss: torch.nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.lambda_dice, self.lambda_ce, self.smooth = lambda_dice, lambda_ce, smooth
        self.pixel_loss = pixel_loss

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar, of logits (batch, 3, H, W) and an encoded label (batch, 1 or more, H, W)."""
        encoded, extras = _plain(label)[:, :1], _plain(label)[:, 1:]
        mask, convention = split_encoded(encoded)
        target = mask.to(torch.float32)
        probability = torch.softmax(_plain(logits).float(), dim=1)
        lung = foreground_probability(probability, convention).clamp(1e-6, 1 - 1e-6)
        if self.pixel_loss is not None:
            # The softmax of logarithms of probabilities gives the probabilities back.
            two_classes = torch.log(torch.cat([1 - lung, lung], dim=1))
            loss: torch.Tensor = self.pixel_loss(two_classes, torch.cat([target, extras], dim=1))
            return loss
        cross_entropy = torch.nn.functional.binary_cross_entropy(lung, target)
        axes = tuple(range(1, lung.ndim))
        overlap = (lung * target).sum(axes)
        dice = 1 - (2 * overlap + self.smooth) / (lung.sum(axes) + target.sum(axes) + self.smooth)
        return self.lambda_dice * dice.mean() + self.lambda_ce * cross_entropy


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    # MetaTensor dispatch costs more than the arithmetic at this size.
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
