import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_ct import ct_headers
from made_films import CR, SECONDARY_CAPTURE, film
from made_segments import ALGORITHM
from made_verdicts import dciodvfy_errors

from clinibundle.dicom.header import read_header
from clinibundle.dicom.key_images import KeyImage, compare_with_written, with_band, write_key_images
from clinibundle.errors import OutputError

IDENTITY = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"]
STUDY = ["StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"]
WITHOUT_PATIENT = dict.fromkeys([*IDENTITY, *STUDY])
ODD_VALUES = {
    "PatientAge": "81",
    "PatientBirthDate": "19801399",
    "PatientSex": "male",
    "StudyDate": "2024.1.1",
    "StudyTime": "12:30",
    "PatientOrientation": "L",
    "SpecificCharacterSet": "ISO-IR 100",
    "SeriesNumber": -3,
}


def film_headers(**changes):
    made = film(**changes)
    del made.PixelData
    return [made]


def picture(rows=60, columns=320, seed=0, shows=(0,), title="largest extent"):
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return KeyImage(pixels, shows, title)


def written(folder, pictures=None, sources=None):
    """The key images, as pydicom reads them."""
    paths = write_key_images(folder, pictures or [picture()], sources or ct_headers(), ALGORITHM)
    return [pydicom.dcmread(path) for path in paths]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 40), columns=st.integers(1, 400), seed=st.integers(0, 99))
def test_each_pixel_of_a_picture_of_any_size_is_in_the_upper_left_as_it_was(tmp_path, rows, columns, seed):
    drawn = picture(rows, columns, seed)
    (made,) = written(tmp_path, [drawn])
    stored = np.frombuffer(made.PixelData, np.uint8)[: made.Rows * made.Columns * 3]
    stored = stored.reshape(made.Rows, made.Columns, 3)
    np.testing.assert_array_equal(stored[:rows, :columns], drawn.pixels)
    assert not stored[:rows, columns:].any()
    assert len(made.PixelData) % 2 == 0


def test_it_is_a_secondary_capture_in_colour(tmp_path):
    (made,) = written(tmp_path)
    assert made.SOPClassUID.name == "Secondary Capture Image Storage"
    assert (made.PhotometricInterpretation, made.SamplesPerPixel, made.PlanarConfiguration) == ("RGB", 3, 0)
    assert (made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation) == (8, 8, 7, 0)
    assert made.ConversionType == "WSD"
    assert made.ImageType[0] == "DERIVED"


def test_it_says_in_its_header_what_made_it_and_that_it_is_for_no_diagnosis(tmp_path):
    (made,) = written(tmp_path)
    assert made.SeriesDescription == "Not for diagnostic use: lung_xray 0.3.1 key images"
    assert made.ImageComments == "largest extent"
    assert "lung_xray 0.3.1" in made.DerivationDescription
    assert ALGORITHM.weights_sha256 in made.DerivationDescription
    assert "Not for diagnostic use" in made.DerivationDescription
    assert (made.Manufacturer, made.SoftwareVersions) == ("clinibundle", "0.1.9")


def test_a_long_name_does_not_push_the_warning_out_of_the_series_description(tmp_path):
    long = ALGORITHM.model_copy(update={"name": "a_bundle_with_a_very_long_name_of_more_than_sixty_four_characters"})
    (path,) = write_key_images(tmp_path, [picture()], ct_headers(), long)
    described = pydicom.dcmread(path).SeriesDescription
    assert described.startswith("Not for diagnostic use")
    assert len(described) == 64


def letters(band):
    """A band as rows of 0 and 1."""
    assert (band.min(), band.max()) == (0, 255)
    np.testing.assert_array_equal(band[..., 0], band[..., 2])
    return band[..., 0] > 127


