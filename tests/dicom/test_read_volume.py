"""Values of volumes, however they are stored; what cannot be trusted is refused."""

import subprocess
import sys
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_volumes import NATIVE, check_of, ct_series, decimals, enhanced, lps_grid, noise, placed, read, save, save_all
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)
from test_damaged_bytes import damage

from clinibundle.dicom.gate import place
from clinibundle.dicom.index import index_study
from clinibundle.dicom.read_volume import read_volume
from clinibundle.dicom.rules import DicomWishes, Rule
from clinibundle.dicom.select import judge_volume
from clinibundle.dicom.stacks import split_study
from clinibundle.errors import ClinibundleError, GeometryError, UnreadableInput, UnsuitableInput

SHAPE = (3, 36, 40)
LOSSLESS = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
TYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32]


def name_of(value):
    return value.keyword if isinstance(value, UID) else value.__name__ if isinstance(value, type) else None


def encoder_of(syntax):
    if syntax.is_encapsulated and not get_encoder(syntax).is_available:
        pytest.skip(f"no encoder for {syntax.name} is installed")


def read_series(folder, values, syntax=ExplicitVRLittleEndian, fill_padding=False, **changes):
    return read(save_all(ct_series(values, **changes), folder, syntax), fill_padding=fill_padding)


def itk_values(path):
    import itk

    return itk.array_from_image(itk.imread(str(path)))[0]


# How values are stored.


@pytest.mark.parametrize("syntax", NATIVE, ids=name_of)
@pytest.mark.parametrize("dtype", TYPES, ids=name_of)
def test_every_whole_number_is_read_as_it_was_stored(tmp_path, dtype, syntax):
    limits = np.iinfo(dtype)
    # Frames of an odd number of bytes; 24 bits are exact in a fraction.
    values = noise((3, 7, 9), dtype, max(limits.min, -(2**23)), min(limits.max, 2**23))
    values[0, 0, :2] = max(limits.min, -(2**23)), min(limits.max, 2**23)
    array = read_series(tmp_path, values, syntax).array
    assert array.dtype == (np.int16 if np.can_cast(dtype, np.int16) else np.float32)
    np.testing.assert_array_equal(array.T, values)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=name_of)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16], ids=name_of)
def test_losslessly_compressed_values_are_read_as_they_were(tmp_path, dtype, syntax):
    encoder_of(syntax)
    limits = np.iinfo(dtype)
    values = noise(SHAPE, dtype, limits.min, limits.max)
    np.testing.assert_array_equal(read_series(tmp_path, values, syntax).array.T, values)


def test_lossless_jpeg_that_gdcm_wrote_is_read(tmp_path):
    import itk

    values, folder = noise(SHAPE, np.uint16, 0, 4095), tmp_path / "series"
    folder.mkdir()
    made = ct_series(values)
    for one, picture in zip(made, values, strict=True):
        io = itk.GDCMImageIO.New()
        io.SetCompressor("JPEG")
        file = str(tmp_path / "itk.dcm")
        itk.ImageFileWriter.New(itk.image_from_array(picture), FileName=file, ImageIO=io, UseCompression=True).Update()
        written = pydicom.dcmread(file)
        assert written.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        one.PixelData = written.PixelData
        one["PixelData"].is_undefined_length = True
        one.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        pydicom.dcmwrite(folder / str(one.InstanceNumber), one)
    np.testing.assert_array_equal(read(folder).array.T, values)


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless], ids=name_of)
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint16, 12), (np.int16, 12), (np.uint16, 10), (np.uint8, 7)])
def test_bits_beyond_those_stored_are_no_part_of_a_value(tmp_path, dtype, bits, syntax):
    low = -(2 ** (bits - 1)) if dtype == np.int16 else 0
    values = noise((3, 6, 8), dtype, low, low + 2**bits - 1)
    size = 8 * values.dtype.itemsize
    # As older files have overlays there; of compressed ones nothing is said.
    overlay = 0 if syntax == RLELossless else (0xA5A5 << bits) & (2**size - 1)
    unsigned = values.view(f"u{size // 8}") & (2**bits - 1) | overlay
    stored = (values if syntax == RLELossless else unsigned).view(dtype)
    np.testing.assert_array_equal(read_series(tmp_path, stored, syntax, BitsStored=bits).array.T, values)


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEGLSLossless], ids=name_of)
def test_frames_of_one_file_are_read_in_their_places(tmp_path, syntax):
    encoder_of(syntax)
    values = noise((6, 7, 9))
    save(enhanced(values, order=[5, 0, 3, 1, 4, 2]), tmp_path / "file", syntax)
    np.testing.assert_array_equal(read(tmp_path).array.T, values)


