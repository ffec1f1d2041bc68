import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from clinibundle.dicom.radiograph import FilmSpacing, film_spacing

UNKNOWN = "no usable pixel spacing is given, so areas in mm² are not known"


def header(**values):
    dataset = Dataset()
    with disable_value_validation():
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    return dataset


def test_a_spacing_that_says_it_is_calibrated_is_trusted():
    spacing, check = film_spacing(header(PixelSpacing=[0.2, 0.15], PixelSpacingCalibrationType="GEOMETRY"))
    assert spacing == FilmSpacing(row_mm=0.2, column_mm=0.15)
    assert (check.name, check.status, check.value) == ("pixel_spacing", "passed", [0.2, 0.15])
    assert check.detail == "PixelSpacing, calibrated (GEOMETRY)"


def test_a_spacing_that_differs_from_the_detectors_counts_as_calibrated():
    spacing, check = film_spacing(header(PixelSpacing=[0.14, 0.14], ImagerPixelSpacing=[0.15, 0.15]))
    assert spacing == FilmSpacing(0.14, 0.14)
    assert check.status == "passed"
    assert "differs from ImagerPixelSpacing" in check.detail


@pytest.mark.parametrize("others", [{}, {"ImagerPixelSpacing": [0.15, 0.15]}, {"PixelSpacingCalibrationType": " "}])
def test_a_spacing_without_a_word_of_calibration_is_used_with_a_warning(others):
    spacing, check = film_spacing(header(PixelSpacing=[0.15, 0.15], **others))
    assert spacing == FilmSpacing(0.15, 0.15)
    assert check.status == "warning"
    assert "not said to be calibrated" in check.detail


@pytest.mark.parametrize("keyword", ["ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_the_detectors_spacing_alone_is_used_with_a_warning_about_magnification(keyword):
    spacing, check = film_spacing(header(**{keyword: [0.15, 0.16]}))
    assert spacing == FilmSpacing(0.15, 0.16)
    assert check.status == "warning"
    assert keyword in check.detail
    assert "magnification" in check.detail


def test_the_detectors_spacing_goes_before_the_scanners():
    spacing, _ = film_spacing(header(ImagerPixelSpacing=[0.15, 0.15], NominalScannedPixelSpacing=[0.2, 0.2]))
    assert spacing == FilmSpacing(0.15, 0.15)


@pytest.mark.parametrize(
    "value",
    [
        [0, 0],
        ["0.000", "0.000"],
        [0.15, 0],
        [-0.15, 0.15],
        ["nan", "nan"],
        ["inf", "inf"],
        [0.009, 0.009],
        [5.01, 5.01],
        ["0.15"],
        [0.15, 0.15, 1],
        [],
        None,
        "",
    ],
)
def test_an_impossible_spacing_is_as_good_as_none(value):
    spacing, check = film_spacing(header(PixelSpacing=value))
    assert spacing is None
    assert (check.status, check.value, check.detail) == ("warning", None, UNKNOWN)


@pytest.mark.parametrize("value", [["a", "b"], ["0,15", "0,15"]])
def test_a_spacing_that_is_no_number_is_as_good_as_none(value):
    from pydicom.dataelem import DataElement

    dataset = Dataset()
    dataset.add(DataElement("PixelSpacing", "LO", value))
    assert film_spacing(dataset)[0] is None


def test_no_spacing_at_all_leaves_areas_unknown():
    spacing, check = film_spacing(header())
    assert spacing is None
    assert check.detail == UNKNOWN


def test_an_impossible_pixel_spacing_gives_way_to_the_detectors():
    spacing, check = film_spacing(header(PixelSpacing=[0, 0], ImagerPixelSpacing=[0.15, 0.15]))
    assert spacing == FilmSpacing(0.15, 0.15)
    assert "only ImagerPixelSpacing" in check.detail
