import tracemalloc

import numpy as np
import pytest
from made_films import (
    COLUMNS,
    ROWS,
    SPACING_MM,
    check_of,
    chest,
    film,
    instance,
    read,
    read_film,
    save,
    save_without_preamble,
    with_pixels,
)
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.errors import UnreadableInput, UnsuitableInput
from clinibundle.files import short_hash

ALL_BITS = [
    (np.uint8, 8),
    (np.int8, 8),
    (np.uint16, 8),
    (np.uint16, 10),
    (np.uint16, 12),
    (np.uint16, 15),
    (np.uint16, 16),
    (np.int16, 12),
    (np.int16, 16),
]


def stretched(dtype, bits):
    """The chest over the whole range of that many bits."""
    low = -(2 ** (bits - 1)) if np.issubdtype(dtype, np.signedinteger) else 0
    grey = chest().astype(float)
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    return np.rint(low + grey * (2**bits - 1)).astype(dtype)


def from_own_minimum(values):
    return values - values.min()


def itk_values(path):
    import itk

    image = itk.imread(str(path))
    assert list(itk.size(image))[:2] == [COLUMNS, ROWS]
    return itk.array_from_image(image)[0].astype(np.float64)


def test_the_array_runs_along_rows_first_and_keeps_the_stored_values(tmp_path):
    volume = read_film(film(), tmp_path)
    assert volume.array.shape == (COLUMNS, ROWS) == volume.spatial_shape
    assert volume.array.dtype == np.float32
    assert volume.array[7, 50] == chest()[50, 7]
    np.testing.assert_array_equal(volume.array.T, chest())
    assert volume.meaning == "grey"
    assert volume.affine_lps is None


def test_the_spacing_runs_along_the_axes_of_the_array(tmp_path):
    volume = read_film(film(PixelSpacing=[0.2, 0.15], ImagerPixelSpacing=None), tmp_path)
    assert volume.spacing_mm == (0.15, 0.2)
    assert read_film(film(), tmp_path).spacing_mm == (SPACING_MM, SPACING_MM)
    assert read_film(film(PixelSpacing=[0, 0], ImagerPixelSpacing=None), tmp_path).spacing_mm is None


def test_the_source_is_named_by_a_hash_and_keeps_the_header_without_pixels(tmp_path):
    made = film()
    volume = read_film(made, tmp_path)
    assert volume.source.case == short_hash(made.SOPInstanceUID)
    assert volume.source.sop_instance_uids == [made.SOPInstanceUID]
    assert (volume.source.kind, volume.source.family) == ("dicom", "png")
    (header,) = volume.source.datasets
    assert header.PatientID == made.PatientID
    assert "PixelData" not in header


def test_the_facts_for_the_report_name_the_film_and_nobody(tmp_path):
    assert read_film(film(Manufacturer=""), tmp_path).facts == {
        "Modality": "DX",
        "Body part": "CHEST",
        "View": "PA",
        "Rows × columns": f"{ROWS} × {COLUMNS}",
        "Object": "Digital X-Ray Image Storage - For Presentation",
    }


@pytest.mark.parametrize(("dtype", "bits"), ALL_BITS)
def test_every_depth_is_read_as_stored(tmp_path, dtype, bits):
    stored = stretched(dtype, bits)
    made = with_pixels(film(), stored, bits)
    np.testing.assert_array_equal(read_film(made, tmp_path).array.T, stored)


@pytest.mark.parametrize(("dtype", "bits"), ALL_BITS)
def test_monochrome1_is_turned_once_within_its_range(tmp_path, dtype, bits):
    stored = stretched(dtype, bits).astype(np.int64)
    made = with_pixels(film(PhotometricInterpretation="MONOCHROME1"), stored.astype(dtype), bits)
    volume = read_film(made, tmp_path)
    np.testing.assert_array_equal(volume.array.T, stored.max() + stored.min() - stored)
    assert check_of(volume, "photometric_interpretation").status == "fixed"


# ITK's Python has no signed 8 bits, and its GDCM cannot turn signed 12 bits.
@pytest.mark.parametrize(("dtype", "bits"), [kind for kind in ALL_BITS if kind not in [(np.int8, 8), (np.int16, 12)]])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_itk_reads_the_same_picture(tmp_path, dtype, bits, photometric):
    made = with_pixels(film(PhotometricInterpretation=photometric), stretched(dtype, bits), bits)
    path = save(made, tmp_path / "film.dcm")
    np.testing.assert_array_equal(from_own_minimum(read(path).array.T), from_own_minimum(itk_values(path)))


