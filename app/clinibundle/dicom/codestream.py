"""The size that a compressed frame says it has, so that it can be held against the header before a codec takes memory.

The decoders behind pydicom allocate what the stream declares, not what the header does: a few bytes can ask for
gigabytes, or for a minute. pydicom reads other parameters of the streams, but not the size of a JPEG 2000 image.
"""

from __future__ import annotations

import struct

_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_START = b"\xff\xd8"
_END = b"\xff\xd9"
# Writers pad to an even length; some to more.
_LONGEST_PADDING = 16
_START_OF_SCAN = 0xDA
# Start of frame: C0 to CF but for Huffman tables, arithmetic conditioning and a reserved one; F7 is JPEG-LS.
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


def coded_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 stream; None if it does not say, or is none of these."""
    try:
        if frame.startswith(_J2K_START):
            # SIZ marker: lengths and capabilities, then the reference grid's size and the image's offset on it.
            right, lower, left, upper = struct.unpack_from(">4I", frame, 8)
            return lower - upper, right - left
        return _jpeg_size(frame) if frame.startswith(_JPEG_START) else None
    except (struct.error, IndexError):
        return None


def is_cut(frame: bytes) -> bool:
    """Whether a JPEG, JPEG-LS or JPEG 2000 stream lacks the marker it has to end with; some codecs do not mind.

    All of them end with FF D9 (ISO 10918-1 B.1.1.3, ISO 14495-1 C.1.3, ISO 15444-1 A.4.4), and may be padded.
    """
    if not frame.startswith((_J2K_START, _JPEG_START)):
        return False
    return not frame.rstrip(b"\0").endswith(_END) and _END not in frame[-_LONGEST_PADDING:]


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    at = len(_JPEG_START)
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _START_OF_FRAME:
            rows, columns = struct.unpack_from(">2H", frame, at + 5)
            # No rows: they are counted at the end of the scan.
            return (rows, columns) if rows else None
        if marker == _START_OF_SCAN:
            return None
        if marker == 0xFF:  # a byte to fill
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None
