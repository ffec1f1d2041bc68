"""The files that a DICOMDIR lists (PS3.3 annex F), and those among them that are not there.

pydicom's FileSet needs a sound DICOMDIR with exact file names; those of clinics' CDs have often been through file
systems that change them, and some are damaged. So here a DICOMDIR is data: damage is part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.dicom.inflate import is_deflated
from clinibundle.dicom.values import text, whole
from clinibundle.errors import UnreadableInput

_MAX_BYTES = 64 << 20
# Patient, study, series and image are four; private records may lie between.
_MOST_LEVELS = 16
_NOT_IN_USE, _IN_USE = 0x0000, 0xFFFF
# Records of these types need not lie in a series (PS3.3 table F.4-1); the last two are retired.
_OUTSIDE_SERIES = {"HANGING PROTOCOL", "PALETTE", "IMPLANT", "IMPLANT GROUP", "IMPLANT ASSY", "PRIVATE"}
_OUTSIDE_SERIES |= {"HL7 STRUC DOC", "MRDR"}
_UID = re.compile(r"[0-9.]{1,64}")
_LEADS_OUT = re.compile(r"\.{0,2}|.*[/\\:\0].*", re.DOTALL)


@dataclass(frozen=True)
class MissingFile:
    """A file that a DICOMDIR lists and that is not there.

    Attributes:
        referenced: its path as the DICOMDIR has it; it may hold a patient's name, so it is not to be shown as it is.
        sop_instance_uid: its own UID; empty if the record does not say.
        series_instance_uid: of the series that it belongs to; empty if unknown.
        study_instance_uid: of the study; empty if unknown.
    """

    referenced: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True)
class DicomdirListing:
    """What a DICOMDIR lists.

    Attributes:
        files: those that are there, in the order of the records, each once; of whatever kind.
        missing: those that are not.
        damaged: why the list may be incomplete or partly wrong; None if the DICOMDIR is sound.
    """

    files: tuple[Path, ...] = ()
    missing: tuple[MissingFile, ...] = ()
    damaged: str | None = None


@dataclass(frozen=True)
class _Record:
    """A directory record; UIDs are empty, offsets 0 and the file None where it has none."""

    offset: int
    next_offset: int
    lower_offset: int
    kind: str
    file: tuple[str, ...] | None
    sop_uid: str
    series_uid: str
    study_uid: str


def files_of_dicomdir(path: Path) -> DicomdirListing:
    """The files that a DICOMDIR lists, found below its own folder and nowhere else.

    Names are compared as CDs change them: without regard to capital letters, a dot at the end or a version (`IM1.;1`).
    """
    try:
        items, flaw = _read_items(path)
    except UnreadableInput as error:
        return DicomdirListing(damaged=str(error))
    records = [_record(item) for item in items]
    places = _places_by_offsets(records)
    flaws = [flaw] if flaw else []
    if places is None:
        flaws.append("the offsets of its records contradict each other, so that their order tells their series")
        places = _places_by_order(records)
    found: dict[Path, None] = {}
    missing: list[MissingFile] = []
    folders: dict[Path, dict[str, Path]] = {}
    for number, (record, (study, series)) in enumerate(zip(records, places, strict=True), start=1):
        if record.file is None:
            continue
        if not record.file or any(_LEADS_OUT.fullmatch(part) for part in record.file):
            flaws.append(f"record {number} names a file that cannot lie in its folder")
        file = _find(path.parent, record.file, folders)
        if file is None:
            missing.append(MissingFile("/".join(record.file), record.sop_uid, series, study))
        else:
            found[file] = None
    return DicomdirListing(tuple(found), tuple(missing), "; ".join(flaws) or None)


def _read_items(path: Path) -> tuple[list[Dataset], str | None]:
    """The directory records as pydicom reads them, and what is wrong with them as a whole.

    Raises:
        UnreadableInput: if there is no reading them.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UnreadableInput(
                f"the DICOMDIR is larger than {_MAX_BYTES >> 20} MiB, which none is that lists a disc"
            )
        if is_deflated(path):
            raise UnreadableInput("the DICOMDIR is deflated, which none may be (PS3.10 section 8.6)")
        with quietly():
            dataset = pydicom.dcmread(path, force=True)
            if "DirectoryRecordSequence" not in dataset:
                raise UnreadableInput("it is no DICOMDIR, or a damaged one: it has no directory records")
            raw = dataset.get_item("DirectoryRecordSequence")
            is_cut = isinstance(raw, RawDataElement) and len(raw.value or b"") < raw.length
            return list(dataset.DirectoryRecordSequence), "it is cut off" if is_cut else None
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(f"the DICOMDIR is damaged ({type(error).__name__})") from error


