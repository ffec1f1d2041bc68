"""Outlines that people or programs have drawn, as a label map: what reading a SEG and an RTSTRUCT have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import IGNORE
from pydicom.dataset import Dataset
from pydicom.uid import UID, ImplicitVRLittleEndian

from clinibundle.checks import Check
from clinibundle.dicom.codes import Segment
from clinibundle.dicom.header import DAMAGE_TO_DICOM, looks_like_dicom, quietly
from clinibundle.dicom.inflate import inflated_bytes, is_deflated
from clinibundle.errors import UnreadableInput, UnsuitableInput, UsageError, did_you_mean

MAX_VOXELS = 2**31
"""Of a label map, which then takes 4 GiB: 8192 slices of 512 × 512. What asks for more is damaged or hostile."""
FARTHEST_MM = 1e5
"""Nothing in a patient lies a hundred metres from the origin of the scanner: numbers beyond it are damage."""
LARGEST_LABEL = 2**16 - 1


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a picture that outlines are wanted on.

    Attributes:
        affine_lps: (4, 4), voxel index (x = column, y = row, z = slice) to mm in the patient, LPS as DICOM has it.
        shape: slices, rows, columns.
        sop_instance_uids: of the picture's instances; empty if not known.
    """

    affine_lps: NDArray[np.float64]
    shape: tuple[int, int, int]
    sop_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Outlines:
    """A label map, and what its labels mean.

    Attributes:
        label_map: uint16 with the axes (slices, rows, columns), C order; 0 is background.
        affine_lps: (4, 4), voxel index (x = column, y = row, z = slice) to mm in the patient, LPS as DICOM has it; None
            where the outlines have no place in the patient, as on a radiograph or a slide.
        names: what the object calls each label, those without a voxel included. Free text of people: it may hold
            anything, and is not for messages.
        codes: coded meaning of the labels for which the object gives category and type.
        source_sop_instance_uids: of the pictures that the object refers to, in the order in which it names them.
        checks: what was looked at.
    """

    label_map: NDArray[np.uint16]
    affine_lps: NDArray[np.float64] | None
    names: Mapping[int, str]
    codes: Mapping[int, Segment]
    source_sop_instance_uids: tuple[str, ...]
    checks: tuple[Check, ...]


def read_object(path: Path, classes: Collection[str], kind: str) -> Dataset:
    """A whole DICOM object of one of these SOP classes.

    Args:
        path: of the file.
        classes: UIDs of the SOP classes that are accepted.
        kind: what they are called, for the refusal.

    Raises:
        UnreadableInput: if the file is no DICOM, is damaged, or holds another kind of object.
    """
    if not looks_like_dicom(path):
        raise UnreadableInput(f"it is no DICOM file; expected a DICOM {kind}")
    with damage_refused(kind):
        dataset = pydicom.dcmread(BytesIO(inflated_bytes(path)) if is_deflated(path) else path, force=True)
        found = str(dataset.get("SOPClassUID") or "")
        if "TransferSyntaxUID" not in dataset.file_meta:
            # Without file meta information only the default transfer syntax is allowed (PS3.5 section 10).
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    if found not in classes:
        name = str(UID(found, IGNORE).name)
        shown = name if name != found else "an object of unknown kind"
        raise UnreadableInput(f"found {shown}, expected a DICOM {kind}; name another file")
    return dataset


@contextmanager
def damage_refused(kind: str) -> Iterator[None]:
    """What pydicom and its codecs raise inside becomes an UnreadableInput; their warnings, which quote, are dropped."""
    try:
        with quietly():
            yield
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(
            f"the {kind} is damaged or lacks what the standard demands ({type(error).__name__}); "
            "ask for it to be sent again"
        ) from error


def chosen_numbers(names: Mapping[int, str], wanted: Collection[int | str] | None, what: str) -> list[int]:
    """Numbers of the segments or ROIs that a user asks for by number or by name; all of them for None.

    Raises:
        UsageError: if there is none of that number or name, or nothing is asked for. Only names close to the user's own
            word are told: names are free text.
    """
    if wanted is None:
        return list(names)
    chosen = set()
    for one in wanted:
        found = {number for number, name in names.items() if one in (number, name)}
        if not found:
            hint = did_you_mean(one, names.values()) if isinstance(one, str) else ""
            raise UsageError(f"there is no {what} {one!r} among the {len(names)} of this object{hint}; choose another")
        chosen |= found
    if not chosen:
        raise UsageError(f"no {what} was chosen; name at least one, or leave the choice out for all of them")
    return [number for number in names if number in chosen]


def empty_label_map(shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    """Background only, with the axes (slices, rows, columns).

    Raises:
        UnreadableInput: if it would have more than MAX_VOXELS.
    """
    slices, rows, columns = shape
    if slices * rows * columns > MAX_VOXELS:
        raise UnreadableInput(
            f"the label map would have {slices} × {rows} × {columns} voxels, more than the limit of {MAX_VOXELS}; "
            "the object is damaged, or far too large"
        )
    return np.zeros(shape, np.uint16)


def paint(region: NDArray[np.uint16], values: NDArray[np.uint16], what: str) -> None:
    """Adds labels to a part of a label map, in place.

    Args:
        region: (rows, columns), what is there so far.
        values: (rows, columns), labels to add; 0 leaves what is there.
        what: `segment` or `ROI`, for the refusal.

    Raises:
        UnsuitableInput: if a voxel would have two labels.
    """
    clash = (region != 0) & (values != 0) & (region != values)
    if clash.any():
        first, second = sorted((int(region[clash][0]), int(values[clash][0])))
        raise UnsuitableInput(
            f"{what}s {first} and {second} overlap, and a label map holds one {what} a voxel; "
            f"choose {what}s that do not overlap"
        )
    np.maximum(region, values, out=region)
