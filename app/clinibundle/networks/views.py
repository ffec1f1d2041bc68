"""What a network says of a picture turned and mirrored, brought back and averaged (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Quarter turns, and whether the picture is mirrored first: the eight symmetries of the square.
_DIHEDRAL = tuple((mirrored, turns) for mirrored in (False, True) for turns in range(4))


class DihedralMean(torch.nn.Module):
    """Averages the answers to the eight flips and quarter turns of a picture, as probabilities; gives their logarithm.

    A softmax (or, for one channel, a sigmoid) of the answer is the mean probability again, so that it takes the place
    of the network alone. Ciresan et al. 2012 (NIPS 25, section 2.4) averaged such views of EM sections. It has no
    weights of its own: load them into `network` before.

    Args:
        network: from (batch, channels in, rows, columns) to (batch, channels out, rows or fewer, columns or fewer); it
            sees windows of exchanged sides as well.
    """

    def __init__(self, network: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(batch, channels in, rows, columns) to (batch, channels out, ...); the rest is handed to the network."""
        total: torch.Tensor | None = None
        for mirrored, turns in _DIHEDRAL:
            view = torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))
            probabilities = _probabilities(self.network(view.contiguous(), *args, **kwargs))
            back = torch.rot90(probabilities, -turns, (-2, -1))
            back = back.flip(-1) if mirrored else back
            # Added up one by one: eight answers of a large tile are not to lie in memory together.
            total = back.clone() if total is None else total.add_(back)
        assert total is not None  # noqa: S101  there are eight
        mean = total / len(_DIHEDRAL)
        return torch.logit(mean, eps=1e-7) if mean.shape[1] == 1 else mean.clamp_min(1e-12).log()


def _probabilities(answer: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(answer.float()) if answer.shape[1] == 1 else torch.softmax(answer.float(), dim=1)