@pytest.mark.parametrize("columns", [40, 320, 2000])
def test_the_words_stand_in_the_band_and_nowhere_else(tmp_path, columns):
    pixels = np.full((50, columns, 3), 255, np.uint8)
    (made,) = written(tmp_path, [KeyImage(pixels, [0], "white")])
    shown = letters(made.pixel_array[50:])
    other = letters(with_band(pixels, "Not for diagnostic use: lung_xray 0.3.2")[50:])
    same = letters(with_band(pixels, "Not for diagnostic use: lung_xray 0.3.1")[50:])
    np.testing.assert_array_equal(shown, same)
    assert shown.shape != other.shape or (shown != other).any()
    # Whole: nothing touches the band's edge, and as much of it is ink as letters are.
    assert not (shown[0].any() or shown[-1].any() or shown[:, 0].any() or shown[:, -1].any())
    inked = np.flatnonzero(shown.any(axis=0))
    assert 0.05 < shown[:, inked[0] : inked[-1] + 1].mean() < 0.5
    assert inked[-1] - inked[0] > 200


def test_larger_pictures_get_larger_words():
    heights = [with_band(np.zeros((10, columns, 3), np.uint8), "words").shape[0] for columns in (300, 1000, 2000)]
    assert heights[0] < heights[1] < heights[2]


def test_pictures_make_one_new_series_in_their_order(tmp_path):
    sources = ct_headers()
    made = written(tmp_path, [picture(seed=seed) for seed in range(3)], sources)
    assert [image.InstanceNumber for image in made] == [1, 2, 3]
    assert len({image.SOPInstanceUID for image in made}) == 3
    (series,) = {image.SeriesInstanceUID for image in made}
    assert series != sources[0].SeriesInstanceUID
    assert {image.StudyInstanceUID for image in made} == {sources[0].StudyInstanceUID}
    assert {image.SeriesNumber for image in made} == {11003}
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"key_image_00{number}.dcm" for number in (1, 2, 3)]
    assert written(tmp_path, [picture()], sources)[0].SeriesInstanceUID != series
    for number, image in enumerate(made):
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        np.testing.assert_array_equal(image.pixel_array[:60, :320], picture(seed=number).pixels)


def test_each_refers_to_the_images_that_it_shows(tmp_path):
    sources = ct_headers()
    one, two = written(tmp_path, [picture(shows=[4]), picture(shows=[0, 5])], sources)
    for image, shown in ((one, [sources[4]]), (two, [sources[0], sources[5]])):
        found = [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in image.SourceImageSequence]
        assert found == [(source.SOPClassUID, source.SOPInstanceUID) for source in shown]
        purposes = {item.PurposeOfReferenceCodeSequence[0].CodeValue for item in image.SourceImageSequence}
        assert purposes == {"121322"}


@pytest.mark.parametrize(
    ("of_sources", "expected"),
    [
        (["NO", "NO"], "NO"),
        (["NO", "YES"], "YES"),
        ([None, "YES"], "YES"),
        (["NO", None], None),
        ([None, None], None),
    ],
)
def test_names_burned_into_the_source_are_said_to_be_there(tmp_path, of_sources, expected):
    sources = [film_headers(BurnedInAnnotation=value)[0] for value in of_sources]
    (made,) = written(tmp_path, [picture(shows=[0, 1])], sources)
    assert made.get("BurnedInAnnotation") == expected


def test_loss_in_the_source_is_passed_on(tmp_path):
    lossy = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "9.5",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    (made,) = written(tmp_path, sources=film_headers(**lossy))
    assert {keyword: str(made[keyword].value) for keyword in lossy} == lossy
    assert dciodvfy_errors(tmp_path / "key_image_001.dcm", "SCImage") == []
    assert "LossyImageCompression" not in written(tmp_path)[0]


