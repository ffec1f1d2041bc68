"""The stored frames of a SEG, decoded one at a time.

pydicom does it, but for three forms that version 3.0.2 cannot read: single bits whose frames share bytes, of which it
loses the last ones when it is asked for one frame; run lengths of single bits; and frames that are deflated one by one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.config import IGNORE
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, RLELossless

from clinibundle.dicom.codestream import coded_size, is_cut
from clinibundle.errors import UnreadableInput

MAX_STORED_PIXELS = 2**33
"""Frames × rows × columns that an object may declare: a hundred segments on 300 slices of 512 × 512. More is damage."""

_DEFLATED_FRAMES = UID("1.2.840.10008.1.2.8.1", IGNORE)
_RLE_HEADER_BYTES = 64


def decode_frames(dataset: Dataset, wanted: Sequence[int]) -> Iterator[NDArray[Any]]:
    """The stored values of some frames, each (rows, columns): 0 and 1 of binary objects, else uint8 or uint16.

    Args:
        dataset: the object, its form checked by `check_form`.
        wanted: indices of frames, from 0, rising.

    Raises:
        UnreadableInput: if there are too few pixels, or they are coded for another size than the header says.
        DAMAGE_TO_DICOM: whatever pydicom and codecs raise on damaged pixels.
    """
    if not wanted:
        return
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID), IGNORE)
    if syntax == _DEFLATED_FRAMES or (syntax == RLELossless and dataset.BitsAllocated == 1):
        decode = _inflate if syntax == _DEFLATED_FRAMES else _unpack_run_lengths
        frames = _encoded_frames(dataset)
        for index in wanted:
            yield _unpacked(decode(frames[index], _frame_bytes(dataset)), dataset)
        return
    if syntax == ExplicitVRBigEndian:
        raise UnreadableInput(f"the SEG is stored as {syntax.name}, retired before there were any; export it again")
    decoder = get_decoder(syntax)
    if decoder.is_native:
        _check_length(dataset)
        if dataset.BitsAllocated == 1:
            yield from (_bits(dataset, index) for index in wanted)
        else:
            yield from (array for array, _ in decoder.iter_array(dataset, indices=wanted, raw=True))
        return
    _check_coded(dataset)
    # The other decoder of run lengths ends in a panic on damaged streams, which is no Exception.
    plugin = "pydicom" if syntax == RLELossless else ""
    remaining = set(wanted)
    for index, (array, _) in enumerate(decoder.iter_array(dataset, raw=True, decoding_plugin=plugin)):
        if index in remaining:
            yield array
            remaining.remove(index)
    if remaining:
        raise UnreadableInput(f"the SEG is truncated: frame {min(remaining) + 1} has no pixels; send it again")


def check_form(dataset: Dataset) -> None:
    """Refuses what no SEG is, and what would take more memory than any (PS3.3 C.8.20.2).

    Raises:
        UnreadableInput: if the frames are not of one unsigned value a pixel, or are more than MAX_STORED_PIXELS.
    """
    frames, rows, columns = int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns)
    if min(frames, rows, columns) < 1:
        raise UnreadableInput(f"the SEG declares {frames} frames of {rows} × {columns} pixels: it has no picture")
    if frames * rows * columns > MAX_STORED_PIXELS:
        raise UnreadableInput(
            f"the SEG declares {frames} frames of {rows} × {columns} pixels, more than the limit of "
            f"{MAX_STORED_PIXELS} in all; it is damaged, or far too large"
        )
    form = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated), int(dataset.PixelRepresentation)
    if form not in ((1, 1, 0), (1, 8, 0), (1, 16, 0)):
        raise UnreadableInput(
            f"the SEG stores {form[0]} {'signed' if form[2] else 'unsigned'} values of {form[1]} bits a pixel, "
            "expected one unsigned of 1, 8 or 16 bits; ask for it to be exported again"
        )
    if "PixelData" not in dataset:
        raise UnreadableInput("the SEG holds no pixels: it is truncated or was sent without them; send it again")


def _frame_bytes(dataset: Dataset) -> int:
    """Of one frame as it is before compression: whole bytes, single bits packed (PS3.5 8.1.1)."""
    return -(-int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8)


def _encoded_frames(dataset: Dataset) -> list[bytes]:
    table = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return list(
        generate_frames(
            dataset.PixelData,
            number_of_frames=int(dataset.NumberOfFrames),
            extended_offsets=table if all(table) else None,
        )
    )


def _check_length(dataset: Dataset) -> None:
    # Frames of single bits follow each other without a gap (PS3.5 8.1.1).
    expected = -(-int(dataset.NumberOfFrames) * dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8)
    found = len(dataset.PixelData)
    if found < expected:
        raise UnreadableInput(
            f"the SEG is truncated: {found} bytes of pixels, expected {expected}; ask for it to be sent again"
        )


def _check_coded(dataset: Dataset) -> None:
    expected = (dataset.Rows, dataset.Columns)
    for number, frame in enumerate(_encoded_frames(dataset), start=1):
        found = coded_size(frame)
        if found not in (None, expected):
            raise UnreadableInput(
                f"frame {number} of the SEG holds a compressed picture of {found}, its header says {expected}: "
                "it is damaged; ask for it to be sent again"
            )
        if is_cut(frame):
            raise UnreadableInput(f"frame {number} of the SEG ends early: it is truncated; ask for it to be sent again")


def _bits(dataset: Dataset, index: int) -> NDArray[np.uint8]:
    """One uncompressed frame of single bits, the first in the lowest bit of a byte (PS3.5 8.1.1, Annex D)."""
    shape = dataset.Rows, dataset.Columns
    pixels = shape[0] * shape[1]
    start, end = index * pixels, (index + 1) * pixels
    covering = np.frombuffer(dataset.PixelData, np.uint8)[start // 8 : -(-end // 8)]
    return np.unpackbits(covering, bitorder="little")[start % 8 :][:pixels].reshape(shape)


def _inflate(frame: bytes, size: int) -> bytes:
    """One frame of Deflated Image Frame Compression: raw deflate, RFC 1951 (PS3.5 8.2.16, Supplement 244)."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size)


