from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet

from clinibundle.losses.deep_supervision import StackedDeepSupervisionLoss


def single_loss() -> DiceCELoss:
    return DiceCELoss(softmax=True, to_onehot_y=True)


def test_a_stack_is_judged_as_the_weighted_sum_of_its_answers() -> None:
    stack, target = torch.randn(2, 3, 2, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()
    found = StackedDeepSupervisionLoss(single_loss(), weight_mode="exp")(stack, target)
    expected = sum(0.5**level * single_loss()(stack[:, level], target) for level in range(3))
    assert torch.allclose(found, torch.as_tensor(expected))


def test_a_single_answer_is_judged_as_it_is() -> None:
    answer, target = torch.randn(2, 2, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()
    assert torch.equal(StackedDeepSupervisionLoss(single_loss())(answer, target), single_loss()(answer, target))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_dynunet_learns_with_it(dimensions: int) -> None:
    network = DynUNet(
        dimensions, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8], deep_supervision=True, deep_supr_num=1
    )
    image = torch.randn(2, 1, *[16] * dimensions)
    loss = StackedDeepSupervisionLoss(single_loss())(network(image), (image > 1).float())
    loss.backward()
    assert torch.isfinite(loss)
    # The head of the lower resolution learns as well.
    assert network.deep_supervision_heads[0].conv.conv.weight.grad.abs().sum() > 0
