"""A bundle's own preprocessing, inferer and postprocessing around a Volume; only its loader and its writer are ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import Bundle
from clinibundle.errors import BundleError, UsageError
from clinibundle.geometry import scaling_affine, turn_lps_ras
from clinibundle.volume import Volume

# Done by us before and after: reading into a Volume, writing from one.
_LOADERS = ("LoadImaged", "EnsureChannelFirstd")
_WRITERS = ("SaveImaged",)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a bundle made of a volume, on the volume's own grid.

    Attributes:
        label_map: whole numbers, axes as `Volume.array`.
        probability: of each label above 0, same axes, 0 to 1; empty if the bundle leaves none.
    """

    label_map: NDArray[np.integer[Any]]
    probability: Mapping[int, NDArray[np.floating[Any]]]


class Predictor:
    """A bundle made ready once, to be used on many volumes.

    Args:
        bundle: with weights.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        overlays, settings: put on top of the bundle's inference config.

    Raises:
        BundleError: if the weights do not fit the network, or the config cannot be built.
        UsageError: if the device is not there.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        overlays: Sequence[Path] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.bundle = bundle
        self.device = pick_device(device)
        parser = read_config(bundle.root, "inference", overlays, settings)
        parser["device"] = f"$torch.device('{self.device}')"
        _drop(parser, "preprocessing", _LOADERS)
        _drop(parser, "postprocessing", _WRITERS)
        try:
            parser.parse()
            self._preprocessing = parser.get_parsed_content("preprocessing")
            self._inferer = parser.get_parsed_content("inferer")
            self._postprocessing = parser.get_parsed_content("postprocessing")
            network = parser.get_parsed_content("network_def")
        except (ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
            raise BundleError(
                f"the inference config of '{bundle.name}' cannot be built: {_first_line(error)}"
            ) from error
        self._network = network.to(device=self.device, memory_format=_memory_format(bundle)).eval()
        load_weights(self._network, bundle.weights, bundle.name)

    def __call__(self, volume: Volume) -> Prediction:
        """Runs the bundle on one volume.

        Raises:
            BundleError: if what comes out does not lie on the volume's grid.
        """
        with torch.inference_mode():
            data = self._preprocessing({"image": as_meta_tensor(volume)})
            image = data["image"]
            logits = self._inferer(inputs=image.as_tensor()[None].to(self.device), network=self._network)
            pred = MetaTensor(logits[0].cpu(), meta=image.meta, applied_operations=image.applied_operations)
            data = self._postprocessing({**data, "pred": pred})
        label_map = np.asarray(data["pred"])[0]
        if label_map.shape != volume.spatial_shape:
            raise BundleError(
                f"'{self.bundle.name}' answers a picture of {volume.spatial_shape} with the shape {label_map.shape}; "
                "its postprocessing must invert its preprocessing"
            )
        return Prediction(
            label_map.astype(np.uint8 if label_map.max(initial=0) < 256 else np.uint16), _probabilities(data)
        )


def pick_device(wanted: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU; anything else is taken literally or refused.

    Raises:
        UsageError: for a device that is not there; never falls back silently.
    """
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(f"--device '{wanted}' is unknown; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {wanted}: this machine has {torch.cuda.device_count()} CUDA devices; use auto or cpu"
        )
    return device


def load_weights(network: torch.nn.Module, path: Path, bundle_name: str) -> None:
    """Puts a state dict, half precision or not, into a network; the file can hold nothing but tensors.

    Raises:
        BundleError: if the file is damaged, holds more than weights, or does not fit the network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:  # torch raises a dozen kinds for a damaged file; each means the same here
        raise BundleError(f"the weights of '{bundle_name}' cannot be loaded: {_first_line(error)}") from error


def as_meta_tensor(volume: Volume) -> MetaTensor:
    """The volume as MONAI's own loader would give it: channel first, float32, affine in RAS."""
    array = np.asarray(volume.array, dtype=np.float32)
    channel_first = np.moveaxis(array, -1, 0) if volume.meaning == "colour" else array[None]
    affine = scaling_affine(volume.spacing_mm) if volume.affine_lps is None else volume.affine_lps
    return MetaTensor(
        torch.from_numpy(np.ascontiguousarray(channel_first)), affine=torch.from_numpy(turn_lps_ras(affine))
    )


def _drop(parser: Any, section: str, names: Sequence[str]) -> None:
    """Takes the named transforms out of a Compose in the config, before anything is built."""
    config = parser[section]
    transforms = config.get("transforms") if isinstance(config, dict) else None
    if not isinstance(transforms, list):
        raise BundleError(f"inference config: '{section}' must be a Compose with a list of transforms")
    config["transforms"] = [t for t in transforms if str(t.get("_target_", "")).rpartition(".")[2] not in names]


def _memory_format(bundle: Bundle) -> torch.memory_format:
    return torch.channels_last if bundle.spatial_dims == 2 else torch.channels_last_3d


def _probabilities(data: Mapping[str, Any]) -> dict[int, NDArray[np.floating[Any]]]:
    if "probability" not in data:
        return {}
    channels = np.asarray(data["probability"])
    # One channel is the probability of label 1; several are those of labels 0, 1, 2, ...
    return {1: channels[0]} if len(channels) == 1 else {label: channels[label] for label in range(1, len(channels))}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