def test_the_patient_and_the_study_are_copied_and_nothing_is_invented(tmp_path):
    patient = {"PatientName": "Doe^Jane", "PatientID": "4711", "PatientAge": "079Y", "StudyDescription": "Thorax"}
    (made,) = written(tmp_path, sources=ct_headers(**patient))
    assert {keyword: str(made[keyword].value) for keyword in patient} == patient
    (made,) = written(tmp_path, sources=ct_headers(**WITHOUT_PATIENT, PatientAge=None))
    for keyword in WITHOUT_PATIENT:
        assert keyword in made
        assert not made[keyword].value
    known = {element.keyword for element in ct_headers()[0]} | {"PatientOrientation"}
    assert {element.keyword for element in made if element.keyword.startswith(("Patient", "Study"))} <= known
    for keyword in ("PatientOrientation", "Laterality"):
        assert keyword in made
        assert not made[keyword].value


def test_title_and_patient_may_be_written_in_different_alphabets(tmp_path):
    film(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Zoë").save_as(tmp_path / "film.dcm")
    (made,) = written(tmp_path, [picture(title="胸水")], [read_header(tmp_path / "film.dcm")])
    assert (made.PatientName, made.ImageComments) == ("Müller^Zoë", "胸水")


def test_writing_leaves_the_sources_as_they_were(tmp_path):
    sources = ct_headers(**ODD_VALUES)
    before = [source.to_json() for source in sources]
    written(tmp_path, [picture(shows=[0, 1])], sources)
    assert [source.to_json() for source in sources] == before


@pytest.mark.parametrize("odd", [{}, WITHOUT_PATIENT, ODD_VALUES], ids=["sound", "without patient", "odd values"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (ct_headers, {}),
        (film_headers, {}),
        (film_headers, {"SOPClassUID": CR, "Modality": "CR"}),
        (film_headers, {"SOPClassUID": SECONDARY_CAPTURE, "Modality": "OT"}),
    ],
    ids=["CT", "DX", "CR", "SC"],
)
def test_dciodvfy_finds_no_error(tmp_path, make, kind, odd):
    written(tmp_path, [picture(33, 333)], make(**kind, **odd))
    assert dciodvfy_errors(tmp_path / "key_image_001.dcm", "SCImage") == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_source_that_nothing_can_refer_to_is_refused(tmp_path, keyword, value):
    (source,) = film_headers()
    if value is None:
        del source[keyword]
    else:
        setattr(source, keyword, value)
    with pytest.raises(OutputError, match=f"its header has no {keyword}"):
        written(tmp_path, sources=[source])
    assert list(tmp_path.iterdir()) == []


def test_a_source_of_an_unknown_kind_is_refused_without_a_word_of_the_patient(tmp_path):
    sources = film_headers(SOPClassUID="1.2.3.4.5", PatientName="Secret^Name")
    with pytest.raises(OutputError, match=r"no key image can be made for this source \(KeyError\)") as refusal:
        written(tmp_path, sources=sources)
    assert "Secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "with opacity", "float", "empty"],
)
def test_what_is_no_colour_picture_of_bytes_is_refused(pixels):
    with pytest.raises(ValueError, match=r"expected a picture \(rows, columns, 3\) of uint8"):
        KeyImage(pixels, [0], "none")


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one of its sources"):
        picture(shows=[])


def flip_one_bit(made):
    pixels = bytearray(made.PixelData)
    pixels[len(pixels) // 2] ^= 1
    made.PixelData = bytes(pixels)


def lose_pixels(made):
    made.PixelData = made.PixelData[:100]


def swap_sides(made):
    made.Rows, made.Columns = made.Columns, made.Rows


def call_it_another_colour(made):
    made.PhotometricInterpretation = "YBR_FULL"


@pytest.mark.parametrize("change", [flip_one_bit, lose_pixels, swap_sides, call_it_another_colour])
def test_a_key_image_that_differs_from_what_was_meant_is_found(tmp_path, change):
    (made,) = written(tmp_path)
    path = tmp_path / "key_image_001.dcm"
    pixels = made.pixel_array
    compare_with_written(path, pixels)
    change(made)
    made.save_as(path)
    with pytest.raises(OutputError, match="nothing was kept, please report this"):
        compare_with_written(path, pixels)
