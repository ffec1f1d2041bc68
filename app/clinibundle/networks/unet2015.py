"""The U-Net of Ronneberger, Fischer and Brox, 2015 (arXiv 1505.04597), convolution by convolution.

No library has it: MONAI's UNet and BasicUNet pad every convolution, DynUNet too, and so give other answers near the
border of each tile than in the middle of a picture.
"""

from __future__ import annotations

import math

import torch
from monai.networks.layers.factories import Conv, Norm, Pool

from clinibundle.errors import BundleError
from clinibundle.mirror import mirrored_crop
from clinibundle.networks.valid_sizes import margin, output_size, valid_at_least


class UNet2015(torch.nn.Module):
    """Two unpadded 3×3 convolutions a level, pooling, up-convolution, cropped skips, and 1×1 at the end (Fig. 1).

    As it stands without arguments, it is the paper's: 23 convolutional layers, 31.0 M parameters, and an answer of
    388 × 388 to a picture of 572 × 572. Where the paper is silent, as it says: no ReLU after an up-convolution. Where
    it is vague ("drop-out layers at the end of the contracting path"), as the authors' release: after the last two
    levels. (That release is not the network of the paper in all: it has a ReLU after each up-convolution, and the last
    of them keeps 128 channels.)

    Weights start from N(0, sqrt(2 / N)), N the number of incoming nodes of one neuron (section 3), biases at zero;
    torch's global generator draws them.

    Args:
        spatial_dims: 2, or 3 for volumes.
        in_channels: of the picture.
        out_channels: classes.
        features: channels of the first level; every level below has twice as many.
        depth: number of poolings.
        batch_norm: normalise between each 3×3 convolution and its ReLU; the convolution then has no bias.
        dropout: probability of a zero, in training.
        padded: give an answer of the picture's size, whatever that is: the picture is mirrored at its borders, by the
            margin and then on to the next valid size, and the answer cut to the picture's size. Weights fit both ways:
            a network that was trained padded may walk over large pictures unpadded, and gives the same answer, by
            `clinibundle.inferers.overlap_tile.OverlapTileInferer` with the halo `valid_sizes.margin(depth)`.

    TorchScript takes it with pictures of any size; torch.export for one size, or, not padded, for all valid sizes, if
    each axis is stated as 2^depth · k − 4.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        features: int = 64,
        depth: int = 4,
        batch_norm: bool = False,
        dropout: float = 0.5,
        padded: bool = False,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise BundleError(f"a U-Net of depth {depth} was asked for; it has a depth of 1 or more")
        self.depth = depth
        self.padded = padded
        widths = [features * 2**level for level in range(depth + 1)]
        self.contracting = torch.nn.ModuleList()
        for level, (before, after) in enumerate(zip([in_channels, *widths], widths, strict=False)):
            block = _convolutions(spatial_dims, before, after, batch_norm)
            if level >= depth - 1:
                block.append(torch.nn.Dropout(dropout))
            self.contracting.append(block)
        self.pool = Pool[Pool.MAX, spatial_dims](kernel_size=2)
        self.expanding = torch.nn.ModuleList(
            _Expansion(spatial_dims, widths[level], batch_norm, crop=2 * margin(depth - 1 - level))
            for level in reversed(range(depth))
        )
        self.classify = Conv[Conv.CONV, spatial_dims](features, out_channels, kernel_size=1)
        self.apply(_initialise)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, in_channels, *size) to scores, (batch, out_channels, *size, each less 2 · margin if not padded).

        Raises:
            UnsuitableInput: not padded, and a size does not pool evenly or is too small.
        """
        size = image.shape[2:]
        if self.padded:
            border = margin(self.depth)
            whole = [valid_at_least(along + 2 * border, self.depth) for along in size]
            image = mirrored_crop(image, [-border for _ in size], [along - border for along in whole])
        else:
            for along in size:
                output_size(along, self.depth)
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.contracting):
            image = block(image if level == 0 else self.pool(image))
            skips.append(image)
        image = skips.pop()
        for expansion in self.expanding:
            image = expansion(image, skips.pop())
        scores: torch.Tensor = self.classify(image)
        if self.padded:
            for axis, along in enumerate(size):
                scores = scores.narrow(axis + 2, 0, along)
        return scores


class _Expansion(torch.nn.Module):
    """One level of the expanding path: twice the size at half the channels, beside the middle of what was there.

    Args:
        spatial_dims: 2 or 3.
        width: channels of the answer; what comes from below has twice as many.
        batch_norm: see `UNet2015`.
        crop: pixels by which the contracting path's picture is larger, on every side.
    """

    def __init__(self, spatial_dims: int, width: int, batch_norm: bool, crop: int) -> None:
        super().__init__()
        self.crop = crop
        self.up = Conv[Conv.CONVTRANS, spatial_dims](2 * width, width, kernel_size=2, stride=2)
        self.convolve = _convolutions(spatial_dims, 2 * width, width, batch_norm)

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        for axis in range(2, skip.ndim):
            skip = skip.narrow(axis, self.crop, skip.shape[axis] - 2 * self.crop)
        joined: torch.Tensor = self.convolve(torch.cat([skip, self.up(below)], dim=1))
        return joined


def _convolutions(spatial_dims: int, before: int, after: int, batch_norm: bool) -> torch.nn.Sequential:
    """Two unpadded 3×3 convolutions, a ReLU after each."""
    layers = torch.nn.Sequential()
    for channels in (before, after):
        layers.append(Conv[Conv.CONV, spatial_dims](channels, after, kernel_size=3, bias=not batch_norm))
        if batch_norm:
            layers.append(Norm[Norm.BATCH, spatial_dims](after))
        layers.append(torch.nn.ReLU(inplace=True))
    return layers


def _initialise(module: torch.nn.Module) -> None:
    """N(0, sqrt(2 / N)) for the weights of a convolution, zero for its biases."""
    if not isinstance(module, torch.nn.modules.conv._ConvNd):
        return
    # Stride and kernel of an up-convolution are the same, so that each of its neurons sees one pixel of all channels.
    # (torch.nn.init.kaiming_normal_ takes another N there: it swaps the channels and counts the whole kernel.)
    incoming = module.in_channels * (1 if module.transposed else math.prod(module.kernel_size))
    torch.nn.init.normal_(module.weight, std=math.sqrt(2 / incoming))
    if module.bias is not None:
        torch.nn.init.zeros_(module.bias)
