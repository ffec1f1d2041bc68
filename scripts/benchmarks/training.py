"""Training in pictures a second: the bare network step, the bundle as shipped, and plain MONAI settings."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor

from benchmarks.lanes import (
    Effort,
    Lane,
    Measured,
    Ratio,
    Section,
    counting_work,
    milliseconds_of_each,
    per_turn,
    take_turns,
)
from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_overlay
from clinibundle.errors import DataFolderError
from clinibundle.files import write_json
from clinibundle.phantoms.write import write_phantom_cases
from clinibundle.workflows.check.listing import find_cases

BARE, SHIPPED, PLAIN = "bare network step", "bundle as shipped", "plain MONAI settings"
OWN_BUT_DEFORMATION = "bundle with Rand2DElasticd"
CONTIGUOUS, LOADER = "bare, contiguous_format", "loader alone, as shipped"
_NEVER = 1_000_000


class Training:
    """One way of training, built once, of which every turn is an epoch."""

    def __init__(self, bundle: Bundle, device: torch.device, settings: dict[str, Any]) -> None:
        overlay = find_overlay("hardware/gpu" if device.type == "cuda" else "hardware/cpu", bundle.root)
        settings = {"device": f"$torch.device('{device}')", "val_interval": _NEVER, "epochs": _NEVER, **settings}
        self.device = device
        self.parser = read_config(bundle.root, "train", [overlay], settings)
        self.parser.parse()
        self.beside_the_batches: list[float] = []
        self._first = self._last = 0.0

    def epoch(self, _turn: int) -> float:
        """Pictures a second from the end of the first batch to the end of the last, validation never included."""
        trainer = self.trainer
        trainer.state.max_epochs = trainer.state.epoch + 1
        start = time.perf_counter()
        trainer.run()
        whole = time.perf_counter() - start
        batches = trainer.state.epoch_length
        seconds = (self._last - self._first) / (batches - 1)
        self.beside_the_batches.append(whole - seconds * batches)
        return float(trainer.data_loader.batch_size / seconds)

    def build(self) -> Training:
        """Fills the cache and makes the trainer."""
        self.parser.get_parsed_content("initialize")
        self.trainer = self.parser.get_parsed_content("train::trainer")
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._stamp)
        return self

    def _stamp(self, engine: Any) -> None:
        in_epoch = (engine.state.iteration - 1) % engine.state.epoch_length + 1
        if in_epoch in (1, engine.state.epoch_length):
            _wait_for(self.device)
            self._first, self._last = (
                (time.perf_counter(),) * 2 if in_epoch == 1 else (self._first, time.perf_counter())
            )


def measure_training(
    bundle: Bundle, dataset_dir: Path | None, device: torch.device, effort: Effort, work: Path
) -> list[Section]:
    """Makes a data folder in `work`, lets the ways of training take turns, and asks what preparing a picture costs."""
    # For the bare lanes, which take parts of the config and do not run its `initialize`.
    sys.path.insert(0, str(bundle.root))
    common: dict[str, Any] = {"dataset_dir": str(work)}
    if effort.side is not None:
        common["spatial_size"] = [effort.side, effort.side]

    def training(name: str, **settings: Any) -> Training:
        return Training(bundle, device, {**common, "run_dir": str(work / name), **settings})

    bare = training("bare")
    amp = bool(bare.parser.get_parsed_content("amp"))
    batch_size = int(bare.parser["batch_size"])
    theirs = _monai_deformation(bare.parser)
    _write_data_folder(bundle, dataset_dir, effort, batch_size * effort.batches, work)
    ways = {
        SHIPPED: training("shipped").build(),
        PLAIN: training("plain", memory_format="$torch.contiguous_format", num_workers=2, **theirs).build(),
    }
    if theirs:
        ways[OWN_BUT_DEFORMATION] = training("own", **theirs).build()
    loader = ways[SHIPPED].trainer.data_loader
    batch = next(iter(loader))

    def bare_with(precision: torch.dtype | None, **settings: Any) -> Lane:
        return bare_lane(training("bare", **settings), batch, effort.batches, precision)

    configured = torch.float16 if amp and device.type == "cuda" else None
    other, other_name = (None, "bare, float32") if configured else (torch.bfloat16, "bare, bfloat16 autocast")
    lanes = {
        BARE: bare_with(configured),
        **{name: way.epoch for name, way in ways.items()},
        CONTIGUOUS: bare_with(configured, memory_format="$torch.contiguous_format"),
        other_name: bare_with(other),
        LOADER: lambda _turn: effort.batches * batch_size / _seconds_of(lambda: [None for _ in loader]),
    }
    spent: dict[str, list[float]] = {name: [] for name in lanes}
    counted = {name: counting_work(lane, spent[name]) for name, lane in lanes.items()}
    samples = take_turns(counted, effort.training_turns)
    # Without what warming up took.
    work_of = {name: [1000 * s / (effort.batches * batch_size) for s in spent[name][1:]] for name in lanes}

    measured = [Measured(name, values, "pictures/s") for name, values in samples.items()]
    measured += [Measured(f"{name}: processor time", values, "ms/picture") for name, values in work_of.items()]
    for name, way in ways.items():
        measured.append(Measured(f"{name}: what an epoch takes besides", way.beside_the_batches[1:], "s"))
    ratios = [
        Ratio("bundle as shipped / bare network step", per_turn(samples, SHIPPED, BARE), 0.9),
        Ratio("bundle as shipped / plain MONAI settings", per_turn(samples, SHIPPED, PLAIN), 1),
        Ratio("processor time of the bare network step / of the bundle as shipped", per_turn(work_of, BARE, SHIPPED)),
        Ratio("processor time of plain MONAI settings / of the bundle as shipped", per_turn(work_of, PLAIN, SHIPPED)),
        Ratio("channels_last / contiguous_format, bare step", per_turn(samples, BARE, CONTIGUOUS)),
        Ratio(f"{other_name} / as configured", per_turn(samples, other_name, BARE)),
        Ratio("loader alone / bare network step", per_turn(samples, LOADER, BARE)),
    ]
    if theirs:
        both = per_turn(samples, SHIPPED, OWN_BUT_DEFORMATION)
        ratios.append(Ratio("bundle with our deformation / with Rand2DElasticd, all else alike", both, 1))
    side = " x ".join(map(str, bare.parser["spatial_size"]))
    how = (
        f"Batches of {batch_size} pictures of {side}, {effort.batches} an epoch, cache filled, no validation; ratios "
        "of pictures a second. Plain settings: MONAI's Rand2DElasticd and RandFlipd in place of our deformation, "
        "contiguous_format, 2 loader processes, which are ahead by up to four batches when the clock starts. What an "
        "epoch takes besides its batches: checkpoint, logs, start of loader processes. Processor time is that of all "
        "cores together over whole epochs, these ends included; it hardly depends on other jobs, but does not see that "
        "preparing a picture keeps only one core busy."
    )
    return [Section("Training", how, measured, ratios), _preparation(ways[SHIPPED], ways[PLAIN] if theirs else None)]


def bare_lane(training: Training, batch: dict[str, Any], steps: int, precision: torch.dtype | None) -> Lane:
    """Pictures a second of a plain loop over one batch: the bundle's network, loss and optimizer and nothing else."""
    device = training.device
    network, loss, optimizer = (training.parser.get_parsed_content(name) for name in ("network", "loss", "optimizer"))
    images, labels = (_plain(batch[key]).to(device) for key in ("image", "label"))
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
    network.train()

    def lane(_turn: int) -> float:
        _wait_for(device)
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, precision, enabled=precision is not None):
                value = loss(network(images), labels)
            scaler.scale(value).backward()
            scaler.step(optimizer)
            scaler.update()
        _wait_for(device)
        return len(images) * steps / (time.perf_counter() - start)

    return lane


