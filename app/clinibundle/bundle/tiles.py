"""A bundle made ready for pictures of any size: asked tile by tile, with the same answer whatever the memory.

Which bundles this can be done with is to be seen in their inference config: the inferer is an `OverlapTileInferer`,
and what precedes the network looks at single pixels, or at the mean and spread of the whole picture, which are known
from a pass over it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinibundle.bundle.configs import component_of, read_config
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.memory import PROGRAM
from clinibundle.bundle.predict import LOADERS, network_with_weights, pick_device, said_of_changes
from clinibundle.checks import Check
from clinibundle.errors import BundleError, UnsuitableInput
from clinibundle.networks.views import DihedralMean
from clinibundle.transforms.instances import InstanceRule

_OF_SINGLE_PIXELS = ("ScaleIntensityRanged", "CastToTyped", "EnsureTyped")
_OF_MEAN_AND_SPREAD = "NormalizeIntensityd"
_CELLS = "CellsOfProbabilityd"

Network = Callable[[NDArray[Any]], NDArray[np.float32]]
"""From grey values (rows, columns) of a tile with its halo to the probability of interior, (rows, columns)."""


@dataclass(frozen=True)
class GreyStatistics:
    """Mean and standard deviation of a whole picture."""

    mean: float
    spread: float


class TilePredictor:
    """A bundle's network for tiles of one picture after the other.

    Args:
        bundle: that `is_tiled`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        overlays, settings: put on top of the bundle's inference config.
        max_memory_gib: that the process may hold; tiles have one size, whatever it is, so it is kept or refused.

    Attributes:
        tile_size, halo, multiple: of its `OverlapTileInferer`, pixels.
        rule: how cells are made of the probability.
        weights_sha256: fingerprint of the weights.
        settings_sha256: fingerprint of what else decides the answer.
        checks: what was looked at.

    Raises:
        BundleError: if the config does what cannot be done in tiles, or the weights do not fit.
        UsageError: if the device is not there.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        overlays: Sequence[Path] = (),
        settings: Mapping[str, Any] | None = None,
        max_memory_gib: float | None = None,
    ) -> None:
        self.bundle, self.device = bundle, pick_device(device)
        parser = read_config(bundle.root, "inference", overlays, settings)
        parser["device"] = f"$torch.device('{self.device}')"
        self._preprocessing = [t for t in parser["preprocessing"]["transforms"] if component_of(t) not in LOADERS]
        self._refuse_what_tiles_cannot_do()
        inferer = parser["inferer"]
        self.tile_size, self.halo, self.multiple = (int(inferer[key]) for key in ("tile_size", "halo", "multiple"))
        self._refuse_without_memory(max_memory_gib)
        self.rule = _rule(parser["postprocessing"]["transforms"], bundle.name)
        decisive = [parser[key] for key in ("network_def", "preprocessing", "inferer", "postprocessing")]
        self.settings_sha256 = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        network, self.weights_sha256 = network_with_weights(parser, bundle, self.device)
        self._network = DihedralMean(network) if inferer.get("views", 1) > 1 else network
        self.checks: tuple[Check, ...] = said_of_changes([overlay.stem for overlay in overlays], settings or {})

    def _refuse_what_tiles_cannot_do(self) -> None:
        names = [component_of(t) for t in self._preprocessing]
        known = (*_OF_SINGLE_PIXELS, _OF_MEAN_AND_SPREAD)
        others = [name for name in names if name not in known]
        if others or _OF_MEAN_AND_SPREAD in names[1:]:
            raise BundleError(
                f"the inference config of '{self.bundle.name}' cannot be run in tiles: {(others or names)[0]} looks at "
                f"more than single pixels; expected {', '.join(known)}, the last one first"
            )

    def _refuse_without_memory(self, max_memory_gib: float | None) -> None:
        """What a tile takes is stated in metadata.json, as bytes per pixel that the network sees."""
        need = self.bundle.metadata.memory
        if max_memory_gib is None:
            return
        if need is None:
            raise BundleError(
                f"'{self.bundle.name}' does not say how much memory it needs (metadata.json, 'memory'), so no limit "
                "can be kept; leave out --max-memory"
            )
        pixels = (self.tile_size + 2 * self.halo) ** 2
        needed = PROGRAM + 2**20 * need.fixed_mib + pixels * need.bytes_per_voxel
        if needed > max_memory_gib * 2**30:
            raise UnsuitableInput(
                f"a tile of {self.tile_size} pixels needs about {needed / 2**30:.2g} GiB, more than the "
                f"{max_memory_gib:g} GiB of --max-memory; allow more, or take smaller tiles with --set "
                f"inferer#tile_size={self.tile_size // 2 // self.multiple * self.multiple}"
            )

    @property
    def needs_statistics(self) -> bool:
        """Whether mean and spread of the whole picture have to be known first."""
        return bool(self._preprocessing) and component_of(self._preprocessing[0]) == _OF_MEAN_AND_SPREAD

    def ready_for(self, statistics: GreyStatistics | None) -> Network:
        """The network for tiles of a picture with these statistics."""
        from monai.bundle import ConfigParser

        steps = [dict(step) for step in self._preprocessing]
        if self.needs_statistics:
            assert statistics is not None, "needs_statistics says that they are needed"  # noqa: S101
            steps[0] |= {"subtrahend": statistics.mean, "divisor": statistics.spread}
        prepare = ConfigParser({"steps": {"_target_": "Compose", "transforms": steps}}).get_parsed_content("steps")

        def probability(window: NDArray[Any]) -> NDArray[np.float32]:
            with torch.inference_mode():
                grey = torch.from_numpy(np.ascontiguousarray(window, np.float32).T[None])
                image = torch.as_tensor(prepare({"image": grey})["image"])[None]
                image = image.to(self.device, memory_format=torch.channels_last)
                answer = torch.softmax(self._network(image).float(), dim=1)[0, 1]
            return np.asarray(answer.cpu().T)

        return probability


def _rule(postprocessing: Sequence[Mapping[str, Any]], name: str) -> InstanceRule:
    step = next((t for t in postprocessing if component_of(t) == _CELLS), None)
    if step is None:
        raise BundleError(f"the inference config of '{name}' is tiled and has no {_CELLS}; add it to postprocessing")
    return InstanceRule(**{key: value for key, value in step.items() if key not in ("_target_", "keys")})