def test_both_polarities_of_one_chest_are_read_as_the_same_picture(tmp_path):
    inverted = with_pixels(
        film(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"), 4095 - chest(), 12
    )
    bright, dark = read_film(film(), tmp_path), read_film(inverted, tmp_path)
    np.testing.assert_array_equal(from_own_minimum(bright.array), from_own_minimum(dark.array))
    assert check_of(bright, "photometric_interpretation").status == "passed"


def test_the_polarity_is_itks_whichever_way_pydicom_readers_leave_it(tmp_path):
    from monai.data import ITKReader, PydicomReader

    path = save(film(PhotometricInterpretation="MONOCHROME1"), tmp_path / "film.dcm")
    by_monai = {}
    for reader in (PydicomReader(), ITKReader()):
        array, _ = reader.get_data(reader.read(str(path)))
        by_monai[type(reader).__name__] = np.squeeze(array).astype(float)
    ours = read(path).array
    as_stored, as_shown = by_monai["PydicomReader"], by_monai["ITKReader"]
    np.testing.assert_array_equal(from_own_minimum(ours), from_own_minimum(as_shown))
    np.testing.assert_array_equal(from_own_minimum(ours), (as_stored.max() - as_stored))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.25, 100), (-1, 4095)])
def test_the_rescale_is_applied_before_the_polarity(tmp_path, slope, intercept, photometric):
    made = film(RescaleSlope=slope, RescaleIntercept=intercept, PhotometricInterpretation=photometric)
    values = chest() * float(slope) + intercept
    expected = values if photometric == "MONOCHROME2" else values.max() + values.min() - values
    np.testing.assert_array_equal(read_film(made, tmp_path).array.T, expected)


def modality_lut(kind):
    table = (np.arange(4096)[::-1] * 15).astype("<u2")
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.ModalityLUTType = "US"
    item.add(DataElement("LUTData", kind, table.tobytes() if kind == "OW" else table.tolist()))
    return item, table