def _record(item: Dataset) -> _Record:
    is_used = whole(item, "RecordInUseFlag", _IN_USE) != _NOT_IN_USE
    return _Record(
        offset=item.seq_item_tell,
        next_offset=whole(item, "OffsetOfTheNextDirectoryRecord"),
        lower_offset=whole(item, "OffsetOfReferencedLowerLevelDirectoryEntity"),
        kind=text(item, "DirectoryRecordType"),
        file=_file_id(item) if is_used else None,
        sop_uid=_uid(item, "ReferencedSOPInstanceUIDInFile"),
        series_uid=_uid(item, "SeriesInstanceUID"),
        study_uid=_uid(item, "StudyInstanceUID"),
    )


def _uid(item: Dataset, keyword: str) -> str:
    found = text(item, keyword)
    return found if _UID.fullmatch(found) else ""


def _file_id(item: Dataset) -> tuple[str, ...] | None:
    """The components of a record's file ID; none of them if it is damaged, None if the record names no file."""
    try:
        with quietly():
            value = item.get("ReferencedFileID") or None
    except DAMAGE_TO_DICOM:
        return ()
    return value and ((value,) if isinstance(value, str) else tuple(map(str, value)))


def _places_by_offsets(records: Sequence[_Record]) -> list[tuple[str, str]] | None:
    """Study and series UID of each record, by the tree that the offsets make; None if they make none."""
    at = {record.offset: index for index, record in enumerate(records)}
    parents: dict[int, int] = {}
    for parent, record in enumerate(records):
        offset = record.lower_offset
        while offset:
            child = at.get(offset)
            # A record below two others, or below itself, would have the walk go round for ever.
            if child is None or child in parents:
                return None
            parents[child] = parent
            offset = records[child].next_offset
    places = []
    for index, record in enumerate(records):
        line = _line(index, records, parents)
        study, series = (_first(uids) for uids in zip(*((r.study_uid, r.series_uid) for r in line), strict=True))
        belongs_to_series = record.file is not None and record.kind not in _OUTSIDE_SERIES
        if len(line) > _MOST_LEVELS or (belongs_to_series and not series):
            return None
        places.append((study, series))
    return places


def _line(index: int, records: Sequence[_Record], parents: Mapping[int, int]) -> list[_Record]:
    """A record and those above it; one more than `_MOST_LEVELS` of them if they go round in a circle."""
    line = [records[index]]
    while index in parents and len(line) <= _MOST_LEVELS:
        index = parents[index]
        line.append(records[index])
    return line


def _first(uids: Iterable[str]) -> str:
    return next(filter(None, uids), "")


def _places_by_order(records: Iterable[_Record]) -> list[tuple[str, str]]:
    """Study and series UID of each record, as if it belonged to those above it in the file."""
    study = series = ""
    places = []
    for record in records:
        if record.kind == "STUDY" or record.study_uid not in ("", study):
            study, series = record.study_uid, ""
        if record.kind == "SERIES" or record.series_uid:
            series = record.series_uid
        places.append(("", "") if record.kind in _OUTSIDE_SERIES else (study, series))
    return places


def _find(root: Path, parts: Iterable[str], folders: dict[Path, dict[str, Path]]) -> Path | None:
    """The file below `root`, by comparing names with what lies in each folder; `folders` keeps what was seen."""
    found = root
    for part in parts:
        if found not in folders:
            folders[found] = _entries(found)
        entry = folders[found].get(part) or folders[found].get(_as_on_disc(part))
        if entry is None:
            return None
        found = entry
    # A link may lead out of the folder.
    return found if found.is_file() and found.resolve().is_relative_to(root.resolve()) else None


def _entries(folder: Path) -> dict[str, Path]:
    """What lies in a folder, by its own name and by the one it would have on a disc; its own counts first."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return {}
    return {_as_on_disc(entry.name): entry for entry in entries} | {entry.name: entry for entry in entries}


def _as_on_disc(name: str) -> str:
    """Without case, a dot at the end and a version, which file systems of CDs add or drop (ISO 9660 section 7.5)."""
    return re.sub(r"\.?(;[0-9]+)?$", "", name.casefold())