def test_a_compressed_file_of_many_frames_is_read_once(tmp_path, monkeypatch):
    save(enhanced(noise((30, 7, 9))), tmp_path / "file", RLELossless)
    stack = placed(tmp_path)
    calls = []
    whole = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **k: calls.append(a) or whole(*a, **k))
    read_volume(stack)
    assert len(calls) == 1


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_fractions_are_read_as_fractions(tmp_path, keyword):
    kind = np.float32 if keyword == "FloatPixelData" else np.float64
    values = np.random.default_rng(1).normal(size=(3, 6, 8)).astype(kind)
    made = ct_series(noise((3, 6, 8), np.int32 if kind == np.float32 else np.int64))
    for one, picture in zip(made, values, strict=True):
        del one.PixelData, one.BitsStored, one.HighBit, one.PixelRepresentation
        setattr(one, keyword, picture.tobytes())
    array = read(save_all(made, tmp_path)).array
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array.T, values.astype(np.float32))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turn=st.tuples(*[st.floats(-180, 180)] * 3), order=st.permutations(range(4)), tilt=st.booleans())
def test_a_voxel_lies_where_the_header_of_its_slice_says(tmp_path, turn, order, tilt):
    values, grid = noise((4, 5, 6)), lps_grid(turn=turn, shear=(0.3, -0.4) if tilt else (0, 0))
    for old in tmp_path.iterdir():
        old.unlink()
    made = ct_series(values, grid, InstanceNumber=lambda k: order[k])
    volume = read(save_all([made[k] for k in order], tmp_path), tilt_allowed=True)
    np.testing.assert_array_equal(volume.array.T, values)
    np.testing.assert_allclose(volume.affine_lps, grid, atol=1e-5)
    assert volume.source.sop_instance_uids == [one.SOPInstanceUID for one in made]
    assert [pydicom.dcmread(path).SOPInstanceUID for path in volume.source.paths] == volume.source.sop_instance_uids
    assert volume.source.frames == ()


@pytest.mark.parametrize("turn", [(0, 0, 0), (0, 90, 0), (-90, 0, 0), (20, 30, 40)])
def test_itk_sees_the_same_values_at_the_same_places(tmp_path, turn):
    import itk

    made = ct_series(noise(SHAPE, np.uint16, 0, 3000), lps_grid(turn=turn), RescaleIntercept=-1024)
    volume = read(save_all(made[::-1], tmp_path))
    names = itk.GDCMSeriesFileNames.New(Directory=str(tmp_path)).GetInputFileNames()
    seen = itk.imread(list(names), itk.SS)
    np.testing.assert_array_equal(itk.array_from_image(seen), volume.array.T)
    for index in ((0, 0, 0), (5, 0, 0), (0, 7, 0), (3, 4, 2)):
        point = seen.TransformIndexToPhysicalPoint([int(i) for i in index])
        np.testing.assert_allclose((volume.affine_lps @ [*index, 1])[:3], list(point), atol=1e-4)
    np.testing.assert_allclose(volume.spacing_mm, list(seen.GetSpacing()), atol=1e-5)


# What values mean.


def test_each_slice_is_rescaled_by_its_own_intercept(tmp_path):
    values = noise(SHAPE, np.uint16, 0, 3000)
    volume = read_series(tmp_path, values, RescaleIntercept=lambda k: -1000 - 7 * k)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array.T, values.astype(int) - 1000 - 7 * np.arange(3)[:, None, None])
    assert (check_of(volume, "units").status, volume.meaning) == ("fixed", "hounsfield")


