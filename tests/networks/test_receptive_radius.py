from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, UNet

from clinibundle.errors import BundleError
from clinibundle.networks.receptive_radius import receptive_radius
from clinibundle.networks.unet2015 import UNet2015
from clinibundle.networks.valid_sizes import margin


def convolution(kernel: int = 3, **arguments: int) -> torch.nn.Conv2d:
    return torch.nn.Conv2d(1, 1, kernel, padding=kernel // 2 * arguments.get("dilation", 1), **arguments)


# Worked out by hand. Pooled: a pixel of cell c sees cells c − 1 … c + 1, pixels 2c − 2 … 2c + 3 of what was pooled, and
# 2c − 3 … 2c + 4 of the picture; pixel 2c is 4 from the last of them. Average of the pixel before and itself: 1.
@pytest.mark.parametrize(
    ("network", "radius"),
    [
        (torch.nn.Identity(), 0),
        (convolution(1), 0),
        (convolution(), 1),
        (torch.nn.Sequential(convolution(), torch.nn.ReLU(), convolution(5)), 3),
        (convolution(dilation=4), 4),
        (torch.nn.Sequential(torch.nn.MaxPool2d(4), torch.nn.Upsample(scale_factor=4)), 3),
        (
            torch.nn.Sequential(convolution(), torch.nn.MaxPool2d(2), convolution(), torch.nn.Upsample(scale_factor=2)),
            4,
        ),
        (torch.nn.Sequential(torch.nn.ZeroPad2d((1, 0, 1, 0)), torch.nn.AvgPool2d(2, stride=1)), 1),
    ],
)
def test_radii_worked_out_by_hand(network: torch.nn.Module, radius: int) -> None:
    assert receptive_radius(network, 1, multiple=4) == (radius, radius)


def test_each_axis_has_its_own() -> None:
    network = torch.nn.Conv3d(2, 1, (1, 3, 7), padding=(0, 1, 3))
    assert receptive_radius(network, 2, spatial_dims=3, multiple=2) == (0, 1, 3)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_papers_network_looks_as_far_as_its_margin_from_the_first_pixel_of_a_cell(depth: int) -> None:
    # And so 2^depth − 1 farther from the last one.
    network = UNet2015(features=1, depth=depth, padded=True)
    radius = margin(depth) + 2**depth - 1
    assert receptive_radius(network, 1, multiple=2**depth) == (radius, radius)


def test_weights_do_not_matter() -> None:
    network = UNet2015(features=2, depth=1, padded=True)
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    assert receptive_radius(network, 1, multiple=2) == (9, 9)


def test_the_network_is_left_as_it_was() -> None:
    network = torch.nn.Sequential(convolution(), torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5)).train()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    assert receptive_radius(network, 1, multiple=1) == (1, 1)
    assert network.training and next(network.parameters()).dtype == torch.float32
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


def test_a_gradient_reaches_as_far_and_no_farther() -> None:
    # The referee: with weights that are all positive, and without a maximum, no gradient vanishes.
    straight = ("leakyrelu", {"negative_slope": 1.0})
    network = UNet(2, 1, 1, (1, 1, 1), (2, 2), num_res_units=1, norm=None, act=straight, bias=False).double()
    for weight in network.parameters():
        torch.nn.init.ones_(weight)
    reach = 0
    for phase in range(4):
        picture = torch.zeros(1, 1, 128, 128, dtype=torch.float64, requires_grad=True)
        network(picture)[0, 0, 64 + phase, 64].backward()
        assert picture.grad is not None
        reach = max(reach, int((picture.grad[0, 0].abs().amax(dim=1).nonzero() - 64 - phase).abs().max()))
    assert receptive_radius(network, 1, multiple=4) == (reach, reach)


@pytest.mark.parametrize(
    "network", [BasicUNet(2, 1, 2, (2,) * 6), torch.nn.Sequential(convolution(), torch.nn.InstanceNorm2d(1))]
)
def test_a_network_that_sees_the_whole_picture_is_named_so(network: torch.nn.Module) -> None:
    with pytest.raises(BundleError, match="instance normalisation"):
        receptive_radius(network, 1, most=256)


def test_an_unpadded_network_is_told_to_use_its_margin() -> None:
    with pytest.raises(BundleError, match=r"\(32, 4\) by one of \(30, 2\)"):
        receptive_radius(torch.nn.Conv2d(1, 1, 3), 1, multiple=4)


def test_a_network_that_does_not_look_is_refused() -> None:
    class Blind(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(image)

    with pytest.raises(BundleError, match="does not depend"):
        receptive_radius(Blind(), 1)
