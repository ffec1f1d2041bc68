"""Made-up films as DICOM: Digital X-Ray Image Storage - For Presentation, chest, front view."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation

from clinibundle.phantoms.dicom_study import (
    DATE,
    TIME,
    add_patient_and_study,
    add_series_and_equipment,
    coded,
    new_object,
    uid_of,
)

_BITS = 12
_WHITE = 2**_BITS - 1


def write_dx_study(
    destination: Path,
    images: Sequence[NDArray[np.uint16]],
    seed: int,
    spacing_mm: float,
    monochrome1: bool = False,
) -> list[Path]:
    """Writes one study of chest films into a folder; the same arguments give the same bytes.

    Args:
        destination: folder for the files `IM0001`, `IM0002`, ...; made if it is not there.
        images: pictures (rows, columns) of 12-bit grey, air dark.
        seed: tells the patient and the study from others.
        spacing_mm: side of a pixel.
        monochrome1: stores the grey inverted, as films whose readers show high values dark.

    Returns:
        The files in the order of the images.
    """
    destination.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(images, start=1):
        dataset = _film(image, seed, number, spacing_mm, monochrome1)
        path = destination / f"IM{number:04d}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _film(image: NDArray[np.uint16], seed: int, number: int, spacing_mm: float, monochrome1: bool) -> FileDataset:
    if image.ndim != 2 or image.max() > _WHITE:
        raise ValueError(f"expected a picture (rows, columns) of at most {_WHITE}, found {image.shape}, {image.max()}")
    stored = (_WHITE - image if monochrome1 else image).astype("<u2").tobytes()
    instance_uid = uid_of("DX", seed, "instance", str(number), hashlib.sha256(stored).hexdigest())
    film = new_object(DigitalXRayImageStorageForPresentation, instance_uid)
    film.InstanceNumber = number
    add_patient_and_study(film, seed, uid_of("DX", seed, "study"), "Made-up chest radiograph")
    film.Modality = "DX"
    film.PresentationIntentType = "FOR PRESENTATION"
    add_series_and_equipment(film, uid_of("DX", seed, "series"), 1, "Phantom, made by a program")
    _add_acquisition(film, spacing_mm)
    _add_picture(film, image.shape, stored, monochrome1)
    return film


def _add_acquisition(film: Dataset, spacing_mm: float) -> None:
    """Body part, view and detector."""
    film.ContentDate, film.ContentTime = DATE, TIME
    film.AcquisitionDate, film.AcquisitionTime = DATE, TIME
    film.ImageType = ["ORIGINAL", "PRIMARY", ""]
    film.BodyPartExamined = "CHEST"
    film.AnatomicRegionSequence = [coded("816094009", "SCT", "Chest")]
    film.ImageLaterality = "U"
    film.PatientOrientation = ["L", "F"]
    film.ViewPosition = "PA"
    film.ViewCodeSequence = [coded("399348003", "SCT", "postero-anterior")]
    film.ViewCodeSequence[0].ViewModifierCodeSequence = []
    film.PositionerType = "NONE"
    film.DetectorType = "DIRECT"
    spacing = f"{spacing_mm:.8g}"
    film.PixelSpacing = [spacing, spacing]
    film.ImagerPixelSpacing = [spacing, spacing]
    film.AcquisitionContextSequence = []


def _add_picture(film: Dataset, shape: tuple[int, ...], stored: bytes, monochrome1: bool) -> None:
    film.SamplesPerPixel = 1
    film.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    film.PresentationLUTShape = "INVERSE" if monochrome1 else "IDENTITY"
    film.Rows, film.Columns = shape
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, _BITS, _BITS - 1
    film.PixelRepresentation = 0
    film.PixelIntensityRelationship = "LOG"
    film.PixelIntensityRelationshipSign = 1 if monochrome1 else -1
    film.RescaleIntercept, film.RescaleSlope, film.RescaleType = 0, 1, "US"
    film.WindowCenter, film.WindowWidth = 2 ** (_BITS - 1), 2**_BITS
    film.LossyImageCompression = "00"
    film.BurnedInAnnotation = "NO"
    film.PixelData = stored
