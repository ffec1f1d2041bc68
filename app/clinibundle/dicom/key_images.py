"""Key images as DICOM: pictures with the outline drawn in, as Secondary Capture (PS3.3 A.8), which any viewer shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from highdicom.sc import SCImage
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from clinibundle.dicom.codes import Algorithm
from clinibundle.dicom.derived import completed, refuse_unreferable, series_number
from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.errors import OutputError

_WORDS = "Not for diagnostic use"
_UTF_8 = "ISO_IR 192"
# Those of SEG are 9000 and up, those of SR 10000 and up.
_SERIES_NUMBER_OFFSET = 11000
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_SMALLEST_FONT_PX = 12
_COLUMNS_PER_FONT_PX = 40
_MARGIN_PX = 4


@dataclass(frozen=True, eq=False)
class KeyImage:
    """A picture to be kept with the study.

    Attributes:
        pixels: (rows, columns, 3) uint8, red, green, blue, with the overlay drawn in.
        shows: numbers of the sources that it shows, from 0.
        title: what it shows; never a patient's name.
    """

    pixels: NDArray[np.uint8]
    shows: Sequence[int]
    title: str

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or not self.pixels.size:
            raise ValueError(f"expected a picture (rows, columns, 3) of uint8, found {shape} of {self.pixels.dtype}")
        if not self.shows:
            raise ValueError("a key image shows at least one of its sources")


def write_key_images(
    folder: Path, pictures: Sequence[KeyImage], sources: Sequence[Dataset], algorithm: Algorithm
) -> list[Path]:
    """Writes a series of Secondary Capture images, reads them back, and compares every pixel.

    Each has a band below its picture that says "not for diagnostic use".

    Args:
        folder: for the files `key_image_001.dcm`, `key_image_002.dcm` and so on; it has to be there.
        pictures: in the order of the series.
        sources: headers of the instances that the pictures show.
        algorithm: that made what is drawn in.

    Returns:
        The files, in the order of the pictures.

    Raises:
        OutputError: if the sources cannot be referred to, or what is read back differs from what was meant.
    """
    refuse_unreferable(sources, "key image")
    words = f"{_WORDS}: {algorithm.name} {algorithm.version}"
    series = generate_uid()
    paths = []
    for number, picture in enumerate(pictures, start=1):
        pixels = with_band(picture.pixels, words)
        shown = [sources[index] for index in picture.shows]
        try:
            with quietly():
                image = _capture(pixels, shown, series, number, algorithm)
        except DAMAGE_TO_DICOM as error:
            # The error itself may quote the header, and so the patient.
            raise OutputError(
                f"no key image can be made for this source ({type(error).__name__}): its header is damaged; fetch the "
                "source again from its archive"
            ) from error
        image.SeriesDescription = f"{words} key images"[:64]
        image.ImageComments = picture.title
        path = folder / f"key_image_{number:03d}.dcm"
        with quietly():
            image.save_as(path)
        compare_with_written(path, pixels)
        paths.append(path)
    return paths


def with_band(pixels: NDArray[np.uint8], words: str) -> NDArray[np.uint8]:
    """The picture above a black band with words in white; what is narrower than the words gets black on its right.

    Args:
        pixels: (rows, columns, 3).
        words: of a single line.
    """
    rows, columns, _ = pixels.shape
    font = ImageFont.load_default(max(_SMALLEST_FONT_PX, columns // _COLUMNS_PER_FONT_PX))
    _, _, right, bottom = font.getbbox(words)
    size = (max(columns, int(right) + 2 * _MARGIN_PX), int(bottom) + 2 * _MARGIN_PX)
    band = Image.new("RGB", size)
    ImageDraw.Draw(band).text((_MARGIN_PX, _MARGIN_PX), words, fill="white", font=font)
    canvas = np.zeros((rows + size[1], size[0], 3), np.uint8)
    canvas[:rows, :columns] = pixels
    canvas[rows:] = np.asarray(band)
    return canvas


def compare_with_written(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Reads a key image back and raises OutputError unless each pixel is what was meant.

    Args:
        path: of the key image.
        pixels: (rows, columns, 3), with the band.
    """
    try:
        with quietly():
            read = pydicom.dcmread(path)
            found = read.pixel_array
    except DAMAGE_TO_DICOM as error:
        raise OutputError(
            f"a key image cannot be read back ({type(error).__name__}); nothing was kept, please report this"
        ) from error
    if read.PhotometricInterpretation != "RGB" or not np.array_equal(found, pixels):
        raise OutputError("a key image read back differs from its picture; nothing was kept, please report this")


def _capture(
    pixels: NDArray[np.uint8], shown: Sequence[Dataset], series: str, number: int, algorithm: Algorithm
) -> SCImage:
    header = completed(shown[0])
    image = SCImage.from_ref_dataset(
        header,
        pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # highdicom wants one, and nobody knows it: a picture may be a cut through a volume in any direction.
        patient_orientation=("L", "P"),
        series_instance_uid=series,
        series_number=series_number(header, _SERIES_NUMBER_OFFSET),
        sop_instance_uid=generate_uid(),
        instance_number=number,
        manufacturer="clinibundle",
        manufacturer_model_name="clinibundle",
        # The title may be in another alphabet than the source.
        specific_character_set=_UTF_8,
        software_versions=algorithm.software_version,
        device_serial_number=algorithm.weights_sha256[:16],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    image.copy_patient_and_study_information(header)
    # Type 2C in the General Image and General Series modules: there, and not known.
    image.PatientOrientation = ""
    image.Laterality = ""
    image.ConversionType = "WSD"
    image.DerivationDescription = (
        f"Picture with the findings of {algorithm.name} {algorithm.version} (weights_sha256 {algorithm.weights_sha256})"
        f" drawn in by clinibundle {algorithm.software_version}. {_WORDS}."
    )
    image.SourceImageSequence = _references(shown)
    _add_what_pixels_inherit(image, shown)
    return image


def _references(shown: Sequence[Dataset]) -> list[Dataset]:
    references = []
    for source in shown:
        reference = Dataset()
        reference.ReferencedSOPClassUID = source.SOPClassUID
        reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
        purpose = CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
        reference.PurposeOfReferenceCodeSequence = [purpose]
        references.append(reference)
    return references


def _add_what_pixels_inherit(image: Dataset, shown: Sequence[Dataset]) -> None:
    """Names burned into the pixels, and loss, are passed on with them (PS3.3 C.7.6.1.1.5)."""
    burned = {source.get("BurnedInAnnotation") for source in shown}
    # Where a source does not say, nobody may take the key image for free of names.
    if "YES" in burned or burned == {"NO"}:
        image.BurnedInAnnotation = "YES" if "YES" in burned else "NO"
    lossy = next((source for source in shown if source.get("LossyImageCompression") == "01"), Dataset())
    for keyword in _LOSSY:
        if lossy.get(keyword):
            setattr(image, keyword, lossy[keyword].value)
