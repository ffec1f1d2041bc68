"""Slices out of the store, and crops of them that show tumours and look-alikes in balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, RandomizableTransform, Transform
from numpy.typing import NDArray
from torch.nn.functional import grid_sample, interpolate

from .datalist import neighbours_of
from .slice_store import read_facts
from .zones import LOOK_ALIKE, NEAR_LUNG, TUMOUR

# Neighbours farther away than this tell nothing of the slice between them.
_FARTHEST_NEIGHBOUR_MM = 4.0
_BODY_ABOVE_HU = -500


class LoadSlicesd(Randomizable, Transform):
    """Reads a slice and its neighbours from the store.

    Of a row with `store` and `slice` it makes `image`: (2 * reach + 1, x, y) float32 in HU, the slice itself and then
    its neighbours from the feet upwards, `zones`: (1, x, y), see `zones.find_zones`, and `copies`: whether all are one
    slice.

    Args:
        reach: neighbours on each side.
        step_probabilities: chance that neighbours are 0 (copies of the slice), 1, 2, ... slices apart. Scans differ in
            slice distance, and slices that came without neighbours would otherwise be known by it.
        turn_prob: chance that head and feet change places.
    """

    def __init__(
        self, reach: int = 2, step_probabilities: tuple[float, ...] = (0.0, 1.0), turn_prob: float = 0.0
    ) -> None:
        self.reach, self.step_probabilities, self.turn_prob = reach, step_probabilities, turn_prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        step = int(self.R.choice(len(self.step_probabilities), p=self.step_probabilities))
        places = self.places(row, step)
        if self.R.random() < self.turn_prob:
            places[1:] = places[:0:-1]
        images, zones = read_stack(row["store"], places)
        row["image"] = torch.from_numpy(images.astype(np.float32))
        row["zones"] = torch.from_numpy(zones[:1])
        row["copies"] = len(set(places)) == 1
        return row

    def places(self, row: Mapping[Hashable, Any], step: int) -> list[int]:
        """Places in the store of the slice and its neighbours `step` slices apart.

        The slice itself comes first: in inference.yaml the joined channels keep the history of the first one.
        """
        facts = _cached_facts(row["store"])
        if step * (facts["slice_distance_mm"] or 0) > _FARTHEST_NEIGHBOUR_MM:
            step = 1
        if step == 0:
            return [row["slice"]] * (2 * self.reach + 1)
        place_of = {number: place for place, number in enumerate(facts["indices"])}
        numbers = neighbours_of(facts["indices"][row["slice"]], place_of, self.reach, step)
        found = [place_of[number] for number in numbers]
        return [found.pop(self.reach), *found]


def read_stack(store: str, places: Sequence[int]) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Slices of a stored scan: values in HU and zones, (places, x, y)."""
    images, zones = (np.load(f"{store}_{kind}.npy", mmap_mode="r") for kind in ("image", "zones"))
    return images[list(places)], zones[list(places)]


class RandCropDeformd(RandomizableTransform):
    """One crop of a slice with affine and elastic deformation, all in one resampling.

    The elastic part follows Ronneberger, Fischer and Brox 2015, section 3.1: Gaussian displacements on a coarse grid of
    control points, interpolated bicubically. What comes in from outside the slice is air.

    Reads `image` (channels, x, y) in HU and `zones` (1 or channels, x, y); gives `image` (channels, size, size) and
    `label` (1 or channels, size, size), 0 or 1.

    Args:
        size: of the crop, pixels.
        tumour_prob, look_alike_prob, near_lung_prob: chance that the crop's middle lies near a pixel of this zone,
            where the slice has one; otherwise it lies anywhere in the body.
        prob: chance that anything is deformed.
        rotate_degrees: largest rotation; uniform.
        scale_range: smallest and largest zoom, log-uniform; `aspect_range`: by how much the axes may differ in it.
        flip_prob: chance of a left-right flip.
        elastic_points, elastic_sigma: control points along each side, standard deviation of their displacement in
            pixels.
        outside_hu: of what comes in from outside.
        middle_channel: whose zones say where the crop lies.
    """

    def __init__(
        self,
        size: int,
        tumour_prob: float,
        look_alike_prob: float,
        near_lung_prob: float,
        prob: float = 0.9,
        rotate_degrees: float = 15.0,
        scale_range: tuple[float, float] = (0.8, 1.25),
        aspect_range: float = 1.1,
        flip_prob: float = 0.5,
        elastic_points: int = 4,
        elastic_sigma: float = 3.0,
        outside_hu: float = -1024.0,
        middle_channel: int = 0,
    ) -> None:
        super().__init__(prob)
        self.middle_channel = middle_channel
        self.size, self.outside_hu = size, outside_hu
        self.zone_probabilities = ((TUMOUR, tumour_prob), (LOOK_ALIKE, look_alike_prob), (NEAR_LUNG, near_lung_prob))
        self.rotate_degrees, self.scale_range, self.aspect_range = rotate_degrees, scale_range, aspect_range
        self.flip_prob, self.elastic_points, self.elastic_sigma = flip_prob, elastic_points, elastic_sigma

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        image, zones = row["image"], row.pop("zones")
        self.randomize(None)
        grid = self._sampling_grid(
            self._middle(zones[self.middle_channel].numpy(), image[self.middle_channel]), image.shape[-2:]
        )
        above_air = (image - self.outside_hu)[None]
        row["image"] = grid_sample(above_air, grid, padding_mode="zeros", align_corners=False)[0] + self.outside_hu
        tumour = (zones == TUMOUR).float()[None]
        row["label"] = (grid_sample(tumour, grid, padding_mode="zeros", align_corners=False)[0] > 0.5).float()
        return row

    def _middle(self, zones: NDArray[np.uint8], image: torch.Tensor) -> NDArray[np.float64]:
        """The crop's middle in pixels, so that a pixel of the drawn zone lies in its middle half or near it."""
        draw, within = self.R.random(), 0.0
        candidates = np.zeros(0, dtype=np.intp)
        for zone, probability in self.zone_probabilities:
            within += probability
            if draw < within:
                candidates = np.flatnonzero(zones == zone)
                break
        if candidates.size == 0:
            candidates = np.flatnonzero(image.numpy() > _BODY_ABOVE_HU)
        if candidates.size == 0:
            candidates = np.arange(zones.size)
        pixel = np.array(np.unravel_index(candidates[self.R.randint(candidates.size)], zones.shape))
        middle = pixel + self.R.uniform(-self.size / 4, self.size / 4, size=2)
        # Little of the crop should lie outside the slice.
        last = np.array(zones.shape) - 1
        margin = np.minimum(0.4 * self.size, last / 2)
        return np.clip(middle, margin, last - margin)

    def _sampling_grid(self, middle: NDArray[np.float64], shape: torch.Size) -> torch.Tensor:
        """(1, size, size, 2): where each pixel of the crop comes from, as `grid_sample` wants it (-1 to 1, y first)."""
        matrix, displacements = np.eye(2), np.zeros((2, self.elastic_points, self.elastic_points))
        if self._do_transform:
            angle = np.deg2rad(self.R.uniform(-self.rotate_degrees, self.rotate_degrees))
            zoom = np.exp(self.R.uniform(*np.log(self.scale_range)))
            aspect = np.exp(0.5 * self.R.uniform(-1, 1) * np.log(self.aspect_range))
            cos, sin = np.cos(angle), np.sin(angle)
            matrix = np.array([[cos, -sin], [sin, cos]]) / (zoom * np.array([aspect, 1 / aspect]))
            if self.R.uniform() < self.flip_prob:
                # The first axis runs from the patient's right to the left.
                matrix[0] = -matrix[0]
            displacements = self.elastic_sigma * self.R.standard_normal(displacements.shape)
        offset = torch.arange(self.size, dtype=torch.float32) - (self.size - 1) / 2
        weights = bicubic_weights(self.elastic_points, self.size)
        elastic = weights @ torch.from_numpy(displacements.astype(np.float32)) @ weights.T
        places = []
        for axis, length in enumerate(shape):
            along = float(middle[axis]) + matrix[axis, 0] * offset[:, None] + matrix[axis, 1] * offset[None, :]
            places.append((2 * (along + elastic[axis]) + 1) / length - 1)
        return torch.stack((places[1], places[0]), dim=-1)[None].float()