@pytest.mark.parametrize(("slope", "intercept"), [("1.63858", "0"), ("1", "-1024.5"), ("-2", "3"), ("0.001", "-1e6")])
def test_what_is_no_whole_number_becomes_a_fraction(tmp_path, slope, intercept):
    values = noise(SHAPE, np.uint16, 0, 3000)
    array = read_series(tmp_path, values, RescaleSlope=slope, RescaleIntercept=intercept).array
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array.T, (values * float(slope) + float(intercept)).astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "highest", "intercept", "kind"),
    [
        (np.uint16, 33791, -1024, np.int16),
        (np.uint16, 33792, -1024, np.float32),
        (np.uint16, 65535, -32768, np.int16),
        (np.int16, 32767, 1, np.float32),
        (np.int16, 32767, -65535, np.float32),
        (np.int16, 0, -32768, np.int16),
        (np.int16, 0, -32769, np.float32),
        (np.uint16, 10, 1e20, np.float32),
    ],
)
def test_values_beyond_sixteen_bits_are_kept(tmp_path, dtype, highest, intercept, kind):
    values = np.zeros(SHAPE, dtype)
    values[2, 3, 4] = highest
    array = read_series(tmp_path, values, RescaleIntercept=f"{intercept:g}", Modality="MR").array
    assert array.dtype == kind
    np.testing.assert_array_equal(array.T, (values.astype(np.float64) + intercept).astype(kind))


@pytest.mark.parametrize(
    ("changes", "meaning", "status", "words"),
    [
        ({}, "hounsfield", "passed", "values are Hounsfield units"),
        ({"RescaleType": None}, "hounsfield", "passed", "values are Hounsfield units"),
        ({"RescaleType": "HU_MOD"}, "hounsfield", "passed", "values are Hounsfield units"),
        ({"RescaleType": "US"}, "hounsfield", "warning", "'unspecified'"),
        ({"RescaleType": "MGML"}, "grey", "warning", "the values are in MGML, not in Hounsfield units"),
        ({"RescaleIntercept": None}, "grey", "warning", "no RescaleIntercept is given"),
        ({"RescaleIntercept": lambda k: 0 if k else None}, "grey", "warning", "no RescaleIntercept is given"),
        ({"Modality": "MR"}, "grey", "passed", "the scanner's own units"),
    ],
)
def test_units_are_told(tmp_path, changes, meaning, status, words):
    volume = read_series(tmp_path, noise(SHAPE), **changes)
    check = check_of(volume, "units")
    assert (volume.meaning, check.status) == (meaning, status)
    assert words in check.detail
    assert (check_of(volume, "hu_range") is not None) == (meaning == "hounsfield")


@pytest.mark.parametrize(
    ("low", "high", "status"), [(-900, 1500, "passed"), (0, 1500, "warning"), (-999, -600, "warning")]
)
def test_a_ct_without_air_or_of_nothing_but_air_is_told(tmp_path, low, high, status):
    assert check_of(read_series(tmp_path, noise(SHAPE, low=low, high=high)), "hu_range").status == status


PADDED = noise(SHAPE)
PADDED[:, :9] = -2000
UNSIGNED = (PADDED + 1024).astype(np.uint16)


@pytest.mark.parametrize("syntax", NATIVE, ids=name_of)
@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (PADDED, {"PixelPaddingValue": -2000}),
        (PADDED, {"PixelPaddingValue": 63536}),
        (PADDED, {"PixelPaddingValue": -2010, "PixelPaddingRangeLimit": -1990}),
        (PADDED, {"PixelPaddingValue": -1990, "PixelPaddingRangeLimit": -2010}),
        (UNSIGNED, {"PixelPaddingValue": -976, "RescaleIntercept": -1024}),
        (UNSIGNED, {"PixelPaddingValue": 64560, "RescaleIntercept": -1024}),
        (UNSIGNED, {"PixelPaddingValue": 64000, "PixelPaddingRangeLimit": 65535, "RescaleIntercept": -1024}),
        (UNSIGNED, {"PixelPaddingValue": -1000, "PixelPaddingRangeLimit": -1, "RescaleIntercept": -1024}),
    ],
    ids=lambda value: "-".join(str(v) for v in value.values()) if isinstance(value, dict) else "",
)
def test_padding_becomes_air_where_that_is_asked_for(tmp_path, stored, said, syntax):
    filled = read_series(tmp_path, stored, syntax, fill_padding=True, **said)
    np.testing.assert_array_equal(filled.array.T[:, 9:], PADDED[:, 9:])
    assert set(np.unique(filled.array.T[:, :9])) == {-1024}
    check = check_of(filled, "padding")
    assert (check.status, check.value) == ("fixed", 0.25)
    kept = read(tmp_path)
    assert check_of(kept, "padding").status == "passed"
    assert set(np.unique(kept.array.T[:, :9])) == {int(stored[0, 0, 0]) + said.get("RescaleIntercept", 0)}


