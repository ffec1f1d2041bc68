"""What a DICOM Segmentation says before its pixels (PS3.3 A.51, C.8.20): its segments, and where each frame belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from clinibundle.dicom.codes import Code, Segment
from clinibundle.dicom.seg_layout import plane_affine
from clinibundle.errors import UnreadableInput

_TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
_BACKGROUND = ("125040", "DCM")


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a frame belongs, as far as the object says.

    Attributes:
        segment: number; None in a label map, whose pixels say it.
        plane: (4, 4) as `plane_affine` gives it, mm in LPS.
        spacing_between: distance of slices in mm; 0 if not said.
        thickness: of slices in mm; 0 if not said.
        tile: row and column of the first pixel in the whole plane of a slide, from 0.
        source: the picture that it was drawn on: SOPInstanceUID and frame number.
    """

    segment: int | None
    plane: NDArray[np.float64] | None
    spacing_between: float
    thickness: float
    tile: tuple[int, int] | None
    source: tuple[str, int] | None


@dataclass(frozen=True, eq=False)
class Description:
    """A SEG without its pixels.

    Attributes:
        type: BINARY, FRACTIONAL or LABELMAP.
        rows: of a frame.
        columns: of a frame.
        frames: in the order in which they are stored.
        names: of the segments by number, background left out.
        codes: what the segments mean, where category and type are coded.
        background: stored values of a label map that mean no segment.
        maximum: the stored value that means 1 in a fractional SEG.
        whole_plane: rows and columns that the tiles of a slide make together.
    """

    type: str
    rows: int
    columns: int
    frames: tuple[Frame, ...]
    names: Mapping[int, str]
    codes: Mapping[int, Segment]
    background: frozenset[int]
    maximum: int
    whole_plane: tuple[int, int] | None


