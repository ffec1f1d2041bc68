"""Headers that were read before, by path, size and time of the file, so that a slow disk is asked once.

It lies in the user's own cache folder and must not become a second place with patient data. So of a header it holds
only what an overview of studies needs, and of a path a fingerprint. Who the patient is it does not hold: that is read
anew, from one file of each patient. And it holds nothing at all of a file in whose path or description a part of a
patient's name, id or birth date turns up.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import platformdirs
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from clinibundle.dicom.header import DAMAGE_TO_DICOM
from clinibundle.dicom.patient import PATIENT_KEYWORDS, holds_part
from clinibundle.dicom.values import raw, shallow_copy, tag, text
from clinibundle.dicom.walk import Walked, walk_header


def _tag_of(keyword: str) -> BaseTag:
    return tag(tag_for_keyword(keyword) or 0)


_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_TEXTS = ("Modality", "SeriesDescription", "ImageType", "ConvolutionKernel", "StackID", "PhotometricInterpretation")
_NUMBERS = (
    *("InstanceNumber", "AcquisitionNumber", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"),
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "TriggerTime", "DiffusionBValue"),
    *("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("SeriesTime", "AcquisitionTime"),
)
_KEPT = tuple(_tag_of(keyword) for keyword in ("SpecificCharacterSet", *_UIDS, *_TEXTS, *_NUMBERS))
_MOST_ROWS = 500_000
_AT_ONCE = 500


class HeaderCache:
    """A small database of headers. Whatever goes wrong with it, the answer is that it knows nothing.

    Args:
        path: of the database; in the user's cache folder if not given.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(platformdirs.user_cache_dir("clinibundle")) / "headers.sqlite"

    def known(self, files: Sequence[Path]) -> dict[Path, Walked]:
        """What an overview needs of those files that were read before and have not changed in size or time."""
        groups: dict[str, dict[Path, Walked]] = defaultdict(dict)
        try:
            if self.path.is_file():
                for file, content in self._unchanged(files).items():
                    group, walked = _unpacked(content)
                    groups[group][file] = walked
            return {file: walked for members in groups.values() for file, walked in _with_patient(members).items()}
        except (sqlite3.Error, *DAMAGE_TO_DICOM):
            return {}

    def remember(self, read: Mapping[Path, Walked], patient_parts: frozenset[str]) -> None:
        """Adds headers that were read, as far as they are fit to be kept.

        Args:
            read: by their files.
            patient_parts: what tells the patients of the whole input, small letters and digits only.
        """
        try:
            groups: dict[Hashable, str] = defaultdict(lambda: secrets.token_hex(8))
            rows = [
                _row(file, walked, groups[_patient(walked.header)])
                for file, walked in read.items()
                if _is_plain(walked) and not _tells(file, walked, patient_parts)
            ]
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write(rows)
        except (sqlite3.Error, *DAMAGE_TO_DICOM):
            return

    def _unchanged(self, files: Sequence[Path]) -> dict[Path, str]:
        by_key = {_fingerprint(file): file for file in files}
        keys = list(by_key)
        found = {}
        with closing(self._connect()) as database:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                query = f"SELECT * FROM headers WHERE file IN ({','.join('?' * len(some))})"  # noqa: S608 - marks only
                for key, size, time, content in database.execute(query, some):
                    status = by_key[key].stat()
                    if (status.st_size, status.st_mtime_ns) == (size, time):
                        found[by_key[key]] = content
        return found

    def _write(self, rows: Sequence[tuple[bytes, int, int, str]]) -> None:
        try:
            with closing(self._connect()) as database, database:
                (count,) = database.execute("SELECT count(*) FROM headers").fetchone()
                if count + len(rows) > _MOST_ROWS:
                    database.execute("DELETE FROM headers")
                database.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", rows)
            self.path.chmod(0o600)
        except sqlite3.OperationalError:
            # Somebody else is writing, or the disk is full.
            return
        except sqlite3.DatabaseError:
            # Damaged: the next run starts a new one.
            self.path.unlink()

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=1.0)
        database.execute("CREATE TABLE IF NOT EXISTS headers (file BLOB PRIMARY KEY, size INT, time INT, header TEXT)")
        return database


def _fingerprint(file: Path) -> bytes:
    return hashlib.sha256(os.fsencode(file.absolute())).digest()


def _patient(header: Dataset) -> Hashable:
    """The same for two headers that say the same of who the patient is, letter by letter."""
    return tuple(raw(header, keyword) for keyword in (*PATIENT_KEYWORDS, "SpecificCharacterSet"))


def _is_plain(walked: Walked) -> bool:
    """Whether what is kept is there as it stands in the file; what pydicom has converted is not worth the way back."""
    kept = (walked.header.get_item(key) for key in _KEPT if key in walked.header)
    return walked.transfer_syntax != "" and all(isinstance(element, RawDataElement) for element in kept)


def _tells(file: Path, walked: Walked, patient_parts: frozenset[str]) -> bool:
    """Whether a patient can be told from the path, or from a text that would be kept."""
    # In a copy: pydicom converts what it is asked for.
    header = shallow_copy(walked.header)
    return any(holds_part(shown, patient_parts) for shown in (str(file), *(text(header, k) for k in _TEXTS)))


def _row(file: Path, walked: Walked, group: str) -> tuple[bytes, int, int, str]:
    elements = [walked.header.get_item(key) for key in _KEPT if key in walked.header]
    kept = [[int(e.tag), e.VR or str(dictionary_VR(e.tag)), (e.value or b"").decode("latin-1")] for e in elements]
    status = file.stat()
    place = [walked.transfer_syntax, walked.pixel_offset, walked.pixel_bytes]
    content = json.dumps([group, place, bool(walked.header.original_encoding[0]), kept], separators=(",", ":"))
    return _fingerprint(file), status.st_size, status.st_mtime_ns, content


def _unpacked(content: str) -> tuple[str, Walked]:
    group, (syntax, offset, length), implicit, kept = json.loads(content)
    elements = {}
    for number, vr, value in kept:
        key = tag(number)
        stored = value.encode("latin-1")
        elements[key] = RawDataElement(key, vr, len(stored), stored, 0, implicit, True)
    header = Dataset(elements)
    charsets = [part for part in text(header, "SpecificCharacterSet").split("\\") if part]
    header.set_original_encoding(implicit, True, convert_encodings(charsets) if charsets else None)
    return group, Walked(header, syntax, offset, length)


def _with_patient(members: Mapping[Path, Walked]) -> Mapping[Path, Walked]:
    """Files of one patient with the elements that say who it is, read anew from one of them; none if that fails."""
    file = next(iter(members))
    fresh = walk_header(file)
    if fresh is None:
        return {}
    for keyword in PATIENT_KEYWORDS:
        key = _tag_of(keyword)
        if key in fresh.header:
            for walked in members.values():
                walked.header._dict[key] = fresh.header.get_item(key)
    return members