@pytest.mark.parametrize("changes", [{"Modality": "MR"}, {"RescaleIntercept": None}, {"RescaleType": "MGML"}])
def test_padding_of_what_is_not_in_hounsfield_units_becomes_no_air(tmp_path, changes):
    stored = noise(SHAPE, np.uint16, 20, 900)
    stored[:, :9] = 65535
    filled = read_series(tmp_path, stored, fill_padding=True, PixelPaddingValue=65535, **changes)
    assert set(np.unique(filled.array.T[:, :9])) == {0}
    np.testing.assert_array_equal(filled.array.T[:, 9:], stored[:, 9:])


def test_a_slice_of_padding_alone_is_filled(tmp_path):
    stored = np.full(SHAPE, -2000, np.int16)
    assert set(np.unique(read_series(tmp_path, stored, fill_padding=True, PixelPaddingValue=-2000).array)) == {-1024}


def test_a_padding_value_that_does_not_occur_changes_nothing(tmp_path):
    volume = read_series(tmp_path, noise(SHAPE), fill_padding=True, PixelPaddingValue=-2000)
    assert check_of(volume, "padding") is None
    np.testing.assert_array_equal(volume.array.T, noise(SHAPE))


def test_monochrome1_keeps_its_values_and_is_told(tmp_path):
    volume = read_series(tmp_path, noise(SHAPE), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(volume.array.T, noise(SHAPE))
    assert check_of(volume, "photometric_interpretation").status == "warning"


@pytest.mark.parametrize(
    ("syntax", "how"), [(JPEGLSNearLossless, {"jls_error": 3}), (JPEG2000, {"j2k_psnr": [90]})], ids=name_of
)
def test_lossy_values_are_read_nearly_as_they_were_and_told(tmp_path, syntax, how):
    encoder_of(syntax)
    smooth = (500 * np.sin(np.indices(SHAPE).sum(axis=0) / 9)).astype(np.int16)
    made = ct_series(smooth, LossyImageCompression="01", LossyImageCompressionRatio="9")
    for number, one in enumerate(made):
        one.compress(syntax, generate_instance_uid=False, **how)
        pydicom.dcmwrite(tmp_path / str(number), one)
    volume = read(tmp_path)
    assert 0 < np.abs(volume.array.T - smooth.astype(int)).max() <= 40
    check = check_of(volume, "lossy_compression")
    assert (check.status, check.value) == ("warning", "9")


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "image_type"),
        ({"LossyImageCompression": lambda k: "01" if k == 2 else "00"}, "lossy_compression"),
    ],
)
def test_what_people_should_know_of_is_told(tmp_path, changes, check):
    assert check_of(read_series(tmp_path, noise(SHAPE), **changes), check).status == "warning"


def test_facts_name_the_picture_and_no_person(tmp_path):
    facts = read_series(tmp_path, noise(SHAPE), BodyPartExamined="CHEST").facts
    assert facts["Voxels"] == "40 × 36 × 3"
    assert facts["Voxel size"] == "0.75 × 0.5 × 2.5 mm"
    assert (facts["Plane"], facts["Kernel"], facts["Body part"]) == ("axial", "B30f", "CHEST")
    assert not any(part in str(facts) for part in ("Kowalska", "98765", "1944"))


# Slices at one place.


def repeated(values, change=None, **changes):
    made = ct_series(values, **changes)
    again = ct_series(values[1:2], **changes)[0]
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"):
        setattr(again, keyword, made[1][keyword].value)
    if change:
        change(again)
    return [*made, again]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless], ids=name_of)
def test_a_slice_that_is_there_twice_is_used_once(tmp_path, syntax):
    values = noise(SHAPE)
    volume = read(save_all(repeated(values), tmp_path, syntax))
    np.testing.assert_array_equal(volume.array.T, values)
    assert (check_of(volume, "repeated_slices").status, check_of(volume, "repeated_slices").value) == ("fixed", 1)


