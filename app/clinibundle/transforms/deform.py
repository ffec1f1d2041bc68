"""Crop, shift, rotation, zoom, flips and elastic deformation of pictures and labels in one resampling.

MONAI's `Rand2DElasticd` does much of it in one resampling too, but smooths a full-size noise field where the paper has
a coarse grid; and two cheaper MONAI transforms in a row would resample twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor, ensure_tuple, ensure_tuple_rep
from numpy.typing import NDArray
from torch.nn.functional import grid_sample, interpolate

from clinibundle.errors import BundleError, DataFolderError
from clinibundle.mirror import mirrored_crop

_MODES = ("bilinear", "bicubic", "nearest")


@dataclass(frozen=True)
class Deformation:
    """Where in a picture each pixel of the result comes from, in pixels, the first pixel's centre being 0.

    place = middle + matrix · (pixel - middle of the result) + displacement

    Args:
        size: (x, y) of the result.
        middle: (2,), where the result's middle comes from.
        matrix: (2, 2).
        displacements: (2, points, points) of control points spread evenly over the result, the outer ones on its outer
            pixels; in between they are interpolated bicubically.
    """

    size: tuple[int, int]
    middle: NDArray[np.float64]
    matrix: NDArray[np.float64]
    displacements: NDArray[np.float64]

    @property
    def first(self) -> NDArray[np.float64]:
        """(2,), the place of a crop's first pixel, were there nothing but the crop."""
        return self.middle - (np.array(self.size) - 1) / 2

    @property
    def keeps_pixels(self) -> bool:
        """Whether every pixel comes from a single one, so that nothing need be interpolated: crops and flips."""
        straight = np.array_equal(np.abs(self.matrix), np.eye(2)) and not self.displacements.any()
        return bool(straight and np.array_equal(self.first, np.round(self.first)))

    @cached_property
    def places(self) -> torch.Tensor:
        """(2, x, y) float32, each pixel's place in the picture along each axis."""
        x, y = (torch.arange(length, dtype=torch.float32) - (length - 1) / 2 for length in self.size)
        # Separable: two small matrix products and an outer sum, far cheaper than `interpolate` and `affine_grid`.
        elastic = torch.from_numpy(self.displacements.astype(np.float32))
        along_x, along_y = (bicubic_weights(elastic.shape[1], length) for length in self.size)
        moved = along_x @ elastic @ along_y.T
        for axis in range(2):
            from_x, from_y = self.matrix[axis].tolist()
            moved[axis] += (float(self.middle[axis]) + from_x * x)[:, None] + (from_y * y)[None, :]
        return moved


def resample(picture: torch.Tensor, deformation: Deformation, mode: str) -> torch.Tensor:
    """What a deformation makes of a picture; beyond its border the picture is mirrored, as `clinibundle.mirror` does.

    Args:
        picture: (channels, x, y).
        deformation: for a picture of this size.
        mode: bilinear, bicubic or nearest, between the picture's pixels.

    Returns:
        (channels, *deformation.size) float32.
    """
    picture = picture.float()
    if deformation.keeps_pixels:
        starts = [int(start) for start in deformation.first]
        crop = mirrored_crop(picture, starts, [start + n for start, n in zip(starts, deformation.size, strict=True)])
        return crop.flip([axis + 1 for axis in range(2) if deformation.matrix[axis, axis] < 0])
    # With `align_corners`, grid_sample counts from -1 to 1 between the centres of the outer pixels and mirrors there.
    last = torch.tensor(picture.shape[1:]).clamp(min=2) - 1
    grid = (2 * deformation.places / last[:, None, None] - 1).flip(0).permute(1, 2, 0)
    return grid_sample(picture[None], grid[None], mode=mode, padding_mode="reflection", align_corners=True)[0]


