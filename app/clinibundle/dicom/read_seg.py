"""A DICOM Segmentation as a label map: binary, fractional or label map, in any transfer syntax.

Why not highdicom: it decodes neither run lengths of single bits nor frames that are deflated one by one, and it wants
attributes that a label map does not need. The tests hold this reader against it where it can read.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.checks import Check
from clinibundle.dicom.outlines import (
    Grid,
    Outlines,
    chosen_numbers,
    damage_refused,
    empty_label_map,
    paint,
    read_object,
)
from clinibundle.dicom.seg_description import Description, describe_seg
from clinibundle.dicom.seg_frames import check_form, decode_frames
from clinibundle.dicom.seg_layout import (
    Layout,
    layout_by_source,
    layout_of_stack,
    layout_of_tiles,
    layout_on_grid,
)
from clinibundle.errors import GeometryError, UnreadableInput, UsageError

# Segmentation Storage and Label Map Segmentation Storage.
_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_KIND = "SEG"


def read_seg(
    path: Path, grid: Grid | None = None, segments: Collection[int | str] | None = None, fraction: float = 0.5
) -> Outlines:
    """Segments as one label map, whose labels are the segment numbers.

    Args:
        path: of the SEG.
        grid: where the label map is wanted; for None the frames make the grid, with empty slices between them where
            their distances say so.
        segments: numbers or names of the segments to take; all for None.
        fraction: of MaximumFractionalValue, from which on a voxel of a fractional SEG is in.

    Raises:
        UnreadableInput: if it is no SEG, or damaged.
        GeometryError: if its frames make no regular grid, or do not fit the one that is given.
        UnsuitableInput: if chosen segments overlap.
        UsageError: if a chosen segment is not there, or the fraction is not within (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"the fraction is {fraction:g}, expected more than 0 and at most 1")
    dataset = read_object(path, _CLASSES, _KIND)
    with damage_refused(_KIND):
        check_form(dataset)
        seg = describe_seg(dataset)
    chosen = chosen_numbers(seg.names, segments, "segment")
    layout = _layout(seg, grid)
    label_map = empty_label_map(layout.shape)
    labels = _Labels(seg, frozenset(chosen), fraction)
    wanted = [index for index, frame in enumerate(seg.frames) if frame.segment is None or frame.segment in chosen]
    with damage_refused(_KIND):
        for index, stored in zip(wanted, decode_frames(dataset, wanted), strict=True):
            z, row, column = layout.corners[index]
            # Tiles at the edge of a slide may reach beyond it.
            region = label_map[z, row : row + seg.rows, column : column + seg.columns]
            values = labels.of(stored, seg.frames[index].segment)
            paint(region, values[: region.shape[0], : region.shape[1]], "segment")
    return Outlines(
        label_map=label_map,
        affine_lps=layout.affine_lps,
        names={number: seg.names[number] for number in chosen},
        codes={number: seg.codes[number] for number in chosen if number in seg.codes},
        source_sop_instance_uids=tuple(dict.fromkeys(frame.source[0] for frame in seg.frames if frame.source)),
        checks=(labels.check(), _check_place(layout)),
    )


@dataclass(frozen=True, eq=False)
class _Labels:
    """Turns stored values into the labels of chosen segments."""

    seg: Description
    chosen: frozenset[int]
    fraction: float

    def of(self, stored: NDArray[Any], segment: int | None) -> NDArray[np.uint16]:
        """Labels (rows, columns) of one frame of a segment, or of a label map (None); 0 is background."""
        if segment is None:
            return self._of_label_map(stored)
        least = self.fraction * self.seg.maximum if self.seg.type == "FRACTIONAL" else 1
        return (stored >= least) * np.uint16(segment)

    def _of_label_map(self, stored: NDArray[Any]) -> NDArray[np.uint16]:
        found = set(np.unique(stored).tolist())
        unknown = found - self.seg.background - set(self.seg.names)
        if unknown:
            raise UnreadableInput(
                f"the SEG has pixels of segment {min(unknown)}, which it does not describe; ask for it to be sent again"
            )
        return np.where(np.isin(stored, list(self.chosen)), stored, 0).astype(np.uint16)

    def check(self) -> Check:
        """How the values were taken."""
        name, kind = "segmentation_type", self.seg.type
        if kind == "FRACTIONAL":
            text = f"fractions were cut: voxels of at least {self.fraction:g} of the largest value are in"
            return Check(name, "fixed", kind, self.fraction, text)
        return Check(name, "passed", kind, None, f"each voxel is in or out (type {kind})")


def _layout(seg: Description, grid: Grid | None) -> Layout:
    planes = [frame.plane for frame in seg.frames if frame.plane is not None]
    if len(planes) == len(seg.frames):
        stacked = np.stack(planes)
        if grid is not None:
            return layout_on_grid(stacked, seg.rows, seg.columns, grid)
        first = seg.frames[0]
        return layout_of_stack(stacked, seg.rows, seg.columns, first.spacing_between, first.thickness)
    if grid is not None:
        raise GeometryError(
            f"{len(seg.frames) - len(planes)} of {len(seg.frames)} frames of the SEG have no place in the patient, so "
            "that they cannot be put on the slices of a picture; read it without one"
        )
    tiles = [frame.tile for frame in seg.frames if frame.tile is not None]
    if len(tiles) == len(seg.frames) and seg.whole_plane is not None:
        return layout_of_tiles(np.array(tiles, np.intp), seg.whole_plane)
    if planes or tiles:
        raise UnreadableInput("some frames of the SEG have a place and others do not; ask for it to be exported again")
    return layout_by_source([frame.source for frame in seg.frames], seg.rows, seg.columns)


def _check_place(layout: Layout) -> Check:
    name, slices = "segmentation_place", layout.shape[0]
    if layout.affine_lps is None:
        return Check(name, "warning", None, None, "the frames have no place in the patient, only in their pictures")
    filled = len(np.unique(layout.corners[:, 0]))
    return Check(name, "passed", [slices, filled], None, f"{slices} slices, frames on {filled} of them")
