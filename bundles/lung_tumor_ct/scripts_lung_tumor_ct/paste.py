"""Real lesions put into lung at other places, of other patients, in other sizes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import affine_grid, grid_sample

from .crops import LoadSlicesd, read_stack
from .zones import NEAR_LUNG, TUMOUR

_MARGIN_PX = 8
# A lesion is taken out of lung if so much of the ring around it is air, and put where so much of the place is air:
# one that leans on the chest wall would bring its wall along.
_RING_PX = 4
_AIR_SHARE = 0.75
_AIR_BELOW_HU = -600
_LARGEST_PX = 120
_TRIES = 10


class RandPasteLesiond(RandomizableTransform):
    """Pastes a lesion of another slice into the lung of this one; reads and gives `image` (HU) and `zones`.

    The lesion comes with its neighbouring slices, turned, scaled and flipped, and fades out over its rim, so that its
    own border is kept. Expects data of `LoadSlicesd`, before the crop.

    Args:
        rows: slices to take lesions from, as of `slice_store.store_slices`.
        prob: chance that one is pasted, if there is a place for it.
        scale_range: smallest and largest zoom, log-uniform.
        reach: as of `LoadSlicesd`.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        prob: float = 0.3,
        scale_range: tuple[float, float] = (0.5, 2.0),
        reach: int = 2,
    ) -> None:
        super().__init__(prob)
        self.scale_range = scale_range
        self._load = LoadSlicesd(reach)
        self.donors = [row for row in rows if row["tumour"] and lies_in_lung(row)] if prob > 0 else []

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        self.randomize(None)
        if not self._do_transform or not self.donors:
            return row
        donor = self.donors[self.R.randint(len(self.donors))]
        lesion, opacity, core = self._lesion(donor, copies=bool(row["copies"]))
        place = self._place(row["image"][0].numpy(), row["zones"][0].numpy(), core.shape)
        # A thin lesion made small may be without a pixel that is mostly lesion, and so without a label.
        if place is None or not core.any():
            return row
        image, zones = row["image"].clone(), row["zones"].clone()
        box = tuple(slice(start, start + size) for start, size in zip(place, core.shape, strict=True))
        image[(slice(None), *box)] = torch.lerp(image[(slice(None), *box)], lesion, opacity)
        zones[(0, *box)][core] = TUMOUR
        row["image"], row["zones"] = image, zones
        return row

    def _lesion(self, donor: Mapping[str, Any], copies: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The lesion as (channels, size, size): values, opacity; as (size, size): the outline of its middle slice."""
        places = self._load.places(donor, 0 if copies else 1)
        images, zones = read_stack(donor["store"], places)
        tumour = zones == TUMOUR
        size = int(max(np.ptp(axis) for axis in np.nonzero(tumour.any(axis=0)))) + 1
        centre = [float(axis.mean()) for axis in np.nonzero(tumour[0])]
        zoom = float(np.exp(self.R.uniform(*np.log(self.scale_range))))
        # The box holds the lesion however it is turned.
        zoom = min(zoom, (_LARGEST_PX - 2 * _MARGIN_PX) / (1.5 * size))
        side = int(np.ceil(1.5 * size * zoom)) + 2 * _MARGIN_PX
        angle = self.R.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        if self.R.random() < 0.5:
            turn[0] = -turn[0]
        # grid_sample wants the last axis first, and places from -1 to 1 over the whole picture.
        half = np.array(images.shape[:0:-1]) / 2
        matrix = turn * (side / 2) / half[:, None]
        shift = (np.array(centre[::-1]) + 0.5) / half - 1
        theta = torch.from_numpy(np.column_stack([matrix, shift])[None].astype(np.float32))
        rims = [ndimage.binary_dilation(mask) for mask in tumour]
        soft = np.stack([ndimage.gaussian_filter(rim.astype(np.float32), 1.0) for rim in rims])
        above_air = images.astype(np.float32) + 1024
        stack = torch.from_numpy(np.concatenate([above_air, soft, tumour[:1].astype(np.float32)]))
        grid = affine_grid(theta, [1, len(stack), side, side], align_corners=False)
        warped = grid_sample(stack[None], grid, padding_mode="zeros", align_corners=False)[0]
        channels = len(images)
        return warped[:channels] - 1024, warped[channels:-1].clamp(0, 1), warped[-1] > 0.5

    def _place(self, slice_hu: NDArray[Any], zones: NDArray[np.uint8], shape: torch.Size) -> tuple[int, int] | None:
        """First pixel of a box in lung; None if none was hit upon."""
        candidates = np.flatnonzero((zones == NEAR_LUNG) & (slice_hu < _AIR_BELOW_HU))
        if not candidates.size:
            return None
        for _ in range(_TRIES):
            middle = np.unravel_index(candidates[self.R.randint(candidates.size)], zones.shape)
            start = tuple(int(m) - side // 2 for m, side in zip(middle, shape, strict=True))
            if any(s < 0 or s + side > size for s, side, size in zip(start, shape, zones.shape, strict=True)):
                continue
            box = tuple(slice(s + side // 4, s + side - side // 4) for s, side in zip(start, shape, strict=True))
            if (slice_hu[box] < _AIR_BELOW_HU).mean() > _AIR_SHARE and not (zones[box] == TUMOUR).any():
                return start[0], start[1]
        return None


def lies_in_lung(row: Mapping[str, Any]) -> bool:
    """Whether the tumour of a stored slice is one piece of at least 12 pixels with air around it."""
    images, zones = read_stack(row["store"], [row["slice"]])
    tumour = zones[0] == TUMOUR
    _, count = ndimage.label(tumour, np.ones((3, 3)))
    if count != 1 or tumour.sum() < 12 or max(np.ptp(axis) for axis in np.nonzero(tumour)) > _LARGEST_PX / 2:
        return False
    ring = ndimage.binary_dilation(tumour, iterations=_RING_PX) & ~ndimage.binary_dilation(tumour, iterations=1)
    return bool((images[0][ring] < _AIR_BELOW_HU).mean() > _AIR_SHARE)
