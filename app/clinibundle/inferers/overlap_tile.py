"""The overlap-tile strategy of the U-Net paper (arXiv 1505.04597, Fig. 2): tiles without seams.

MONAI's SlidingWindowInferer takes answers of the window's size, blends them, and pads small pictures alone: near the
border of a window its answers differ from those of the whole picture, and no weighting makes them the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import ensure_tuple_rep

from clinibundle.errors import BundleError
from clinibundle.mirror import mirrored_crop
from clinibundle.networks.views import DihedralMean


def tiles_along(size: int, tile_size: int, multiple: int) -> tuple[int, range]:
    """How an axis is laid out in tiles of one size that start a multiple of the network's stride apart.

    As few tiles as `tile_size` allows, and no larger than they must be then: 512 pixels in tiles of up to 388, multiple
    16, are two of 260 (starts 0 and 256), not two of 388. The tile keeps its remainder by `multiple`, so that what the
    network takes stays valid; two neighbours share that many pixels, and the last tile may end beyond the picture.

    Args:
        size: of the picture, in pixels.
        tile_size: the most pixels of a tile.
        multiple: product of the network's strides.

    Returns:
        the size of a tile, and where tiles start; the last ends at or after `size`.
    """
    remainder = tile_size % multiple
    cells = max(1, -(-(size - remainder) // multiple))
    count = -(-cells // (tile_size // multiple))
    stride = multiple * -(-cells // count)
    return stride + remainder, range(0, count * stride, stride)


class OverlapTileInferer(Inferer):  # type: ignore[misc]
    """Walks over a picture in tiles whose answers lie side by side, none blended with another.

    The network sees `halo` more pixels on each side of a tile than the tile answers for, beyond the picture's border
    mirrored ones. For an unpadded network these are the pixels that its convolutions use up (its margin); the answer of
    a padded one is cut to its middle. Either way the result is that of one pass over the whole mirrored picture, but
    for the last bits, where sums are rounded in another order, if

    - the tiles start on the same phase of the pooling: `multiple` is 2^depth or a multiple of it;
    - no pixel's answer lacks anything: an unpadded network, or a `halo` of its receptive radius at least
      (`clinibundle.networks.receptive_radius`; rounded up to a multiple of `multiple`, then the answer inside the
      picture, as far from its border, is that of the picture alone as well);
    - nothing is averaged over the picture: batch normalisation in inference is fine, instance normalisation (which
      MONAI's UNet, BasicUNet and DynUNet have unless told otherwise), squeeze and excitation and attention are not.

    For the paper's network: `tile_size: 388, halo: 92, multiple: 16`.

    Args:
        tile_size: the most pixels that a tile answers for, one number or one for each axis. `tile_size + 2 · halo`, and
            what is a multiple of `multiple` less, must be sizes that the network takes.
        halo: pixels that the network sees beyond each end of a tile; one number or one for each axis.
        multiple: product of the network's strides; one number or one for each axis.
        sw_batch_size: tiles in one call of the network.
        sw_device: where the network is; that of the picture by default.
        device: where the result is put together; that of the picture by default.
        views: 8 averages what the network says of the eight flips and quarter turns of a tile (`DihedralMean`), for
            eight times the time; 1 asks it once. 8 is for pictures of two axes.
    """

    def __init__(
        self,
        tile_size: Sequence[int] | int,
        halo: Sequence[int] | int,
        multiple: Sequence[int] | int,
        sw_batch_size: int = 1,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        views: int = 1,
    ) -> None:
        super().__init__()
        self.tile_size = tile_size
        self.halo = halo
        self.multiple = multiple
        self.sw_batch_size = sw_batch_size
        self.sw_device = sw_device
        self.device = device
        self.views = views

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The network's answer to pictures of any size.

        Args:
            inputs: (batch, channels in, *size).
            network: from (tiles, channels in, *tile + 2 · halo) to (tiles, channels out, *tile or more).
            args: handed to the network.
            kwargs: handed to the network.

        Returns:
            (batch, channels out, *size), of the type that the network gives; with the metadata of `inputs`.

        Raises:
            BundleError: the arguments contradict each other, or the network's answers do not fit the tiles.
        """
        pictures = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        batch, _, *size = pictures.shape
        tile_size, halo, multiple = (
            ensure_tuple_rep(given, len(size)) for given in (self.tile_size, self.halo, self.multiple)
        )
        fits = (most >= step >= 1 and beyond >= 0 for most, step, beyond in zip(tile_size, multiple, halo, strict=True))
        if self.sw_batch_size < 1 or not all(fits):
            raise BundleError(
                f"tiles need tile_size ≥ multiple ≥ 1, halo ≥ 0 and sw_batch_size ≥ 1; they are {tile_size}, "
                f"{multiple}, {halo} and {self.sw_batch_size}"
            )
        if self.views not in (1, 8) or (self.views == 8 and len(size) != 2):
            raise BundleError(f"tiles are looked at in 1 view, or pictures of two axes in 8; not {self.views}")
        asked = DihedralMean(network) if self.views > 1 else network
        layout = [tiles_along(*axis) for axis in zip(size, tile_size, multiple, strict=True)]
        tile = [length for length, _ in layout]
        places = itertools.product(range(batch), *(starts for _, starts in layout))
        result = pictures.new_empty(0)
        while some := list(itertools.islice(places, self.sw_batch_size)):
            windows = torch.stack([_window(pictures[index], starts, tile, halo) for index, *starts in some])
            answers = _middle(asked(windows.to(self.sw_device or pictures.device), *args, **kwargs), windows, tile)
            if result.numel() == 0:
                result = answers.new_empty(batch, answers.shape[1], *size, device=self.device or pictures.device)
            for (index, *starts), answer in zip(some, answers, strict=True):
                _lay(answer, result[index], starts)
        return MetaTensor(result).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else result


def _window(picture: torch.Tensor, starts: Sequence[int], tile: Sequence[int], halo: Sequence[int]) -> torch.Tensor:
    """What the network sees of a picture (channels, *size) for the tile that starts there."""
    axes = list(zip(starts, tile, halo, strict=True))
    return mirrored_crop(
        picture,
        [first - beyond for first, _, beyond in axes],
        [first + along + beyond for first, along, beyond in axes],
    )


def _middle(answers: Any, windows: torch.Tensor, tile: Sequence[int]) -> torch.Tensor:
    """What the answers say about the tiles themselves: (tiles, channels out, *tile)."""
    if not isinstance(answers, torch.Tensor) or answers.ndim != windows.ndim:
        found = f"{answers.ndim} axes" if isinstance(answers, torch.Tensor) else type(answers).__name__
        raise BundleError(
            f"only one tensor of {windows.ndim} axes can be laid in tiles; the network answers by {found}"
        )
    spare = [size - along for size, along in zip(answers.shape[2:], tile, strict=True)]
    if any(pixels < 0 or pixels % 2 for pixels in spare):
        raise BundleError(
            f"the network answers tiles of {tuple(windows.shape[2:])} pixels by {tuple(answers.shape[2:])}, which has "
            f"no middle of {tuple(tile)}; of an unpadded network halo is the margin, and tile_size a size that it gives"
        )
    middle = answers
    for axis, (pixels, along) in enumerate(zip(spare, tile, strict=True), start=2):
        middle = middle.narrow(axis, pixels // 2, along)
    return middle


def _lay(answer: torch.Tensor, result: torch.Tensor, starts: Sequence[int]) -> None:
    """Puts a tile's answer where it belongs, without what lies beyond the picture; both are (channels out, ...)."""
    for axis, first in enumerate(starts, start=1):
        along = min(answer.shape[axis], result.shape[axis] - first)
        answer, result = answer.narrow(axis, 0, along), result.narrow(axis, first, along)
    result.copy_(answer)
