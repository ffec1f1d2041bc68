"""How much memory a run on a volume needs, what there is, and into how many slabs it has to be cut to fit.

A run holds the program, the volume and, once they are there, label map and probability. On top comes the larger of two
things: what the bundle needs for the slices that it is shown at once, which it states, and what is needed afterwards
for the whole label map.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from math import ceil, inf, prod
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from clinibundle.bundle.slabs import PATIENT_AXES, Slabs, affine_of, network_shape, source_axis
from clinibundle.checks import Check
from clinibundle.errors import BundleError, UnsuitableInput
from clinibundle.volume import Volume

if TYPE_CHECKING:
    from clinibundle.bundle.description import Bundle

_MIB, _GIB = 2**20, 2**30
PROGRAM = 600 * _MIB
"""Python with torch, MONAI and highdicom; measured 430 to 560 MiB on a CPU."""
KEPT_PER_VOXEL = 1
"""The label map; once more while slabs are put together, when nothing else is held."""
KEPT_PER_PROBABILITY = 2
"""Of each label, in 16 bits."""
AFTERWARDS_PER_LABEL = 20
"""Bytes per voxel for cleaning (18, if things lie all over the volume), measuring (4) and writing (14, fractional)."""
SLAB_SLICES = 32
"""No slab is thicker, however much memory there is: resampling rounds by the size of what it is given, so a volume gets
one answer on every machine on which these fit. Thicker ones save little time."""
SHARE_OF_FREE = 0.8
"""Of the memory that is free, the rest being for other programs."""

_CONTAINER = Path("/sys/fs/cgroup")


class MemoryNeed(BaseModel):
    """What a bundle needs beside the volume and its answer, to be measured by its author (docs/bundle_author.md).

    Attributes:
        fixed_mib: whatever the volume: network, a batch of windows, workspace.
        bytes_per_voxel: of the source's voxels that are shown at once.
        bytes_per_network_voxel: of the voxels that these become at `network_spacing_mm`.
        network_spacing_mm: spacing along the patient's axes LR, AP, SI that preprocessing resamples to; null where it
            keeps the source's.
        slabs: that a volume may be looked at slab by slab; it cannot without it.
    """

    model_config = ConfigDict(extra="forbid")

    fixed_mib: float = Field(ge=0, allow_inf_nan=False)
    bytes_per_voxel: float = Field(gt=0, allow_inf_nan=False)
    bytes_per_network_voxel: float = Field(0, ge=0, allow_inf_nan=False)
    network_spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    slabs: Slabs | None = None

    @model_validator(mode="after")
    def _refuse_slabs_that_are_resampled(self) -> MemoryNeed:
        if any(spacing is not None and not 0 < spacing < inf for spacing in self.network_spacing_mm):
            raise PydanticCustomError("spacing", "network_spacing_mm must be above 0, or null")
        if self.slabs is not None and self.network_spacing_mm[PATIENT_AXES.index(self.slabs.axis)] is not None:
            raise PydanticCustomError(
                "slabs", f"what is resampled along {self.slabs.axis} cannot be cut across it; leave out 'slabs'"
            )
        return self


@dataclass(frozen=True)
class Plan:
    """How a volume is gone through.

    Attributes:
        slabs: how many; 1 is the whole.
        checks: what is said of it.
    """

    slabs: int = 1
    checks: tuple[Check, ...] = ()


def plan_run(bundle: Bundle, volume: Volume, max_memory_gib: float | None) -> Plan:
    """The thickest slabs that fit into the memory that is allowed, or free; of a bundle that states no need, the whole.

    Args:
        bundle: to be run.
        volume: to be looked at.
        max_memory_gib: of the whole process; None for what the machine has free.

    Raises:
        BundleError: if a limit is to be kept and the bundle does not say what it needs.
        UnsuitableInput: if the run would not fit.
    """
    need = bundle.metadata.memory
    if need is None or volume.array.ndim != 3:
        if max_memory_gib is not None:
            raise BundleError(
                f"'{bundle.name}' does not say how much memory it needs (metadata.json, 'memory'), so no limit "
                "can be kept; leave out --max-memory"
            )
        return Plan()
    allowed, source = _allowed(max_memory_gib)
    labels = len({finding.label for finding in bundle.measure.findings})
    base = max(held_now(), PROGRAM + volume.array.nbytes)
    base += volume.array.size * (KEPT_PER_VOXEL + KEPT_PER_PROBABILITY * labels)
    afterwards = volume.array.size * AFTERWARDS_PER_LABEL * labels
    affine, shape = affine_of(volume), volume.array.shape
    slices = shape[source_axis(affine, need.slabs.axis)] if need.slabs else 1
    halo = need.slabs.halo_slices if need.slabs else 0
    at_network = prod(network_shape(shape, affine, need.network_spacing_mm))
    per_slice = (volume.array.size * need.bytes_per_voxel + at_network * need.bytes_per_network_voxel) / slices

    def peak(core: int) -> float:
        return base + max(afterwards, need.fixed_mib * _MIB + per_slice * min(slices, core + 2 * halo))

    thickest = min(slices, SLAB_SLICES)
    core = next((core for core in range(thickest, 0, -1) if peak(core) <= allowed), 0)
    if not core:
        raise UnsuitableInput(_refusal(shape, peak(1), allowed, source, need.slabs is not None))
    count = ceil(slices / core)
    thickness = ceil(slices / count)
    how = (
        f"in {count} slabs of up to {thickness} slices, with {halo} more on either side" if count > 1 else "as a whole"
    )
    if core < thickest:
        how += " (thinner than usual to fit, so single voxels at the outline's edge may differ)"
    told = f"looked at {how}: about {peak(thickness) / _GIB:.2g} GiB are needed"
    if allowed < inf:
        told += f", {allowed / _GIB:.2g} GiB {source}"
    return Plan(count, (Check("slabs", "passed", count, None, told),))


def _refusal(shape: tuple[int, ...], needed: float, allowed: float, source: str, cut: bool) -> str:
    how = "even slice by slice" if cut else "and this bundle cannot be run on parts of it"
    return (
        f"the volume of {' × '.join(map(str, shape))} voxels needs about {needed / _GIB:.2g} GiB of memory, {how}, and "
        f"{allowed / _GIB:.2g} GiB {source}; use a machine with more, or give --max-memory another limit"
    )


def _allowed(max_memory_gib: float | None) -> tuple[float, str]:
    """Bytes that the process may hold, and who says so."""
    if max_memory_gib is not None:
        return max_memory_gib * _GIB, "are allowed (--max-memory)"
    free = free_now()
    return (inf, "") if free is None else (held_now() + SHARE_OF_FREE * free, "may be used of what is free")


def held_now() -> int:
    """Bytes that this process holds in memory; where there is no /proc the most that it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def free_now() -> int | None:
    """Bytes that can be had without swapping, of the machine or of a container's share; None if nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    try:
        most, used = (int((_CONTAINER / f"memory.{file}").read_text()) for file in ("max", "current"))
        # Files that the kernel keeps in case they are read again make way.
        stat = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        return min(free, max(0, most - used + int(stat.get("inactive_file", 0))))
    except (OSError, ValueError):
        return free
