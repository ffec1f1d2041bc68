"""A quick walk over a DICOM header: which short public elements there are, and where the pixels lie.

Why not pydicom: a study has thousands of files, and pydicom takes half a millisecond for each header, most of it for
elements that nobody asks for. What comes out is a pydicom data set all the same, whose values pydicom converts when
they are asked for. Only the plain case is walked: preamble, file meta information, little endian. For everything else,
and for the least oddity, the answer is None, and `header.read_header` asks pydicom.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from clinibundle.dicom.header import quietly
from clinibundle.dicom.values import tag as quick_tag

# Longer values (tables, private blobs) are of no use for finding and placing pictures.
_LONGEST_VALUE_BYTES = 1024
# Headers are mostly shorter than the first; those longer than the last are left to pydicom.
_READ_BYTES = (32 * 1024, 1024 * 1024)
_META_START = 132
_UNDEFINED = 0xFFFFFFFF
_PIXELS, _FLOAT_PIXELS = 0x7FE00010, (0x7FE00008, 0x7FE00009)
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_FORM = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT_FORM = {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
_SHORT_FORM |= {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
_VR_NAMES = {vr: vr.decode() for vr in _LONG_FORM | _SHORT_FORM}
_NOT_WALKED = {str(DeflatedExplicitVRLittleEndian), str(ExplicitVRBigEndian)}
_DICOMDIR_CLASS = b"1.2.840.10008.1.3.10"
_EXPLICIT = struct.Struct("<HH2sH")
_IMPLICIT = struct.Struct("<HHI")
_LONG = struct.Struct("<I")
_SPECIFIC_CHARACTER_SET = quick_tag(0x00080005)
_TRANSFER_SYNTAX, _MEDIA_CLASS = quick_tag(0x00020010), quick_tag(0x00020002)
_DEEPEST_NESTING = 16


class _Odd(Exception):
    """Something that a plain file does not have."""


class _Cut(Exception):
    """The bytes at hand end before the pixels."""


@dataclass(frozen=True)
class Walked:
    """What a walk found.

    Attributes:
        header: short public elements before the pixels; no sequences.
        transfer_syntax: UID.
        pixel_offset: of the first byte of the pixel data's value in the file; None without pixels, or if they are
            stored as fractions (Float Pixel Data).
        pixel_bytes: its length; None if undefined, as of compressed pixels.
    """

    header: Dataset
    transfer_syntax: str
    pixel_offset: int | None
    pixel_bytes: int | None


def walk_header(path: Path) -> Walked | None:
    """The short public elements of a plain DICOM file; None if pydicom has to be asked.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        data = b""
        for size in _READ_BYTES:
            data += stream.read(size - len(data)) or b""
            try:
                return _walk(data, whole_file=len(data) < size)
            except _Cut:
                continue
            except (_Odd, struct.error, LookupError, ValueError):
                return None
    return None


def _walk(data: bytes, whole_file: bool) -> Walked:
    if data[128:132] != b"DICM":
        raise _Odd
    meta: dict[BaseTag, RawDataElement] = {}
    at, _ = _elements(data, _META_START, meta, implicit=False, meta_only=True, whole_file=whole_file)
    syntax = (meta[_TRANSFER_SYNTAX].value or b"").rstrip(b"\0 ").decode("ascii")
    if syntax in _NOT_WALKED or (meta[_MEDIA_CLASS].value or b"").startswith(_DICOMDIR_CLASS):
        raise _Odd
    implicit = syntax == ImplicitVRLittleEndian
    elements: dict[BaseTag, RawDataElement] = {}
    offset, length = _elements(data, at, elements, implicit, meta_only=False, whole_file=whole_file)
    header = Dataset(elements)
    charset = elements.get(_SPECIFIC_CHARACTER_SET)
    header.set_original_encoding(implicit, True, character_set(charset.value or b"") if charset else None)
    if length is None:
        return Walked(header, syntax, None, None)
    return Walked(header, syntax, offset, None if length == _UNDEFINED else length)


