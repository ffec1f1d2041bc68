"""Volumes cut across one axis into slabs that a bundle looks at one by one, and what was found in them put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from clinibundle.geometry import scaling_affine, spacing_of, turn_lps_ras
from clinibundle.volume import Volume

PatientAxis = Literal["LR", "AP", "SI"]
"""Left to right, front to back, foot to head, either way round."""
PATIENT_AXES: tuple[PatientAxis, ...] = ("LR", "AP", "SI")


class Slabs(BaseModel):
    """A bundle's word that its answer is the same whether it sees a volume whole or slab by slab.

    It may not resample along the axis, and what looks at whole objects has to come last (`predict.WHOLE_OBJECTS`).

    Attributes:
        axis: of the patient, across which the slabs are cut: the one along which the bundle counts slices.
        halo_slices: how many slices on either side of a slice its answer depends on.
        statistics: what intensities are scaled by: nothing of the picture, or each slice by itself. What is scaled by
            the whole volume cannot be cut.
    """

    model_config = ConfigDict(extra="forbid")

    axis: PatientAxis
    halo_slices: int = Field(ge=0)
    statistics: Literal["none", "slice"]


@dataclass(frozen=True)
class Slab:
    """A range of slices.

    Attributes:
        seen: what the bundle is shown.
        core: the part whose answer counts.
    """

    seen: slice
    core: slice

    @property
    def core_in_seen(self) -> slice:
        """The core, counted from the first slice that is seen."""
        return slice(self.core.start - self.seen.start, self.core.stop - self.seen.start)


def slabs_of(slices: int, count: int, halo: int) -> list[Slab]:
    """So many slabs of nearly one thickness; each is seen with its halo, as far as the volume goes."""
    bounds = [slices * number // count for number in range(count + 1)]
    return [
        Slab(slice(max(0, start - halo), min(slices, stop + halo)), slice(start, stop))
        for start, stop in pairwise(bounds)
    ]


def affine_of(volume: Volume) -> NDArray[np.float64]:
    """(4, 4) affine in LPS; of a volume without a place in the patient its spacing."""
    return scaling_affine(volume.spacing_mm) if volume.affine_lps is None else volume.affine_lps


def source_axis(affine_lps: NDArray[np.float64], axis: PatientAxis) -> int:
    """The array axis that MONAI's Orientation lays along an axis of the patient."""
    orientation = nibabel.orientations.io_orientation(turn_lps_ras(affine_lps))
    return int(np.flatnonzero(orientation[:, 0] == PATIENT_AXES.index(axis))[0])


def on_square_axes(volume: Volume) -> Volume:
    """The volume (x, y, z) with the nearest affine whose axes are at right angles.

    What the gate lets pass of a tilt would shift slices against each other where in-plane spacing is resampled, by as
    much as they lie from the first slice that is seen: another shift in every slab.
    """
    affine = affine_of(volume).copy()
    spacing = np.array(spacing_of(affine))
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    affine[:3, :3] = (left @ right) * spacing
    return replace(volume, affine_lps=affine)


def cut(volume: Volume, axis: int, part: slice) -> Volume:
    """Some slices of a volume across an array axis, at their place in the patient; shares the values."""
    affine = affine_of(volume).copy()
    affine[:3, 3] += part.start * affine[:3, axis]
    return replace(volume, array=volume.array[along(axis, part)], affine_lps=affine)


def along(axis: int, part: slice) -> tuple[slice, ...]:
    """The index of some slices across an array axis of three."""
    return tuple(part if at == axis else slice(None) for at in range(3))


def network_shape(shape: Sequence[int], affine_lps: NDArray[np.float64], wanted: Sequence[float | None]) -> list[float]:
    """Voxels along each array axis once the volume is resampled.

    Args:
        shape: (x, y, z) of the source.
        affine_lps: of the source.
        wanted: spacing in mm along the patient's axes LR, AP, SI; None where it is kept.
    """
    found = [float(size) for size in shape]
    spacing = spacing_of(affine_lps)
    for axis, target in zip(PATIENT_AXES, wanted, strict=True):
        at = source_axis(affine_lps, axis)
        if target is not None:
            found[at] *= spacing[at] / target
    return found
