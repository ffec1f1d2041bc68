"""Stored pixel values of one frame, whatever the transfer syntax; damage is an error, and never a codec's guess.

Uncompressed pixels are read straight from their place in the file, everything else through pydicom and its codecs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import IGNORE
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from clinibundle.dicom.codestream import coded_size, is_cut
from clinibundle.dicom.header import DAMAGE_TO_DICOM, plain_file, quietly
from clinibundle.dicom.index import Instance
from clinibundle.dicom.values import whole
from clinibundle.errors import UnreadableInput

MAX_PIXELS = 20_000 * 20_000 // 4
"""The largest detectors have about 5000 x 6000 pixels; what declares more is damaged or made to exhaust memory."""
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PLAIN = (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian))
_PLAIN_BITS = (8, 16, 32)


def stored_frame(
    instance: Instance, frame: int = 0, room: NDArray[np.int16] | None = None, whole_file: Dataset | None = None
) -> NDArray[Any]:
    """The stored values (rows, columns) of one frame of a grey picture, bits beyond BitsStored removed.

    Args:
        instance: that holds the frame.
        frame: its number, from 0.
        room: contiguous memory for rows x columns values of 16 bits, used where that saves a copy; the values that are
            returned may then lie in it.
        whole_file: what `read_whole` gives, if it is at hand.

    Raises:
        UnreadableInput: if the pixels are absent, truncated, damaged or coded in a way no installed codec reads.
    """
    check_size(instance.header, instance.name)
    if is_plain(instance):
        return _plain_frame(instance, frame, room)
    return decode(whole_file or read_whole(instance), instance.name, frame)


def check_size(header: Dataset, name: str) -> None:
    """Refuses what declares no picture, or one that nobody can have meant, before memory is taken for it.

    Raises:
        UnreadableInput: if it does.
    """
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    if rows <= 0 or columns <= 0:
        raise UnreadableInput(f"'{name}' has no picture: Rows and Columns are missing; name an image object")
    if rows * columns > MAX_PIXELS:
        raise UnreadableInput(f"'{name}' declares {rows} × {columns} pixels, more than the limit of {MAX_PIXELS}")


def is_plain(instance: Instance) -> bool:
    """Whether the frames are grey, uncompressed, little endian, of whole bytes, and where they start is known."""
    return (
        instance.pixel_offset is not None
        and instance.pixel_bytes is not None
        and instance.transfer_syntax in _PLAIN
        and whole(instance.header, "BitsAllocated") in _PLAIN_BITS
        and whole(instance.header, "SamplesPerPixel", 1) == 1
        and whole(instance.header, "BitsStored") <= whole(instance.header, "BitsAllocated")
    )


def _plain_frame(instance: Instance, frame: int, room: NDArray[np.int16] | None) -> NDArray[Any]:
    header = instance.header
    rows, columns, bits = (whole(header, keyword) for keyword in ("Rows", "Columns", "BitsAllocated"))
    kind = np.dtype(f"<{'i' if whole(header, 'PixelRepresentation') else 'u'}{bits // 8}")
    fits = room is not None and room.size == rows * columns and kind.itemsize == room.dtype.itemsize
    stored = room.reshape(-1).view(kind) if room is not None and fits else np.empty(rows * columns, kind)
    start = frame * stored.nbytes
    found = min(instance.pixel_bytes or 0, start + stored.nbytes)
    if found == start + stored.nbytes:
        try:
            with instance.path.open("rb", buffering=0) as stream:
                stream.seek((instance.pixel_offset or 0) + start)
                found = start + stream.readinto(stored.view(np.uint8))  # type: ignore[arg-type]
        except OSError as error:
            raise UnreadableInput(f"'{instance.name}' cannot be read ({type(error).__name__})") from error
    if found < start + stored.nbytes:
        raise UnreadableInput(
            f"'{instance.name}' is truncated: {found} bytes of pixels, expected {start + stored.nbytes}; "
            "ask for it to be sent again"
        )
    unused = bits - (whole(header, "BitsStored") or bits)
    if unused:
        # Bits beyond BitsStored may hold overlays (PS3.5 8.1.1); shifting up and down again keeps the sign.
        np.left_shift(stored, unused, out=stored)
        np.right_shift(stored, unused, out=stored)
    return stored.reshape(rows, columns)


def read_whole(instance: Instance) -> Dataset:
    """The whole data set of a file, pixels not yet decoded.

    Raises:
        UnreadableInput: if it is damaged or holds no pixels.
    """
    try:
        with quietly(), plain_file(instance.path) as (plain, _):
            dataset = pydicom.dcmread(plain, force=True)
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(
            f"'{instance.name}' is damaged ({type(error).__name__}); ask for it to be sent again"
        ) from error
    if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        raise UnreadableInput(
            f"'{instance.name}' holds no pixels: it is truncated or was sent without them; send it again"
        )
    if "TransferSyntaxUID" not in dataset.file_meta:
        # Without file meta information only the default transfer syntax is allowed (PS3.5 section 10).
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def decode(dataset: Dataset, name: str, frame: int = 0) -> NDArray[Any]:
    """The stored values (rows, columns) of one frame of a data set with grey pixels.

    Raises:
        UnreadableInput: if they are truncated, damaged or coded in a way no installed codec reads.
    """
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID), IGNORE)
    frames = whole(dataset, "NumberOfFrames", 1) or 1
    try:
        with quietly():
            if syntax.is_compressed and syntax.is_encapsulated:
                _check_coded(dataset, name, frame, frames)
            else:
                _check_length(dataset, name, frames)
            options: dict[str, Any] = {"raw": True} if frames > 1 else {}
            if syntax == RLELossless:
                # The other decoder ends in a panic on damaged streams, which is no Exception.
                options["decoding_plugin"] = "pydicom"
            if frames > 1:
                stored = pydicom.pixels.pixel_array(dataset, index=frame, **options)
            else:
                dataset.pixel_array_options(**options)
                stored = np.asarray(dataset.pixel_array)
            expected = (dataset.Rows, dataset.Columns)
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(
            f"the pixels of '{name}' cannot be decoded ({syntax.name}): they are damaged or truncated, "
            "or no codec for them is installed"
        ) from error
    if stored.shape != expected:
        raise UnreadableInput(f"'{name}' decodes to {stored.shape}, its header says {expected}")
    # Of big-endian files pydicom keeps the order of the bytes.
    return np.asarray(stored).astype(stored.dtype.newbyteorder("="), copy=False)


def _check_length(dataset: Dataset, name: str, frames: int) -> None:
    # pydicom tells this as well, after it has read what there is; said here in our words and with both numbers.
    pixels = dataset.Rows * dataset.Columns * whole(dataset, "SamplesPerPixel", 1)
    expected = frames * pixels * dataset.BitsAllocated // 8
    found = len(dataset.get("PixelData", b"") or b"")
    if "PixelData" in dataset and found < expected:
        raise UnreadableInput(
            f"'{name}' is truncated: {found} bytes of pixels, expected {expected}; ask for it to be sent again"
        )


def _check_coded(dataset: Dataset, name: str, frame: int, frames: int) -> None:
    stream = get_frame(dataset.PixelData, frame, number_of_frames=frames)
    found = coded_size(stream)
    if found not in (None, (dataset.Rows, dataset.Columns)):
        raise UnreadableInput(
            f"'{name}' holds a compressed picture of {found}, its header says ({dataset.Rows}, {dataset.Columns}): "
            "it is damaged; ask for it to be sent again"
        )
    if is_cut(stream):
        raise UnreadableInput(f"the compressed picture of '{name}' ends early: it is truncated; send it again")
