"""Values of headers as plain text and numbers, held against pydicom, whichever way the header was read."""

import math

import numpy as np
import pytest
from made_volumes import NATIVE, ct_series, noise, save
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from clinibundle.dicom.index import index_study
from clinibundle.dicom.values import number, numbers, put, shallow_copy, text, texts, whole


def header_of(keyword, value, vr=None):
    """A header with one raw value, as it stands in a file."""
    tag = Tag(keyword)
    return Dataset({tag: RawDataElement(tag, vr, len(value), value, 0, vr is None, True)})


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
def test_a_file_says_the_same_in_every_transfer_syntax(tmp_path, syntax):
    made = ct_series(noise((1, 8, 8)), PixelPaddingValue=-2000, WindowCenter=[40, 400], KVP=None)[0]
    (only,) = index_study(save(made, tmp_path / "file", syntax)).instances
    header = only.header
    assert texts(header, "ImageType") == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert text(header, "ImageType") == "ORIGINAL\\PRIMARY\\AXIAL"
    assert text(header, "SOPInstanceUID") == made.SOPInstanceUID
    assert text(header, "PatientName") == "Kowalska^Jadwiga"
    assert numbers(header, "ImagePositionPatient", 3) == (-11.5, 7.25, 130.0)
    assert numbers(header, "WindowCenter", 2) == (40, 400)
    assert number(header, "PixelPaddingValue") == -2000
    assert whole(header, "Rows") == 8
    assert (number(header, "KVP"), text(header, "KVP"), whole(header, "KVP", 7)) == (None, "", 7)


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "expected"),
    [
        ("Rows", "US", b"\x00\x02", 512),
        ("Rows", None, b"\x00\x02", 512),
        ("SliceThickness", "DS", b" 2.50 ", 2.5),
        ("SliceThickness", "DS", b"2.5\0", 2.5),
        ("SliceThickness", "DS", b"-1e-3 ", -0.001),
        ("InstanceNumber", "IS", b"12", 12),
        ("DiffusionBValue", "FD", np.float64(800).tobytes(), 800),
        ("RescaleSlope", "UN", b"1.5 ", 1.5),
    ],
)
def test_a_sound_number_is_read(keyword, vr, value, expected):
    assert number(header_of(keyword, value, vr), keyword) == expected


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("Rows", "US", b"\x00"),
        ("Rows", "US", b"\x00\x02\x00\x02"),
        ("SliceThickness", "DS", b""),
        ("SliceThickness", "DS", b"thick "),
        ("SliceThickness", "DS", b"1,5 "),
        ("SliceThickness", "DS", b"nan "),
        ("SliceThickness", "DS", b"1e999 "),
        ("SliceThickness", "DS", b"\xff\xfe"),
        ("SliceThickness", None, b"1\\2 "),
        ("DiffusionBValue", "FD", np.float64(math.inf).tobytes()),
        ("DiffusionBValue", "FD", b"abc"),
        ("InstanceNumber", "SQ", b"rubbish"),
    ],
)
def test_a_damaged_number_is_none(keyword, vr, value):
    header = header_of(keyword, value, vr)
    assert number(header, keyword) is None
    assert whole(header, keyword, 5) == 5


@pytest.mark.parametrize(("value", "expected"), [(b"7", 7), (b"7.0 ", 7), (b"7.5 ", 1), (b"-3", -3)])
def test_a_whole_number_is_whole(value, expected):
    assert whole(header_of("SeriesNumber", value, "DS"), "SeriesNumber", 1) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"A\\B ", ["A", "B"]),
        (b"A\\\\B", ["A", "B"]),
        (b" A \\B\0", ["A", "B"]),
        (b"", []),
        (b"  ", []),
        (b"\\", []),
        (b"\xff", []),
    ],
)
def test_texts_are_without_blanks_and_without_empty_ones(value, expected):
    assert texts(header_of("ImageType", value, "CS"), "ImageType") == expected


@pytest.mark.parametrize("count", [1, 2, 4])
def test_numbers_of_another_count_are_none(count):
    assert numbers(header_of("ImagePositionPatient", b"1\\2\\3 ", "DS"), "ImagePositionPatient", count) is None


def test_what_is_absent_is_nothing():
    nothing = Dataset()
    assert (text(nothing, "Modality"), texts(nothing, "Modality"), number(nothing, "Rows")) == ("", [], None)


def test_a_shallow_copy_can_be_changed_without_the_first():
    first = header_of("Rows", b"\x08\0", "US")
    second = shallow_copy(first)
    put(second, "Rows", 9)
    put(second, "Columns", 3)
    assert (first.Rows, "Columns" in first, second.Rows) == (8, False, 9)
