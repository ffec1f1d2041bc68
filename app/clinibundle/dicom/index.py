"""What DICOM there is in a file or folder: headers only, nothing guessed from names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from clinibundle.dicom.dicomdir import DicomdirListing, MissingFile, files_of_dicomdir
from clinibundle.dicom.header import NO_IDENTITY, is_dicomdir, quietly, read_header
from clinibundle.dicom.header_cache import HeaderCache
from clinibundle.dicom.patient import holds_part, patient_parts
from clinibundle.dicom.values import text
from clinibundle.dicom.walk import Walked, walk_header
from clinibundle.errors import UnreadableInput

_READERS = 4
_DICOMDIR = "DICOMDIR"
NOT_THERE = "the DICOMDIR lists it, and it is not there"


@dataclass(frozen=True)
class Instance:
    """One DICOM file and its header without pixels.

    Attributes:
        path: where it is.
        name: what may be shown: the path relative to the input, or the number of the file where that path holds a
            patient's name, id or birth date.
        header: its short public elements; `header.read_header(path)` has all.
        transfer_syntax: UID; empty where only pydicom can say.
        pixel_offset: where in the file the pixels start; None where only pydicom can say.
        pixel_bytes: their length; None if it is not defined or not known.
    """

    path: Path
    name: str
    header: Dataset
    transfer_syntax: str = ""
    pixel_offset: int | None = None
    pixel_bytes: int | None = None


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Index:
    """All of an input.

    Attributes:
        instances: its DICOM objects, each once.
        skipped: the files that were left out.
        missing: the files that a DICOMDIR lists and that are not there; in `skipped` as well.
        patient_parts: what a text may not hold if it is to be shown; small letters and digits only.
    """

    instances: tuple[Instance, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[MissingFile, ...] = ()
    patient_parts: frozenset[str] = frozenset()

    def shown(self, description: str) -> str:
        """Free text of a header for people to see; hidden where a patient can be told from it."""
        return "(hidden)" if holds_part(description, self.patient_parts) else description


def index_study(path: Path, advance: Callable[[], None] | None = None, cache: HeaderCache | None = None) -> Index:
    """Reads the headers below a folder, of one file, or of what a DICOMDIR lists.

    A file that turns up twice (one SOPInstanceUID) is taken once. Files are sorted by name, so that the result does not
    depend on the file system.

    Args:
        path: of the folder, the file or the DICOMDIR.
        advance: called once for each file that was looked at.
        cache: of headers that were read before; it keeps what an overview needs, so it serves for no more than that.

    Raises:
        UnreadableInput: if there is nothing at `path`.
    """
    if not path.exists():
        raise UnreadableInput(f"there is nothing at '{path}'; name a file or folder that exists")
    folder, files, listed = _files_of(path)
    known = {} if cache is None else cache.known(files)
    read = _read_all(files, known, advance or (lambda: None))
    new = {
        file: found for file, found in zip(files, read, strict=True) if isinstance(found, Walked) and file not in known
    }
    parts = patient_parts(found.header for found in read if isinstance(found, Walked))
    if cache is not None:
        cache.remember(new, parts)
    names = []
    for number, file in enumerate(files, start=1):
        path_to_show = os.path.relpath(file, folder)
        names.append(f"file {number}" if holds_part(path_to_show, parts) else path_to_show)
    instances: dict[str, Instance] = {}
    skipped: list[Skipped] = []
    for file, name, found in zip(files, names, read, strict=True):
        if isinstance(found, str):
            skipped.append(Skipped(name, found))
            continue
        uid = text(found.header, "SOPInstanceUID")
        if uid in instances:
            skipped.append(Skipped(name, f"a second copy of {instances[uid].name}"))
        else:
            place = (found.transfer_syntax, found.pixel_offset, found.pixel_bytes)
            instances[uid] = Instance(file, name, found.header, *place)
    missing = [] if listed is None else [file for file in listed.missing if file.sop_instance_uid not in instances]
    skipped += [Skipped(f"listed file {number}", NOT_THERE) for number, _ in enumerate(missing, start=1)]
    if listed is not None and listed.damaged:
        skipped.append(Skipped(_DICOMDIR, listed.damaged))
    return Index(tuple(instances.values()), tuple(skipped), tuple(missing), parts)


def _files_of(path: Path) -> tuple[Path, list[Path], DicomdirListing | None]:
    """The folder that names are relative to, the files to read, and what the DICOMDIRs among them list."""
    if path.is_dir():
        files = _files_below(path)
        directories = [file for file in files if file.name.upper() == _DICOMDIR and is_dicomdir(file)]
        if not directories:
            return path, files, None
        # They have done their service, so they are not among the files that were left out.
        return path, [file for file in files if file not in directories], _listed(directories)
    if is_dicomdir(path):
        listed = files_of_dicomdir(path)
        return path.parent, sorted(listed.files), listed
    return path.parent, [path], None


def _listed(directories: Sequence[Path]) -> DicomdirListing:
    """All that several DICOMDIRs list, as in a folder with two discs."""
    lists = [files_of_dicomdir(directory) for directory in directories]
    return DicomdirListing(
        files=tuple(file for one in lists for file in one.files),
        missing=tuple(file for one in lists for file in one.missing),
        damaged=next((one.damaged for one in lists if one.damaged), None),
    )


def _files_below(folder: Path) -> list[Path]:
    """All files of a folder and its folders, sorted by name; links to folders are not followed."""
    return sorted(Path(at) / file for at, _, files in os.walk(folder) for file in files)


def _read_all(files: Sequence[Path], known: Mapping[Path, Walked], advance: Callable[[], None]) -> list[Walked | str]:
    """The header of each file, or why there is none."""

    def read(file: Path) -> Walked | str:
        found = known.get(file) or _header_or_reason(file)
        advance()
        return found

    # Threads: walking holds Python's lock, waiting for a disk or a file server does not.
    # Quiet around all of them: what each sets and puts back would get mixed up.
    with quietly(), ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, files))


def _header_or_reason(file: Path) -> Walked | str:
    if not file.is_file():
        # Opening a pipe would wait for ever.
        return "it is no ordinary file"
    try:
        walked = walk_header(file)
        if walked is None:
            return Walked(read_header(file), "", None, None)
    except UnreadableInput as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read ({type(error).__name__})"
    if not text(walked.header, "SOPInstanceUID") or not text(walked.header, "SOPClassUID"):
        return NO_IDENTITY
    return walked