class RandDeform2Dd(RandomizableTransform, MapTransform):  # type: ignore[misc]
    """Random crop, shift, rotation, zoom, flips and elastic deformation; one resampling, and none for crop and flips.

    After Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597), section 3.1: shift, rotation, and Gaussian
    displacements on a coarse 3 × 3 grid, interpolated bicubically; zoom and flips are added. What comes in from beyond
    the border is mirrored. Every argument that says how much switches its part off at 0 (`scale_range` at 1, 1).

    Args:
        keys: pictures and labels (channels, x, y) of one size x, y, all deformed alike; any number of channels.
        mode: bilinear, bicubic or nearest, one for all keys or one for each; with nearest a label keeps its data type
            and its values (numbers up to 2^24), the others give float32.
        weighted_keys: those of `keys` whose last channel is a weight map: it is resampled linearly, and the result is
            float32.
        size: (x, y) of a crop, or one number for both, anywhere in the picture; where the picture is smaller, it lies
            anywhere in the crop, mirrored. None: the picture's own size.
        prob: chance that anything is deformed; a crop is always made.
        shift_px: largest shift along each axis, pixels of the picture; uniform.
        rotate_degrees: largest rotation; uniform.
        scale_range: smallest and largest zoom, log-uniform; 2 shows things twice as large.
        flip_prob: chance of a flip, for each axis on its own.
        elastic_px: standard deviation of a control point's displacement along each axis, pixels of the picture.
        elastic_points: control points along each side of the result, 2 or more.
        allow_missing_keys: as in every MONAI transform.
    """

    def __init__(  # noqa: PLR0913 - a config names every argument
        self,
        keys: KeysCollection,
        mode: str | Sequence[str] = "bilinear",
        weighted_keys: KeysCollection = (),
        size: int | Sequence[int] | None = None,
        prob: float = 1.0,
        shift_px: float = 0.0,
        rotate_degrees: float = 180.0,
        scale_range: tuple[float, float] = (1.0, 1.0),
        flip_prob: float = 0.5,
        elastic_px: float = 10.0,
        elastic_points: int = 3,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.modes = ensure_tuple_rep(mode, len(self.keys))
        if unknown := sorted(set(self.modes) - set(_MODES)):
            raise BundleError(f"mode '{unknown[0]}' is unknown: expected one of {', '.join(_MODES)}")
        if min(scale_range) <= 0:
            raise BundleError(f"scale_range must hold two zooms above 0, found {list(scale_range)}")
        self.weighted_keys = set(ensure_tuple(weighted_keys))
        self.size: tuple[int, ...] | None = None if size is None else ensure_tuple_rep(size, 2)
        self.shift_px, self.rotate_degrees, self.scale_range = shift_px, rotate_degrees, scale_range
        self.flip_prob, self.elastic_px, self.elastic_points = flip_prob, elastic_px, elastic_points

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The row with its pictures and labels deformed alike; plain tensors, deformed or not."""
        row = dict(data)
        pictures = {key: convert_to_tensor(row[key], track_meta=False) for key in self.key_iterator(row)}
        if not pictures:
            return row
        sizes = {str(key): tuple(picture.shape[1:]) for key, picture in pictures.items()}
        if len(set(sizes.values())) > 1:
            raise DataFolderError(f"pictures that are deformed alike differ in size: {sizes}; bring them to one size")
        deformation = self.draw(next(iter(sizes.values())))
        for key, mode in self.key_iterator(row, self.modes):
            row[key] = self._deformed(pictures[key], deformation, mode, key in self.weighted_keys)
        return row

    def draw(self, picture_size: tuple[int, ...]) -> Deformation:
        """Draws the deformation of one sample, for a picture of (x, y) pixels."""
        self.randomize(None)
        # All is drawn whatever is switched off, so that switching one part off leaves the others as they were.
        angle = np.deg2rad(self.R.uniform(-self.rotate_degrees, self.rotate_degrees))
        zoom = np.exp(self.R.uniform(*np.log(self.scale_range)))
        flips = np.where(self.R.uniform(size=2) < self.flip_prob, -1.0, 1.0)
        shift = self.R.uniform(-self.shift_px, self.shift_px, size=2)
        displacements = self.elastic_px * self.R.standard_normal((2, self.elastic_points, self.elastic_points))
        size = picture_size if self.size is None else self.size
        spare = np.subtract(picture_size, size)
        first = self.R.randint(np.minimum(spare, 0), np.maximum(spare, 0) + 1)
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag(flips) / zoom
        if not self._do_transform:
            matrix, shift, displacements = np.eye(2), np.zeros(2), np.zeros_like(displacements)
        middle = first + (np.array(size) - 1) / 2 + shift
        return Deformation((int(size[0]), int(size[1])), middle, matrix, displacements)

    @staticmethod
    def _deformed(picture: torch.Tensor, deformation: Deformation, mode: str, weighted: bool) -> torch.Tensor:
        if weighted:
            label = resample(picture[:-1], deformation, mode)
            return torch.cat([label, resample(picture[-1:], deformation, "bilinear")])
        found = resample(picture, deformation, mode)
        return found.to(picture.dtype) if mode == "nearest" else found


@lru_cache(maxsize=8)
def bicubic_weights(points: int, length: int) -> torch.Tensor:
    """Matrix (length, points): interpolates values at evenly spaced points, the outer two on the outer pixels."""
    identity = torch.eye(points)[None, :, :, None]
    return interpolate(identity, size=(length, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T.contiguous()
