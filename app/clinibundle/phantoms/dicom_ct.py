"""Made-up CTs as DICOM: CT Image Storage, one file a slice, regular or with the faults that real studies have."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from clinibundle.files import short_hash
from clinibundle.phantoms.dicom_study import (
    DATE,
    TIME,
    add_patient_and_study,
    add_series_and_equipment,
    new_object,
    uid_of,
)

_BITS = 12
_INTERCEPT = -1024
_LOCALIZER_NUMBER, _SERIES_NUMBER = 1, 2


def write_ct_series(
    destination: Path,
    hounsfield: NDArray[np.int16],
    affine_lps: NDArray[np.float64],
    seed: int,
    missing_slices: Collection[int] = (),
    duplicate_slices: Collection[int] = (),
    reversed_numbers: bool = False,
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> list[Path]:
    """Writes one series of axial, tilted or oblique slices; the same arguments give the same bytes.

    Series of one seed are one patient's and of one study, with a series UID each. Where the affine's third axis is not
    the normal of the slices, the series says what a scanner with a tilted gantry says.

    Args:
        destination: folder for the files, whose names say nothing of their order; made if it is not there.
        hounsfield: (slices, rows, columns), clipped to what 12 bits hold: -1024 to 3071.
        affine_lps: (4, 4), voxel index (x, y, z) = (column, row, slice) to millimetres in the patient.
        seed: tells the patient and the study from others.
        missing_slices: indices of slices that are left out, as if their files were lost; the numbers have gaps, too.
        duplicate_slices: indices of slices that come twice, with one picture and two SOP instance UIDs.
        reversed_numbers: instance numbers fall where positions rise.
        transfer_syntax: UID; explicit or implicit little endian, or one that pydicom has an encoder for.

    Returns:
        The files in the order of the slices, each duplicate behind its twin.
    """
    destination.mkdir(parents=True, exist_ok=True)
    series_uid = uid_of("CT", seed, "series", hashlib.sha256(affine_lps.tobytes() + hounsfield.tobytes()).hexdigest())
    paths = []
    for index, plane in enumerate(hounsfield):
        copies = (index not in missing_slices) * (1 + (index in duplicate_slices))
        for copy in range(copies):
            made = _image(plane, seed, uid_of("CT", seed, series_uid, str(index), str(copy)))
            add_series_and_equipment(made, series_uid, _SERIES_NUMBER, "Phantom, made by a program")
            made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            made.InstanceNumber = len(hounsfield) - index if reversed_numbers else index + 1
            _add_plane(made, affine_lps, index)
            _add_acquisition(made)
            paths.append(_save(made, destination, transfer_syntax))
    return paths


def write_ct_localizer(
    destination: Path, hounsfield: NDArray[np.int16], affine_lps: NDArray[np.float64], seed: int
) -> Path:
    """Writes the scout view from the front, which comes before a CT, as a series of its own in the same study.

    Args:
        destination: folder for the file; made if it is not there.
        hounsfield: (slices, rows, columns), of the whole CT.
        affine_lps: of the CT, as in `write_ct_series`.
        seed: of the CT.
    """
    destination.mkdir(parents=True, exist_ok=True)
    slices, rows, _ = hounsfield.shape
    # The head is on top; each ray crosses all rows of a slice.
    view = np.rint(hounsfield[::-1].mean(axis=1))
    turned = np.eye(4)
    turned[:3, 0], turned[:3, 1], turned[:3, 2] = affine_lps[:3, 0], -affine_lps[:3, 2], affine_lps[:3, 1]
    turned[:3, 3] = (affine_lps @ [0, (rows - 1) / 2, slices - 1, 1])[:3]
    series_uid = uid_of("CT", seed, "localizer", hashlib.sha256(turned.tobytes() + view.tobytes()).hexdigest())
    made = _image(view, seed, uid_of("CT", seed, series_uid))
    add_series_and_equipment(made, series_uid, _LOCALIZER_NUMBER, "Scout of the phantom")
    made.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    # A mean along rays is no Hounsfield unit (PS3.3 C.8.2.1.1.9).
    made.RescaleType = "US"
    made.InstanceNumber = 1
    _add_plane(made, turned, 0)
    _add_acquisition(made)
    return _save(made, destination, ExplicitVRLittleEndian)


def _image(hounsfield: NDArray[np.floating | np.int16], seed: int, instance_uid: str) -> FileDataset:
    """A picture (rows, columns) of a patient, not yet in any series or place."""
    made = new_object(CTImageStorage, instance_uid)
    add_patient_and_study(made, seed, uid_of("CT", seed, "study"), "Made-up chest CT")
    made.Modality = "CT"
    made.FrameOfReferenceUID = uid_of("CT", seed, "frame of reference")
    made.PositionReferenceIndicator = ""
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows, made.Columns = hounsfield.shape
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, _BITS, _BITS - 1
    made.PixelRepresentation = 0
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = _INTERCEPT, 1, "HU"
    made.WindowCenter, made.WindowWidth = 40, 400
    made.LossyImageCompression = "00"
    made.BurnedInAnnotation = "NO"
    stored = np.clip(hounsfield.astype(np.int32) - _INTERCEPT, 0, 2**_BITS - 1)
    made.PixelData = stored.astype("<u2").tobytes()
    made["PixelData"].VR = "OW"
    return made


def _add_plane(made: Dataset, affine_lps: NDArray[np.float64], index: int) -> None:
    """Where a slice lies (PS3.3 C.7.6.2), and the tilt of the gantry (C.8.2.1)."""
    along_row, along_column, step = affine_lps[:3, :3].T
    column_mm, row_mm = float(np.linalg.norm(along_row)), float(np.linalg.norm(along_column))
    normal = np.cross(along_row, along_column) / (column_mm * row_mm)
    position = (affine_lps @ [0, 0, index, 1])[:3]
    made.ImageOrientationPatient = [_decimal(v) for v in (*along_row / column_mm, *along_column / row_mm)]
    made.ImagePositionPatient = [_decimal(v) for v in position]
    made.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    made.SliceThickness = _decimal(abs(step @ normal))
    made.SliceLocation = _decimal(float(position @ normal))
    made.GantryDetectorTilt = _decimal(np.degrees(np.arctan2(step @ along_column / row_mm, step @ normal)))


def _add_acquisition(made: Dataset) -> None:
    """What a scanner was set to, with patients on their back, head first."""
    made.ContentDate, made.ContentTime = DATE, TIME
    made.AcquisitionDate, made.AcquisitionTime = DATE, TIME
    made.AcquisitionNumber = 1
    made.BodyPartExamined = "CHEST"
    made.PatientPosition = "HFS"
    made.KVP = 120
    made.XRayTubeCurrent, made.ExposureTime = 200, 500
    made.ConvolutionKernel = "STANDARD"
    made.DataCollectionDiameter = 500
    made.TableHeight = 150


def _save(made: FileDataset, folder: Path, transfer_syntax: str) -> Path:
    syntax = UID(transfer_syntax)
    if syntax.is_compressed:
        made.compress(syntax, generate_instance_uid=False)
    else:
        made.file_meta.TransferSyntaxUID = syntax
    path = folder / f"{short_hash(made.SOPInstanceUID)}.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


def _decimal(value: float | np.floating) -> str:
    """As a decimal string of at most 16 characters (PS3.5 6.2); a nought has no sign."""
    return f"{round(float(value), 7) + 0.0:.10g}"