def add_one_to_a_pixel(one):
    one.PixelData = one.PixelData[:-2] + bytes([one.PixelData[-2] ^ 1]) + one.PixelData[-1:]


@pytest.mark.parametrize(
    "change",
    [add_one_to_a_pixel, lambda one: setattr(one, "RescaleIntercept", 1), lambda one: setattr(one, "RescaleSlope", 2)],
    ids=["pixel", "intercept", "slope"],
)
def test_two_slices_that_differ_at_one_place_are_refused(tmp_path, change):
    made = repeated(noise(SHAPE), change)
    with pytest.raises(GeometryError, match="'IM0001' and 'IM0003' show different pictures at one position"):
        read(save_all(made, tmp_path))


def test_two_slices_of_one_meaning_are_equal_however_they_are_stored(tmp_path):
    def by_another_intercept(one):
        one.PixelData = (np.frombuffer(one.PixelData, np.int16) + np.int16(24)).tobytes()
        one.RescaleIntercept = -24

    values = noise(SHAPE)
    volume = read(save_all(repeated(values, by_another_intercept), tmp_path))
    np.testing.assert_array_equal(volume.array.T, values)


# What is refused.


def cut(path, by):
    path.write_bytes(path.read_bytes()[:-by])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: setattr(d, "PhotometricInterpretation", "RGB"), UnsuitableInput, "'IM0001' is a RGB picture"),
        (lambda d: delattr(d, "PhotometricInterpretation"), UnsuitableInput, "is a colourless picture"),
        (lambda d: setattr(d, "RescaleSlope", 0), UnreadableInput, "'IM0001' has a RescaleSlope of 0"),
        (lambda d: setattr(d, "RescaleSlope", "1e300"), UnreadableInput, "'IM0001' has values beyond all measure"),
        (lambda d: delattr(d, "PixelData"), UnreadableInput, "'IM0001' holds no pixels"),
        (lambda d: setattr(d, "BitsAllocated", 12), UnreadableInput, "'IM0001' cannot be decoded"),
        (lambda d: delattr(d, "BitsAllocated"), UnreadableInput, "'IM0001' cannot be decoded"),
        (lambda d: setattr(d, "BitsStored", 17), UnreadableInput, "'IM0001' cannot be decoded"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-10]), UnreadableInput, "2870 bytes of pixels, expected 2880"),
    ],
    ids=lambda value: "" if callable(value) else str(value)[:20],
)
def test_a_slice_that_is_not_sound_is_refused_by_name(tmp_path, change, error, words):
    made = ct_series(noise(SHAPE))
    change(made[1])
    with pytest.raises(error, match=words):
        read(save_all(made, tmp_path))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *LOSSLESS], ids=name_of)
def test_a_slice_that_breaks_off_is_refused_by_name(tmp_path, syntax):
    encoder_of(syntax)
    save_all(ct_series(noise(SHAPE)), tmp_path, syntax)
    cut(tmp_path / "IM0001", 300)
    with pytest.raises(UnreadableInput, match=r"'IM0001' (is truncated|holds no pixels|cannot be decoded)"):
        read(tmp_path)


def test_a_frame_that_is_not_there_is_refused_by_name(tmp_path):
    path = save(enhanced(noise((4, 6, 8))), tmp_path / "file")
    cut(path, 50)
    with pytest.raises(UnreadableInput, match="'file' is truncated: 334 bytes of pixels, expected 384"):
        read(tmp_path)


def test_a_stream_of_another_size_than_its_header_is_refused(tmp_path):
    made, other = ct_series(noise(SHAPE)), ct_series(noise((1, 12, 40)))[0]
    encoder_of(JPEGLSLossless)
    other.compress(JPEGLSLossless, generate_instance_uid=False)
    save_all(made, tmp_path, JPEGLSLossless)
    made[1].PixelData = other.PixelData
    pydicom.dcmwrite(tmp_path / "IM0001", made[1])
    with pytest.raises(UnreadableInput, match=r"'IM0001' holds a compressed picture of \(12, 40\)"):
        read(tmp_path)


