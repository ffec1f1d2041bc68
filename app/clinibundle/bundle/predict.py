"""A bundle's own preprocessing, inferer and postprocessing around a Volume; only its loader and its writer are ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage

from clinibundle.bundle.configs import component_of, read_config
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.memory import plan_run
from clinibundle.bundle.slabs import Slab, Slabs, affine_of, along, cut, on_square_axes, slabs_of, source_axis
from clinibundle.checks import Check
from clinibundle.errors import BundleError, UsageError
from clinibundle.files import sha256_of
from clinibundle.geometry import turn_lps_ras
from clinibundle.volume import Volume

LOADERS = ("LoadImaged", "EnsureChannelFirstd")
"""Done by us before: reading into a Volume. Writing from one is done by us after."""
_WRITERS = ("SaveImaged",)
_CANNOT_BE_BUILT = (ValueError, KeyError, RuntimeError, TypeError, ImportError)
WHOLE_OBJECTS = ("RemoveSmallObjectsd", "KeepLargestConnectedComponentd", "FillHolesd")
"""What looks at whole objects of a label map: of a bundle that may be run in slabs it is done once, on the whole."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a bundle made of a volume, on the volume's own grid.

    Attributes:
        label_map: whole numbers, axes as `Volume.array`.
        probability: of each label above 0, same axes, 0 to 1; empty if the bundle leaves none. In 16 bits for volumes
            (off by less than 0.00025), which are large.
        weights_sha256: fingerprint of the weights that answered.
        checks: what was looked at on the way.
    """

    label_map: NDArray[np.integer[Any]]
    probability: Mapping[int, NDArray[np.floating[Any]]]
    weights_sha256: str
    checks: tuple[Check, ...] = ()


class Predictor:
    """A bundle made ready once, to be used on many volumes.

    Args:
        bundle: with weights.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        overlays, settings: put on top of the bundle's inference config; its id `weights` says which weights are taken.
        max_memory_gib: that the process may hold; None for what the machine has free.

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
        max_memory_gib: float | None = None,
    ) -> None:
        self.bundle = bundle
        self.device = pick_device(device)
        self._max_memory_gib = max_memory_gib
        self._slabs = bundle.metadata.memory.slabs if bundle.metadata.memory else None
        parser = read_config(bundle.root, "inference", overlays, settings)
        parser["device"] = f"$torch.device('{self.device}')"
        _drop(parser, "preprocessing", LOADERS)
        _drop(parser, "postprocessing", _WRITERS)
        parser["whole_objects"] = {"_target_": "Compose", "transforms": []}
        if self._slabs is not None:
            _move_whole_objects(parser, bundle.name)
        try:
            parser.parse()
            self._preprocessing = parser.get_parsed_content("preprocessing")
            self._inferer = parser.get_parsed_content("inferer")
            self._postprocessing = parser.get_parsed_content("postprocessing")
            self._whole_objects = parser.get_parsed_content("whole_objects")
        except _CANNOT_BE_BUILT as error:
            raise not_built(bundle.name, error) from error
        self._network, self._weights_sha256 = network_with_weights(parser, bundle, self.device)
        self._checks = said_of_changes([overlay.stem for overlay in overlays], settings or {})

    def __call__(self, volume: Volume) -> Prediction:
        """Runs the bundle on one volume, in slabs where it would not fit into memory and the bundle allows it.

        Raises:
            BundleError: if what comes out does not lie on the volume's grid.
            UnsuitableInput: if the run would not fit into memory.
        """
        plan = plan_run(self.bundle, volume, self._max_memory_gib)
        if self._slabs is None or volume.array.ndim != 3:
            return replace(self._answer(volume), checks=(*self._checks, *plan.checks))
        found = self._slab_by_slab(on_square_axes(volume), self._slabs, plan.slabs)
        return replace(found, checks=(*self._checks, *plan.checks))

    def _slab_by_slab(self, volume: Volume, slabs: Slabs, count: int) -> Prediction:
        axis = source_axis(affine_of(volume), slabs.axis)
        cores = [
            self._core(volume, axis, slab) for slab in slabs_of(volume.array.shape[axis], count, slabs.halo_slices)
        ]
        label_map = np.concatenate([core.label_map for core in cores], axis)
        probability = {
            label: np.concatenate([core.probability[label] for core in cores], axis) for label in cores[0].probability
        }
        self._clean(label_map, affine_of(volume))
        return Prediction(label_map, probability, self._weights_sha256)

    def _core(self, volume: Volume, axis: int, slab: Slab) -> Prediction:
        """The answer for the core of a slab, copied so that nothing else of the slab stays in memory."""
        found = self._answer(cut(volume, axis, slab.seen))
        core = along(axis, slab.core_in_seen)
        return Prediction(
            found.label_map[core].copy(),
            {label: values[core].copy() for label, values in found.probability.items()},
            self._weights_sha256,
        )

    def _clean(self, label_map: NDArray[np.integer[Any]], affine_lps: NDArray[np.float64]) -> None:
        """Does in place, on the box around all objects, what looks at whole objects."""
        boxes = ndimage.find_objects((label_map > 0).view(np.uint8))
        if not boxes:
            return
        objects = MetaTensor(
            torch.from_numpy(np.ascontiguousarray(label_map[boxes[0]])[None]),
            affine=torch.from_numpy(turn_lps_ras(affine_lps)),
        )
        label_map[boxes[0]] = np.asarray(self._whole_objects({"pred": objects})["pred"])[0]

    def _answer(self, volume: Volume) -> Prediction:
        with torch.inference_mode():
            data = self._preprocessing({"image": as_meta_tensor(volume)})
            image = data["image"]
            if self._slabs is not None and volume.array.ndim == 3:
                _refuse_other_slices(self.bundle.name, self._slabs, volume, image)
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
            label_map.astype(np.uint8 if label_map.max(initial=0) < 256 else np.uint16),
            _probabilities(data),
            self._weights_sha256,
        )


