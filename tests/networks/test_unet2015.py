from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from torch.nn import functional

from clinibundle.errors import BundleError, UnsuitableInput
from clinibundle.networks.unet2015 import UNet2015
from clinibundle.networks.valid_sizes import margin, valid_at_least


def small(depth: int = 2, padded: bool = False, **arguments: int | bool | float) -> UNet2015:
    torch.manual_seed(0)
    return UNet2015(features=3, depth=depth, padded=padded, **arguments).double().eval()  # type: ignore[arg-type]


def twin(network: UNet2015, **arguments: int | bool) -> UNet2015:
    """The same weights, padded."""
    other = small(network.depth, padded=True, **arguments)
    other.load_state_dict(network.state_dict())
    return other


def mirrored(image: torch.Tensor, depth: int) -> torch.Tensor:
    """By NumPy: the margin before the picture, the margin and what is missing to a valid size behind it."""
    border = margin(depth)
    behind = [valid_at_least(size + 2 * border, depth) - size - border for size in image.shape[2:]]
    return torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), *((border, more) for more in behind)], "reflect"))


def as_the_paper_says(image: torch.Tensor, network: UNet2015) -> torch.Tensor:
    """Fig. 1 in plain functions, with the network's own convolutions in the order of their use."""
    every = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    weights = iter([(module.weight, module.bias) for module in every])

    def twice(image: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            image = functional.conv2d(image, *next(weights)).clamp(min=0)
        return image

    left = [twice(image)]
    for _ in range(network.depth):
        left.append(twice(functional.max_pool2d(left[-1], 2)))
    image = left.pop()
    while left:
        image = functional.conv_transpose2d(image, *next(weights), stride=2)
        beside = left.pop()
        top, side = ((beside.shape[axis] - image.shape[axis]) // 2 for axis in (2, 3))
        beside = beside[:, :, top : top + image.shape[2], side : side + image.shape[3]]
        image = twice(torch.cat([beside, image], dim=1))
    return functional.conv2d(image, *next(weights))


def test_without_arguments_it_is_the_papers() -> None:
    with torch.device("meta"):
        network, picture = UNet2015(), torch.empty(1, 1, 572, 572)
    shapes: list[torch.Size] = []
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    for module in convolutions:
        module.register_forward_hook(lambda module, given, answer: shapes.append(answer.shape[1:]))
    assert network(picture).shape == (1, 2, 388, 388)
    # Fig. 1, from left to right: channels and size after every convolution.
    assert [(channels, size) for channels, size, _ in shapes] == [
        *[(64, 570), (64, 568), (128, 282), (128, 280), (256, 138), (256, 136), (512, 66), (512, 64)],
        *[(1024, 30), (1024, 28)],
        *[(512, 56), (512, 54), (512, 52), (256, 104), (256, 102), (256, 100)],
        *[(128, 200), (128, 198), (128, 196), (64, 392), (64, 390), (64, 388), (2, 388)],
    ]
    assert len(convolutions) == 23


def test_the_papers_has_31_million_parameters() -> None:
    with torch.device("meta"):
        network = UNet2015()

    def conv(before: int, after: int, kernel: int) -> int:
        return kernel * kernel * before * after + after

    # 640 + 36,928, 73,856 + 147,584, 295,168 + 590,080, 1,180,160 + 2,359,808, 4,719,616 + 9,438,208 going down.
    down = sum(conv(b, a, 3) + conv(a, a, 3) for b, a in [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)])
    assert down == 18_842_048
    # 2,097,664 + 4,719,104 + 2,359,808, then about a quarter of that at each level, going up.
    up = sum(conv(2 * a, a, 2) + conv(2 * a, a, 3) + conv(a, a, 3) for a in (512, 256, 128, 64))
    assert up == 12_188_480
    assert sum(weight.numel() for weight in network.parameters()) == down + up + conv(64, 2, 1) == 31_030_658


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_it_computes_what_the_figure_shows(depth: int) -> None:
    network = small(depth, in_channels=2, out_channels=3)
    picture = torch.randn(2, 2, valid_at_least(1, depth), valid_at_least(1, depth) + 2**depth, dtype=torch.float64)
    torch.testing.assert_close(network(picture), as_the_paper_says(picture, network))


@pytest.mark.parametrize("size", [571, 573, 570, 580, 172, 20])
def test_a_size_that_does_not_pool_evenly_is_refused(size: int) -> None:
    with torch.device("meta"):
        network, picture = UNet2015(features=1), torch.empty(1, 1, 572, size)
    with pytest.raises(UnsuitableInput, match=str(size)):
        network(picture)


def test_a_depth_of_nothing_is_refused() -> None:
    with pytest.raises(BundleError, match="depth 0"):
        UNet2015(depth=0)


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 60), width=st.integers(1, 60), depth=st.integers(1, 2))
def test_padded_it_answers_any_picture_at_its_size_as_the_mirrored_picture_does(
    height: int, width: int, depth: int
) -> None:
    network = small(depth)
    picture = torch.randn(1, 1, height, width, dtype=torch.float64)
    answer = twin(network)(picture)
    assert answer.shape == (1, 2, height, width)
    torch.testing.assert_close(answer, network(mirrored(picture, depth))[:, :, :height, :width])


def test_padded_the_papers_takes_a_picture_smaller_than_its_margin() -> None:
    with torch.device("meta"):
        assert UNet2015(padded=True)(torch.empty(2, 1, 17, 1)).shape == (2, 2, 17, 1)


