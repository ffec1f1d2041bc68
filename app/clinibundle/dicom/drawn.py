"""What the objects that draw outlines as lines, RTSTRUCT and presentation state, have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.dicom.codes import Algorithm, Segment
from clinibundle.dicom.derived import refuse_unreferable
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.dicom.values import whole
from clinibundle.errors import OutputError

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

COLOURS: Sequence[Colour] = ((0, 190, 255), (255, 176, 0), (70, 215, 120), (245, 105, 210), (255, 95, 75))
"""Bright on grey pictures; of label 1, label 2 and so on."""
RESEARCH_ONLY = "Research only, not for diagnostic use"


def colour_of(label: int, colours: Sequence[Colour]) -> Colour:
    """The colour of a label from 1 on; with more labels than colours they come round again."""
    return colours[(label - 1) % len(colours)]


def maker_of(algorithm: Algorithm | None) -> str:
    """Who made the outlines, in words."""
    return "drawn outlines" if algorithm is None else f"{algorithm.name} {algorithm.version}"


def refuse_undrawable(grid: SourceGrid, what: str) -> None:
    """Raises OutputError unless every frame of the grid is a picture of its own that can be referred to."""
    refuse_unreferable(grid.sources, what)
    if grid.frames or any(whole(source, "NumberOfFrames", 1) > 1 for source in grid.sources):
        raise OutputError(
            f"no {what} is made for a multi-frame source, expected one picture a file; the DICOM SEG holds the outline"
        )


def refuse_unnamed(label_map: NDArray[np.integer[Any]], segments: Sequence[Segment]) -> None:
    """Raises OutputError if a label above 0 has no segment that says what it means."""
    # Counting is a hundred times faster than finding the different labels, and plane by plane it takes little memory.
    found = {label for plane in label_map for label in np.flatnonzero(np.bincount(plane.ravel())).tolist()}
    unnamed = found - {0} - {segment.label for segment in segments}
    if unnamed:
        raise OutputError(f"label {min(unnamed)} has no row in the bundle's table of segments (configs/dicom.yaml)")
