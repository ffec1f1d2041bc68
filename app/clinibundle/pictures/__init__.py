"""Pictures that are no DICOM: PNG, JPEG, TIFF, BMP and NIfTI in; label maps in the family of the input out."""
