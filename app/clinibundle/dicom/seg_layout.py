"""Where each frame of a SEG goes in the label map: in the patient, on a slide, or by the picture it was drawn on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinibundle.dicom.gate import SPACING_TOLERANCE_MM
from clinibundle.dicom.outlines import FARTHEST_MM, Grid
from clinibundle.errors import GeometryError, UnreadableInput

PLANE_TOLERANCE_MM = 0.01
"""How far frames of one slice may lie apart: rounding of decimal places, nothing more. Off the voxels of a series they
may lie as far as the gate lets its slices lie off an even grid."""
# How far the axes of a frame may be from unit length and a right angle (squared lengths and cosine).
_AXES_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Layout:
    """A label map to be filled, and the place of each frame in it.

    Attributes:
        shape: slices, rows, columns.
        affine_lps: (4, 4), voxel index (x, y, z) to mm in LPS; None if there is no place in the patient.
        corners: (frames, 3) ints, slice, row and column of each frame's first pixel.
    """

    shape: tuple[int, int, int]
    affine_lps: NDArray[np.float64] | None
    corners: NDArray[np.intp]


def plane_affine(
    position: Sequence[float], orientation: Sequence[float], spacing: Sequence[float]
) -> NDArray[np.float64]:
    """Pixel index (x, y) of one frame to mm in LPS; the third axis is the normal, 1 mm long (PS3.3 C.7.6.2.1.1).

    Args:
        position: of the first pixel's centre, mm (ImagePositionPatient).
        orientation: cosines along a row, then down a column (ImageOrientationPatient).
        spacing: of rows, then of columns, mm (PixelSpacing).

    Raises:
        UnreadableInput: if these are no place in a patient.
    """
    across, down = np.reshape(orientation, (2, 3))
    row_mm, column_mm = spacing
    square = np.isclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=_AXES_TOLERANCE).all()
    within = (np.abs([*position, row_mm, column_mm]) < FARTHEST_MM).all()
    if not (square and within and min(row_mm, column_mm) > 0):
        raise UnreadableInput("a frame of the SEG has no sound position, orientation and spacing; send it again")
    affine = np.eye(4)
    affine[:3] = np.stack([across * column_mm, down * row_mm, np.cross(across, down), position], axis=1)
    return affine


def layout_on_grid(planes: NDArray[np.float64], rows: int, columns: int, grid: Grid) -> Layout:
    """Frames on the voxels of a given grid; they may cover a part of a slice, and need not be on all slices.

    Args:
        planes: (frames, 4, 4) from `plane_affine`.
        rows: of a frame.
        columns: of a frame.
        grid: to place them on.

    Raises:
        GeometryError: if a frame fits no voxels of the grid.
    """
    room = np.array([grid.shape[2] - columns, grid.shape[1] - rows, grid.shape[0] - 1])
    if (room < 0).any():
        raise GeometryError(
            f"the frames of the SEG have {rows} × {columns} pixels, the slices of the picture only "
            f"{grid.shape[1]} × {grid.shape[2]}: it was drawn on another series; choose that one"
        )
    # Three corners of a frame tell whether all of its pixels fit.
    pixels = np.array([[0, 0, 0], [columns - 1, 0, 0], [0, rows - 1, 0]])
    places = pixels @ planes[:, :3, :3].transpose(0, 2, 1) + planes[:, np.newaxis, :3, 3]
    to_voxels = np.linalg.inv(grid.affine_lps)
    voxels = places @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    first = np.clip(np.rint(voxels[:, 0]), 0, room)
    off = np.linalg.norm((voxels - first[:, np.newaxis] - pixels) @ grid.affine_lps[:3, :3].T, axis=2).max(axis=1)
    if off.max() > SPACING_TOLERANCE_MM:
        worst = int(off.argmax())
        raise GeometryError(
            f"frame {worst + 1} of the SEG lies {off[worst]:.3g} mm off the nearest voxels of the picture (limit "
            f"{SPACING_TOLERANCE_MM} mm): it was drawn on another series or grid; choose that one"
        )
    return Layout(grid.shape, grid.affine_lps, first[:, ::-1].astype(np.intp))


def layout_of_stack(
    planes: NDArray[np.float64], rows: int, columns: int, spacing_between: float, thickness: float
) -> Layout:
    """Frames on the grid that they make themselves: slices rise along the normal, those between frames are empty.

    Args:
        planes: (frames, 4, 4) from `plane_affine`; several may lie in one place.
        rows: of a frame.
        columns: of a frame.
        spacing_between: of slices in mm, as the object says (SpacingBetweenSlices); 0 if it does not.
        thickness: of slices in mm; used only where all frames lie in one plane; 0 if not known.

    Raises:
        GeometryError: if the frames do not lie on equidistant parallel slices.
    """
    first = planes[0]
    origins, normal = planes[:, :3, 3], first[:3, 2]
    if np.abs(planes[:, :3, :3] - first[:3, :3]).max() * max(rows, columns) > PLANE_TOLERANCE_MM:
        raise GeometryError(
            "the frames of the SEG differ in orientation or pixel spacing; read it on the grid of its source"
        )
    heights = origins @ normal
    order = np.argsort(heights, kind="stable")
    starts_plane = np.diff(heights[order], prepend=-np.inf) > PLANE_TOLERANCE_MM
    plane = np.empty(len(order), np.intp)
    plane[order] = np.cumsum(starts_plane) - 1
    lowest = order[starts_plane]
    numbers = _slice_numbers(np.diff(heights[lowest]), spacing_between)
    affine = first.copy()
    affine[:3, 3] = origins[lowest[0]]
    if len(lowest) > 1:
        affine[:3, 2] = (origins[lowest[-1]] - origins[lowest[0]]) / numbers[-1]
    else:
        affine[:3, 2] = normal * (spacing_between or thickness)
    slices = numbers[plane]
    off = np.linalg.norm(origins - affine[:3, 3] - slices[:, np.newaxis] * affine[:3, 2], axis=1)
    if off.max() > PLANE_TOLERANCE_MM:
        raise GeometryError(
            f"frame {off.argmax() + 1} of the SEG lies {off.max():.3g} mm off an even stack of slices (limit "
            f"{PLANE_TOLERANCE_MM} mm); read it on the grid of its source"
        )
    corners = np.zeros((len(planes), 3), np.intp)
    corners[:, 0] = slices
    placed = bool(affine[:3, 2].any())
    return Layout((int(numbers[-1]) + 1, rows, columns), affine if placed else None, corners)


def _slice_numbers(steps: NDArray[np.float64], spacing_between: float) -> NDArray[np.intp]:
    """Numbers of the slices that hold frames, counted from the lowest, given the steps in mm from one to the next."""
    for spacing in (spacing_between, *steps.min(initial=np.inf, keepdims=True)):
        if not PLANE_TOLERANCE_MM < spacing < np.inf:
            continue
        counts = np.rint(steps / spacing)
        if (counts >= 1).all() and (np.abs(steps - counts * spacing) <= PLANE_TOLERANCE_MM).all():
            return np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
    if not len(steps):
        return np.zeros(1, np.intp)
    raise GeometryError(
        f"the frames of the SEG lie {steps.min():.6g} to {steps.max():.6g} mm apart, which are no multiples of one "
        f"spacing (limit {PLANE_TOLERANCE_MM} mm); read it on the grid of its source"
    )


def layout_of_tiles(firsts: NDArray[np.intp], shape: tuple[int, int]) -> Layout:
    """Frames as tiles of one plane (PS3.3 C.8.12.6.1), which has no place in a patient.

    Args:
        firsts: (frames, 2), row and column of each frame's first pixel in the whole plane, from 0.
        shape: rows and columns of the whole plane.

    Raises:
        UnreadableInput: if a tile lies outside.
    """
    if (firsts < 0).any() or (firsts >= shape).any():
        raise UnreadableInput(
            f"a frame of the SEG lies outside the {shape[0]} × {shape[1]} pixels of the whole; it is damaged"
        )
    return Layout((1, *shape), None, np.insert(firsts, 0, 0, axis=1))


def layout_by_source(sources: Sequence[Hashable | None], rows: int, columns: int) -> Layout:
    """Frames without a place in the patient: a slice for each picture that they refer to, in the order of appearance.

    Args:
        sources: what each frame was drawn on; None if it does not say.
        rows: of a frame.
        columns: of a frame.

    Raises:
        GeometryError: if there are several frames, and one does not say what it was drawn on.
    """
    if len(sources) > 1 and None in sources:
        raise GeometryError(
            "the frames of the SEG have neither a place in the patient nor a picture that they refer to; "
            "ask for it to be exported with either"
        )
    slices = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    corners = np.array([[slices[source], 0, 0] for source in sources], np.intp)
    return Layout((len(slices), rows, columns), None, corners)
