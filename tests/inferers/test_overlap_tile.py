from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import BasicUNet, UNet

from clinibundle.errors import BundleError
from clinibundle.inferers.overlap_tile import OverlapTileInferer, tiles_along
from clinibundle.networks.receptive_radius import receptive_radius
from clinibundle.networks.unet2015 import UNet2015
from clinibundle.networks.valid_sizes import margin, valid_at_least
from clinibundle.networks.views import DihedralMean


@cache
def unpadded(depth: int = 2, padded: bool = False) -> UNet2015:
    torch.manual_seed(0)
    return UNet2015(in_channels=2, out_channels=3, features=2, depth=depth, padded=padded).double().eval()


@cache
def padded(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    network = (
        UNet(2, 2, 3, (2, 4, 4), (2, 2), num_res_units=1, norm="batch")
        if kind == "unet"
        else BasicUNet(2, 2, 3, (2,) * 6, norm="batch")
    ).double()
    for weight in network.parameters():
        # So that what stands at the rim of the receptive field does not drown in rounding.
        torch.nn.init.normal_(weight, std=0.5)
    return network.eval()


STRIDES = {"unet": 4, "basic_unet": 16}


def picture(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def mirrored(image: torch.Tensor, before: int, behind: list[int]) -> torch.Tensor:
    border = [(0, 0), (0, 0), *((before, more) for more in behind)]
    return torch.from_numpy(np.pad(image.numpy(), border, "reflect"))


def one_pass_unpadded(image: torch.Tensor, network: UNet2015) -> torch.Tensor:
    height, width = image.shape[2:]
    border = margin(network.depth)
    behind = [valid_at_least(size + 2 * border, network.depth) - size - border for size in (height, width)]
    return network(mirrored(image, border, behind))[:, :, :height, :width]


def one_pass_padded(image: torch.Tensor, network: torch.nn.Module, halo: int, stride: int) -> torch.Tensor:
    height, width = image.shape[2:]
    behind = [halo + -size % stride for size in (height, width)]
    answer: torch.Tensor = network(mirrored(image, halo, behind))
    return answer[:, :, halo : halo + height, halo : halo + width]


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest one, as a share of the largest value."""
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@given(size=st.integers(1, 3000), tile_size=st.integers(1, 400), multiple=st.sampled_from([1, 2, 4, 16, 32]))
def test_tiles_cover_an_axis_on_one_phase_and_are_no_more_than_needed(size: int, tile_size: int, multiple: int) -> None:
    tile_size = max(tile_size, multiple)
    length, starts = tiles_along(size, tile_size, multiple)
    assert starts[0] == 0 and all(start % multiple == 0 for start in starts)
    assert length <= tile_size and (tile_size - length) % multiple == 0
    assert all(after - before <= length for before, after in pairwise(starts))
    # Up to its end, and not one tile beyond it.
    assert starts[-1] + length >= size > starts[-1]
    # With tiles of the full size there would not be fewer.
    stride = tile_size // multiple * multiple
    assert len(starts) == 1 + max(0, -(-(size - tile_size) // stride))


@pytest.mark.parametrize(
    ("size", "tile_size", "multiple", "expected"),
    [
        # A tile of the paper's gives 388, and the next one starts 384 on: 772 are two of them, 773 are three smaller.
        (388, 388, 16, (388, [0])),
        (389, 388, 16, (212, [0, 208])),
        (512, 388, 16, (260, [0, 256])),
        (772, 388, 16, (388, [0, 384])),
        (773, 388, 16, (276, [0, 272, 544])),
        (3, 388, 16, (20, [0])),
        (100, 64, 16, (64, [0, 64])),
    ],
)
def test_layouts_worked_out_by_hand(size: int, tile_size: int, multiple: int, expected: tuple[int, list[int]]) -> None:
    length, starts = tiles_along(size, tile_size, multiple)
    assert (length, list(starts)) == expected


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    depth=st.integers(1, 3),
    cells=st.integers(1, 5),
    at_once=st.integers(1, 4),
)
def test_unpadded_tiles_are_one_pass_over_the_mirrored_picture(
    height: int, width: int, depth: int, cells: int, at_once: int
) -> None:
    network, image, stride = unpadded(depth), picture(height, width), 2**depth
    # 4 pixels more than a number of cells is what the network gives.
    tile_size = cells * stride + 4 % stride
    found = OverlapTileInferer(tile_size, margin(depth), stride, sw_batch_size=at_once)(image, network)
    assert difference(found, one_pass_unpadded(image, network)) < 1e-12


@pytest.mark.parametrize("size", [(101, 83), (7, 120)])
@pytest.mark.parametrize("kind", STRIDES)
def test_padded_tiles_with_a_halo_are_one_pass_over_the_mirrored_picture(kind: str, size: tuple[int, int]) -> None:
    network, image, stride = padded(kind), picture(*size), STRIDES[kind]
    radius = max(receptive_radius(network, 2, multiple=stride))
    halo = stride * -(-radius // stride)
    expected = one_pass_padded(image, network, halo, stride)
    found = OverlapTileInferer(2 * stride, halo, stride, sw_batch_size=3)(image, network)
    assert difference(found, expected) < 1e-12
    # Half the halo is not enough, and shows.
    found = OverlapTileInferer(2 * stride, radius // 2 // stride * stride, stride)(image, network)
    assert difference(found, expected) > 1e-9


def test_far_from_the_border_it_is_the_answer_to_the_picture_alone() -> None:
    network, image, halo = padded("unet"), picture(120, 124), 32
    assert halo >= max(receptive_radius(network, 2, multiple=4))
    found = OverlapTileInferer(16, halo, 4, sw_batch_size=8)(image, network)
    inside = (..., slice(halo, -halo), slice(halo, -halo))
    assert difference(found[inside], network(image)[inside]) < 1e-12


def test_tiles_off_the_phase_of_the_pooling_differ() -> None:
    network, image = unpadded(3), picture(60, 60)
    expected = one_pass_unpadded(image, network)
    # The network of depth 3 gives 20 pixels, as the paper's gives 388; neither is a multiple of 2^depth.
    assert difference(OverlapTileInferer(20, margin(3), 8)(image, network), expected) < 1e-12
    assert list(tiles_along(60, 20, 4)[1]) == [0, 20, 40]
    assert difference(OverlapTileInferer(20, margin(3), 4)(image, network), expected) > 1e-3


def test_in_single_precision_tiles_and_whole_differ_in_the_last_bits_alone() -> None:
    torch.manual_seed(0)
    network = UNet2015(in_channels=2, features=8, depth=3).eval()
    image = picture(101, 150).float()
    with torch.inference_mode():
        expected = one_pass_unpadded(image, network)
        found = OverlapTileInferer(60, margin(3), 8, sw_batch_size=4)(image, network)
    assert difference(found, expected) < 5e-6


def test_the_padded_mode_of_the_papers_network_is_the_same() -> None:
    image = picture(37, 52)
    found = OverlapTileInferer(20, margin(2), 4)(image, unpadded())
    assert difference(unpadded(padded=True)(image), found) < 1e-12


def test_the_mirror_goes_on_for_pictures_smaller_than_the_margin() -> None:
    assert (
        difference(OverlapTileInferer(20, 44, 8)(picture(3, 1), unpadded(3)), unpadded(3, True)(picture(3, 1))) < 1e-12
    )


def test_axes_may_differ_and_a_halo_may_be_larger_than_needed() -> None:
    network, image = unpadded(2), picture(50, 31)
    found = OverlapTileInferer((20, 8), (margin(2), margin(2) + 4), (4, 8), sw_batch_size=2)(image, network)
    assert difference(found, one_pass_unpadded(image, network)) < 1e-12


def test_a_volume_is_tiled_too() -> None:
    torch.manual_seed(0)
    network = UNet2015(3, features=2, depth=1, padded=False).double().eval()
    volume = torch.randn(1, 1, 9, 14, 11, dtype=torch.float64)
    found = OverlapTileInferer((4, 8, 8), margin(1), 2, sw_batch_size=5)(volume, network)
    network.padded = True
    assert difference(found, network(volume)) < 1e-12


def test_each_picture_of_a_batch_is_answered_as_alone() -> None:
    network, images = unpadded(), picture(30, 41, batch=3)
    inferer = OverlapTileInferer(20, margin(2), 4, sw_batch_size=4)
    found = inferer(images, network)
    for index in range(3):
        assert difference(found[index], inferer(images[index : index + 1], network)[0]) < 1e-12


def test_the_network_sees_no_more_tiles_than_stated_at_once_and_each_no_larger_than_stated() -> None:
    seen: list[tuple[int, ...]] = []

    def network(tiles: torch.Tensor, factor: float, *, offset: float) -> torch.Tensor:
        seen.append(tuple(tiles.shape))
        return tiles * factor + offset

    image = picture(70, 100)
    found = OverlapTileInferer(32, 8, 8, sw_batch_size=5)(image, network, 2.0, offset=1.0)
    assert torch.equal(found, image * 2 + 1)
    # 70 in three tiles of 24, 100 in four of 32 (28 would do, but is no multiple of 8), 8 more on each side.
    assert seen == [(5, 2, 40, 48), (5, 2, 40, 48), (2, 2, 40, 48)]


def test_the_result_has_the_type_and_the_metadata_that_monais_sliding_window_gives() -> None:
    affine = torch.diag(torch.tensor([0.5, 0.25, 1.0, 1.0]))
    images = torch.utils.data.default_collate([picture(16, 24)[0]] * 2)
    images = MetaTensor(images, affine=affine, meta={"filename_or_obj": ["a", "b"]})
    images.is_batch = True
    found = OverlapTileInferer(8, 4, 4)(images, lambda tiles: tiles.float())
    expected = SlidingWindowInferer((8, 8))(images, lambda tiles: tiles)
    assert isinstance(found, MetaTensor) and found.dtype == torch.float32
    assert found.meta.keys() == expected.meta.keys() and torch.equal(found.affine, expected.affine)
    parts, theirs = decollate_batch(found), decollate_batch(expected)
    assert [part.meta["filename_or_obj"] for part in parts] == [part.meta["filename_or_obj"] for part in theirs]
    plain = OverlapTileInferer(8, 4, 4)(picture(16, 24), lambda tiles: tiles)
    assert type(plain) is torch.Tensor


@pytest.mark.parametrize("where", ["meta", torch.device("meta")])
def test_the_network_and_the_result_may_be_elsewhere(where: Any) -> None:
    def network(tiles: torch.Tensor) -> torch.Tensor:
        assert tiles.device.type == "meta"
        return tiles

    assert OverlapTileInferer(8, 4, 4, sw_device=where, device=where)(picture(16, 24), network).device.type == "meta"


def test_gradients_pass() -> None:
    image = picture(16, 24).requires_grad_()
    OverlapTileInferer(8, 4, 4)(image, lambda tiles: tiles**2).sum().backward()
    assert image.grad is not None
    torch.testing.assert_close(image.grad, 2 * image.detach())


@pytest.mark.parametrize(
    ("arguments", "network", "message"),
    [
        ((8, 4, 16), lambda tiles: tiles, r"they are \(8, 8\), \(16, 16\), \(4, 4\) and 1"),
        ((8, 4, 0), lambda tiles: tiles, "multiple ≥ 1"),
        ((8, -4, 4), lambda tiles: tiles, "halo ≥ 0"),
        ((8, 4, 4, 0), lambda tiles: tiles, "sw_batch_size ≥ 1"),
        ((8, 4, 4), lambda tiles: (tiles, tiles), "answers by tuple"),
        ((8, 4, 4), lambda tiles: tiles[None], "5 axes"),
        ((8, 4, 4), lambda tiles: tiles[..., 5:-5], r"\(16, 16\) pixels by \(16, 6\), which has no middle of \(8, 8\)"),
        ((8, 4, 4), lambda tiles: tiles[..., 1:, :], r"\(15, 16\), which has no middle"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[int, ...], network: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        OverlapTileInferer(*arguments)(picture(16, 24), network)


def test_a_config_makes_it_from_plain_data() -> None:
    parser = ConfigParser(
        {
            "inferer": {
                "_target_": "clinibundle.inferers.overlap_tile.OverlapTileInferer",
                "tile_size": [20, 20],
                "halo": 20,
                "multiple": 4,
                "sw_batch_size": 4,
                "device": "cpu",
            }
        }
    )
    inferer = parser.get_parsed_content("inferer")
    assert inferer(inputs=picture(31, 33), network=unpadded()).shape == (1, 3, 31, 33)


def test_eight_views_of_tiles_are_eight_views_of_the_whole_picture() -> None:
    network, image = padded("unet"), picture(37, 50)
    with torch.inference_mode():
        whole = DihedralMean(network)(mirrored(image, 32, [32 + 3, 32 + 2]))[:, :, 32:69, 32:82]
        tiles = OverlapTileInferer(tile_size=16, halo=32, multiple=4, views=8)(image, network)
    torch.testing.assert_close(tiles, whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("views", "size"), [(2, (8, 8)), (8, (8, 8, 8))])
def test_other_views_are_refused(views: int, size: tuple[int, ...]) -> None:
    with pytest.raises(BundleError, match="view"):
        OverlapTileInferer(tile_size=4, halo=0, multiple=1, views=views)(picture(*size), torch.nn.Identity())