def said_of_changes(overlays: Sequence[str], settings: Mapping[str, Any]) -> tuple[Check, ...]:
    """What makes this run another one than that of the model card; values may hold paths and are not told."""
    changes = [*overlays, *settings]
    if not changes:
        return ()
    text = "the bundle's inference config was changed; what its model card says of quality need not hold"
    return (Check("inference_config", "warning", ", ".join(changes), None, text),)


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


def network_with_weights(parser: Any, bundle: Bundle, device: torch.device) -> tuple[torch.nn.Module, str]:
    """The network of an inference config that is parsed, with the weights that the config names, and their fingerprint.

    Raises:
        BundleError: if it cannot be built, or the weights are not there or do not fit.
    """
    try:
        network = parser.get_parsed_content("network_def")
        weights = Path(parser.get_parsed_content("weights")) if "weights" in parser else bundle.weights
    except _CANNOT_BE_BUILT as error:
        raise not_built(bundle.name, error) from error
    if not weights.is_file():
        raise BundleError(
            f"'{bundle.name}' has no weights at '{weights}'; train it, or get one that comes with weights"
        )
    load_weights(network, weights, bundle.name)
    return network.to(device=device, memory_format=_memory_format(network)).eval(), sha256_of(weights)


def not_built(bundle_name: str, error: Exception) -> BundleError:
    """What is said of an inference config whose components cannot be made."""
    return BundleError(f"the inference config of '{bundle_name}' cannot be built: {_first_line(error)}")


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
    return MetaTensor(
        torch.from_numpy(np.ascontiguousarray(channel_first)),
        affine=torch.from_numpy(turn_lps_ras(affine_of(volume))),
    )


def _drop(parser: Any, section: str, names: Sequence[str]) -> None:
    """Takes the named transforms out of a Compose in the config, before anything is built."""
    config = parser[section]
    transforms = config.get("transforms") if isinstance(config, dict) else None
    if not isinstance(transforms, list):
        raise BundleError(f"inference config: '{section}' must be a Compose with a list of transforms")
    config["transforms"] = [t for t in transforms if component_of(t) not in names]


def _move_whole_objects(parser: Any, name: str) -> None:
    """From the end of `postprocessing` to a section of their own."""
    section = parser["postprocessing"]
    last: list[dict[str, Any]] = []
    while section["transforms"] and component_of(section["transforms"][-1]) in WHOLE_OBJECTS:
        last.insert(0, section["transforms"].pop())
    between = [component_of(t) for t in section["transforms"] if component_of(t) in WHOLE_OBJECTS]
    if between or any(t.get("keys") not in ("pred", ["pred"]) for t in last):
        raise BundleError(
            f"the inference config of '{name}' cleans whole objects before the end of its postprocessing, or elsewhere "
            f"than in 'pred' ({', '.join(between) or 'keys'}), so it cannot be run in slabs; move that to the end, or "
            "leave 'slabs' out of metadata.json"
        )
    parser["whole_objects"]["transforms"] = last


def _refuse_other_slices(name: str, slabs: Slabs, volume: Volume, image: MetaTensor) -> None:
    """A bundle that resamples between slices would answer otherwise in every slab."""
    wanted = volume.array.shape[source_axis(affine_of(volume), slabs.axis)]
    found = image.shape[1 + source_axis(turn_lps_ras(image.affine.numpy()), slabs.axis)]
    if found != wanted:
        raise BundleError(
            f"the preprocessing of '{name}' makes {found} slices of {wanted}, so it cannot be run in slabs across "
            f"{slabs.axis}; keep the slices, or leave 'slabs' out of metadata.json"
        )


def _memory_format(network: torch.nn.Module) -> torch.memory_format:
    """By the network's own kernels: one for single slices may be run on volumes."""
    is_3d = any(parameter.ndim == 5 for parameter in network.parameters())
    return torch.channels_last_3d if is_3d else torch.channels_last


def _probabilities(data: Mapping[str, Any]) -> dict[int, NDArray[np.floating[Any]]]:
    if "probability" not in data:
        return {}
    channels = np.asarray(data["probability"])
    if channels.ndim == 4:
        channels = channels.astype(np.float16)
    # One channel is the probability of label 1; several are those of labels 0, 1, 2, ...
    return {1: channels[0]} if len(channels) == 1 else {label: channels[label] for label in range(1, len(channels))}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
