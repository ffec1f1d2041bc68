from __future__ import annotations

import re

import pytest
import torch

from scripts_lung_tumor_ct.forecast import Forecast

CPU = torch.device("cpu")


def forecast(network: torch.nn.Module, batch_shape: tuple[int, ...] = (2, 5, 16, 16), steps: int = 10) -> Forecast:
    return Forecast(network, lambda answer, label: ((answer - label) ** 2).mean(), batch_shape, steps, CPU)


def test_it_tells_the_time_of_all_steps_and_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="training"):
        seconds, gib = forecast(torch.nn.Conv2d(5, 1, 3, padding=1)).tell()
    assert seconds > 0 and gib >= 0
    assert re.match(r"forecast: 10 steps of \d+\.\d\d s each are .* of network on cpu, with ", caplog.messages[0])


def test_memory_is_what_a_step_really_takes() -> None:
    class Greedy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.ones(1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            # 256 MiB that are kept for the way back.
            return image[:, :1] * (self.factor * torch.ones(64 * 2**20)).sum()

    assert 0.2 < forecast(Greedy()).tell()[1] < 1.5


def test_what_cannot_fit_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forecast, "_free_gib", lambda self: 0.0)
    network = torch.nn.Conv2d(5, 8, 3, padding=1)
    large = Forecast(network, lambda answer, label: answer.mean(), (4, 5, 256, 256), 10, CPU)
    with pytest.raises(
        RuntimeError, match=r"a batch of 4 x 5 x 256 x 256 takes .* make the batch or the crops smaller"
    ):
        large.tell()


def test_the_network_and_the_random_numbers_are_left_as_they_were() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(5, 1, 3, padding=1), torch.nn.BatchNorm2d(1), torch.nn.Dropout())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    forecast(network).tell()
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
