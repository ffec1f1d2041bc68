"""What DICOM there is in a file or folder: headers only, nothing guessed from names."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from clinibundle.errors import UnreadableInput

# Values of data elements up to this size are read; private blobs beyond it stay on disk.
_DEFER_ABOVE_BYTES = 64 * 1024
_PREAMBLE_BYTES = 132
# A header without preamble starts with an element of group 0002 or 0008, little endian (PS3.10 7.1, older practice).
_STARTS_WITHOUT_PREAMBLE = (b"\x08\x00", b"\x02\x00")


@dataclass(frozen=True)
class Instance:
    """One DICOM file: where it is, its name relative to the input, and its header without pixels."""

    path: Path
    name: str
    header: Dataset


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Index:
    """All of an input: its DICOM images, and the files that were left out."""

    instances: tuple[Instance, ...]
    skipped: tuple[Skipped, ...]


def index_study(path: Path) -> Index:
    """Reads the headers below a folder, or of one file.

    A file that turns up twice (one SOPInstanceUID) is taken once. Files are sorted by name, so that the result does not
    depend on the file system.

    Raises:
        UnreadableInput: if there is nothing at `path`.
    """
    if not path.exists():
        raise UnreadableInput(f"there is nothing at '{path}'; name a file or folder that exists")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    instances: dict[str, Instance] = {}
    skipped: list[Skipped] = []
    for file in files:
        name = str(file.relative_to(path)) if path.is_dir() else file.name
        try:
            header = read_header(file)
        except UnreadableInput as error:
            skipped.append(Skipped(name, str(error)))
            continue
        uid = str(header.SOPInstanceUID)
        if uid in instances:
            skipped.append(Skipped(name, f"a second copy of {instances[uid].name}"))
        else:
            instances[uid] = Instance(file, name, header)
    return Index(tuple(instances.values()), tuple(skipped))


def read_header(path: Path) -> Dataset:
    """The data set of a DICOM image file up to its pixels.

    Files without preamble or file meta information are read too, if what follows looks like DICOM.

    Raises:
        UnreadableInput: if the file is no DICOM, is damaged, or is a DICOMDIR.
    """
    if not looks_like_dicom(path):
        raise UnreadableInput("it is no DICOM file (neither preamble nor a DICOM header)")
    try:
        with warnings.catch_warnings():
            # Odd values are dealt with where they are used; pydicom's warnings quote them, patient names among them.
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, defer_size=_DEFER_ABOVE_BYTES)
            uid, sop_class = header.get("SOPInstanceUID"), header.get("SOPClassUID")
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise UnreadableInput(f"its DICOM header is damaged ({type(error).__name__})") from error
    if "DirectoryRecordSequence" in header:
        raise UnreadableInput("it is a DICOMDIR, an index without pictures; name the folder it lies in")
    if not uid or not sop_class:
        raise UnreadableInput("its DICOM header lacks SOPClassUID or SOPInstanceUID: it is damaged or no image")
    return header


def looks_like_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does, with a preamble or with a data element of group 0002 or 0008."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE_BYTES)
    except OSError:
        return False
    if start[128:132] == b"DICM":
        return True
    return len(start) == _PREAMBLE_BYTES and start[:2] in _STARTS_WITHOUT_PREAMBLE and start[3:4] == b"\x00"