def test_a_transfer_syntax_that_nobody_reads_is_refused_by_name(tmp_path):
    made = ct_series(noise(SHAPE))
    for number, one in enumerate(made):
        one.PixelData = encapsulate([b"an MPEG stream, say "])
        one["PixelData"].is_undefined_length = True
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
        pydicom.dcmwrite(tmp_path / str(number), one)
    with pytest.raises(UnreadableInput, match=r"MPEG-4.*no codec for them is installed"):
        read(tmp_path)


def test_slices_of_more_voxels_than_anybody_can_mean_are_refused_before_memory_is_taken(tmp_path):
    made = ct_series(noise((30, 2, 2)), Rows=9000, Columns=9000)
    with pytest.raises(UnreadableInput, match="declares 9000 × 9000 × 30 voxels, more than the limit"):
        read(save_all(made, tmp_path))


# However files are damaged.

KINDS = ["explicit", "implicit", "enhanced", "rle", "jpeg-ls", "big endian"]
SYNTAX_OF = {"implicit": NATIVE[1], "rle": RLELossless, "jpeg-ls": JPEGLSLossless, "big endian": NATIVE[2]}
WISHES = DicomWishes(
    object="volume",
    rules=[
        Rule(name="modality", keywords=["Modality"], accept=["CT"]),
        Rule(name="slices", keywords=["slices"], at_least=1),
        Rule(name="thickness", keywords=["slice_spacing_mm"], at_most=9),
    ],
)


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged_volumes")


@cache
def sound(folder, kind):
    """A folder with a sound volume, the file of it to be damaged, its content, and where the pixels begin."""
    home, values = folder / kind.replace(" ", "_"), noise((3, 6, 8))
    syntax = SYNTAX_OF.get(kind, ExplicitVRLittleEndian)
    encoder_of(syntax)
    if kind == "enhanced":
        path = save(enhanced(values, order=[1, 2, 0]), home / "file")
    else:
        path = save_all(ct_series(values, PixelPaddingValue=-900), home, syntax) / "IM0001"
    content = path.read_bytes()
    return home, path, content, content.rindex(b"\xe0\x7f\x10\x00" if kind != "big endian" else b"\x7f\xe0\x00\x10")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=timedelta(seconds=30))
@given(damage=damage())
def test_a_damaged_volume_is_read_or_refused(module_folder, kind, damage):
    home, path, content, header = sound(module_folder, kind)
    path.write_bytes(damage(content, header))
    index = index_study(home)
    assert len(index.instances) + len(index.skipped) == len(list(home.iterdir()))
    stacks, skipped = split_study(index.instances)
    assert all(one.reason for one in skipped)
    for stack in stacks:
        candidate = judge_volume(stack, WISHES, correct_tilt=True)
        assert all(check.as_dict() for check in candidate.checks())
        if candidate.placed is None:
            continue
        try:
            volume = read_volume(place(stack.slices, "a series", tilt_allowed=True), fill_padding=True)
        except ClinibundleError as refusal:
            assert str(refusal)
            continue
        assert volume.array.dtype in (np.int16, np.float32)
        assert np.isfinite(volume.array).all()
        assert np.isfinite(volume.affine_lps).all()
        assert abs(np.linalg.det(volume.affine_lps[:3, :3])) > 0


# Memory.

MEASURE = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from made_volumes import placed
from clinibundle.dicom.read_volume import read_volume
def peak_bytes():
    # Not what getrusage says, which starts with the peak of the process that started this one.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])
stack = placed(Path(sys.argv[1]))
before = peak_bytes()
volume = read_volume(stack)
print((peak_bytes() - before) / volume.array.nbytes, volume.array.shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak memory is asked of Linux")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless], ids=name_of)
def test_reading_takes_little_more_memory_than_the_volume(tmp_path, syntax):
    encoder_of(syntax)
    picture = (400 * np.sin(np.indices((1, 512, 512)).sum(axis=0) / 99)).astype(np.int16)
    slices, one = 70, ct_series(picture)[0]
    save(one, tmp_path / "0", syntax)
    for k in range(slices):
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.ImagePositionPatient = decimals(0, 0, 2.5 * k)
        pydicom.dcmwrite(tmp_path / str(k), one)
    command = [sys.executable, "-c", MEASURE, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ratio, shape = done.stdout.split(maxsplit=1)
    assert shape.strip() == f"(512, 512, {slices})"
    assert 0.9 < float(ratio) < 1.3
