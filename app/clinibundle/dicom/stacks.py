"""A series taken apart into stacks: slices that may form one volume.

A series can hold a scout, three planes, two passes over the same place, or several echoes. Nothing is judged here:
whether a stack is a sound volume is for `gate`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from clinibundle.dicom.frames import Slice, slices_of
from clinibundle.dicom.index import Instance, Skipped
from clinibundle.dicom.values import numbers, text, texts, whole
from clinibundle.errors import UnreadableInput

# Planes that differ by more are different planes; by less, the gate decides whether they are parallel enough.
_SAME_PLANE_COSINE = float(np.cos(np.radians(5.0)))
_SAME_SPACING = 1e-3
SAME_POSITION_MM = 0.01
"""Two slices nearer than this lie at one position."""
_NOT_PICTURES = ("SEG", "SR", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "PR", "KO", "REG", "FID", "RWV", "AU", "ECG")
# What tells several volumes of a series apart always, and what does only if slices lie at one position without it:
# a scanner may count acquisitions up along the table.
_ALWAYS_APART = (
    "FrameOfReferenceUID",
    "ConvolutionKernel",
    "EchoTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "StackID",
)
_APART_IF_NEEDED = ("AcquisitionNumber", "TriggerTime", "DiffusionBValue", "ImageType", "SeriesTime", "AcquisitionTime")


@dataclass(frozen=True)
class Stack:
    """Slices of one series that may form a volume.

    Attributes:
        series_uid: SeriesInstanceUID.
        number: of the stack in its series, from 1.
        count: of the stacks in its series.
        slices: as they came.
        apart_by: what tells it from the other stacks of its series, in words; empty if it is the only one.
    """

    series_uid: str
    number: int
    count: int
    slices: tuple[Slice, ...]
    apart_by: str = ""

    @property
    def key(self) -> str:
        """What `--series` takes: the series UID, with `#2` where the series holds several volumes."""
        return self.series_uid if self.count == 1 else f"{self.series_uid}#{self.number}"

    @property
    def header(self) -> Dataset:
        """Of its first slice."""
        return self.slices[0].header


def is_picture(instance: Instance) -> bool:
    """Whether an instance holds pixels of its own meaning; SEG, SR, plans and the like do not."""
    header = instance.header
    if text(header, "Modality").upper() in _NOT_PICTURES:
        return False
    return whole(header, "Rows") > 0 and whole(header, "Columns") > 0


def split_study(instances: Sequence[Instance]) -> tuple[list[Stack], list[Skipped]]:
    """The stacks of all series, series by series as they come, and the files that could not be used."""
    series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        series[text(instance.header, "SeriesInstanceUID")].append(instance)
    stacks: list[Stack] = []
    skipped: list[Skipped] = []
    for members in series.values():
        found, unusable = split_series(members)
        stacks += found
        skipped += unusable
    return stacks, skipped


def split_series(instances: Sequence[Instance]) -> tuple[list[Stack], list[Skipped]]:
    """The stacks of one series, in the order of their first instance number, and the files that could not be used."""
    slices: list[Slice] = []
    skipped: list[Skipped] = []
    for instance in instances:
        if not is_picture(instance):
            continue
        try:
            slices += slices_of(instance)
        except UnreadableInput as error:
            skipped.append(Skipped(instance.name, str(error)))
    groups = _split(slices, lambda members: [_form(s) for s in members])
    groups = [part for group in groups for part in _by_plane(group)]
    apart: list[tuple[list[Slice], str]] = []
    for group in groups:
        apart += _by_time(group)
    apart.sort(key=lambda part: min(whole(s.header, "InstanceNumber", 1 << 30) * 100_000 + s.frame for s in part[0]))
    uid = text(instances[0].header, "SeriesInstanceUID") if instances else ""
    return [
        Stack(uid, number, len(apart), tuple(part), _described(part, why) if len(apart) > 1 else "")
        for number, (part, why) in enumerate(apart, start=1)
    ], skipped


def _form(one: Slice) -> Hashable:
    """What slices of one volume have in common."""
    header = one.header
    kind = "LOCALIZER" in (part.upper() for part in texts(header, "ImageType"))
    size = (whole(header, "Rows"), whole(header, "Columns"), whole(header, "SamplesPerPixel", 1))
    return (kind, size, *(text(header, keyword) for keyword in _ALWAYS_APART))


def _split(slices: Sequence[Slice], keys: Callable[[Sequence[Slice]], Sequence[Hashable]]) -> list[list[Slice]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for one, key in zip(slices, keys(slices), strict=True):
        groups[key].append(one)
    return list(groups.values())


def _by_plane(slices: list[Slice]) -> list[list[Slice]]:
    """Groups of slices whose planes are parallel within a few degrees and whose pixels are of one size."""
    found: list[tuple[_Plane, list[Slice]]] = []
    for one in slices:
        plane = _Plane.of(one.header)
        for known, members in found:
            if plane.is_like(known):
                members.append(one)
                break
        else:
            found.append((plane, [one]))
    return [members for _, members in found]


@dataclass(frozen=True)
class _Plane:
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None

    @classmethod
    def of(cls, header: Dataset) -> _Plane:
        return cls(numbers(header, "ImageOrientationPatient", 6), numbers(header, "PixelSpacing", 2))

    def is_like(self, other: _Plane) -> bool:
        if (self.orientation is None) != (other.orientation is None) or (self.spacing is None) != (
            other.spacing is None
        ):
            return False
        if self.orientation is not None and other.orientation is not None:
            one, two = np.array(self.orientation), np.array(other.orientation)
            if one[:3] @ two[:3] < _SAME_PLANE_COSINE or one[3:] @ two[3:] < _SAME_PLANE_COSINE:
                return False
        if self.spacing is not None and other.spacing is not None:
            return all(abs(a - b) <= _SAME_SPACING * abs(b) for a, b in zip(self.spacing, other.spacing, strict=True))
        return True


def _by_time(slices: list[Slice]) -> list[tuple[list[Slice], str]]:
    """The slices as they are if each has a position of its own; else told apart by the first attribute that can."""
    most = _most_at_one_position(slices)
    if most <= 1:
        return [(slices, "")]
    for keyword in _APART_IF_NEEDED:
        parts = _split(slices, lambda members, k=keyword: [text(s.header, k) for s in members])  # type: ignore[misc]
        # As many parts as slices at one place: a time of its own for every slice tells no volumes apart.
        if len(parts) == most and all(_most_at_one_position(part) <= 1 for part in parts):
            return [(part, keyword) for part in parts]
    return [(slices, "")]


def _most_at_one_position(slices: Sequence[Slice]) -> int:
    """How many slices at most lie at one position; 0 if none says where it lies."""
    positions = (s.position_mm for s in slices)
    places = Counter(tuple(round(value / SAME_POSITION_MM) for value in p) for p in positions if p is not None)
    return max(places.values(), default=0)


def _described(slices: Sequence[Slice], why: str) -> str:
    """In words, what is peculiar to a stack among those of its series."""
    header = slices[0].header
    count = "1 slice" if len(slices) == 1 else f"{len(slices)} slices"
    parts = [f"{count} of {whole(header, 'Columns')} × {whole(header, 'Rows')}", plane_name(header)]
    for keyword in dict.fromkeys((why, "EchoTime", "ConvolutionKernel", "TemporalPositionIdentifier")):
        if keyword and (value := text(header, keyword)):
            parts.append(f"{keyword} {value}")
    if "LOCALIZER" in text(header, "ImageType").upper():
        parts.append("localizer")
    return ", ".join(part for part in parts if part)


def plane_name(header: Dataset) -> str:
    """`axial`, `coronal` or `sagittal` where the normal lies within 30 degrees of that axis, else `oblique`.

    Empty if the orientation is not given.
    """
    axes = numbers(header, "ImageOrientationPatient", 6)
    if axes is None:
        return ""
    normal = np.abs(np.cross(axes[:3], axes[3:]))
    length = float(np.linalg.norm(normal))
    if length == 0 or normal.max() / length < np.cos(np.radians(30)):
        return "oblique"
    return ("sagittal", "coronal", "axial")[int(normal.argmax())]
