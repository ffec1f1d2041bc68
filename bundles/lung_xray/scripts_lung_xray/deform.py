"""Random affine and elastic deformation of picture and mask in one resampling.

MONAI's `Rand2DElasticd` does the same in one resampling too, but takes about 20 times as long (it smooths a full-size
noise field), and two cheaper MONAI transforms in a row would resample twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple
from torch.nn.functional import grid_sample, interpolate


class RandAffineElastic2Dd(RandomizableTransform, MapTransform):
    """Shift, rotation, scaling of each axis on its own, left-right flip, and elastic deformation.

    The elastic part follows Ronneberger, Fischer and Brox 2015, section 3.1: Gaussian displacements on a coarse grid of
    control points, interpolated bicubically. What comes in from outside the picture is 0.

    Args:
        keys: tensors of one shape (1, W, H), all deformed alike and resampled linearly.
        mask_keys: those of `keys` that are cut at one half afterwards.
        prob: chance that anything is deformed.
        rotate_degrees, shift_fraction: largest rotation and largest shift as a fraction of the picture; uniform.
        scale_range: smallest and largest zoom, log-uniform, drawn for both axes together and changed by up to
            `aspect_range` between them.
        flip_prob: chance of a left-right flip.
        elastic_points: control points along each side.
        elastic_fraction: standard deviation of their displacement as a fraction of the picture's side.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_keys: KeysCollection = (),
        prob: float = 0.9,
        rotate_degrees: float = 10.0,
        shift_fraction: float = 0.08,
        scale_range: tuple[float, float] = (0.8, 1.25),
        aspect_range: float = 1.2,
        flip_prob: float = 0.0,
        elastic_points: int = 3,
        elastic_fraction: float = 0.02,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.mask_keys = set(ensure_tuple(mask_keys))
        self.rotate_degrees, self.shift_fraction = rotate_degrees, shift_fraction
        self.scale_range, self.aspect_range, self.flip_prob = scale_range, aspect_range, flip_prob
        self.elastic_points, self.elastic_fraction = elastic_points, elastic_fraction
        self._affine = np.eye(2, 3, dtype=np.float32)
        self._displacements = np.zeros((1, 2, elastic_points, elastic_points), dtype=np.float32)

    def randomize(self, data: Any = None) -> None:
        """Draws one deformation: a matrix from output to input coordinates (both -1 to 1) and control displacements."""
        super().randomize(None)
        angle = np.deg2rad(self.R.uniform(-self.rotate_degrees, self.rotate_degrees))
        zoom = np.exp(self.R.uniform(*np.log(self.scale_range)))
        aspect = np.exp(0.5 * self.R.uniform(-1, 1) * np.log(self.aspect_range))
        scales = 1.0 / (zoom * np.array([aspect, 1 / aspect]))
        if self.R.uniform() < self.flip_prob:
            # The picture is (1, W, H), so grid_sample's first coordinate runs along H; left-right is its second.
            scales[1] = -scales[1]
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.array([[cos, -sin], [sin, cos]]) * scales
        shift = self.R.uniform(-2 * self.shift_fraction, 2 * self.shift_fraction, size=2)
        self._affine = np.concatenate([matrix, shift[:, None]], axis=1).astype(np.float32)
        size = (1, 2, self.elastic_points, self.elastic_points)
        self._displacements = (2 * self.elastic_fraction * self.R.standard_normal(size)).astype(np.float32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        self.randomize()
        if not self._do_transform:
            return row
        keys = list(self.key_iterator(row))
        stack = torch.cat([_plain(row[key]).float() for key in keys])[None]
        grid = self._sampling_grid(*stack.shape[-2:])
        warped = grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
        for index, key in enumerate(keys):
            channel = warped[index : index + 1]
            row[key] = (channel > 0.5).float() if key in self.mask_keys else channel
        return row

    def _sampling_grid(self, width: int, height: int) -> torch.Tensor:
        # Separable: an outer sum and two small matrix products, far cheaper than affine_grid and interpolate.
        (yy, yx, shift_y), (xy, xx, shift_x) = self._affine.tolist()
        x = (2 * torch.arange(width, dtype=torch.float32) + 1) / width - 1
        y = (2 * torch.arange(height, dtype=torch.float32) + 1) / height - 1
        elastic = bicubic_weights(self.elastic_points, width) @ torch.from_numpy(self._displacements[0])
        elastic = elastic @ bicubic_weights(self.elastic_points, height).T
        along_y = elastic[0] + (yx * x + shift_y)[:, None] + (yy * y)[None, :]
        along_x = elastic[1] + (xx * x + shift_x)[:, None] + (xy * y)[None, :]
        return torch.stack((along_y, along_x), dim=-1)[None]


@lru_cache(maxsize=8)
def bicubic_weights(points: int, size: int) -> torch.Tensor:
    """Matrix (size, points): interpolates values at evenly spaced control points, the outer two on the outer pixels."""
    identity = torch.eye(points)[None, :, :, None]
    return interpolate(identity, size=(size, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T.contiguous()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
