"""The header of one DICOM file, read so that damage is an answer and no patient's name reaches a log."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from clinibundle.errors import DAMAGE, UnreadableInput

# Values of data elements up to this size are read; private blobs beyond it stay on disk.
_DEFER_ABOVE_BYTES = 64 * 1024
_PREAMBLE_BYTES = 132
# A header without preamble starts with an element of group 0002 or 0008, little endian (PS3.10 7.1, older practice).
_STARTS_WITHOUT_PREAMBLE = (b"\x08\x00", b"\x02\x00")
_ONE_AT_A_TIME = threading.Lock()
NO_IDENTITY = "its DICOM header lacks SOPClassUID or SOPInstanceUID: it is damaged or no image"
DAMAGE_TO_DICOM = (*DAMAGE, BytesLengthException, InvalidDicomError)
"""What pydicom and its codecs raise on a damaged file."""


def read_header(path: Path) -> Dataset:
    """The data set of a DICOM image file up to its pixels.

    Files without preamble or file meta information are read too, if what follows looks like DICOM.

    Raises:
        UnreadableInput: if the file is no DICOM, is damaged, or is a DICOMDIR.
    """
    if not looks_like_dicom(path):
        raise UnreadableInput("it is no DICOM file (neither preamble nor a DICOM header)")
    try:
        with quietly(), plain_file(path) as (plain, size):
            header = pydicom.dcmread(plain, stop_before_pixels=True, force=True, defer_size=_DEFER_ABOVE_BYTES)
            _drop_unreadable_values(header, size)
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(f"its DICOM header is damaged ({type(error).__name__})") from error
    if "DirectoryRecordSequence" in header:
        raise UnreadableInput("it is a DICOMDIR, an index without pictures; name the folder it lies in")
    if not header.get("SOPInstanceUID") or not header.get("SOPClassUID"):
        raise UnreadableInput(NO_IDENTITY)
    return header


@contextmanager
def plain_file(path: Path) -> Iterator[tuple[Path | BytesIO, int]]:
    """What pydicom may read, and its length: the file, or a deflated one inflated up to a limit.

    pydicom knows no such limit. Only one file is inflated at a time, however many threads read.

    Raises:
        UnreadableInput: if it inflates to more than anybody can mean.
    """
    # Not at the top: inflating reads file meta information with the means of this module.
    from clinibundle.dicom.inflate import inflated_bytes, is_deflated

    if not is_deflated(path):
        yield path, path.stat().st_size
        return
    with _ONE_AT_A_TIME:
        inflated = inflated_bytes(path)
        yield BytesIO(inflated), len(inflated)


def is_dicomdir(path: Path) -> bool:
    """Whether a file is a DICOMDIR, by its class or by its records."""
    from clinibundle.dicom.inflate import is_deflated

    # None may be deflated (PS3.10 section 8.6).
    if not looks_like_dicom(path) or is_deflated(path):
        return False
    try:
        with quietly():
            start = pydicom.dcmread(
                path, force=True, specific_tags=["DirectoryRecordSequence"], stop_before_pixels=True
            )
            return start.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage or (
                "DirectoryRecordSequence" in start
            )
    except DAMAGE_TO_DICOM:
        return False


def looks_like_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does, with a preamble or with a data element of group 0002 or 0008."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE_BYTES)
    except OSError:
        return False
    if start[128:132] == b"DICM":
        return True
    return len(start) == _PREAMBLE_BYTES and start[:2] in _STARTS_WITHOUT_PREAMBLE and start[3:4] == b"\x00"


def _drop_unreadable_values(dataset: Dataset, file_bytes: int) -> None:
    """Converts what pydicom would convert when it is asked for, and takes out what cannot be: as good as absent."""
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag, keep_deferred=True)
        try:
            if isinstance(raw, RawDataElement) and raw.value is None and raw.length > 0:
                # Left on disk as it is large, or as a damaged length only says so.
                if raw.value_tell + raw.length > file_bytes:
                    del dataset[tag]
            elif not tag.is_private:
                dataset[tag]
        except DAMAGE_TO_DICOM:
            del dataset[tag]


@contextmanager
def quietly() -> Iterator[None]:
    """Without the libraries' warnings and log: they quote values of headers, patient names among them."""
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield
