from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clinibundle.networks.soft_vote import SoftVote, join_weights


def members(count: int, channels: int) -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [torch.nn.Conv2d(3, channels, 1) for _ in range(count)]


def test_the_softmax_of_the_answer_is_the_mean_of_the_members_probabilities() -> None:
    nets, image = members(3, 4), 5 * torch.randn(2, 3, 5, 6)
    mean = torch.stack([torch.softmax(net(image), dim=1) for net in nets]).mean(dim=0)
    assert torch.allclose(torch.softmax(SoftVote(nets)(image), dim=1), mean, atol=1e-6)


def test_with_one_channel_it_is_the_sigmoid() -> None:
    nets, image = members(2, 1), torch.randn(2, 3, 5, 6)
    mean = torch.stack([torch.sigmoid(net(image)) for net in nets]).mean(dim=0)
    assert torch.allclose(torch.sigmoid(SoftVote(nets)(image)), mean, atol=1e-6)


def test_certain_members_give_finite_answers() -> None:
    nets = members(2, 1)
    assert torch.isfinite(SoftVote(nets)(1e6 * torch.ones(1, 3, 2, 2))).all()


@pytest.mark.parametrize("count", [1, 3])
def test_joined_weights_make_the_vote_of_the_single_networks(tmp_path: Path, count: int) -> None:
    nets, image = members(count, 2), torch.randn(1, 3, 4, 4)
    paths = [tmp_path / f"{index}.pt" for index in range(count)]
    for path, net in zip(paths, nets, strict=True):
        torch.save(net.state_dict(), path)
    vote = SoftVote([torch.nn.Conv2d(3, 2, 1) for _ in range(count)])
    vote.load_state_dict(join_weights(paths))
    assert torch.equal(vote(image), SoftVote(nets)(image))
