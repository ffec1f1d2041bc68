from io import BytesIO

import numpy as np
import pytest
from made_films import COLUMNS, ROWS, check_of, chest, film, instance, read, save, with_pixels
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import get_encoder
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from clinibundle.dicom.index import index_study
from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.errors import UnreadableInput

LOSSLESS = [RLELossless, JPEGLSLossless, JPEG2000Lossless]
LOSSY = {JPEGLSNearLossless: {"jls_error": 3}, JPEG2000: {"j2k_psnr": [60]}}


def encoded(made, syntax, **how):
    if not get_encoder(syntax).is_available:
        pytest.skip(f"no encoder for {syntax.name} is installed")
    made.compress(syntax, generate_instance_uid=False, **how)
    return made


def jpeg_baseline():
    """The upper 8 of the chest's 12 bits, and the film that holds them as JPEG."""
    grey = (chest() >> 4).astype(np.uint8)
    made = with_pixels(film(LossyImageCompression="01"), grey)
    stream = BytesIO()
    Image.fromarray(grey).save(stream, format="JPEG", quality=95)
    made.PixelData = encapsulate([stream.getvalue()])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return grey, made


def itk_values(path):
    import itk

    return itk.array_from_image(itk.imread(str(path)))[0]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_little_endian_and_deflated_pixels_are_read(tmp_path, syntax):
    made = film()
    made.file_meta.TransferSyntaxUID = syntax
    path = save(made, tmp_path / "film", implicit_vr=syntax.is_implicit_VR, little_endian=True)
    np.testing.assert_array_equal(read(path).array.T, chest())
    np.testing.assert_array_equal(itk_values(path), chest())


def test_big_endian_pixels_are_read(tmp_path):
    made = film()
    made.PixelData = chest().astype(">u2").tobytes()
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    path = save(made, tmp_path / "film", implicit_vr=False, little_endian=False)
    np.testing.assert_array_equal(read(path).array.T, chest())
    np.testing.assert_array_equal(itk_values(path), chest())


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
def test_losslessly_compressed_pixels_are_read_as_they_were(tmp_path, syntax, dtype, bits):
    stored = (chest().astype(float) / 4095 * (2**bits - 1)).astype(np.int64)
    stored = (stored - 2 ** (bits - 1) * (dtype == np.int16)).astype(dtype)
    path = save(encoded(with_pixels(film(), stored, bits), syntax), tmp_path / "film")
    np.testing.assert_array_equal(read(path).array.T, stored)
    np.testing.assert_array_equal(itk_values(path), stored)


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda syntax: syntax.keyword)
def test_lossy_pixels_are_read_nearly_as_they_were(tmp_path, syntax):
    made = encoded(film(LossyImageCompression="01"), syntax, **LOSSY[syntax])
    volume = read(save(made, tmp_path / "film"))
    off = np.abs(volume.array.T - chest())
    assert 0 < off.max() < 40
    assert check_of(volume, "lossy_compression").status == "warning"


def test_jpeg_baseline_is_read(tmp_path):
    grey, made = jpeg_baseline()
    path = save(made, tmp_path / "film")
    values = read(path).array.T
    assert np.abs(values - grey).max() <= 8
    assert np.abs(values - itk_values(path)).max() <= 1


def test_monochrome1_is_turned_in_compressed_films_too(tmp_path):
    made = encoded(film(PhotometricInterpretation="MONOCHROME1"), RLELossless)
    grey = chest().astype(int)
    np.testing.assert_array_equal(read(save(made, tmp_path / "film")).array.T, grey.max() + grey.min() - grey)


def test_a_transfer_syntax_that_nobody_reads_is_refused_by_name(tmp_path):
    made = film()
    made.PixelData = encapsulate([b"an MPEG stream, say "])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    with pytest.raises(UnreadableInput) as refusal:
        read(save(made, tmp_path / "film"))
    assert "MPEG-4" in str(refusal.value)
    assert "no codec for them is installed" in str(refusal.value)


@pytest.mark.parametrize("syntax", [*LOSSLESS, JPEGBaseline8Bit], ids=lambda syntax: syntax.keyword)
def test_a_compressed_film_whose_stream_is_rubbish_is_refused(tmp_path, syntax):
    made = jpeg_baseline()[1] if syntax == JPEGBaseline8Bit else encoded(film(), syntax)
    made.PixelData = encapsulate([b"\x17\x04" * 200])
    made["PixelData"].is_undefined_length = True
    with pytest.raises(UnreadableInput, match="'film' cannot be decoded"):
        read(save(made, tmp_path / "film"))


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_a_compressed_film_that_breaks_off_is_refused(tmp_path, syntax):
    made = encoded(film(), syntax)
    whole = save(made, tmp_path / "film").read_bytes()
    (tmp_path / "film").write_bytes(whole[: len(whole) - len(made.PixelData) // 2])
    with pytest.raises(UnreadableInput, match="'film'"):
        read(tmp_path / "film")


def test_a_compressed_film_of_another_size_than_declared_is_refused(tmp_path):
    made = encoded(film(), RLELossless)
    made.Rows, made.Columns = ROWS * 2, COLUMNS
    with pytest.raises(UnreadableInput, match="'film' "):
        read_radiograph(instance(save(made, tmp_path / "film")))


def test_a_deflated_film_with_a_damaged_stream_is_left_out(tmp_path):
    made = film()
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(made, tmp_path / "film", implicit_vr=False, little_endian=True)
    content = bytearray(path.read_bytes())
    # The first deflated byte: a block of a type that there is not (RFC 1951, 3.2.3).
    content[144 + read_file_meta_info(path).FileMetaInformationGroupLength] = 0xFF
    path.write_bytes(content)
    index = index_study(path)
    assert [skipped.reason[:29] for skipped in index.skipped] == ["its deflated data set is dama"]
