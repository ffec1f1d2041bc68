"""A small axial CT series, headers only, for the tests of what is written about volumes."""

from __future__ import annotations

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SLICES, ROWS, COLUMNS = 6, 32, 32
SPACING_MM, THICKNESS_MM = 0.75, 2.5


def ct_headers(**changes) -> list[FileDataset]:
    """Slices from foot to head without pixels, as the index gives them; attributes of None are taken out."""
    shared = {
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(),
    }
    return [_slice(number, {**shared, **changes}) for number in range(SLICES)]


def _slice(number: int, attributes: dict) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    plain = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Modality": "CT",
        "PatientName": "Phantom^Slices",
        "PatientID": "PHANTOM-CT",
        "PatientBirthDate": "19500101",
        "PatientSex": "O",
        "PatientAge": "074Y",
        "StudyDate": "20240229",
        "StudyTime": "101112",
        "StudyID": "7",
        "AccessionNumber": "A-7",
        "ReferringPhysicianName": "",
        "SeriesNumber": 3,
        "SeriesDescription": "Thorax 2.5 mm",
        "AcquisitionDate": "20240229",
        "AcquisitionTime": "101213.5",
        "AcquisitionNumber": 1,
        "InstanceNumber": number + 1,
        "Manufacturer": "made by a test",
        "ManufacturerModelName": "phantom",
        "InstitutionName": "Nowhere",
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
        "KVP": 120,
        "ConvolutionKernel": "B30f",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-12, -12, THICKNESS_MM * number],
        "SliceLocation": THICKNESS_MM * number,
        "SliceThickness": THICKNESS_MM,
        "PixelSpacing": [SPACING_MM, SPACING_MM],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
    }
    for keyword, value in {**plain, **attributes}.items():
        if value is not None:
            setattr(made, keyword, value)
    return made
