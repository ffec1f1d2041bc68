"""Whether a person can be told from a text: by name, id, birth date, or the date and number of the study."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from pydicom.dataset import Dataset

from clinibundle.dicom.values import raw, shallow_copy, text

PATIENT_KEYWORDS = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")
# Shorter parts of a name or id occur in any text.
_SHORTEST_PART = 3


def patient_parts(headers: Iterable[Dataset]) -> frozenset[str]:
    """What no text may hold that is shown; small letters and digits only."""
    patients = {tuple(raw(header, keyword) for keyword in PATIENT_KEYWORDS): header for header in headers}
    # In copies: pydicom converts what it is asked for, and a header may be wanted as it stands in the file.
    return frozenset(part for header in patients.values() for part in _parts(shallow_copy(header)))


def holds_part(shown: str, parts: frozenset[str]) -> bool:
    """Whether a patient can be told from a text: `1980-01-31` is found by `19800131`, `Müller` by `MULLER`."""
    letters = _only_letters_and_digits(shown)
    return any(part in letters for part in parts)


def _parts(header: Dataset) -> set[str]:
    names = text(header, "PatientName").split("=")
    parts = [*names, *(part for name in names for part in re.split(r"[\W\d_]+", name))]
    parts += [text(header, "PatientID"), text(header, "AccessionNumber")]
    parts += [written for keyword in ("PatientBirthDate", "StudyDate") for written in _ways_of_writing(header, keyword)]
    plain = {_only_letters_and_digits(part) for part in parts}
    return {part for part in plain if len(part) >= _SHORTEST_PART}


def _ways_of_writing(header: Dataset, keyword: str) -> list[str]:
    """A date as DICOM has it, with the day first, and with the month first."""
    date = text(header, keyword)
    year, month, day = date[:4], date[4:6], date[6:]
    return [date, day + month + year, month + day + year]


def _only_letters_and_digits(shown: str) -> str:
    """Small letters without accents, and digits."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", shown).casefold())