@lru_cache(maxsize=64)
def character_set(value: bytes) -> list[str] | None:
    """Python's names of the encodings of a SpecificCharacterSet; None for the default one."""
    names = [part.decode("ascii", "replace").strip() for part in value.split(b"\\")]
    with quietly():
        return list(convert_encodings(names)) if any(names) else None


def _elements(  # noqa: PLR0912
    data: bytes, at: int, into: dict[BaseTag, RawDataElement], implicit: bool, meta_only: bool, whole_file: bool
) -> tuple[int, int | None]:
    """Gathers elements up to the pixels, or the end of the meta group.

    Returns where it stopped, and the length of the pixel data if it stopped there.
    """
    last, end = -1, len(data)
    # One long loop rather than a function for each element: it runs a hundred times for each of thousands of files.
    while at < end:
        if at + 12 > end and not whole_file:
            raise _Cut
        if implicit:
            group, element, length = _IMPLICIT.unpack_from(data, at)
            vr, value_at = b"", at + 8
        else:
            group, element, vr, length = _EXPLICIT.unpack_from(data, at)
            value_at = at + 8
            if meta_only and group != 2:
                return at, None
            if vr not in _SHORT_FORM:
                if vr not in _LONG_FORM:
                    raise _Odd
                (length,) = _LONG.unpack_from(data, value_at)
                value_at = at + 12
        tag = group << 16 | element
        if tag == _PIXELS:
            return value_at, length
        if tag in _FLOAT_PIXELS:
            return at, None
        if tag <= last or group == 0xFFFE:
            raise _Odd
        last = tag
        if length == _UNDEFINED:
            # What is in a sequence of unknown VR is implicit in any file (PS3.5 section 6.2.2, note 2).
            at = _after_sequence(data, value_at, implicit or vr == b"UN", 0)
            continue
        at = value_at + length
        if at > end:
            # Either cut off by us, or the file ends within a value.
            raise _Odd if whole_file else _Cut
        if length <= _LONGEST_VALUE_BYTES and not group & 1 and vr != b"SQ":
            key = quick_tag(tag)
            into[key] = RawDataElement(key, _VR_NAMES.get(vr), length, data[value_at:at], value_at, implicit, True)
    if not whole_file:
        raise _Cut
    return at, None


def _element(data: bytes, at: int, implicit: bool) -> tuple[bytes, int, int]:
    """VR (empty if implicit), length, and where the value starts."""
    if implicit:
        return b"", _IMPLICIT.unpack_from(data, at)[2], at + 8
    _, _, vr, length = _EXPLICIT.unpack_from(data, at)
    if vr in _SHORT_FORM:
        return vr, length, at + 8
    if vr in _LONG_FORM:
        return vr, _LONG.unpack_from(data, at + 8)[0], at + 12
    raise _Odd


def _after_sequence(data: bytes, at: int, implicit: bool, depth: int) -> int:
    """The place behind a sequence of undefined length whose value starts at `at` (PS3.5 section 7.5)."""
    if depth > _DEEPEST_NESTING:
        raise _Odd
    while True:
        if at + 8 > len(data):
            raise _Cut
        group, element, length = _IMPLICIT.unpack_from(data, at)
        tag = group << 16 | element
        at += 8
        if tag == _END_OF_SEQUENCE:
            return at
        if tag != _ITEM:
            raise _Odd
        at = at + length if length != _UNDEFINED else _after_item(data, at, implicit, depth)


def _after_item(data: bytes, at: int, implicit: bool, depth: int) -> int:
    while True:
        if at + 12 > len(data):
            raise _Cut
        if _IMPLICIT.unpack_from(data, at)[:2] == (_END_OF_ITEM >> 16, _END_OF_ITEM & 0xFFFF):
            return at + 8
        vr, length, value_at = _element(data, at, implicit)
        if length == _UNDEFINED:
            at = _after_sequence(data, value_at, implicit or vr == b"UN", depth + 1)
        else:
            at = value_at + length
