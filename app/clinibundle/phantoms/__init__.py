"""Made-up pictures with known truth, written as data folders and as DICOM."""
