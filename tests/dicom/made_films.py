"""Small films made for the tests of the dicom room, each with what a test wants to be odd about it."""

from __future__ import annotations

import tempfile
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from clinibundle.dicom.index import Instance, index_study
from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.phantoms.chest_radiograph import make_chest_radiograph
from clinibundle.phantoms.dicom_dx import write_dx_study
from clinibundle.volume import Volume

ROWS, COLUMNS = 96, 80
SPACING_MM = 4.5
CR = "1.2.840.10008.5.1.4.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@cache
def chest() -> np.ndarray:
    """A made-up chest of 12 bits (rows, columns); not to be changed."""
    picture = make_chest_radiograph(1, (ROWS, COLUMNS))[0]
    picture.setflags(write=False)
    return picture


@cache
def _phantom_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_dx_study(Path(folder), [chest()], seed=4, spacing_mm=SPACING_MM)[0].read_bytes()


def film(**changes) -> FileDataset:
    """The DX film of a chest with these attributes set, or taken out where the value is None; UIDs of its own."""
    made = pydicom.dcmread(BytesIO(_phantom_bytes()))
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, value in changes.items():
        if value is not None:
            # Odd values are meant; pydicom need not warn of them.
            with disable_value_validation():
                setattr(made, keyword, value)
        elif keyword in made:
            delattr(made, keyword)
        if keyword.startswith("PixelPadding") and keyword in made:
            made[keyword].VR = "US"
    made.file_meta.MediaStorageSOPClassUID = made.get("SOPClassUID", "")
    return made


def with_pixels(made: Dataset, pixels: np.ndarray, bits_stored: int | None = None) -> Dataset:
    """The same film with other stored values, of the kind and size that the array has."""
    size = pixels.dtype.itemsize * 8
    made.Rows, made.Columns = pixels.shape
    made.BitsAllocated = size
    made.BitsStored = bits_stored or size
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    if len(made.PixelData) % 2:
        made.PixelData += b"\0"
    made["PixelData"].VR = "OB" if size == 8 else "OW"
    return made


def save(made: Dataset, path: Path, **how) -> Path:
    """Writes a film as it is, wrong values included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not how and "TransferSyntaxUID" not in made.file_meta:
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Incorrect value for Specific Character Set")
        pydicom.dcmwrite(path, made, enforce_file_format=not how, **how)
    return path


def save_without_preamble(made: Dataset, path: Path) -> Path:
    """Writes a film as old archives kept them: nothing before the first data element, implicit little endian."""
    bare = Dataset()
    bare.update(made)
    pydicom.dcmwrite(path, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return path


def instance(path: Path) -> Instance:
    """The one film in a file."""
    (only,) = index_study(path).instances
    return only


def read(path: Path) -> Volume:
    """A file by the room's own way: index, then pixels."""
    return read_radiograph(instance(path))


def read_film(made: Dataset, folder: Path) -> Volume:
    """A film by way of a file."""
    return read(save(made, folder / "film.dcm"))


def check_of(volume: Volume, name: str):
    """The one check of that name; None if there is none."""
    found = [check for check in volume.checks if check.name == name]
    assert len(found) <= 1
    return found[0] if found else None
