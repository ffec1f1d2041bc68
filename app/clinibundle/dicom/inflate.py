"""Deflated DICOM files, inflated in steps.

pydicom inflates a data set in one go, whatever it comes to: a file of four megabytes can ask for four gigabytes.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import FileMetaDataset

# Private, and yet the one to ask: whatever `dcmread` would inflate has to be taken as deflated.
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.errors import UnreadableInput

MAX_RATIO = 200
"""What is compressed may grow so many times. Pictures do two to five times, masks a thousand times: hence the next."""
UNSUSPECTED_BYTES = 256 << 20
"""Up to this size the ratio does not matter: it does no harm, and masks that are mostly empty compress very well."""
MAX_INFLATED_BYTES = 1 << 30
"""No file may come to more in memory."""
_STEP_BYTES = 1 << 20
_MIB = 1 << 20


def is_deflated(path: Path) -> bool:
    """Whether a file's data set is deflated as a whole (Deflated Explicit VR Little Endian, PS3.5 section A.5)."""
    try:
        with path.open("rb") as stream:
            return _is_deflated(_read_meta(stream))
    except DAMAGE_TO_DICOM:
        return False


def inflated_bytes(path: Path) -> bytes:
    """A deflated file as the same file in Explicit VR Little Endian: preamble, file meta information and data set.

    Raises:
        UnreadableInput: if it is not deflated, damaged, cut off, or grows beyond `MAX_INFLATED_BYTES`, or beyond
            `MAX_RATIO` times its size and `UNSUSPECTED_BYTES`.
    """
    inflated = BytesIO()
    try:
        limit = min(MAX_INFLATED_BYTES, max(UNSUSPECTED_BYTES, MAX_RATIO * path.stat().st_size))
        with path.open("rb") as stream:
            meta = _read_meta(stream)
            if not _is_deflated(meta):
                raise UnreadableInput("its data set is not deflated; expected Deflated Explicit VR Little Endian")
            _write_start(inflated, meta)
            _inflate(stream, inflated, limit)
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(f"its deflated data set is damaged ({type(error).__name__})") from error
    return inflated.getvalue()


def _read_meta(stream: BinaryIO) -> FileMetaDataset:
    """The file meta information; leaves the stream where the data set starts."""
    with quietly():
        read_preamble(stream, force=True)
        return _read_file_meta_info(stream)


def _is_deflated(meta: FileMetaDataset) -> bool:
    with quietly():
        return bool(meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def _write_start(inflated: BytesIO, meta: FileMetaDataset) -> None:
    with quietly():
        # pydicom cannot write elements that were read without a VR before it has looked at them.
        list(meta)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        inflated.write(bytes(128) + b"DICM")
        write_file_meta_info(inflated, meta, enforce_standard=False)


def _inflate(stream: BinaryIO, inflated: BytesIO, limit: int) -> None:
    """Appends what the rest of the stream inflates to, as long as that is no more than `limit` bytes."""
    # Without the zlib header, as PS3.5 section A.5 has it.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        # What was read and not inflated yet, as it would have grown beyond the step.
        deflated = inflater.unconsumed_tail or stream.read(_STEP_BYTES)
        inflated.write(inflater.decompress(deflated, _STEP_BYTES))
        if not deflated and not inflater.eof:
            raise UnreadableInput("its deflated data set is cut off")
        if inflated.tell() > limit:
            raise UnreadableInput(
                f"its deflated data set grows beyond {limit // _MIB} MiB, which no sound picture of its size does: "
                "it is damaged, or made to fill the memory"
            )
