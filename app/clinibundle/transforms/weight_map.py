"""The pixel weights of the U-Net: what it costs to get a pixel wrong, most in the gaps between neighbouring cells.

Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597), equation 2:

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))² / (2 sigma²))

d1 and d2 are the distances, in pixels and between pixel centres, from x to the nearest pixel of the nearest cell and to
the nearest pixel of the second nearest one; so a border is made of a cell's own outermost pixels, and a pixel right
beside a cell is 1 away from it. The second term is for pixels outside cells alone and 0 inside: the paper wants it for
"the separating background labels between touching cells". So does the authors' own release, distances and all
(lmb-freiburg/Unet-Segmentation, TrainingSample.java). w_c balances the class frequencies; the paper does not say how:
see `class_balance`.

Neither MONAI nor scikit-image has this, and what is found elsewhere takes one distance transform of the whole picture
per cell.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from scipy import ndimage

from clinibundle.errors import BundleError

# Of w0: half of what float32 tells apart there. A term below it is left out, which bounds how far a cell is looked for.
_NEGLIGIBLE = 2.0**-24
# Pixels worked on at a time, so that they stay in the processor's cache.
_BLOCK = 2**16


def weight_map(
    labels: NDArray[Any],
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights: Sequence[float] | None = None,
    instances: bool | None = None,
) -> NDArray[np.float32]:
    """Equation 2 (see this module's first lines), exact to float32.

    Args:
        labels: (x, y), or three axes with voxels as long as wide. 0 is background. Instance numbers, or a binary mask,
            whose cells are its components by direct neighbours (4 in a plane): a gap that is one pixel wide and runs
            diagonally still separates.
        w0: most that the second term can be.
        sigma: pixels; where d1 + d2 is sigma the second term is 0.61 w0, where it is 2 sigma 0.14 w0.
        class_weights: w_c of background and of cells; None balances the classes of this picture.
        instances: whether `labels` are instance numbers; None: unless there is but one value besides 0.

    Returns:
        Same shape; from w_c, where there is nothing to separate, to w_c + w0.
    """
    cells = cell_numbers(labels, instances)
    return class_balance(cells > 0, class_weights) + separation(cells, w0, sigma)


def cell_numbers(labels: NDArray[Any], instances: bool | None = None) -> NDArray[Any]:
    """A number for each cell, 0 outside; arguments as in `weight_map`."""
    if instances is None:
        instances = not (labels.dtype == np.bool_ or bool(((labels == 0) | (labels == labels.max())).all()))
    if not instances:
        numbers, _ = ndimage.label(labels > 0)
        return np.asarray(numbers)
    return labels if np.issubdtype(labels.dtype, np.integer) else labels.astype(np.int64)


def class_balance(inside: NDArray[np.bool_], class_weights: Sequence[float] | None = None) -> NDArray[np.float32]:
    """w_c of each pixel.

    Args:
        inside: whether a pixel belongs to a cell.
        class_weights: of background and of cells. None gives each class that is there the same sum, and the picture the
            mean 1: N / (classes · pixels of the class). A small crop can have a class of few and so very heavy pixels;
            after cropping, weights that were counted over a whole data set are better.
    """
    if class_weights is None:
        counts = [inside.size - np.count_nonzero(inside), np.count_nonzero(inside)]
        present = sum(count > 0 for count in counts)
        class_weights = [inside.size / (present * count) if count else 0.0 for count in counts]
    background, cell = class_weights
    return np.where(inside, np.float32(cell), np.float32(background))


def separation(cells: NDArray[Any], w0: float = 10.0, sigma: float = 5.0) -> NDArray[np.float32]:
    """The second term of equation 2; takes time in proportion to the pixels and to sigma, however many cells there are.

    Args:
        cells: a number for each cell, 0 outside.
        w0: see `weight_map`.
        sigma: see `weight_map`.
    """
    if not sigma > 0:
        raise BundleError(f"the weight map's sigma must be a number of pixels above 0, found {sigma}")
    # d1 is 1 at least, so that d2 is looked for up to one less than where the sum of both becomes negligible.
    reach = max(1, math.ceil(sigma * math.sqrt(-2 * math.log(_NEGLIGIBLE)) - 1))
    nearest, second = _two_nearest(cells, reach)
    gap = (second <= reach**2) & (cells == 0)
    width = np.sqrt(nearest[gap], dtype=np.float64) + np.sqrt(second[gap], dtype=np.float64)
    weights = np.zeros(cells.shape, np.float32)
    weights[gap] = w0 * np.exp(-(width**2) / (2 * sigma**2))
    return weights


def _two_nearest(cells: NDArray[Any], reach: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Squared distances to the nearest and to the second nearest cell; above reach² where there is none within reach.

    One axis after the other, as for a distance transform (Felzenszwalb and Huttenlocher 2012): of the cells that meet a
    line through the picture only the two nearest to a pixel on it can be among the two nearest to any pixel beside the
    line that has this one as its foot. Both are found by trying every step within reach on all pixels at once, since
    NumPy compares whole pictures of small integers at the speed of memory.
    """
    far = (reach + 1) ** 2
    bits = int(cells.max(initial=0)).bit_length()
    # Squared distance and number of the nearest cell in one integer, so that the least of them has both.
    packed_type = np.int32 if (2 * far) << bits < 2**31 else np.int64
    nearest: NDArray[Any] = np.where(cells > 0, cells.astype(packed_type), packed_type(far << bits))
    second = np.full(cells.shape, far, np.int16 if max(2 * far, 1 << bits) < 2**15 else np.int64)
    for _ in range(cells.ndim):
        nearest, second = _look_along_first_axis(nearest, second, bits, reach)
        # The next axis comes to the front: whole rows are moved faster than single pixels.
        nearest, second = (np.ascontiguousarray(np.moveaxis(each, 0, -1)) for each in (nearest, second))
    return nearest >> bits, second


def _look_along_first_axis(
    nearest: NDArray[Any], second: NDArray[Any], bits: int, reach: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The nearest and the second nearest cell, given those that each pixel has without moving along this axis."""
    beyond = [(reach, reach)] + [(0, 0)] * (nearest.ndim - 1)
    # What `_two_nearest` starts from where there is no cell.
    far = (reach + 1) ** 2
    packed = np.pad(nearest, beyond, constant_values=far << bits)
    owner = _owner(packed, bits, second.dtype)
    squared = (packed >> bits).astype(second.dtype)
    # To be added where the nearest cell there is the nearest one here, too, so that the second one there counts.
    behind = np.pad(second, beyond, constant_values=far) - squared
    found_nearest, found_second = nearest.copy(), second.copy()
    rows = max(1, _BLOCK // max(1, math.prod(nearest.shape[1:])))
    for start in range(0, len(nearest), rows):
        best = found_nearest[start : start + rows]
        windows = [
            (step * step, slice(start + reach + step, start + reach + step + len(best)))
            for step in range(-reach, reach + 1)
        ]
        candidate = np.empty_like(best)
        for squared_step, there in windows:
            np.add(packed[there], squared_step << bits, out=candidate)
            np.minimum(best, candidate, out=best)
        here = _owner(best, bits, second.dtype)
        best = found_second[start : start + rows]
        candidate, same = np.empty_like(best), np.empty(best.shape, np.bool_)
        for squared_step, there in windows:
            np.equal(owner[there], here, out=same)
            np.multiply(behind[there], same, out=candidate)
            candidate += squared[there]
            candidate += squared_step
            np.minimum(best, candidate, out=best)
    return found_nearest, found_second


def _owner(packed: NDArray[Any], bits: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    return (packed & ((1 << bits) - 1)).astype(dtype)


def part_touching_cells(cells: NDArray[Any]) -> NDArray[Any]:
    """Makes background of the pixels at which two cells touch, on either side, so that a gap is there to be learnt.

    The paper's "separation border", by direct neighbours: two pixels wide, so that it survives being resampled. (In the
    authors' release it is one or two wide, depending on its direction.)

    Args:
        cells: a number for each cell, 0 outside.
    """
    touching = np.zeros(cells.shape, np.bool_)
    for axis in range(cells.ndim):
        # Views: what is marked in them is marked in `touching`.
        marks, numbers = np.moveaxis(touching, axis, 0), np.moveaxis(cells, axis, 0)
        meet = (numbers[:-1] != numbers[1:]) & (numbers[:-1] > 0) & (numbers[1:] > 0)
        marks[:-1] |= meet
        marks[1:] |= meet
    return np.where(touching, 0, cells)


class WeightMapd(MapTransform):  # type: ignore[misc]
    """Appends the weight map to a label as its last channel, so that crops and deformations treat both alike.

    Of (1, x, y) it makes (2, x, y) float32: class number and weight, as
    `clinibundle.losses.weighted_cross_entropy` wants them. Before a cache it costs nothing per epoch; after cropping it
    knows nothing of cells outside the crop, and `class_weights` should be given.

    Args:
        keys: labels.
        w0, sigma, class_weights: see `weight_map`.
        instances: the label holds instance numbers; touching cells are parted (`part_touching_cells`) and all get the
            class number 1. Otherwise it holds class numbers and stays as it is.
        cell_class: the class that is cells, where it is not every class above 0: 0 for labels that mark membranes.
        min_cell_px: what is smaller is no cell to be kept apart from others; of a mask that was deformed, slivers break
            off at its edges.
        allow_missing_keys: as in every MONAI transform.
    """

    def __init__(
        self,
        keys: KeysCollection,
        w0: float = 10.0,
        sigma: float = 5.0,
        class_weights: Sequence[float] | None = None,
        instances: bool = False,
        cell_class: int | None = None,
        min_cell_px: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if class_weights is not None and len(class_weights) != 2:
            raise BundleError(f"class_weights are two, of background and of cells; found {list(class_weights)}")
        if instances and cell_class is not None:
            raise BundleError("a label of instance numbers has no cell_class: leave it out, or set instances to false")
        self.w0, self.sigma, self.class_weights = w0, sigma, class_weights
        self.instances, self.cell_class, self.min_cell_px = instances, cell_class, min_cell_px

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The row with two channels under each key."""
        row = dict(data)
        for key in self.key_iterator(row):
            row[key] = self._with_weights(convert_to_tensor(row[key], track_meta=False), key)
        return row

    def _with_weights(self, label: torch.Tensor, key: Hashable) -> torch.Tensor:
        if label.shape[0] != 1:
            raise BundleError(
                f"'{key}' has {label.shape[0]} channels; a weight map is made of a label with one channel"
            )
        classes = label[0].cpu().numpy()
        if self.instances:
            cells = part_touching_cells(cell_numbers(classes, instances=True))
            classes = cells > 0
        else:
            cells = cell_numbers(classes > 0 if self.cell_class is None else classes == self.cell_class)
        balance = class_balance(cells > 0, self.class_weights)
        weights = balance + separation(_without_specks(cells, self.min_cell_px), self.w0, self.sigma) * (cells == 0)
        return torch.from_numpy(np.stack([classes.astype(np.float32), weights]))


def _without_specks(cells: NDArray[Any], min_cell_px: int) -> NDArray[Any]:
    if min_cell_px <= 1:
        return cells
    numbers, places, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    return np.where(sizes >= min_cell_px, numbers, 0)[places.reshape(cells.shape)]
