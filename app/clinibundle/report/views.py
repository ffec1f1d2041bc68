"""How a view of a volume is hung: which axes of the array run right and down in a picture as radiologists see it.

The patient's right is on the picture's left and the head is up; from the side, the patient looks to the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.geometry import spacing_of

PatientAxis = int
"""0 towards the left, 1 towards the back, 2 towards the head."""
LEFT, BACK, HEAD = 0, 1, 2
_LETTERS = {(LEFT, 1): "L", (LEFT, -1): "R", (BACK, 1): "P", (BACK, -1): "A", (HEAD, 1): "H", (HEAD, -1): "F"}
# Looked along the key: what runs right in the picture, and what runs down.
_HUNG = {HEAD: ((LEFT, 1), (BACK, 1)), BACK: ((LEFT, 1), (HEAD, -1)), LEFT: ((BACK, 1), (HEAD, -1))}
_LEAST_OBLIQUE_DEGREES = 1.0


@dataclass(frozen=True)
class _Run:
    """An axis of the array as it runs in a picture: its number, voxels and their size, whether it is turned round."""

    axis: int
    voxels: int
    step_mm: float
    turned: bool

    def place_mm(self, index: float) -> float:
        """Of a voxel's index, whole numbers being centres, from the picture's left or upper edge."""
        return (self.voxels - index - 0.5 if self.turned else index + 0.5) * self.step_mm


@dataclass(frozen=True)
class View:
    """A volume looked at along one axis of its array.

    Attributes:
        across: the axis of the array that is looked along.
        across_mm: a voxel's size along it.
        right, down: the other two, as they run in the picture.
        letters: which side of the patient lies (left, right, above, below) in the picture; None if that is not known.
        oblique_degrees: how far the array's axes lean from the patient's at most, 0 if that is not known.
    """

    across: int
    across_mm: float
    right: _Run
    down: _Run
    letters: tuple[str, str, str, str] | None
    oblique_degrees: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the picture."""
        return self.right.voxels * self.right.step_mm, self.down.voxels * self.down.step_mm

    @property
    def step_mm(self) -> tuple[float, float]:
        """Width and height of a pixel."""
        return self.right.step_mm, self.down.step_mm

    @property
    def is_oblique(self) -> bool:
        """Whether the array leans in the patient so far that a reader should know."""
        return self.oblique_degrees >= _LEAST_OBLIQUE_DEGREES

    def picture(self, flat: NDArray[Any]) -> NDArray[Any]:
        """A slice or projection as (rows, columns), its axes before being those of the volume without `across`."""
        turned = flat if self.down.axis < self.right.axis else np.swapaxes(flat, 0, 1)
        return turned[:: -1 if self.down.turned else 1, :: -1 if self.right.turned else 1]

    def place_mm(self, index: Sequence[float]) -> tuple[float, float]:
        """Of a voxel's index (x, y, z), from the picture's left and upper edge."""
        return self.right.place_mm(index[self.right.axis]), self.down.place_mm(index[self.down.axis])


def slice_view_of(
    shape: Sequence[int],
    affine_lps: NDArray[np.float64] | None,
    spacing_mm: Sequence[float] | None,
    across: int = 2,
) -> View:
    """The view of the slices across an axis of the array.

    Args:
        shape: of the volume (x, y, z).
        affine_lps: (4, 4); without it the array's axes run right and down in their order.
        spacing_mm: along the array's axes, where there is no affine; 1 if not known.
        across: the axis of the array.
    """
    if affine_lps is None:
        steps = list(spacing_mm or (1.0, 1.0, 1.0))
        right, down = (_Run(axis, shape[axis], steps[axis], False) for axis in range(3) if axis != across)
        return View(across, steps[across], right, down, None, 0.0)
    patient_axes, signs, degrees = _directions(affine_lps)
    steps = list(spacing_of(affine_lps))
    runs, letters = [], []
    for patient_axis, sign in _HUNG[patient_axes[across]]:
        axis = patient_axes.index(patient_axis)
        runs.append(_Run(axis, shape[axis], steps[axis], signs[axis] != sign))
        letters += [_LETTERS[patient_axis, -sign], _LETTERS[patient_axis, sign]]
    return View(across, steps[across], runs[0], runs[1], (letters[0], letters[1], letters[2], letters[3]), degrees)


def patient_view_of(shape: Sequence[int], affine_lps: NDArray[np.float64], along: PatientAxis) -> View:
    """The view along the axis of the array that comes nearest to an axis of the patient."""
    return slice_view_of(shape, affine_lps, None, _directions(affine_lps)[0].index(along))


def _directions(affine_lps: NDArray[np.float64]) -> tuple[list[PatientAxis], list[int], float]:
    """Of each axis of the array: the patient's axis nearest to it, no two the same, and 1 or -1 along it.

    Also how many degrees they lean from these at most.
    """
    cosines = affine_lps[:3, :3] / np.array(spacing_of(affine_lps))
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[axes[i], i]) for i in range(3)))
    along = np.array([cosines[order[i], i] for i in range(3)])
    degrees = float(np.degrees(np.arccos(np.clip(np.abs(along), 0, 1))).max())
    return list(order), [1 if cosine >= 0 else -1 for cosine in along], degrees