def test_a_volume_is_taken_too() -> None:
    network = small(1, spatial_dims=3)
    volume = torch.randn(1, 1, 5, 3, 9, dtype=torch.float64)
    answer = twin(network, spatial_dims=3)(volume)
    torch.testing.assert_close(answer, network(mirrored(volume, 1))[:, :, :5, :3, :9])


def test_weights_are_drawn_with_the_papers_deviation() -> None:
    torch.manual_seed(0)
    network = UNet2015(features=32, depth=3)
    checked = 0
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            assert module.bias is not None and not module.bias.any()
            # "for a 3x3 convolution and 64 feature channels in the previous layer N = 9 · 64 = 576"; a neuron of an
            # up-convolution sees one pixel.
            incoming = module.in_channels * (9 if module.kernel_size == (3, 3) else 1)
            if module.weight.numel() > 4000:
                assert module.weight.std().item() == pytest.approx((2 / incoming) ** 0.5, rel=0.04), name
                assert abs(module.weight.mean().item()) < 0.1 * module.weight.std().item(), name
                checked += 1
    assert checked > 15


def test_the_same_seed_draws_the_same_weights() -> None:
    first, second = (small().state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_signal_keeps_its_size_on_the_way_through() -> None:
    # What the initialisation is for: "each feature map in the network has approximately unit variance".
    torch.manual_seed(0)
    network = UNet2015(features=16, depth=3).eval()
    assert 0.2 < network(torch.randn(1, 1, 124, 124)).std().item() < 20


def test_dropout_stands_at_the_end_of_the_contracting_path_and_only_in_training() -> None:
    network, picture = small(depth=3), torch.randn(1, 1, 100, 100, dtype=torch.float64)
    where = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Dropout)]
    assert [name.rpartition(".")[0] for name in where] == ["contracting.2", "contracting.3"]
    assert torch.equal(network(picture), network(picture))
    network.train()
    assert not torch.equal(network(picture), network(picture))
    network = small(depth=3, dropout=0.0).train()
    assert torch.equal(network(picture), network(picture))


def test_batch_normalisation_stands_between_convolution_and_relu() -> None:
    network = small(depth=1, batch_norm=True)
    kinds = [type(module).__name__ for module in network.contracting[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Dropout"]
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in small().modules())
    # In training the answer does not feel the scale of a convolution that is normalised.
    network.train()
    picture = torch.randn(2, 1, 20, 22, dtype=torch.float64)
    before = [module for module in network.modules() if isinstance(module, torch.nn.Dropout)]
    for dropout in before:
        dropout.p = 0
    answer = network(picture)
    with torch.no_grad():
        network.contracting[0][0].weight.mul_(1000)
    torch.testing.assert_close(network(picture), answer, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_weight_learns(batch_norm: bool) -> None:
    torch.manual_seed(0)
    network = UNet2015(features=4, depth=2, batch_norm=batch_norm, padded=True)
    picture = torch.randn(2, 1, 32, 32)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(10):
        loss = functional.cross_entropy(network(picture), (picture[:, 0] > 0).long())
        optimiser.zero_grad()
        loss.backward()
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def scripted(network: UNet2015, picture: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.jit.script(network)  # type: ignore[no-any-return, attr-defined]


def exported(network: UNet2015, picture: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.export.export(network, (picture,)).module()


@pytest.mark.parametrize("convert", [scripted, exported])
@pytest.mark.parametrize("padded", [False, True])
def test_it_can_be_scripted_and_exported(
    convert: Callable[[UNet2015, torch.Tensor], Callable[[torch.Tensor], torch.Tensor]], padded: bool
) -> None:
    network, picture = small(padded=padded), torch.randn(1, 1, 44, 48, dtype=torch.float64)
    torch.testing.assert_close(convert(network, picture)(picture), network(picture))


def test_scripted_and_padded_it_still_takes_any_size() -> None:
    network = small(padded=True)
    script = scripted(network, torch.empty(0))
    for size in ((1, 1), (3, 40), (45, 7)):
        picture = torch.randn(1, 1, *size, dtype=torch.float64)
        torch.testing.assert_close(script(picture), network(picture))


def test_scripted_and_unpadded_it_still_refuses_sizes() -> None:
    with pytest.raises(torch.jit.Error, match=r"46 pixels .* the nearest that does is 48"):  # type: ignore[attr-defined]
        scripted(small(), torch.empty(0))(torch.randn(1, 1, 44, 46, dtype=torch.float64))


def test_unpadded_it_is_exported_for_every_valid_size() -> None:
    network = small(depth=1)
    cells = {axis: 2 * torch.export.Dim(name, min=11) - 4 for axis, name in ((2, "rows"), (3, "columns"))}
    program = torch.export.export(network, (torch.randn(1, 1, 22, 24, dtype=torch.float64),), dynamic_shapes=(cells,))
    picture = torch.randn(1, 1, 18, 30, dtype=torch.float64)
    torch.testing.assert_close(program.module()(picture), network(picture))


def test_a_config_makes_it_from_plain_data() -> None:
    parser = ConfigParser(
        {
            "network_def": {
                "_target_": "clinibundle.networks.unet2015.UNet2015",
                "features": 2,
                "depth": 1,
                "padded": True,
            }
        }
    )
    network = parser.get_parsed_content("network_def")
    assert network(torch.randn(1, 1, 15, 16)).shape == (1, 2, 15, 16)
