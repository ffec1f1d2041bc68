"""Uniform noise, the one grey-value change of the Keras U-Nets that MONAI lacks.

MONAI has the others: `RandGaussianNoised` with `sample_std: false` has one sigma, `RandShiftIntensityd` with `offsets`
of twice the same number has one step of brightness, and `OneOf` chooses among several of either.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor, ensure_tuple

from clinibundle.errors import BundleError


class RandUniformNoised(RandomizableTransform, MapTransform):  # type: ignore[misc]
    """Adds to every pixel a number between -amplitude and +amplitude, each as likely as any other.

    The result is float32, not clipped; its standard deviation grows by amplitude / √3 where the picture is flat.

    Args:
        keys: pictures of any shape; each gets noise of its own.
        amplitude: in grey values as they are at this point (50 of 255 is 0.196 once grey is scaled to 0 … 1); of
            several, one is drawn for each sample.
        prob: chance that noise is added.
        allow_missing_keys: as in every MONAI transform.
    """

    def __init__(
        self,
        keys: KeysCollection,
        amplitude: float | Sequence[float],
        prob: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.amplitudes = tuple(float(each) for each in ensure_tuple(amplitude))
        if not self.amplitudes or min(self.amplitudes) < 0:
            raise BundleError(f"the amplitude of noise must be 0 or more, or several such, found {amplitude}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The row with its pictures as float32, noisy or not."""
        row = dict(data)
        self.randomize(None)
        amplitude = self.amplitudes[self.R.randint(len(self.amplitudes))]
        # torch's generator is several times faster than NumPy's.
        generator = torch.Generator().manual_seed(int(self.R.randint(2**31 - 1)))
        for key in self.key_iterator(row):
            image = convert_to_tensor(row[key], dtype=torch.float32, track_meta=False)
            if self._do_transform:
                image = image + amplitude * (2 * torch.rand(image.shape, generator=generator) - 1)
            row[key] = image
        return row
