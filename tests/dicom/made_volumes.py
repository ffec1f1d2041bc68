"""Small series of slices made for the tests of volumes: any place in the patient, any way of storing the pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from clinibundle.dicom.gate import Placed, place
from clinibundle.dicom.header import quietly
from clinibundle.dicom.index import index_study
from clinibundle.dicom.read_volume import read_volume
from clinibundle.dicom.stacks import Stack, split_study
from clinibundle.volume import Volume

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
SPACING = (0.75, 0.5, 2.5)
ORIGIN = (-11.5, 7.25, 130.0)
PATIENT = {"PatientName": "Kowalska^Jadwiga", "PatientID": "PID-98765", "PatientBirthDate": "19440215"}


def lps_grid(
    spacing: Sequence[float] = SPACING,
    origin: Sequence[float] = ORIGIN,
    turn: Sequence[float] = (0, 0, 0),
    shear: Sequence[float] = (0, 0),
) -> np.ndarray:
    """(4, 4) affine, voxel index (column, row, slice) to millimetres.

    Args:
        spacing: of columns, rows, slices in mm, the last along the normal.
        origin: of the first voxel.
        turn: of the whole grid about the patient's x, y and z, in degrees.
        shear: mm along rows and columns that each slice is shifted against the one before it.
    """
    local = np.diag([*spacing]).astype(float)
    local[:2, 2] = shear
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ local
    affine[:3, 3] = origin
    return affine


def noise(shape: Sequence[int], dtype: Any = np.int16, low: int = -900, high: int = 1500, seed: int = 3) -> np.ndarray:
    """Random stored values (slices, rows, columns)."""
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(dtype)


def ct_series(values: np.ndarray, affine: np.ndarray | None = None, **changes: Any) -> list[FileDataset]:
    """One-frame CT slices of stored values (slices, rows, columns) on a grid.

    Args:
        values: whose type says how they are stored.
        affine: as of `lps_grid`.
        changes: attributes; None takes one out, a function is asked with the number of the slice.
    """
    affine = lps_grid() if affine is None else affine
    shared = {k: generate_uid() for k in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    made = []
    for number, picture in enumerate(values):
        dataset = _empty(CTImageStorage)
        attributes = {
            **shared,
            **PATIENT,
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "StudyDate": "20240229",
            "StudyTime": "101112",
            "StudyID": "7",
            "AccessionNumber": "A-7",
            "ReferringPhysicianName": "",
            "PatientSex": "F",
            "SeriesNumber": 3,
            "Manufacturer": "made by a test",
            "PositionReferenceIndicator": "",
            "InstanceNumber": number + 1,
            "AcquisitionNumber": 1,
            "ConvolutionKernel": "B30f",
            "KVP": 120,
            **_place(affine, number),
            "RescaleIntercept": 0,
            "RescaleSlope": 1,
            "RescaleType": "HU",
            **_form(picture),
        }
        _set(dataset, {**attributes, **changes}, number)
        _set_pixels(dataset, picture)
        made.append(dataset)
    return made


def enhanced(
    values: np.ndarray,
    affine: np.ndarray | None = None,
    order: Sequence[int] | None = None,
    shared_orientation: bool = True,
    frame_values: Callable[[int], dict[str, Any]] | None = None,
    **changes: Any,
) -> FileDataset:
    """An enhanced multi-frame CT of stored values (slices, rows, columns), as PS3.3 C.7.6.16 has it.

    Args:
        values: whose type says how they are stored.
        affine: as of `lps_grid`.
        order: of the slices as frames.
        shared_orientation: orientation and pixel measures stand in the shared groups, else in each frame's own.
        frame_values: what a slice's functional groups hold besides, by group: {"FrameContentSequence": {...}}.
        changes: attributes; None takes one out.
    """
    affine = lps_grid() if affine is None else affine
    order = range(len(values)) if order is None else order
    dataset = _empty(EnhancedCTImageStorage)
    attributes = {
        **{k: generate_uid() for k in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")},
        **PATIENT,
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "StudyDate": "20240229",
        "StudyTime": "101112",
        "InstanceNumber": 1,
        "SeriesNumber": 3,
        "NumberOfFrames": len(values),
        **_form(values[0]),
    }
    _set(dataset, {**attributes, **changes}, 0)
    shared, frames = Dataset(), []
    for slice_number in order:
        where = _place(affine, slice_number)
        groups = {
            "PlanePositionSequence": {"ImagePositionPatient": where["ImagePositionPatient"]},
            "PlaneOrientationSequence": {"ImageOrientationPatient": where["ImageOrientationPatient"]},
            "PixelMeasuresSequence": {k: where[k] for k in ("PixelSpacing", "SliceThickness")},
            "PixelValueTransformationSequence": {"RescaleIntercept": 0, "RescaleSlope": 1, "RescaleType": "HU"},
        }
        for name, more in (frame_values(slice_number) if frame_values else {}).items():
            groups[name] = {**groups.get(name, {}), **more}
        own = Dataset()
        for name, content in groups.items():
            item = Dataset()
            _set(item, content, slice_number)
            is_shared = shared_orientation and name in ("PlaneOrientationSequence", "PixelMeasuresSequence")
            setattr(shared if is_shared else own, name, [item])
        frames.append(own)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    _set_pixels(dataset, values[list(order)])
    return dataset


def save(made: FileDataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Writes a data set as it is, wrong values included; compressed where the syntax says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with quietly():
        if syntax.is_encapsulated:
            made.compress(syntax, generate_instance_uid=False)
        elif syntax == ExplicitVRBigEndian and made.BitsAllocated > 8:
            made.PixelData = np.frombuffer(made.PixelData, f"<u{made.BitsAllocated // 8}").byteswap().tobytes()
        made.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            path, made, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, force_encoding=True
        )
    return path


def save_all(series: Sequence[FileDataset], folder: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Writes a series, named by the order it is given in."""
    for number, made in enumerate(series):
        save(made, folder / f"IM{number:04}", syntax)
    return folder


