"""What made-up DICOM objects of every modality share: a patient, a study, UIDs that follow from a seed."""

from __future__ import annotations

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

DATE, TIME = "20240101", "120000"


def new_object(sop_class: str, instance_uid: str) -> FileDataset:
    """An image without contents, in explicit little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = instance_uid
    return made


def uid_of(kind: str, seed: int, *parts: str) -> str:
    """A UID that the same words give again."""
    return str(generate_uid(entropy_srcs=[f"clinibundle phantom {kind}", str(seed), *parts]))


def add_patient_and_study(made: Dataset, seed: int, study_uid: str, description: str) -> None:
    """A patient who tells a seed, and one study."""
    made.PatientName = "Phantom^Chest"
    made.PatientID = f"PHANTOM-{seed}"
    made.PatientBirthDate = ""
    made.PatientSex = "O"
    made.StudyInstanceUID = study_uid
    made.StudyID = "1"
    made.StudyDate, made.StudyTime = DATE, TIME
    made.StudyDescription = description
    made.ReferringPhysicianName = ""
    made.AccessionNumber = ""


def add_series_and_equipment(made: Dataset, series_uid: str, number: int, description: str) -> None:
    """A series of the program's own make."""
    made.SeriesInstanceUID = series_uid
    made.SeriesNumber = number
    made.SeriesDescription = description
    made.Manufacturer = "clinibundle"
    made.ManufacturerModelName = "phantom"


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded concept (PS3.3 8.8)."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
