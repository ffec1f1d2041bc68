"""Slices: the single pictures that volumes are made of, of one-frame files and of enhanced multi-frame ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly, read_header
from clinibundle.dicom.index import Instance
from clinibundle.dicom.values import numbers, put, shallow_copy, whole
from clinibundle.errors import UnreadableInput

MAX_FRAMES = 20_000
FARTHEST_MM = 1e5
"""A position farther from the origin is a typing error or damage: scanners are metres long."""
# A frame's functional groups under the names that single-frame objects use (PS3.3 C.7.6.16, C.8.13, C.8.15).
_RENAMED = {
    "EffectiveEchoTime": "EchoTime",
    "FrameType": "ImageType",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "FrameAcquisitionNumber": "AcquisitionNumber",
}


@dataclass(frozen=True, slots=True)
class Slice:
    """One picture of a volume.

    Attributes:
        instance: the file that it is in.
        frame: its number in that file, from 0.
        header: its own attributes; of a frame, those of the file with its functional groups laid over them.
    """

    instance: Instance
    frame: int
    header: Dataset

    @property
    def name(self) -> str:
        """For messages: the file, and the frame where there are several."""
        return f"{self.instance.name}, frame {self.frame + 1}" if self.is_one_of_several else self.instance.name

    @property
    def is_one_of_several(self) -> bool:
        """Whether its file holds more frames."""
        return whole(self.instance.header, "NumberOfFrames", 1) > 1

    @property
    def is_framed(self) -> bool:
        """Whether its place stands in functional groups of its file, as in enhanced multi-frame objects."""
        return self.header is not self.instance.header

    @property
    def position_mm(self) -> tuple[float, ...] | None:
        """(x, y, z) of the centre of its first pixel; None if it is not given, or lies where no patient can be."""
        found = numbers(self.header, "ImagePositionPatient", 3)
        return None if found is None or max(map(abs, found)) > FARTHEST_MM else found


def slices_of(instance: Instance) -> list[Slice]:
    """The slices of a file.

    Raises:
        UnreadableInput: if a multi-frame header is damaged or declares more frames than anybody can mean.
    """
    header = instance.header
    frames = whole(header, "NumberOfFrames", 1)
    # An enhanced object may hold a single frame, and has its place in the functional groups all the same.
    if frames <= 1 and ("NumberOfFrames" not in header or "ImagePositionPatient" in header):
        return [Slice(instance, 0, header)]
    frames = max(frames, 1)
    if frames > MAX_FRAMES:
        raise UnreadableInput(f"'{instance.name}' declares {frames} frames, more than the limit of {MAX_FRAMES}")
    # The index keeps no sequences.
    full = read_header(instance.path)
    try:
        with quietly():
            shared = list(_groups(full.get("SharedFunctionalGroupsSequence") or ()))
            own = list(full.get("PerFrameFunctionalGroupsSequence") or ())
            if own and len(own) != frames:
                raise UnreadableInput(
                    f"'{instance.name}' declares {frames} frames and describes {len(own)}; ask for it to be sent again"
                )
            described = own or [Dataset() for _ in range(frames)]
            return [
                Slice(instance, number, _laid_over(header, [*shared, *_groups([groups])]))
                for number, groups in enumerate(described)
            ]
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(f"the functional groups of '{instance.name}' are damaged; send it again") from error


def _groups(items: Sequence[Dataset]) -> Iterator[Dataset]:
    """The single items of the functional group sequences in the first of the items."""
    for item in list(items)[:1]:
        for element in item:
            if element.VR == "SQ" and not element.tag.is_private and element.value:
                yield element.value[0]


def _laid_over(header: Dataset, groups: Sequence[Dataset]) -> Dataset:
    frame = shallow_copy(header)
    for group in groups:
        for element in group:
            if element.VR == "SQ" or element.tag.is_private or not element.keyword:
                continue
            keyword = _RENAMED.get(element.keyword, element.keyword)
            put(frame, keyword, element.value)
    return frame
