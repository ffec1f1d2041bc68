"""How far a network looks, measured on the network itself: the halo that its tiles need."""

from __future__ import annotations

import copy

import torch

from clinibundle.errors import BundleError


@torch.no_grad()
def receptive_radius(
    network: torch.nn.Module, in_channels: int, spatial_dims: int = 2, multiple: int = 16, most: int = 1024
) -> tuple[int, ...]:
    """The largest distance, along each axis in pixels, from a pixel of the answer to one of the picture that it uses.

    A NaN is put into a picture and looked for in the answer: convolution, pooling, activation and interpolation pass it
    on whatever their weights are, even zero, so that the radius may be a pixel too large, never too small. (A gradient
    vanishes by chance, at a ReLU or a pixel that is not the maximum.) A network of the same shape with few channels
    gives the same radius sooner. It is asked as in inference, in double precision on the CPU, where no convolution goes
    by way of Winograd's tiles or a Fourier transform, which would carry the NaN further.

    Args:
        network: from (batch, in_channels, *size) to (batch, any, *size), any size that is divisible by `multiple`.
        in_channels: of the picture.
        spatial_dims: 2 or 3.
        multiple: product of the network's strides (2^depth of a U-Net). The reach of a pixel depends on where in a cell
            of that many pixels it stands, and all of them are tried.
        most: pixels along an axis beyond which the search is given up.

    Raises:
        BundleError: the network's answer has another size than the picture, or every pixel of it depends on every pixel
            of the picture (instance normalisation, squeeze and excitation, attention), or on none.
    """
    network = copy.deepcopy(network).cpu().double().eval()
    return tuple(
        _radius_along(network, in_channels, spatial_dims, axis, multiple, most) for axis in range(spatial_dims)
    )


def _radius_along(
    network: torch.nn.Module, in_channels: int, spatial_dims: int, axis: int, multiple: int, most: int
) -> int:
    """Of a picture that is long along `axis` and as narrow as can be along the others; longer until both ends show."""
    length = 8 * multiple
    while length <= most:
        middle = length // 2
        picture = torch.zeros(
            multiple,
            in_channels,
            *(length if other == axis else multiple for other in range(spatial_dims)),
            dtype=torch.float64,
        )
        along = picture.movedim(2 + axis, -1)
        for phase in range(multiple):
            along[phase, ..., middle + phase] = torch.nan
        answer = network(picture)
        if answer.shape[2:] != picture.shape[2:]:
            raise BundleError(
                f"the network answers a picture of {tuple(picture.shape[2:])} by one of {tuple(answer.shape[2:])}; its "
                f"radius is measured where both are the same (an unpadded network needs its margin as halo)"
            )
        touched = answer.movedim(2 + axis, -1).isnan().flatten(1, -2).any(dim=1)
        if not touched.any(dim=1).all():
            raise BundleError("the network's answer does not depend on the picture")
        if not touched[:, [0, -1]].any():
            return max(abs(int(place) - middle - int(phase)) for phase, place in touched.nonzero())
        length *= 2
    raise BundleError(
        f"the network's answer depends on pixels more than {most // 2} away, perhaps on all of them (instance "
        f"normalisation, squeeze and excitation and attention see the whole picture): no halo makes tiles equal to it"
    )