def _unpack_run_lengths(frame: bytes, size: int) -> bytes:
    """One frame of packed bits in the syntax RLE Lossless: a header and one segment of PackBits (PS3.5 Annex G)."""
    segments, start = struct.unpack_from("<2L", frame)
    if segments != 1 or start < _RLE_HEADER_BYTES:
        raise ValueError("not one RLE segment")
    unpacked = bytearray()
    at = start
    # Stops at the size that the header tells: a stream could go on to 64 times its own length.
    while len(unpacked) < size and at + 1 < len(frame):
        control = frame[at]
        if control < 128:
            unpacked += frame[at + 1 : at + 2 + control]
            at += 2 + control
        elif control > 128:
            unpacked += frame[at + 1 : at + 2] * (257 - control)
            at += 2
        else:  # means nothing
            at += 1
    return bytes(unpacked[:size])


def _unpacked(frame: bytes, dataset: Dataset) -> NDArray[Any]:
    """(rows, columns) out of the bytes of one uncompressed frame."""
    if len(frame) < _frame_bytes(dataset):
        raise UnreadableInput(
            f"a frame of the SEG holds {len(frame)} bytes, expected {_frame_bytes(dataset)}; have it sent again"
        )
    shape = dataset.Rows, dataset.Columns
    if dataset.BitsAllocated == 1:
        return np.unpackbits(np.frombuffer(frame, np.uint8), count=shape[0] * shape[1], bitorder="little").reshape(
            shape
        )
    return np.frombuffer(frame, f"<u{dataset.BitsAllocated // 8}").reshape(shape)
