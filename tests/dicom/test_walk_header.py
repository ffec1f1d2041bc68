"""The quick walk over headers, held against pydicom on files that are put together byte by byte."""

import struct
import warnings

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_volumes import NATIVE, ct_series, noise, save
from pydicom import config
from pydicom.datadict import DicomDictionary
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from clinibundle.dicom.header import quietly
from clinibundle.dicom.index import index_study
from clinibundle.dicom.walk import walk_header

LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
VALUES_OF = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4}
PIXELS = Tag("PixelData")
LONGEST = 1024
# Public elements before the pixels, one VR each.
PUBLIC = sorted(
    (tag, entry[0])
    for tag, entry in DicomDictionary.items()
    if entry[0] in LONG | set(VALUES_OF) | {"AE", "CS", "DA", "DS", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI"}
    and 0x0008 <= tag >> 16 < 0x7FE0
    and tag not in (0x00080005, 0x00041220)
)


def element(tag, vr, value, implicit):
    """An element as it stands in a file; a value of items is a sequence."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if isinstance(value, bytes):
        if implicit:
            return head + struct.pack("<L", len(value)) + value
        size = struct.pack("<HL", 0, len(value)) if vr in LONG else struct.pack("<H", len(value))
        return head + vr.encode() + size + value
    items, defined = value
    # What lies in a sequence of unknown VR is implicit in any file.
    content = b"".join(item(inner, implicit or vr == "UN", defined) for inner in items)
    length = struct.pack("<L", len(content) if defined else 0xFFFFFFFF)
    end = b"" if defined else struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return head + (b"" if implicit else vr.encode() + b"\0\0") + length + content + end


def item(elements, implicit, defined):
    content = encoded(elements, implicit)
    if defined:
        return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
    return struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)


def encoded(elements, implicit):
    return b"".join(element(tag, vr, value, implicit) for tag, vr, value in elements)


def file_of(elements, syntax, pixels=b""):
    """A file with preamble and file meta information."""
    implicit = syntax == ImplicitVRLittleEndian
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    sop_class = b"1.2.840.10008.5.1.4.1.1.2\0"
    meta = encoded([(0x00020002, "UI", sop_class), (0x00020010, "UI", uid)], implicit=False)
    meta = element(0x00020000, "UL", struct.pack("<L", len(meta)), implicit=False) + meta
    body = encoded(elements, implicit) + (element(PIXELS, "OW", pixels, implicit) if pixels else b"")
    return b"\0" * 128 + b"DICM" + meta + body


def value_of(draw, vr):
    if vr in VALUES_OF:
        return draw(st.binary(max_size=3)).ljust(3, b"\1") * VALUES_OF[vr]
    if vr == "OB" or draw(st.integers(0, 9)) == 0:
        # Odd lengths, letters of any alphabet, more than is kept.
        return draw(st.binary(max_size=9)) * draw(st.sampled_from([1, 1, 150]))
    return draw(st.text("ABC 12.\\", max_size=20)).encode()


@st.composite
def elements(draw, depth=0):
    """Elements in the order of their tags: public and private, sequences with items of either kind of length."""
    made = {}
    for tag, vr in draw(st.lists(st.sampled_from(PUBLIC), max_size=3 if depth else 8)):
        shown = draw(st.sampled_from([vr, vr, "UN"]))
        if vr != "SQ":
            made[tag] = (shown, value_of(draw, vr))
        elif depth < 3:
            items = draw(st.lists(elements(depth + 1), max_size=2))
            made[tag] = (shown, (items, draw(st.booleans()) and shown == "SQ"))
    if draw(st.booleans()):
        made[0x00090010] = ("LO", b"A MAKER ")
        made[0x00091001] = ("UN", draw(st.binary(max_size=20)))
        made[0x00091002] = ("SQ", (draw(st.lists(elements(3), max_size=2)), draw(st.booleans())))
    return [(tag, *made[tag]) for tag in sorted(made)]


def is_sequence(tag):
    return DicomDictionary.get(tag, ("",))[0] == "SQ"


def agree(path, walked):
    """What a walk found is what pydicom finds: the short public elements, and no more.

    Sequences aside: where no VR is written, a short one looks like any other value.
    """
    with quietly():
        whole = pydicom.dcmread(path, stop_before_pixels=True)
        expected = {}
        for tag in whole.keys():  # noqa: SIM118 (the values would be converted)
            raw = whole.get_item(tag)
            if not tag.is_private and not is_sequence(tag) and raw.VR != "SQ" and len(raw.value or b"") <= LONGEST:
                expected[tag] = raw
        assert {tag for tag in walked.header.keys() if not is_sequence(tag)} == set(expected)  # noqa: SIM118
        for tag, raw in expected.items():
            found = walked.header.get_item(tag)
            if raw.is_raw:
                assert (found.value, found.VR, found.length) == (raw.value, raw.VR, raw.length)
            else:
                # Empty ones without a VR are converted by pydicom at once.
                assert (found.value, raw.is_empty) == (b"", True)
        if expected:
            assert walked.header.original_encoding == whole.original_encoding
    assert walked.transfer_syntax == whole.file_meta.TransferSyntaxUID


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    made=elements(),
    syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
    pixels=st.sampled_from([b"", bytes(range(200))]),
)
def test_any_header_is_walked_as_pydicom_reads_it(tmp_path, made, syntax, pixels):
    path = tmp_path / "file"
    content = file_of(made, syntax, pixels)
    path.write_bytes(content)
    walked = walk_header(path)
    assert walked is not None
    agree(path, walked)
    if pixels:
        assert (walked.pixel_offset, walked.pixel_bytes) == (content.rindex(pixels), len(pixels))
    else:
        assert (walked.pixel_offset, walked.pixel_bytes) == (None, None)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    made=elements(),
    implicit=st.booleans(),
    place=st.floats(0, 1, exclude_max=True),
    other=st.sampled_from([None, *range(0, 256, 5), 255]),
)
def test_a_damaged_header_is_walked_as_pydicom_reads_it_or_not_at_all(tmp_path, made, implicit, place, other):
    path = tmp_path / "file"
    content = bytearray(file_of(made, ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian, bytes(300)))
    at = int(place * len(content))
    if other is None:
        del content[at:]
    else:
        content[at] = other
    path.write_bytes(content)
    walked = walk_header(path)
    if walked is not None:
        agree(path, walked)


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
def test_plain_files_are_walked_and_all_others_left_to_pydicom(tmp_path, syntax):
    path = save(ct_series(noise((1, 8, 8)))[0], tmp_path / "file", syntax)
    walked = walk_header(path)
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        agree(path, walked)
        assert walked.pixel_bytes == 128
    else:
        assert walked is None


def test_of_compressed_pixels_only_the_start_is_told(tmp_path):
    path = save(ct_series(noise((1, 8, 8)))[0], tmp_path / "file", RLELossless)
    walked = walk_header(path)
    assert path.read_bytes()[walked.pixel_offset :].startswith(b"\xfe\xff\x00\xe0")
    assert walked.pixel_bytes is None


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_fractions_are_no_pixels_that_can_be_read_in_place(tmp_path, keyword):
    made = ct_series(noise((1, 8, 8)))[0]
    del made.PixelData
    setattr(made, keyword, bytes(8 * 8 * 8))
    walked = walk_header(save(made, tmp_path / "file"))
    assert (walked.header.Rows, walked.pixel_offset) == (8, None)


def test_no_preamble_no_meta_information_and_dicomdirs_are_left_to_pydicom(tmp_path):
    path = save(ct_series(noise((1, 8, 8)))[0], tmp_path / "file")
    content = path.read_bytes()
    for other in (content[132:], content.replace(b"DICM", b"DICN", 1), content[:132] + content[400:], b"", b"text"):
        path.write_bytes(other)
        assert walk_header(path) is None
    path.write_bytes(content.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0", 1))
    assert walk_header(path) is None


@pytest.mark.parametrize("long", [40_000, 200_000])
def test_headers_longer_than_a_first_look_are_walked(tmp_path, long):
    made = [(0x00080060, "CS", b"CT"), (0x00091001, "UN", bytes(long)), (0x00280010, "US", b"\x08\0")]
    path = tmp_path / "file"
    path.write_bytes(file_of(made, ExplicitVRLittleEndian, b"pixels"))
    walked = walk_header(path)
    agree(path, walked)
    assert walked.pixel_bytes == 6


def test_headers_of_more_than_a_mebibyte_are_left_to_pydicom(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(file_of([(0x00091001, "UN", bytes(1 << 20))], ExplicitVRLittleEndian, b"pixels"))
    assert walk_header(path) is None


@pytest.mark.parametrize("tags", [(0x00280010, 0x00280010), (0x00280011, 0x00280010), (0xFFFEE000, 0xFFFEE00D)])
def test_elements_that_are_there_twice_or_out_of_order_are_left_to_pydicom(tmp_path, tags):
    path = tmp_path / "file"
    path.write_bytes(file_of([(tag, "US", b"\x08\0") for tag in tags], ExplicitVRLittleEndian, b"pixels"))
    assert walk_header(path) is None


def test_sequences_in_sequences_without_end_are_left_to_pydicom(tmp_path):
    path = tmp_path / "file"
    start = file_of([], ExplicitVRLittleEndian)
    path.write_bytes(start + struct.pack("<HH2sHL", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF) * 9)
    assert walk_header(path) is None
    deep = []
    for _ in range(40):
        deep = [(0x00400275, "SQ", ([deep], False))]
    path.write_bytes(file_of(deep, ExplicitVRLittleEndian, b"pixels"))
    assert walk_header(path) is None


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Müller^Zoë"),
        ("ISO_IR 100", "Müller^Zoë"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (None, "Doe^Jane"),
    ],
)
def test_names_keep_their_letters(tmp_path, character_set, name):
    made = ct_series(noise((1, 8, 8)), SpecificCharacterSet=character_set, PatientName=name)[0]
    assert walk_header(save(made, tmp_path / "file")).header.PatientName == name


def test_indexing_in_threads_warns_of_nothing_and_leaves_the_warnings_as_they_were(tmp_path, recwarn):
    made = ct_series(noise((40, 4, 4)), PatientID="K" * 80, SpecificCharacterSet="ISO_IR Kowalska")
    for number, one in enumerate(made):
        save(one, tmp_path / str(number), NATIVE[number % len(NATIVE)])
    recwarn.clear()
    modes = (config.settings.reading_validation_mode, config.settings.writing_validation_mode)
    filters = list(warnings.filters)
    for _ in range(3):
        index_study(tmp_path)
    assert list(recwarn) == []
    assert list(warnings.filters) == filters
    assert (config.settings.reading_validation_mode, config.settings.writing_validation_mode) == modes
