"""A source header as an object derived from it needs it: complete, well-formed, nothing made up."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from highdicom import SpecificCharacterSetValues
from pydicom.dataset import Dataset

from clinibundle.dicom.values import put, shallow_copy, whole
from clinibundle.errors import OutputError

# Type 2 attributes of the Patient and General Study modules: present, and empty where the source does not know them.
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
_FORMS = {
    "PatientAge": r"\d{3}[DWMY]",
    "PatientBirthDate": r"\d{8}",
    "PatientSex": r"[MFO]",
    "PatientSize": r"\d+(\.\d*)?",
    "PatientWeight": r"\d+(\.\d*)?",
    "StudyDate": r"\d{8}",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
}
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_UTF_8 = "ISO_IR 192"


def completed(source: Dataset) -> Dataset:
    """A copy of a source header that a derived object can be made from.

    Empty type 2 attributes are added; values of the wrong form are dropped rather than passed on (dciodvfy would call
    each an error in our object). What is there and well-formed is copied untouched, nothing is made up.
    """
    # Elements are replaced or taken out, never changed, so that the source stays as it was.
    header = shallow_copy(source)
    for keyword in _TYPE_2:
        if keyword not in header:
            put(header, keyword, "")
    for keyword, form in _FORMS.items():
        value = str(header.get(keyword, "") or "")
        if value and not (re.fullmatch(form, value) and (form != _FORMS["StudyDate"] or _is_date(value))):
            if keyword in _TYPE_2:
                put(header, keyword, "")
            else:
                delattr(header, keyword)
    if not header.get("DeidentificationMethod", "absent"):
        del header.DeidentificationMethod
    # A Pixel Measures item without a slice thickness, which a film does not have, is allowed by the standard and cannot
    # be read by highdicom; with spacing left out there is none, and the frames refer to the film's own grid anyway.
    if "PixelSpacing" in header and ("SliceThickness" not in header or not _is_spacing(header.PixelSpacing)):
        del header.PixelSpacing
    if "SpecificCharacterSet" in header and not _is_known_character_set(header.SpecificCharacterSet):
        # A code extension, as in Japan, or a misspelling: what pydicom made of it is written as Unicode.
        put(header, "SpecificCharacterSet", _UTF_8)
    return header


def _is_date(value: str) -> bool:
    try:
        return bool(datetime.strptime(value, "%Y%m%d"))
    except ValueError:
        return False


def _is_spacing(value: Any) -> bool:
    try:
        row, column = (float(part) for part in value)
    except (TypeError, ValueError):
        return False
    return 0 < row < math.inf and 0 < column < math.inf


def _is_known_character_set(value: Any) -> bool:
    return isinstance(value, str) and value in {known.value for known in SpecificCharacterSetValues}


def series_number(source: Dataset, offset: int) -> int:
    """Of a series made by clinibundle: after those of the scanner, which start at 1, and told apart by the offset."""
    return offset + whole(source, "SeriesNumber") % 1000


def refuse_unreferable(sources: Sequence[Dataset], what: str) -> None:
    """Raises OutputError if a source lacks an identifier without which no object can refer to it."""
    missing = [keyword for keyword in _NEEDED if not all(source.get(keyword) for source in sources)]
    if missing:
        raise OutputError(f"no {what} can refer to this source: its header has no {' and no '.join(missing)}")
