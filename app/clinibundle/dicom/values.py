"""Values of a header as plain text and numbers; what is absent or damaged is nothing, never an exception.

Raw values are read here without pydicom's classes, which take ten times as long and quote a wrong value in a warning.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Hashable
from copy import copy
from functools import cache, lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly

_PLAIN_TEXT = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"}
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


def text(header: Dataset, keyword: str) -> str:
    """The value as text, several of them joined by a backslash as in the file; empty if absent or damaged."""
    return "\\".join(texts(header, keyword))


def raw(header: Dataset, keyword: str) -> Hashable:
    """Something that is equal where the values are equal, without reading them."""
    element = header._dict.get(_tag_of(keyword))
    value = None if element is None else element.value
    return value if isinstance(value, bytes) else str(value)


def texts(header: Dataset, keyword: str) -> list[str]:
    """The values as text, without surrounding blanks and without empty ones."""
    try:
        parts = _values(header, keyword)
        return [shown for part in parts if part is not None and (shown := str(part).strip(" \0"))]
    except DAMAGE_TO_DICOM:
        return []


def numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The values as finite numbers; None unless there are exactly `count` of them."""
    try:
        found = tuple(float(part) for part in _values(header, keyword))
    except DAMAGE_TO_DICOM:
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def number(header: Dataset, keyword: str) -> float | None:
    """A single finite number."""
    found = numbers(header, keyword, 1)
    return found[0] if found else None


def whole(header: Dataset, keyword: str, default: int = 0) -> int:
    """A single whole number, or the default if there is none."""
    found = number(header, keyword)
    return default if found is None or found != int(found) else int(found)


def put(dataset: Dataset, keyword: str, value: object) -> None:
    """Replaces an element; setting the attribute would change it in all shallow copies of the data set."""
    dataset.add_new(keyword, _vr_of(keyword), value)


def shallow_copy(dataset: Dataset) -> Dataset:
    """A data set with the same elements, which can be replaced or taken out without changing the first."""
    found = copy(dataset)
    # `copy` alone leaves both with one dictionary.
    found._dict = dict(dataset._dict)
    return found


@cache
def _tag_of(keyword: str) -> BaseTag | None:
    number = tag_for_keyword(keyword)
    return None if number is None else tag(number)


@cache
def _vr_of(keyword: str) -> str:
    return str(dictionary_VR(keyword))


@lru_cache(maxsize=4096)
def tag(number: int) -> BaseTag:
    """The tag of a number, always the same object: a dictionary finds it without comparing."""
    return BaseTag(number)


def _values(header: Dataset, keyword: str) -> list[Any]:
    # Not `get_item`, which makes a tag out of the tag first: this runs twenty times for each of thousands of headers.
    element = header._dict.get(_tag_of(keyword))
    if element is None:
        return []
    if isinstance(element, RawDataElement) and element.value is not None and element.is_little_endian:
        vr = element.VR or _vr_of(keyword)
        if vr in _PLAIN_TEXT:
            # Some writers pad all text with zeros, which PS3.5 section 6.2 has for UIDs alone.
            return list(element.value.decode("ascii").rstrip("\0").split("\\"))
        if vr in _BINARY:
            form = _BINARY[vr]
            return list(struct.unpack(f"<{len(element.value) // struct.calcsize(form)}{form}", element.value))
    with quietly():
        value = header.get(keyword)
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]
