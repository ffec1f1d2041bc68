from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.losses import DeepSupervisionLoss, DiceLoss
from torch.nn.functional import cross_entropy

from clinibundle.errors import BundleError
from clinibundle.losses.weighted_cross_entropy import DiceWeightedCrossEntropyLoss, WeightedCrossEntropyLoss

LOSSES = [WeightedCrossEntropyLoss(), DiceWeightedCrossEntropyLoss()]


def made(classes=2, batch=2, size=(6, 7), seed=0):
    """Logits, class numbers (batch, *size) and weights of the same shape."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *size, generator=random)
    numbers = torch.randint(classes, (batch, *size), generator=random)
    return logits, numbers, 12 * torch.rand(batch, *size, generator=random)


@given(classes=st.integers(2, 7), batch=st.integers(1, 3), axes=st.integers(1, 3), seed=st.integers(0, 1000))
def test_it_is_the_mean_of_torchs_cross_entropy_times_the_weight(classes, batch, axes, seed):
    logits, numbers, weights = made(classes, batch, (5, 4, 3)[:axes], seed)
    found = WeightedCrossEntropyLoss()(logits, torch.stack([numbers, weights], dim=1))
    expected = (weights * cross_entropy(logits, numbers, reduction="none")).mean()
    assert torch.allclose(found, expected)


def test_one_pixel_is_worked_out_by_hand():
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1)
    target = torch.tensor([0.0, 5.0]).reshape(1, 2, 1, 1)
    # Class 0 has the probability 1 / (1 + 3).
    assert WeightedCrossEntropyLoss()(logits, target).item() == pytest.approx(5 * math.log(4))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_target_without_weights_is_one_with_weight_one_everywhere(loss):
    logits, numbers, _ = made(3)
    with_weights = torch.stack([numbers, torch.ones_like(numbers)], dim=1)
    assert torch.equal(loss(logits, numbers[:, None]), loss(logits, with_weights))
    assert torch.allclose(WeightedCrossEntropyLoss()(logits, numbers[:, None].float()), cross_entropy(logits, numbers))


def test_pixels_of_weight_zero_teach_nothing():
    logits, numbers, weights = made()
    weights[:, :3] = 0
    logits.requires_grad_()
    WeightedCrossEntropyLoss()(logits, torch.stack([numbers, weights], dim=1)).backward()
    assert not logits.grad[:, :, :3].any() and logits.grad[:, :, 3:].all()


@pytest.mark.parametrize("settings", [{}, {"include_background": False, "batch": True}])
def test_with_dice_it_is_the_weighted_sum_of_both(settings):
    logits, numbers, weights = made(4)
    found = DiceWeightedCrossEntropyLoss(lambda_dice=0.5, lambda_ce=2, **settings)(
        logits, torch.stack([numbers, weights], dim=1)
    )
    dice = DiceLoss(softmax=True, to_onehot_y=True, **settings)(logits, numbers[:, None])
    expected = 0.5 * dice + 2 * (weights * cross_entropy(logits, numbers, reduction="none")).mean()
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [0.0, 1e-7, 6e4])
def test_loss_and_gradient_stay_finite_at_the_ends_of_low_precision(loss, dtype, size):
    logits, numbers, weights = made(3, size=(16, 16))
    logits = (logits.sign() * size).to(dtype).requires_grad_()
    found = loss(logits, torch.stack([numbers, weights], dim=1))
    found.backward()
    assert found.dtype == torch.float32 and torch.isfinite(found) and torch.isfinite(logits.grad).all()
    assert logits.grad.dtype == dtype and logits.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_low_precision_costs_no_more_than_that_of_the_logits(loss):
    logits, numbers, weights = made(3, size=(16, 16))
    logits, target = 5 * logits.half(), torch.stack([numbers, weights], dim=1)
    assert torch.equal(loss(logits, target), loss(logits.float(), target))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(loss(logits.float(), target), loss(logits, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_metatensors_and_deep_supervision_are_taken(loss):
    logits, numbers, weights = made(2, size=(8, 8))
    target = torch.stack([numbers, weights], dim=1)
    expected = loss(logits, target)
    assert torch.equal(torch.as_tensor(loss(MetaTensor(logits), MetaTensor(target))), expected)
    coarse = logits[..., ::2, ::2]
    found = DeepSupervisionLoss(loss)([logits, coarse], target)
    # nearest-exact takes the second of two pixels.
    assert torch.allclose(found, expected + 0.5 * loss(coarse, target[..., 1::2, 1::2]))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("classes", "target", "said"),
    [
        (1, (2, 2, 4, 4), "two output channels or more, found one"),
        (2, (2, 3, 4, 4), r"target has the shape \(2, 3, 4, 4\)"),
        (2, (2, 2, 4, 5), r"\(2, 2, 4, 5\).*\(2, 2, 4, 4\)"),
        (2, (1, 2, 4, 4), r"\(1, 2, 4, 4\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(loss, classes, target, said):
    with pytest.raises(BundleError, match=said):
        loss(torch.zeros(2, classes, 4, 4), torch.zeros(target))