def stacks_in(path: Path) -> list[Stack]:
    """The stacks of all series."""
    stacks, skipped = split_study(index_study(path).instances)
    assert skipped == []
    return stacks


def placed(path: Path, tilt_allowed: bool = False) -> Placed:
    """The one stack there, past the gate."""
    (only,) = stacks_in(path)
    return place(only.slices, "the series", tilt_allowed)


def read(path: Path, tilt_allowed: bool = False, fill_padding: bool = False) -> Volume:
    """The one volume there, by the room's own way."""
    return read_volume(placed(path, tilt_allowed), fill_padding)


def check_of(volume: Volume | Placed, name: str) -> Any:
    """The one check of that name; None if there is none."""
    found = [check for check in volume.checks if check.name == name]
    assert len(found) <= 1
    return found[0] if found else None


def _empty(sop_class: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    return made


def _place(affine: np.ndarray, number: int) -> dict[str, Any]:
    """What a slice's header says of its place (PS3.3 C.7.6.2)."""
    x_axis, y_axis, step, origin = affine[:3].T
    column_mm, row_mm = np.linalg.norm(x_axis), np.linalg.norm(y_axis)
    normal = np.cross(x_axis, y_axis) / (column_mm * row_mm)
    return {
        "ImageOrientationPatient": decimals(*x_axis / column_mm, *y_axis / row_mm),
        "ImagePositionPatient": decimals(*origin + number * step),
        "PixelSpacing": decimals(row_mm, column_mm),
        "SliceThickness": decimals(step @ normal)[0],
    }


def decimals(*values: float) -> list[str]:
    """Decimal strings, of 16 characters at most."""
    return [f"{value:.9g}" for value in np.round(values, 9) + 0.0]


def _form(picture: np.ndarray) -> dict[str, Any]:
    bits = picture.dtype.itemsize * 8
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": picture.shape[-2],
        "Columns": picture.shape[-1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(picture.dtype.kind == "i"),
    }


def _set(dataset: Dataset, attributes: dict[str, Any], number: int) -> None:
    with quietly():
        for keyword, value in attributes.items():
            found = value(number) if callable(value) else value
            if found is not None:
                setattr(dataset, keyword, found)
            if keyword.startswith("PixelPadding") and keyword in dataset:
                dataset[keyword].VR = "SS" if found < 0 else "US"
        if "BitsStored" in attributes and "HighBit" in dataset:
            dataset.HighBit = attributes["BitsStored"] - 1


def _set_pixels(dataset: Dataset, values: np.ndarray) -> None:
    content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
