"""What DICOM there is in a file or folder: headers only, nothing guessed from names."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from clinibundle.errors import DAMAGE, UnreadableInput

# Values of data elements up to this size are read; private blobs beyond it stay on disk.
_DEFER_ABOVE_BYTES = 64 * 1024
_PREAMBLE_BYTES = 132
# A header without preamble starts with an element of group 0002 or 0008, little endian (PS3.10 7.1, older practice).
_STARTS_WITHOUT_PREAMBLE = (b"\x08\x00", b"\x02\x00")
# Shorter parts of a name or id occur in any path.
_PATIENT_PART_LENGTH = 3
DAMAGE_TO_DICOM = (*DAMAGE, BytesLengthException, InvalidDicomError)


@dataclass(frozen=True)
class Instance:
    """One DICOM file: where it is, a name that may be shown, and its header without pixels.

    The name is the path relative to the input, or the number of the file where that path holds a patient's name, id or
    birth date.
    """

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
    read = [_header_or_reason(file) for file in files]
    names = _names_to_show(
        [str(file.relative_to(path)) if path.is_dir() else file.name for file in files],
        [header for header in read if isinstance(header, Dataset)],
    )
    instances: dict[str, Instance] = {}
    skipped: list[Skipped] = []
    for file, name, header in zip(files, names, read, strict=True):
        if isinstance(header, str):
            skipped.append(Skipped(name, header))
            continue
        uid = str(header.SOPInstanceUID)
        if uid in instances:
            skipped.append(Skipped(name, f"a second copy of {instances[uid].name}"))
        else:
            instances[uid] = Instance(file, name, header)
    return Index(tuple(instances.values()), tuple(skipped))


def _header_or_reason(file: Path) -> Dataset | str:
    try:
        return read_header(file)
    except UnreadableInput as error:
        return str(error)


def _names_to_show(paths: Sequence[str], headers: Iterable[Dataset]) -> list[str]:
    """The paths, with `file 3` for the third of them if a patient of the input can be told from it."""
    parts = {part for header in headers for part in _patient_parts(header)}
    plain = [_only_letters_and_digits(path) for path in paths]
    return [
        f"file {number}" if any(part in letters for part in parts) else path
        for number, (path, letters) in enumerate(zip(paths, plain, strict=True), start=1)
    ]


def _patient_parts(header: Dataset) -> set[str]:
    names = str(header.get("PatientName") or "").split("=")
    parts = [*names, *(part for name in names for part in re.split(r"[\W\d_]+", name))]
    parts += [str(header.get("PatientID") or ""), str(header.get("PatientBirthDate") or "")]
    plain = {_only_letters_and_digits(part) for part in parts}
    return {part for part in plain if len(part) >= _PATIENT_PART_LENGTH}


def _only_letters_and_digits(text: str) -> str:
    """Small letters without accents, and digits: `1980-01-31` is found by `19800131`, `Müller` by `MULLER`."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", text).casefold())


def read_header(path: Path) -> Dataset:
    """The data set of a DICOM image file up to its pixels.

    Files without preamble or file meta information are read too, if what follows looks like DICOM.

    Raises:
        UnreadableInput: if the file is no DICOM, is damaged, or is a DICOMDIR.
    """
    if not looks_like_dicom(path):
        raise UnreadableInput("it is no DICOM file (neither preamble nor a DICOM header)")
    try:
        with quietly():
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, defer_size=_DEFER_ABOVE_BYTES)
            _drop_unreadable_values(header, path.stat().st_size)
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(f"its DICOM header is damaged ({type(error).__name__})") from error
    if "DirectoryRecordSequence" in header:
        raise UnreadableInput("it is a DICOMDIR, an index without pictures; name the folder it lies in")
    if not header.get("SOPInstanceUID") or not header.get("SOPClassUID"):
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


def _drop_unreadable_values(dataset: Dataset, file_bytes: int) -> None:
    """Converts what pydicom would convert when it is asked for, and takes out what cannot be: as good as absent."""
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag, keep_deferred=True)
        try:
            if isinstance(raw, RawDataElement) and raw.value is None and raw.length > 0:
                # Left on disk as it is large, or as a damaged length only says so.
                if raw.value_tell + raw.length > file_bytes:
                    del dataset[tag]
            elif not tag.is_private:
                dataset[tag]
        except DAMAGE_TO_DICOM:
            del dataset[tag]


@contextmanager
def quietly() -> Iterator[None]:
    """Without the libraries' warnings and log: they quote values of headers, patient names among them."""
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield
