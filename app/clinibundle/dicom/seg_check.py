"""A written SEG held against what was meant, frame by frame: pixels, source instance, and place in the patient.

Reads with pydicom alone, element by element: the SEG was made by highdicom, which would repeat its own mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from clinibundle.dicom.gate import SPACING_TOLERANCE_MM
from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.dicom.values import numbers
from clinibundle.errors import OutputError

MAX_FRACTIONAL_VALUE = 255
"""Stored for a probability of 1."""
_POSITION_TOLERANCE_MM = 0.01
_STEP_TOLERANCE = 2e-3


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """The frames that a segmentation lies on.

    Attributes:
        sources: headers of the instances, in the order of the label map's frames; a single one if it is multi-frame.
        frames: of a multi-frame source, the frame number (from 0) of each frame of the label map; else empty.
        affine_lps: (4, 4), voxel index (column, row, frame) to millimetres; None where the frames have no place in the
            patient, as films.
    """

    sources: Sequence[Dataset]
    frames: Sequence[int] = ()
    affine_lps: NDArray[np.float64] | None = None


def compare_with_written(path: Path, pixels: NDArray[Any], grid: SourceGrid, segments: int) -> None:
    """Reads a SEG back and raises OutputError unless it says exactly what was meant.

    Args:
        path: of the SEG.
        pixels: segment numbers (frames, rows, columns), or probabilities (frames, rows, columns, segments).
        grid: that they lie on.
        segments: how many there are.
    """
    try:
        with quietly():
            seg = pydicom.dcmread(path)
            problem = next(_differences(seg, pixels, grid, segments), None)
    except DAMAGE_TO_DICOM as error:
        raise OutputError(
            f"the SEG cannot be read back ({type(error).__name__}); nothing was kept, please report this"
        ) from error
    if problem:
        raise OutputError(f"the SEG read back differs from the mask: {problem}; nothing was kept, please report this")


def _differences(seg: Dataset, pixels: NDArray[Any], grid: SourceGrid, segments: int) -> Iterator[str]:
    if seg.SegmentationType != "LABELMAP" and len(seg.SegmentSequence) != segments:
        yield f"it has {len(seg.SegmentSequence)} segments, not {segments}"
    frame_of_reference = grid.sources[0].get("FrameOfReferenceUID")
    if grid.affine_lps is not None and frame_of_reference and seg.get("FrameOfReferenceUID") != frame_of_reference:
        yield "it lies in another frame of reference"
    stored = _stored_frames(seg)
    if stored.shape[1:] != pixels.shape[1:3]:
        yield f"its frames have the size {stored.shape[1:]}"
    expected = _Expected(seg, pixels)
    # What no frame covers has to be empty.
    uncovered = expected.filled()
    places = {str(source.SOPInstanceUID): number for number, source in enumerate(grid.sources)}
    shared = seg.SharedFunctionalGroupsSequence[0]
    for number, (picture, groups) in enumerate(zip(stored, seg.PerFrameFunctionalGroupsSequence, strict=True), start=1):
        frame = _source_frame(_group(groups, shared, "DerivationImageSequence"), grid, places)
        if frame is None:
            yield f"frame {number} refers to no source frame"
            continue
        layer = _layer(seg, groups, shared)
        if not expected.shows(frame, layer, picture):
            yield f"frame {number} does not show the mask of source frame {frame + 1}"
        if grid.affine_lps is not None and (problem := _misplaced(groups, shared, grid, frame)):
            yield f"frame {number} {problem}"
        uncovered.discard((frame, layer))
    if uncovered:
        yield f"{len(uncovered)} frames with an outline are not in it"


class _Expected:
    """What the frames of a SEG should hold.

    Args:
        seg: whose kind and number of segments count.
        pixels: segment numbers (frames, rows, columns), or probabilities (frames, rows, columns, segments).
    """

    def __init__(self, seg: Dataset, pixels: NDArray[Any]) -> None:
        self.kind = str(seg.SegmentationType)
        self.pixels = pixels
        self.layers = 1 if self.kind == "LABELMAP" else len(seg.SegmentSequence)

    def filled(self) -> set[tuple[int, int]]:
        """(frame, layer) wherever something is."""
        return {
            (frame, layer)
            for frame in range(len(self.pixels))
            for layer in range(self.layers)
            if self._of(frame, layer).any()
        }

    def shows(self, frame: int, layer: int, picture: NDArray[np.integer[Any]]) -> bool:
        """Whether a stored frame holds what is meant; of probabilities, to the last bit."""
        if self.kind != "FRACTIONAL":
            return bool(np.array_equal(picture, self._of(frame, layer)))
        return bool(np.abs(picture.astype(np.int16) - self._of(frame, layer)).max(initial=0) <= 1)

    def _of(self, frame: int, layer: int) -> NDArray[Any]:
        if self.kind == "FRACTIONAL":
            return np.asarray(np.rint(self.pixels[frame, ..., layer] * MAX_FRACTIONAL_VALUE).astype(np.int16))
        return np.asarray(self.pixels[frame] if self.kind == "LABELMAP" else self.pixels[frame] == layer + 1)


def _stored_frames(seg: Dataset) -> NDArray[np.integer[Any]]:
    """(frames, rows, columns) as stored: bits, bytes or words (PS3.5 section 8.1.1)."""
    shape = (int(seg.get("NumberOfFrames", 1)), int(seg.Rows), int(seg.Columns))
    count = int(np.prod(shape))
    if seg.BitsAllocated == 1:
        if 8 * len(seg.PixelData) < count:
            raise ValueError("fewer bits than pixels")
        bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little", count=count)
        return bits.reshape(shape)
    return np.frombuffer(seg.PixelData, f"<u{seg.BitsAllocated // 8}", count).reshape(shape)


def _group(groups: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """The item of a functional group, of the frame's own or of all frames' (PS3.3 C.7.6.16)."""
    found: Dataset = (groups if keyword in groups else shared)[keyword].value[0]
    return found


def _layer(seg: Dataset, groups: Dataset, shared: Dataset) -> int:
    if seg.SegmentationType == "LABELMAP":
        return 0
    return int(_group(groups, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber) - 1


def _source_frame(derivation: Dataset, grid: SourceGrid, places: dict[str, int]) -> int | None:
    item = derivation.SourceImageSequence[0]
    at = places.get(str(item.ReferencedSOPInstanceUID))
    if at is None or not grid.frames:
        return at
    number = int(item.ReferencedFrameNumber) - 1
    return list(grid.frames).index(number) if number in grid.frames else None


def _misplaced(groups: Dataset, shared: Dataset, grid: SourceGrid, frame: int) -> str | None:
    """What is wrong with a frame's place, direction or pixel spacing."""
    affine = np.asarray(grid.affine_lps)
    position = np.array(_group(groups, shared, "PlanePositionSequence").ImagePositionPatient, float)
    source = None if grid.frames else numbers(grid.sources[frame], "ImagePositionPatient", 3)
    # The source's slices may lie a little beside an even grid, within what the gate lets pass; ours lie on them.
    even = affine[:3, 3] + frame * affine[:3, 2]
    off_source = 0.0 if source is None else float(np.linalg.norm(position - source))
    off_grid = float(np.linalg.norm(position - even))
    if off_source > _POSITION_TOLERANCE_MM or off_grid > 2 * SPACING_TOLERANCE_MM:
        return f"lies {max(off_source, off_grid):.3f} mm beside its source frame"
    axes = np.array(_group(groups, shared, "PlaneOrientationSequence").ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = (float(side) for side in _group(groups, shared, "PixelMeasuresSequence").PixelSpacing)
    steps = np.stack([axes[0] * column_mm, axes[1] * row_mm])
    if np.abs(steps - affine[:3, :2].T).max() > _STEP_TOLERANCE * np.abs(affine[:3, :2]).max():
        return "has another direction or pixel spacing than its source frame"
    return None