def describe_seg(dataset: Dataset) -> Description:
    """Reads all but the pixels.

    Raises:
        UnreadableInput: if the object contradicts itself.
        DAMAGE_TO_DICOM: whatever pydicom raises where something is missing or of another kind than it should be.
    """
    kind = str(dataset.SegmentationType)
    if kind not in _TYPES:
        raise UnreadableInput("the SEG is neither binary nor fractional nor a label map; ask for it to be sent again")
    items = _segment_items(dataset)
    background = _background(dataset, items) if kind == "LABELMAP" else frozenset[int]()
    segments = {number: item for number, item in items.items() if number not in background}
    if 0 in segments:
        raise UnreadableInput("the SEG describes a segment 0, which is no background; ask for it to be exported again")
    maximum = int(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 1
    if maximum < 1:
        raise UnreadableInput(f"MaximumFractionalValue of the SEG is {maximum}, expected at least 1; send it again")
    tiled = "TotalPixelMatrixRows" in dataset
    return Description(
        type=kind,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        frames=_frames(dataset, kind, set(segments)),
        names={number: str(item.get("SegmentLabel") or "") for number, item in segments.items()},
        codes={number: coded for number, item in segments.items() if (coded := _coded_segment(number, item))},
        background=background,
        maximum=maximum,
        whole_plane=(int(dataset.TotalPixelMatrixRows), int(dataset.TotalPixelMatrixColumns)) if tiled else None,
    )


def _segment_items(dataset: Dataset) -> dict[int, Dataset]:
    """Items of the segment sequence by their numbers, background included."""
    items: dict[int, Dataset] = {}
    for item in dataset.SegmentSequence:
        number = int(item.SegmentNumber)
        if number in items:
            raise UnreadableInput(f"two segments of the SEG have the number {number}; ask for it to be sent again")
        items[number] = item
    return items


def _background(dataset: Dataset, items: Mapping[int, Dataset]) -> frozenset[int]:
    """Stored values of a label map that mean no segment.

    PixelPaddingValue (PS3.3 C.8.20.2, Supplement 243), segments whose type is coded as background, and 0 if nothing
    else is said of it.
    """
    types = {number: _code(item, "SegmentedPropertyTypeCodeSequence") for number, item in items.items()}
    coded = {number for number, code in types.items() if code and (code.value, code.scheme) == _BACKGROUND}
    padding = dataset.get("PixelPaddingValue")
    return frozenset(coded | ({0} - set(items)) | (set() if padding is None else {int(padding)}))


def _frames(dataset: Dataset, kind: str, segments: set[int]) -> tuple[Frame, ...]:
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        raise UnreadableInput(
            "the SEG does not say where its frames belong (PerFrameFunctionalGroupsSequence is missing, as in tiled "
            "objects of the kind TILED_FULL); ask for it to be exported with the place of each frame"
        )
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != int(dataset.NumberOfFrames):
        raise UnreadableInput(
            f"the SEG describes {len(groups)} frames and declares {int(dataset.NumberOfFrames)}; "
            "ask for it to be sent again"
        )
    frames = tuple(_frame(_Macros(group, shared), kind) for group in groups)
    unknown = {frame.segment for frame in frames if frame.segment is not None} - segments
    if unknown:
        raise UnreadableInput(
            f"the SEG has frames of segment {min(unknown)}, which it does not describe; ask for it to be sent again"
        )
    return frames


@dataclass(frozen=True, eq=False)
class _Macros:
    """Functional groups of one frame: its own, and those of all frames (PS3.3 C.7.6.16)."""

    own: Dataset
    shared: Dataset

    def item(self, keyword: str) -> Dataset:
        """The first item of a group; empty if the group is absent."""
        sequence: Sequence[Dataset] = self.own.get(keyword) or self.shared.get(keyword) or [Dataset()]
        return sequence[0]


def _frame(macros: _Macros, kind: str) -> Frame:
    measures = macros.item("PixelMeasuresSequence")
    tile = macros.item("PlanePositionSlideSequence")
    sources = macros.item("DerivationImageSequence").get("SourceImageSequence") or ()
    return Frame(
        segment=None if kind == "LABELMAP" else _segment_of(macros),
        plane=None if tile else _plane(macros, measures),
        spacing_between=float(measures.get("SpacingBetweenSlices") or 0),
        thickness=float(measures.get("SliceThickness") or 0),
        # Counted from 1 in the object.
        tile=(int(tile.RowPositionInTotalImagePixelMatrix) - 1, int(tile.ColumnPositionInTotalImagePixelMatrix) - 1)
        if tile
        else None,
        source=_source(sources[0]) if sources else None,
    )


def _segment_of(macros: _Macros) -> int:
    identification = macros.item("SegmentIdentificationSequence")
    if "ReferencedSegmentNumber" not in identification:
        raise UnreadableInput("a frame of the SEG does not say which segment it shows; ask for it to be sent again")
    return int(identification.ReferencedSegmentNumber)


def _plane(macros: _Macros, measures: Dataset) -> NDArray[np.float64] | None:
    position = macros.item("PlanePositionSequence")
    if not position:
        return None
    orientation = macros.item("PlaneOrientationSequence")
    return plane_affine(
        [float(value) for value in position.ImagePositionPatient],
        [float(value) for value in orientation.ImageOrientationPatient],
        [float(value) for value in measures.PixelSpacing],
    )


def _source(image: Dataset) -> tuple[str, int]:
    frame = image.get("ReferencedFrameNumber") or 1
    # Several frames of the source may have gone into one.
    return str(image.ReferencedSOPInstanceUID), int(frame if isinstance(frame, (int, str)) else frame[0])


def _coded_segment(number: int, item: Dataset) -> Segment | None:
    """What a segment means, if both category and type are coded."""
    category, kind = (
        _code(item, "SegmentedPropertyCategoryCodeSequence"),
        _code(item, "SegmentedPropertyTypeCodeSequence"),
    )
    if category is None or kind is None:
        return None
    return Segment(label=number, name=str(item.get("SegmentLabel") or ""), category=category, type=kind)


def _code(item: Dataset, keyword: str) -> Code | None:
    """The coded concept in a sequence of one item (PS3.3 8.8)."""
    concept = (item.get(keyword) or [Dataset()])[0]
    value = concept.get("CodeValue") or concept.get("LongCodeValue")
    scheme = concept.get("CodingSchemeDesignator")
    if not value or not scheme:
        return None
    return Code(value=str(value), scheme=str(scheme), meaning=str(concept.get("CodeMeaning") or ""))
