"""What a SEG or an RTSTRUCT says of itself before it is read onto a grid: names, and the series it was drawn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from clinibundle.checks import Check
from clinibundle.dicom.index import Instance
from clinibundle.dicom.outlines import Grid, damage_refused, read_object
from clinibundle.dicom.read_seg import read_seg
from clinibundle.dicom.rtstruct import read_rtstruct
from clinibundle.dicom.values import text

_SEG, _RTSTRUCT = "SEG", "RTSTRUCT"
_LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"  # not in pydicom 3.0
_CLASSES = {
    _SEG: (str(SegmentationStorage), _LABEL_MAP_SEGMENTATION_STORAGE),
    _RTSTRUCT: (str(RTStructureSetStorage),),
}
# PS3.3 C.8.8.5.1: what the structure set as a whole was drawn on.
_SERIES_OF_SET = ("ReferencedFrameOfReferenceSequence", "RTReferencedStudySequence", "RTReferencedSeriesSequence")
# PS3.3 C.8.8.6: what each contour was drawn on, where the set says nothing.
_IMAGES_OF_CONTOURS = ("ROIContourSequence", "ContourSequence", "ContourImageSequence")
# PS3.3 C.12.4 and C.7.6.16.2.6.
_SERIES_OF_SEG = ("ReferencedSeriesSequence",)
_IMAGES_OF_FRAMES = ("DerivationImageSequence", "SourceImageSequence")
_FRAMES = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


@dataclass(frozen=True, eq=False)
class OutlineObject:
    """A SEG or RTSTRUCT.

    Attributes:
        instance: its file.
        names: of its segments or ROIs by their numbers; free text of people.
        series: UIDs of the series that it refers to.
        images: SOPInstanceUIDs of the pictures that it refers to.
    """

    instance: Instance
    names: Mapping[int, str]
    series: frozenset[str]
    images: frozenset[str]

    def matching(self, patterns: Sequence[str]) -> list[int]:
        """Numbers of the outlines whose name fits a pattern, of which `*` stands for anything and case has no say.

        Without patterns, the only outline; none of several.
        """
        if not patterns:
            return list(self.names) if len(self.names) == 1 else []
        folded = [pattern.casefold() for pattern in patterns]
        return [
            number
            for number, name in self.names.items()
            if any(fnmatchcase(name.strip().casefold(), pattern) for pattern in folded)
        ]


def is_outline_object(instance: Instance) -> bool:
    """Whether it is a SEG or RTSTRUCT, by its header."""
    return _kind(instance) in _CLASSES


def describe(instance: Instance) -> OutlineObject:
    """Names and references.

    Raises:
        UnreadableInput: if it is damaged or something else.
    """
    kind = _kind(instance)
    dataset = read_object(instance.path, _CLASSES[kind], kind)
    with damage_refused(kind):
        if kind == _SEG:
            names = {int(item.SegmentNumber): _name(item, "SegmentLabel") for item in dataset.SegmentSequence}
            names.pop(0, None)  # background of a label map
            series = _nested([dataset], *_SERIES_OF_SEG)
            images = _nested(series, "ReferencedInstanceSequence") or _nested(
                [group for frames in _FRAMES for group in _nested([dataset], frames)], *_IMAGES_OF_FRAMES
            )
        else:
            names = {int(item.ROINumber): _name(item, "ROIName") for item in dataset.StructureSetROISequence}
            series = _nested([dataset], *_SERIES_OF_SET)
            images = _nested(series, "ContourImageSequence") or _nested([dataset], *_IMAGES_OF_CONTOURS)
        return OutlineObject(
            instance,
            names,
            frozenset(str(item.get("SeriesInstanceUID") or "") for item in series) - {""},
            frozenset(str(item.get("ReferencedSOPInstanceUID") or "") for item in images) - {""},
        )


def united_mask(drawn: OutlineObject, numbers: Sequence[int], grid: Grid) -> tuple[NDArray[np.bool_], list[Check]]:
    """The voxels within any of these outlines, (slices, rows, columns), and what was looked at.

    Raises:
        UnreadableInput: if the object is damaged.
        GeometryError: if it does not lie on the grid.
    """
    mask = np.zeros(grid.shape, np.bool_)
    checks: list[Check] = []
    # One by one: outlines that are united may overlap, labels of one map may not.
    for number in numbers:
        if _kind(drawn.instance) == _SEG:
            found = read_seg(drawn.instance.path, grid, [number])
        else:
            found = read_rtstruct(drawn.instance.path, grid, [number])
        mask |= found.label_map > 0
        checks += [check for check in found.checks if check not in checks]
    return mask, checks


def _kind(instance: Instance) -> str:
    return text(instance.header, "Modality").upper()


def _name(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword) or "")


def _nested(items: Sequence[Dataset], *keywords: str) -> list[Dataset]:
    """Items of sequences within sequences."""
    for keyword in keywords:
        items = [below for item in items for below in item.get(keyword) or ()]
    return list(items)
