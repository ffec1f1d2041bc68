"""Headers that were read before, by path, size and time of the file, so that a slow disk is asked once.

It lies in the user's own cache folder and must not become a second place with patient data. So it holds neither names,
ids, dates nor paths (fingerprints stand for them), and nothing at all of a file in whose path or other texts a part of
the patient's name, id or birth date turns up.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import platformdirs
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from clinibundle.dicom.header import DAMAGE_TO_DICOM
from clinibundle.dicom.patient import holds_part, patient_parts
from clinibundle.dicom.values import tag, text
from clinibundle.dicom.walk import Walked, character_set

# Of the patient, only what tells nobody who it is: sex, age, size, weight, species.
_PATIENT_GROUP = 0x0010
_HARMLESS_OF_PATIENT = {0x00100040, 0x00101010, 0x00101020, 0x00101030, 0x00102201}
# Accession number and study ID; names, dates and times of the day with a date.
_IDENTIFYING_TAGS = {0x00080050, 0x00200010}
_IDENTIFYING_VRS = {"PN", "DA", "DT"}
_PATIENT_ID, _CHARACTER_SET = 0x00100020, 0x00080005
_MOST_ROWS = 500_000
_AT_ONCE = 500
_TROUBLE = (sqlite3.Error, *DAMAGE_TO_DICOM)


class HeaderCache:
    """A small database of headers. Whatever goes wrong with it, the answer is that it knows nothing.

    Args:
        path: of the database; in the user's cache folder if not given.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(platformdirs.user_cache_dir("clinibundle")) / "headers.sqlite"

    def known(self, files: Sequence[Path]) -> dict[Path, Walked]:
        """Those of the files that were read before and have not changed in size or time."""
        by_key = {_fingerprint(file): file for file in files}
        found: dict[Path, Walked] = {}
        try:
            if not self.path.is_file():
                return {}
            with closing(self._connect()) as database:
                keys = list(by_key)
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    query = f"SELECT * FROM headers WHERE file IN ({','.join('?' * len(some))})"  # noqa: S608 - marks only
                    for key, size, time, content in database.execute(query, some):
                        status = by_key[key].stat()
                        if (status.st_size, status.st_mtime_ns) == (size, time):
                            found[by_key[key]] = _unpacked(content)
        except _TROUBLE:
            return {}
        return found

    def remember(self, read: Mapping[Path, Walked]) -> None:
        """Adds headers that were read, as far as they are fit to be kept."""
        try:
            rows = [row for file, walked in read.items() if (row := _row(file, walked)) is not None]
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with closing(self._connect()) as database, database:
                (count,) = database.execute("SELECT count(*) FROM headers").fetchone()
                if count + len(rows) > _MOST_ROWS:
                    database.execute("DELETE FROM headers")
                database.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", rows)
            self.path.chmod(0o600)
        except _TROUBLE:
            return

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=1.0)
        database.execute("CREATE TABLE IF NOT EXISTS headers (file BLOB PRIMARY KEY, size INT, time INT, header TEXT)")
        return database


def _fingerprint(file: Path) -> bytes:
    return hashlib.sha256(os.fsencode(file.absolute())).digest()


def _row(file: Path, walked: Walked) -> tuple[bytes, int, int, str] | None:
    """None if the path or a text of the header tells who the patient is."""
    parts = patient_parts([walked.header])
    if holds_part(str(file), parts):
        return None
    kept: list[list[Any]] = []
    for key in walked.header.keys():  # noqa: SIM118 - iterating a data set converts every element
        element = walked.header.get_item(key)
        vr = element.VR or str(dictionary_VR(key))
        if key == _PATIENT_ID:
            # Enough to count patients, of no use to find one.
            value = hashlib.sha256(f"clinibundle {text(walked.header, 'PatientID')}".encode()).hexdigest()[:16].encode()
        elif _is_identifying(int(key), vr):
            continue
        elif isinstance(element, RawDataElement):
            value = element.value or b""
            if vr != "UI" and holds_part(value.decode("latin-1"), parts):
                return None
        else:
            # Converted to be looked at: not worth the way back.
            return None
        kept.append([int(key), vr, value.decode("latin-1")])
    status = file.stat()
    place = [walked.transfer_syntax, walked.pixel_offset, walked.pixel_bytes]
    content = json.dumps([place, bool(walked.header.original_encoding[0]), kept], separators=(",", ":"))
    return _fingerprint(file), status.st_size, status.st_mtime_ns, content


def _is_identifying(number: int, vr: str) -> bool:
    if number >> 16 == _PATIENT_GROUP:
        return number not in _HARMLESS_OF_PATIENT
    return number in _IDENTIFYING_TAGS or vr in _IDENTIFYING_VRS


def _unpacked(content: str) -> Walked:
    (syntax, offset, length), implicit, kept = json.loads(content)
    elements = {}
    for number, vr, value in kept:
        key = tag(number)
        stored = value.encode("latin-1")
        elements[key] = RawDataElement(key, vr, len(stored), stored, 0, implicit, True)
    header = Dataset(elements)
    header.set_original_encoding(
        implicit, True, character_set(text(header, "SpecificCharacterSet").encode("ascii", "replace"))
    )
    return Walked(header, syntax, offset, length)
