"""What DICOM there is in a file or folder: headers only, nothing guessed from names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from clinibundle.dicom.header import read_header
from clinibundle.errors import UnreadableInput

# Shorter parts of a name or id occur in any path.
_PATIENT_PART_LENGTH = 3


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
