"""What a training will take, told before it starts: one step is made, on numbers drawn at random, and multiplied."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ignite.distributed as idist
import torch

_GIB = 2**30
# Of what is free, for all that one step does not show: data, other programs.
_USABLE_SHARE = 0.85


class Forecast:
    """Time and memory of a training, measured on one step.

    Args:
        network: that is to be trained; a copy of it makes the step.
        loss: of predictions and labels.
        batch_shape: (batch, channels, ...) of the images.
        label_channels: 1, or as many as the label has.
        steps: that the training has.
        device: that it runs on.
        amp: whether in mixed precision.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        batch_shape: Sequence[int],
        steps: int,
        device: torch.device,
        label_channels: int = 1,
        amp: bool = False,
    ) -> None:
        self.network, self.loss, self.batch_shape = network, loss, tuple(batch_shape)
        self.steps, self.device, self.label_channels, self.amp = steps, device, label_channels, amp

    def tell(self) -> tuple[float, float]:
        """Logs the forecast; seconds and GiB.

        Raises:
            RuntimeError: if a step takes more memory than there is.
        """
        free_gib = self._free_gib()
        try:
            seconds, gib = self._measure()
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise RuntimeError(self._too_large(f"more than the {free_gib:.1f} GiB that are free")) from error
        if gib > free_gib * _USABLE_SHARE:
            raise RuntimeError(self._too_large(f"{gib:.1f} GiB, and {free_gib:.1f} GiB are free"))
        if idist.get_rank() == 0:
            total = seconds * self.steps
            logging.getLogger("training").info(
                f"forecast: {self.steps} steps of {seconds:.2f} s each are {_duration(total)} of network on "
                f"{self.device}, with {gib:.1f} GiB of memory ({free_gib:.1f} GiB are free); data and validation come "
                "on top"
            )
        return seconds * self.steps, gib

    def _too_large(self, found: str) -> str:
        shape = " x ".join(map(str, self.batch_shape))
        return (
            f"a training step on a batch of {shape} takes {found}; make the batch or the crops smaller, "
            "or train on a machine with more memory"
        )

    def _measure(self) -> tuple[float, float]:
        network = copy.deepcopy(getattr(self.network, "module", self.network)).train()
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(self.batch_shape, generator=generator)
        if len(self.batch_shape) == 4:
            image = image.to(memory_format=torch.channels_last)
        label = (image[:, : self.label_channels] > 0.9).float()
        image, label = image.to(self.device), label.to(self.device)
        seconds = []
        with _PeakMemory(self.device) as peak, torch.random.fork_rng(devices=[]):
            # The first step also allocates and chooses kernels; the second one tells the time.
            for _ in range(2):
                started = time.perf_counter()
                with torch.autocast("cuda", enabled=self.amp and self.device.type == "cuda"):
                    value = self.loss(network(image), label)
                value.backward()
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                seconds.append(time.perf_counter() - started)
        # Two moments of AdamW for each weight.
        optimizer_gib = 8 * sum(weight.numel() for weight in network.parameters()) / _GIB
        return seconds[-1], peak.gib + optimizer_gib

    def _free_gib(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0] / _GIB
        return _proc_kib("/proc/meminfo", "MemAvailable:") * 1024 / _GIB


class _PeakMemory:
    """The most memory that was in use meanwhile, beyond what was in use before, in `gib`."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.gib = device, 0.0
        self._done = threading.Event()

    def __enter__(self) -> _PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = float(torch.cuda.memory_allocated(self.device))
            return self
        self._before = self._highest = _resident()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self._highest = float(torch.cuda.max_memory_allocated(self.device))
        else:
            self._done.set()
            self._watcher.join()
        self.gib = (self._highest - self._before) / _GIB

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._highest = max(self._highest, _resident())


def _resident() -> float:
    return _proc_kib("/proc/self/status", "VmRSS:") * 1024


def _proc_kib(file: str, key: str) -> float:
    """A number of Linux's /proc in KiB; 0 where there is no such thing, or `MemAvailable` without end."""
    try:
        lines = Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    found = [float(line.split()[1]) for line in lines if line.startswith(key)]
    return found[0] if found else (float("inf") if key == "MemAvailable:" else 0.0)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
