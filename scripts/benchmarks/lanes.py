"""Fair timing: what is compared takes turns, so that a drift of the machine hits all alike; a ratio is of one turn."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Lane = Callable[[int], float]
"""Measures once, given the number of the turn."""
Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        training_turns, batches, pictures: epochs a lane, batches in an epoch, different pictures in it.
        side: size of training pictures, in place of the bundle's own.
        sizes, films, inference_turns: of the films segmented (rows, columns), different ones of each size, and turns.
        enlarged: films are small ones with larger pixels, made in a moment.
        process_turns: starts of each process; 0 starts each once.
        runs: whole runs on a film as well.
        study, study_turns: size of the CT study (slices, rows, columns), and turns; 0 runs each way once.
    """

    training_turns: int
    batches: int
    pictures: int
    side: int | None
    sizes: tuple[tuple[int, int], ...]
    films: int
    inference_turns: int
    enlarged: bool
    process_turns: int
    runs: bool
    study: tuple[int, int, int]
    study_turns: int


@dataclass(frozen=True)
class Measured:
    """A row of numbers: what was measured, a value a turn, and their unit."""

    what: str
    values: Sequence[float]
    unit: str


@dataclass(frozen=True)
class Ratio:
    """A row that compares: a value a turn, each above 1 (or the aim) where ours is the better."""

    what: str
    values: Sequence[float]
    aim: float | None = None


@dataclass(frozen=True)
class Section:
    """A part of the result, with a sentence on how it was measured."""

    title: str
    how: str
    measured: list[Measured] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)


def take_turns(lanes: Mapping[str, Lane], turns: int) -> Samples:
    """Each lane once for warming up, then a, b, c, a, b, c ...; with 0 turns what warming up took."""
    warming = {name: [lane(0)] for name, lane in lanes.items()}
    if turns == 0:
        return warming
    samples: Samples = {name: [] for name in lanes}
    for turn in range(turns):
        for name, lane in lanes.items():
            samples[name].append(lane(turn))
    return samples


def counting_work(lane: Lane, spent: list[float]) -> Lane:
    """The same lane, which adds to `spent` what each turn took of all processors, helper processes that ended included.

    Unlike the clock, this hardly changes with what else runs on the machine.
    """

    def counted(turn: int) -> float:
        before = sum(os.times()[:4])
        value = lane(turn)
        spent.append(sum(os.times()[:4]) - before)
        return value

    return counted


def per_turn(samples: Samples, above: str, below: str) -> list[float]:
    """Ratios of two lanes, turn by turn."""
    return [a / b for a, b in zip(samples[above], samples[below], strict=True)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least, most."""
    return statistics.median(values), min(values), max(values)


def milliseconds_of_each(transforms: Sequence[Any], row: Mapping[Any, Any], turns: int) -> list[Measured]:
    """What each transform of a chain costs, in the order of the chain; the first turn is for warming up."""
    times: list[list[float]] = [[] for _ in transforms]
    for _ in range(turns + 1):
        data: Any = dict(row)
        for transform, spent in zip(transforms, times, strict=True):
            start = time.perf_counter()
            data = transform(data)
            spent.append(1000 * (time.perf_counter() - start))
    return [Measured(type(t).__name__, spent[1:], "ms") for t, spent in zip(transforms, times, strict=True)]


def describe_machine(device: Any) -> dict[str, str]:
    """What the numbers depend on; to be asked before the measuring, since it says how busy the machine was."""
    import monai
    import torch

    cpu = _cpu_info()
    flags = set(cpu.get("flags", "").split())
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    waiting = os.environ.get("OMP_WAIT_POLICY", "not set")
    facts = {
        "Processor": cpu.get("model name") or platform.processor() or platform.machine(),
        "Family, model": f"{cpu.get('cpu family', '?')}, {cpu.get('model', '?')}",
        "Instruction sets": ", ".join(f"{name} {'yes' if name in flags else 'no'}" for name in known),
        "Cores": str(os.cpu_count()),
        "Torch threads": f"{torch.get_num_threads()}, OMP_WAIT_POLICY {waiting}",
        "Versions": f"Python {platform.python_version()}, torch {torch.__version__}, MONAI {monai.__version__}",
        "Device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    load = os.getloadavg()[0]
    busy = load > 0.3 * (os.cpu_count() or 1)
    advice = "other jobs were running: times are longer than on an idle machine, ratios of one turn hold better"
    return facts | {"Load average before": f"{load:.1f}" + (f"; {advice}" if busy else "")}


def _cpu_info() -> dict[str, str]:
    """/proc/cpuinfo of the first core; empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if path.is_file() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