def _preparation(shipped: Training, plain: Training | None) -> Section:
    """What each transform of a training picture costs, and MONAI's deformation beside ours."""
    dataset = shipped.trainer.data_loader.dataset
    measured = milliseconds_of_each(dataset.transform.transforms, dataset.data[0], turns=20)
    ratios = []
    place = _deformation_index(shipped.parser)
    if plain is not None and place is not None:
        at = len(shipped.parser["load"]) + place
        other = plain.trainer.data_loader.dataset.transform.transforms
        theirs = milliseconds_of_each(other, dataset.data[0], turns=20)[at].values
        # Where chance passes a picture by, it costs next to nothing; so sums are compared, not turns.
        ratios = [Ratio("one deformation: Rand2DElasticd's time / ours", [sum(theirs) / sum(measured[at].values)])]
        measured.insert(at + 1, Measured("(in its place: Rand2DElasticd, RandFlipd)", theirs, "ms"))
    how = "One picture, transform by transform, in this process. The cache saves all before the first random one."
    return Section("Where the preparation of a training picture goes", how, measured, ratios)


def _deformation_index(parser: Any) -> int | None:
    """Which of the transforms in `augment` is our deformation."""
    names = [str(t.get("_target_", "")) for t in parser.get("augment", [])]
    return next((i for i, name in enumerate(names) if name.endswith(".RandAffineElastic2Dd")), None)


def _monai_deformation(parser: Any) -> dict[str, Any]:
    """A setting that puts MONAI's transforms with comparable strength in the place of our deformation."""
    index = _deformation_index(parser)
    if index is None:
        return {}
    side, ours = parser["spatial_size"][0], {key: parser[key] for key in ("scale_range", "shift_fraction")}
    elastic = {
        "_target_": "Rand2DElasticd",
        "keys": ["image", "label"],
        "prob": "@deformation_prob",
        # Three control points along each side.
        "spacing": [side // 2, side // 2],
        "magnitude_range": [parser["elastic_fraction"] * side] * 2,
        "rotate_range": math.radians(parser["rotate_degrees"]),
        "translate_range": [ours["shift_fraction"] * side] * 2,
        # MONAI scales the grid, which zooms the other way round.
        "scale_range": [[1 / zoom - 1 for zoom in reversed(ours["scale_range"])]] * 2,
        "padding_mode": "zeros",
    }
    flip = {"_target_": "RandFlipd", "keys": ["image", "label"], "prob": "@flip_prob", "spatial_axis": 0}
    return {f"augment::{index}": {"_target_": "Compose", "transforms": [elastic, flip]}}


def _write_data_folder(bundle: Bundle, dataset_dir: Path | None, effort: Effort, rows: int, work: Path) -> None:
    """A datalist of so many training rows, the same pictures over and over, and one row to validate on."""
    if dataset_dir is None:
        dataset_dir = work / "phantoms"
        write_phantom_cases(str(bundle.data.phantom), dataset_dir, effort.pictures, seed=1, dicom=False)
    cases, problems = find_cases(dataset_dir.resolve())
    usable = [c for c in cases if c.image is not None and c.label is not None][: effort.pictures]
    if not usable:
        raise DataFolderError(f"'{dataset_dir}' has no labelled picture; {problems[0].detail if problems else ''}")
    pairs = [{"image": str(case.image), "label": str(case.label), "group": case.name} for case in usable]
    training = [{**pairs[i % len(pairs)], "fold": 1} for i in range(rows)]
    write_json(work / "datalist.json", {"training": [*training, {**pairs[0], "fold": 0}]})


def _seconds_of(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
