"""Several trained networks as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch


class SoftVote(torch.nn.Module):
    """Averages what networks of one kind answer, as probabilities, and gives their logarithm.

    A softmax (or, for one channel, a sigmoid) of the answer is the mean probability again, so that it takes the place
    of a single network in any config.

    Args:
        networks: with one number of output channels, two or more for softmax, one for sigmoid.
    """

    def __init__(self, networks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.members = torch.nn.ModuleList(networks)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, channels in, ...) to (batch, channels out, ...)."""
        answers = [member(image) for member in self.members]
        if answers[0].shape[1] == 1:
            return torch.logit(torch.stack([torch.sigmoid(answer) for answer in answers]).mean(dim=0), eps=1e-7)
        return torch.logsumexp(torch.stack([torch.log_softmax(answer, dim=1) for answer in answers]), dim=0)


def join_weights(paths: Sequence[str | Path]) -> dict[str, torch.Tensor]:
    """The weights of single networks, as `SoftVote` of so many networks takes them.

    Args:
        paths: of files that hold the tensors of one network each.
    """
    joined: dict[str, torch.Tensor] = {}
    for index, path in enumerate(paths):
        single = torch.load(path, map_location="cpu", weights_only=True)
        joined |= {f"members.{index}.{name}": tensor for name, tensor in single.items()}
    return joined
