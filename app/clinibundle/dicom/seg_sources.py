"""Source headers in the form in which highdicom lays a SEG on a volume.

highdicom takes the place of a SEG from its sources, and wants more of them than the geometry gate: the very same
orientation in every slice, a thickness, a frame of reference; in multi-frame files orientation and pixel measures that
all frames share, and no two frames at one position. All this is known of a volume, and is given here to copies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from clinibundle.dicom.derived import completed
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.dicom.values import number, put
from clinibundle.errors import OutputError

# A decimal string holds 16 characters.
_DECIMALS = 9


def sources_for(grid: SourceGrid) -> list[Dataset]:
    """Copies of a grid's source headers, with one frame for each frame of the grid, in its order.

    Raises:
        OutputError: if the grid's frames lie in several multi-frame files, which no SEG of highdicom can refer to.
    """
    headers = [completed(source) for source in grid.sources]
    if grid.affine_lps is None:
        return headers
    orientation, measures = _geometry(grid)
    # Of a series that does not say in which coordinates it lies, no other can lie in the same.
    own_frame_of_reference = generate_uid()
    for header in headers:
        if not header.get("FrameOfReferenceUID"):
            put(header, "FrameOfReferenceUID", own_frame_of_reference)
        if not grid.frames:
            for keyword, value in {**orientation, **measures}.items():
                put(header, keyword, value)
    if grid.frames:
        if len(headers) > 1:
            raise OutputError(
                f"the volume's frames lie in {len(headers)} multi-frame files, expected one file, or one for each "
                "frame; send the series in another form, or have it segmented as NIfTI"
            )
        _keep_frames(headers[0], grid, _item(orientation), _item(measures))
    return headers


def refer_to_source_frames(seg: Dataset, grid: SourceGrid) -> None:
    """Turns frame numbers of the copies that `sources_for` made into those of the source itself."""
    if not grid.frames:
        return
    # By identity: frames of several segments may share one item, which is to be changed once.
    images = {
        id(image): image
        for groups in (*seg.SharedFunctionalGroupsSequence, *seg.PerFrameFunctionalGroupsSequence)
        for derivation in groups.get("DerivationImageSequence") or ()
        for image in derivation.SourceImageSequence
    }
    for image in images.values():
        image.ReferencedFrameNumber = grid.frames[int(image.ReferencedFrameNumber) - 1] + 1


def _geometry(grid: SourceGrid) -> tuple[dict[str, Any], dict[str, Any]]:
    """Orientation, and pixel measures with the measured distance of slices: the thickness is often another."""
    x_axis, y_axis, step = np.asarray(grid.affine_lps)[:3, :3].T
    column_mm, row_mm = float(np.linalg.norm(x_axis)), float(np.linalg.norm(y_axis))
    between = abs(float(step @ np.cross(x_axis, y_axis))) / (column_mm * row_mm)
    axes = (*x_axis / column_mm, *y_axis / row_mm)
    orientation = {"ImageOrientationPatient": [round(float(cosine), _DECIMALS) + 0.0 for cosine in axes]}
    measures = {
        "PixelSpacing": [round(row_mm, _DECIMALS), round(column_mm, _DECIMALS)],
        "SliceThickness": round(number(grid.sources[0], "SliceThickness") or between, _DECIMALS),
        "SpacingBetweenSlices": round(between, _DECIMALS),
    }
    return orientation, measures


def _item(values: dict[str, Any]) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        put(item, keyword, value)
    return item


def _keep_frames(header: Dataset, grid: SourceGrid, orientation: Dataset, measures: Dataset) -> None:
    """Leaves of a multi-frame header the frames of a grid, and of their functional groups the place."""
    (shared,) = header.SharedFunctionalGroupsSequence
    own = header.PerFrameFunctionalGroupsSequence
    kept = [own[frame] if "PlanePositionSequence" in own[frame] else shared for frame in grid.frames]
    positions = [groups.PlanePositionSequence[0].ImagePositionPatient for groups in kept]
    places = [_item({"PlanePositionSequence": [_item({"ImagePositionPatient": at})]}) for at in positions]
    put(header, "NumberOfFrames", len(grid.frames))
    put(header, "PerFrameFunctionalGroupsSequence", places)
    put(
        header,
        "SharedFunctionalGroupsSequence",
        [_item({"PlaneOrientationSequence": [orientation], "PixelMeasuresSequence": [measures]})],
    )