@pytest.mark.parametrize("kind", ["OW", "US"])
def test_the_modality_lut_is_applied(tmp_path, kind):
    item, table = modality_lut(kind)
    made = film(ModalityLUTSequence=[item], RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(read_film(made, tmp_path).array.T, table[chest()])


def test_the_modality_lut_of_a_file_without_file_meta_is_applied(tmp_path):
    item, table = modality_lut("OW")
    made = film(ModalityLUTSequence=[item], RescaleSlope=None, RescaleIntercept=None)
    path = save_without_preamble(made, tmp_path / "old")
    np.testing.assert_array_equal(read(path).array.T, table[chest()])


def test_a_modality_lut_that_breaks_off_is_refused(tmp_path):
    item, _ = modality_lut("OW")
    item.LUTData = item.LUTData[:100]
    with pytest.raises(UnreadableInput, match="modality LUT or rescale"):
        read_film(film(ModalityLUTSequence=[item]), tmp_path)


def test_a_rescale_that_is_no_number_is_refused(tmp_path):
    whole = save(film(RescaleSlope="1.500000"), tmp_path / "film").read_bytes()
    (tmp_path / "film").write_bytes(whole.replace(b"1.500000", b"one half"))
    with pytest.raises(UnreadableInput, match="modality LUT or rescale"):
        read(tmp_path / "film")


def test_the_display_window_is_ignored(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.add(DataElement("LUTData", "US", [9, 5, 2, 0]))
    made = film(WindowCenter=[40, 50], WindowWidth=[1, 2], VOILUTSequence=[table], VOILUTFunction="SIGMOID")
    np.testing.assert_array_equal(read_film(made, tmp_path).array.T, chest())


def test_what_stands_in_unused_bits_is_ignored(tmp_path):
    """Older films keep an overlay in the bits above those that are stored."""
    drawn = chest().copy()
    drawn[10:20, 10:60] |= 0b1010 << 12
    np.testing.assert_array_equal(read_film(with_pixels(film(), drawn, 12), tmp_path).array.T, chest())


def test_padding_becomes_background(tmp_path):
    stored = stretched(np.uint16, 12) // 2 + 100
    stored[:, :20] = 4000
    volume = read_film(with_pixels(film(PixelPaddingValue=4000), stored, 12), tmp_path)
    picture = stored[:, 20:]
    np.testing.assert_array_equal(volume.array.T[:, 20:], picture)
    assert (volume.array.T[:, :20] == picture.min()).all()
    check = check_of(volume, "padding")
    assert (check.status, check.value) == ("fixed", 0.25)
    assert "25.0%" in check.detail


@pytest.mark.parametrize(("value", "limit"), [(4000, 4050), (4050, 4000)])
def test_a_range_of_padding_becomes_background(tmp_path, value, limit):
    stored = stretched(np.uint16, 12) // 2 + 100
    stored[0], stored[1], stored[2] = 4000, 4025, 4050
    made = film(PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
    volume = read_film(with_pixels(made, stored, 12), tmp_path)
    np.testing.assert_array_equal(volume.array.T[:3], stored[3:].min())
    assert check_of(volume, "padding").value == round(3 / ROWS, 4)


def test_padding_has_no_say_in_the_range_that_monochrome1_is_turned_in(tmp_path):
    stored = stretched(np.uint16, 12) // 2 + 100
    stored[:, :20] = 4095
    made = film(PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1")
    volume = read_film(with_pixels(made, stored, 12), tmp_path)
    picture = stored[:, 20:].astype(int)
    np.testing.assert_array_equal(volume.array.T[:, 20:], picture.max() + picture.min() - picture)
    assert (volume.array.T[:, :20] == picture.min()).all()


def test_padding_that_no_pixel_has_changes_nothing(tmp_path):
    volume = read_film(film(PixelPaddingValue=60_000), tmp_path)
    np.testing.assert_array_equal(volume.array.T, chest())
    assert check_of(volume, "padding") is None


@pytest.mark.parametrize("value", ["", [1, 2]])
def test_a_padding_value_that_is_no_number_is_ignored(tmp_path, value):
    np.testing.assert_array_equal(read_film(film(PixelPaddingValue=value), tmp_path).array.T, chest())


def test_a_film_without_file_meta_is_read_as_implicit_little_endian(tmp_path):
    path = save_without_preamble(film(), tmp_path / "old")
    np.testing.assert_array_equal(read(path).array.T, chest())


@pytest.mark.parametrize("left", [0, 1, 1000, ROWS * COLUMNS * 2 - 2])
def test_truncated_pixels_are_refused(tmp_path, left):
    made = film()
    whole = save(made, tmp_path / "film.dcm").read_bytes()
    (tmp_path / "film.dcm").write_bytes(whole[: len(whole) - len(made.PixelData) + left])
    with pytest.raises(UnreadableInput) as refusal:
        read(tmp_path / "film.dcm")
    assert f"'film.dcm' is truncated: {left} bytes of pixels, expected {ROWS * COLUMNS * 2}" in str(refusal.value)


def test_a_file_without_pixels_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match=r"'film.dcm' holds no pixels: it is truncated or was sent without them"):
        read_film(film(PixelData=None), tmp_path)


def test_a_file_that_goes_between_index_and_reading_is_refused(tmp_path):
    found = instance(save(film(), tmp_path / "film.dcm"))
    found.path.unlink()
    with pytest.raises(UnreadableInput, match=r"'film.dcm' is damaged \(FileNotFoundError\)"):
        read_radiograph(found)


@pytest.mark.parametrize(
    ("changes", "refusal", "words"),
    [
        ({"NumberOfFrames": 3}, UnsuitableInput, "has 3 frames; this bundle takes radiographs of a single frame"),
        (
            {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
            UnsuitableInput,
            "is a RGB picture; expected grey",
        ),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, UnsuitableInput, "is a PALETTE COLOR picture"),
        ({"PhotometricInterpretation": None}, UnsuitableInput, "is a colourless picture"),
        ({"SamplesPerPixel": 3}, UnreadableInput, "truncated"),
        ({"Rows": None}, UnreadableInput, "has no picture: Rows and Columns are missing"),
        ({"Columns": 0}, UnreadableInput, "has no picture: Rows and Columns are missing"),
        ({"Rows": 63}, UnsuitableInput, "has 63 × 80 pixels; expected at least 64 on each side"),
        ({"BitsAllocated": None}, UnreadableInput, "cannot be decoded"),
        ({"BitsAllocated": 12}, UnreadableInput, "cannot be decoded"),
        ({"BitsStored": 17}, UnreadableInput, "cannot be decoded"),
        ({"PixelRepresentation": None}, UnreadableInput, "cannot be decoded"),
        ({"SamplesPerPixel": None}, UnreadableInput, "cannot be decoded"),
    ],
)
def test_what_is_no_grey_single_frame_picture_is_refused(tmp_path, changes, refusal, words):
    with pytest.raises(refusal) as refused:
        read_film(film(**changes), tmp_path)
    assert words in str(refused.value)
    assert "film.dcm" in str(refused.value)


def test_one_declared_frame_is_a_single_frame(tmp_path):
    np.testing.assert_array_equal(read_film(film(NumberOfFrames=1), tmp_path).array.T, chest())


@pytest.mark.parametrize("value", [0, 300, 4095])
def test_a_constant_picture_is_refused(tmp_path, value):
    made = with_pixels(film(), np.full((ROWS, COLUMNS), value, np.uint16), 12)
    with pytest.raises(UnsuitableInput, match=rf"'film.dcm' shows nothing: .*percentile {value}, {value}\)"):
        read_film(made, tmp_path)


def test_a_film_that_is_all_padding_is_refused(tmp_path):
    made = with_pixels(film(PixelPaddingValue=7), np.full((ROWS, COLUMNS), 7, np.uint16), 12)
    with pytest.raises(UnsuitableInput, match="shows nothing"):
        read_film(made, tmp_path)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(tmp_path, odd):
    values = chest().astype("<f4")
    values[40, 40] = odd
    made = film(PixelData=None, BitsAllocated=32, BitsStored=None, HighBit=None, PixelRepresentation=None)
    made.FloatPixelData = values.tobytes()
    with pytest.raises(UnsuitableInput, match="shows nothing"):
        read_film(made, tmp_path)


def test_float_pixels_are_read(tmp_path):
    values = chest().astype("<f4") / 4095
    made = film(PixelData=None, BitsAllocated=32, BitsStored=None, HighBit=None, PixelRepresentation=None)
    made.FloatPixelData = values.tobytes()
    np.testing.assert_array_equal(read_film(made, tmp_path).array.T, values)


@pytest.mark.parametrize(("rows", "columns"), [(65535, 65535), (10_001, 10_000)])
def test_a_huge_declared_size_is_refused_before_memory_is_taken(tmp_path, rows, columns):
    found = instance(save(film(Rows=rows, Columns=columns), tmp_path / "film.dcm"))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInput, match=rf"declares {rows} × {columns} pixels, more than the limit of 1000"):
            read_radiograph(found)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_large_declared_size_with_few_pixels_is_refused_before_memory_is_taken(tmp_path):
    found = instance(save(film(Rows=9999, Columns=9999), tmp_path / "film.dcm"))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInput, match="is truncated: 15360 bytes of pixels, expected 199960002"):
            read_radiograph(found)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("ratio", "value"), [(None, None), (12.5, "12.5"), ([4, 12.5], "[4.0, 12.5]")], ids=["none", "one", "several"]
)
def test_lossy_compression_in_the_past_is_a_warning(tmp_path, ratio, value):
    volume = read_film(film(LossyImageCompression="01", LossyImageCompressionRatio=ratio), tmp_path)
    assert (check_of(volume, "lossy_compression").status, check_of(volume, "lossy_compression").value) == (
        "warning",
        value,
    )


@pytest.mark.parametrize("said", ["YES", "yes"])
def test_a_burned_in_annotation_is_a_warning(tmp_path, said):
    check = check_of(read_film(film(BurnedInAnnotation=said), tmp_path), "burned_in_annotation")
    assert (check.status, check.value, check.limit) == ("warning", "YES", "NO")


def test_a_sound_film_has_only_these_checks(tmp_path):
    volume = read_film(film(), tmp_path)
    assert [(check.name, check.status) for check in volume.checks] == [
        ("picture_form", "passed"),
        ("photometric_interpretation", "passed"),
        ("contrast", "passed"),
        ("pixel_spacing", "warning"),
    ]
    assert check_of(volume, "picture_form").value == [ROWS, COLUMNS]
