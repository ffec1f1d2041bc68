"""Averaging over flips and turns, against what must be so for any network."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet

from clinibundle.networks.views import DihedralMean


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_answer_turns_with_the_picture(channels: int) -> None:
    torch.manual_seed(0)
    network = BasicUNet(2, 1, channels, features=(4, 4, 8, 8, 8, 4), norm="batch").eval()
    picture = torch.rand(2, 1, 48, 32)
    with torch.inference_mode():
        plain = DihedralMean(network)(picture)
        for turns in range(4):
            for mirrored in (False, True):
                view = torch.rot90(picture.flip(-2) if mirrored else picture, turns, (2, 3))
                expected = torch.rot90(plain.flip(-2) if mirrored else plain, turns, (2, 3))
                torch.testing.assert_close(DihedralMean(network)(view), expected, atol=1e-4, rtol=1e-4)
        alone = network(picture)
    assert not torch.allclose(alone, plain, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_knows_no_direction_answers_as_it_does_alone(channels: int) -> None:
    network = torch.nn.Conv2d(1, channels, 1)
    picture = torch.rand(1, 1, 8, 6)
    with torch.inference_mode():
        alone, mean = network(picture), DihedralMean(network)(picture)
    function = torch.sigmoid if channels == 1 else lambda answer: torch.softmax(answer, dim=1)
    torch.testing.assert_close(function(mean), function(alone))


def test_probabilities_are_averaged_by_hand_computed_numbers() -> None:
    # Says the row's number of each pixel, so that the eight views of one pixel give three different answers.
    def rows(picture: torch.Tensor) -> torch.Tensor:
        return torch.arange(3.0).reshape(1, 1, 3, 1).expand(picture.shape)

    mean = torch.sigmoid(DihedralMean(rows)(torch.zeros(1, 1, 3, 3)))
    by_number = torch.sigmoid(torch.arange(3.0))
    corner, side = (by_number[0] + by_number[2]) / 2, (by_number[0] + by_number[2] + 2 * by_number[1]) / 4
    expected = torch.tensor([[corner, side, corner], [side, by_number[1], side], [corner, side, corner]])
    torch.testing.assert_close(mean[0, 0], expected)