class RandScannerd(RandomizableTransform):
    """What scanners, kernels and storage do to HU: another scale, a shift, a clipped top, noise, smoothing.

    Reads and gives `image` (channels, x, y) in HU.

    Args:
        prob: chance of each change on its own.
        scale: largest change of HU + 1024, as a fraction.
        shift_hu: largest shift.
        clip_hu: range of the value above which everything is flat.
        noise_hu: largest standard deviation of Gaussian noise.
    """

    def __init__(
        self,
        prob: float = 0.3,
        scale: float = 0.04,
        shift_hu: float = 25.0,
        clip_hu: tuple[float, float] = (90.0, 400.0),
        noise_hu: float = 50.0,
    ) -> None:
        super().__init__(1.0)
        self.each_prob, self.scale, self.shift_hu, self.clip_hu, self.noise_hu = (
            prob,
            scale,
            shift_hu,
            clip_hu,
            noise_hu,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        image: torch.Tensor = row["image"]
        if self._drawn():
            image = (image + 1024) * float(self.R.uniform(1 - self.scale, 1 + self.scale)) - 1024
            image = image + float(self.R.uniform(-self.shift_hu, self.shift_hu))
        if self._drawn():
            image = torch.nn.functional.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
        if self._drawn():
            generator = torch.Generator().manual_seed(int(self.R.randint(2**31 - 1)))
            # Copies of one slice have the same noise, as they have when they are looked at.
            shape = image[:1].shape if row.get("copies") else image.shape
            image = image + float(self.R.uniform(0, self.noise_hu)) * torch.randn(shape, generator=generator)
        if self._drawn():
            image = image.clamp(max=float(self.R.uniform(*self.clip_hu)))
        row["image"] = image
        return row

    def _drawn(self) -> bool:
        return bool(self.R.random() < self.each_prob)


class WholeSliced(Transform):
    """Makes `label` (1, x, y), 0 or 1, of `zones`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        row["label"] = (row.pop("zones") == TUMOUR).float()
        return row


def slice_weights(rows: Sequence[Mapping[str, Any]], tumour_share: float) -> list[float]:
    """How often each slice is drawn.

    Those with tumour in `tumour_share` of all draws, each patient equally often: some have one slice and some twenty.
    Of those without, each equally often: a whole volume shows more of what is no tumour than five slices do.
    """
    slices_of = Counter(row["group"] for row in rows if row["tumour"])
    without = sum(not row["tumour"] for row in rows)
    return [
        tumour_share / len(slices_of) / slices_of[row["group"]] if row["tumour"] else (1 - tumour_share) / without
        for row in rows
    ]


@lru_cache(maxsize=8)
def bicubic_weights(points: int, size: int) -> torch.Tensor:
    """Matrix (size, points): interpolates values at evenly spaced control points, the outer two on the outer pixels."""
    identity = torch.eye(points)[None, :, :, None]
    return interpolate(identity, size=(size, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T.contiguous()


@lru_cache(maxsize=1024)
def _cached_facts(store: str) -> dict[str, Any]:
    return read_facts(store)
