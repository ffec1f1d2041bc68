"""Real films and damaged files, where the collection of awkward DICOM lies beside the repository (it does in CI)."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from made_films import instance, read

from clinibundle.dicom.index import index_study
from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.dicom.rules import DicomWishes, Rule
from clinibundle.dicom.select import choose
from clinibundle.errors import UnreadableInput, UnsuitableInput

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT.parent / "shared" / "data" / "dicom"
pytestmark = pytest.mark.skipif(not COLLECTION.is_dir(), reason="the shared collection is not beside the repository")


@pytest.fixture(scope="module")
def wishes():
    described = yaml.safe_load((ROOT / "bundles" / "lung_xray" / "configs" / "dicom.yaml").read_text())
    return DicomWishes(object="radiograph", rules=[Rule(**rule) for rule in described["rules"]])


# Rows and columns, values after rescale and polarity, whether the film is turned, spacing (x, y); from index.json.
FILMS = {
    "cr_chest_mono1_nopreamble/CR-MONO1-10-chest": ((440, 440), (0, 979), True, None),
    "cr_chest_mono1_j2k/RG1_J2KI.dcm": ((1955, 1841), (803, 26512), True, None),
    "cr_chest_mono2_raw/nih_cxr.dcm": ((1024, 1024), (0, 252), False, None),
    "dx_thorax_dog/dx_image.dcm": ((169, 211), (5, 255), True, (1.2012, 1.2)),
    "cr_not_chest/RG3_J2KI.dcm": ((1760, 1760), (0, 1023), True, None),
    "wrong_modality/CT_JPEG70.dcm": ((400, 512), (-196, 406), False, (1, 1)),
    "wrong_modality/JPEG2000.dcm": ((1024, 256), (-30, 245), False, (2.26, 2.26)),
    "odd_and_damaged/CT_small.dcm": ((128, 128), (-896, 1167), False, (0.661468, 0.661468)),
    "odd_and_damaged/J2K_pixelrep_mismatch.dcm": ((512, 512), (-2000, 1896), False, (0.431, 0.431)),
    "odd_and_damaged/bad_sequence.dcm": ((512, 512), (-1011, 1243), False, (0.287109, 0.287109)),
    "odd_and_damaged/explicit_VR-UN.dcm": ((512, 512), (-1024, 1186), False, (0.859375, 0.859375)),
    "codec_other/JLSL_16_15_1_1F.dcm": ((128, 128), (-16384, 16383), False, None),
    "codec_other/JPEGBaseline_08.dcm": ((100, 100), (0, 255), False, (1, 1)),
    "codec_other/JPGExtended.dcm": ((1024, 256), (0, 264), False, (2.26, 2.26)),
    "codec_other/image_dfl.dcm": ((512, 512), (0, 255), False, None),
}
# Lossy decoders differ by so much.
OF_ITK = {"codec_other/JPGExtended.dcm": 8, "codec_other/JPEGBaseline_08.dcm": 1, "wrong_modality/JPEG2000.dcm": 1}


def itk_values(path):
    import itk

    return itk.array_from_image(itk.imread(str(path)))[0].astype(np.float64)


@pytest.mark.parametrize("name", FILMS)
def test_a_film_is_read_as_the_collection_says_and_as_itk_reads_it(name):
    shape, values, turned, spacing = FILMS[name]
    volume = read(COLLECTION / name)
    assert volume.array.T.shape == shape
    assert (volume.array.min(), volume.array.max()) == values
    polarity = next(check for check in volume.checks if check.name == "photometric_interpretation")
    assert polarity.status == ("fixed" if turned else "passed")
    assert volume.spacing_mm == (None if spacing is None else pytest.approx(spacing, rel=1e-5))
    found = itk_values(COLLECTION / name)
    assert found.shape == shape
    # ITK turns MONOCHROME1 within the range of the stored bits, we within the film's own: an offset apart.
    offset = found.min() - volume.array.min() if turned else 0
    np.testing.assert_allclose(volume.array.T + offset, found, atol=OF_ITK.get(name, 0.01))


@pytest.mark.parametrize("name", [name for name in FILMS if name.startswith("cr_chest")])
def test_chest_films_are_chosen_by_the_lung_bundle(name, wishes):
    choice = choose(index_study((COLLECTION / name).parent), wishes)
    assert choice.chosen.instance.path == COLLECTION / name
    assert choice.chosen.score > 0


NOT_THIS_MODALITY = r"Modality is {}, expected CR or DX"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dx_thorax_dog/dx_image.dcm", r"its description says '(lateral|veterinar\w*|dog|canine)'"),
        ("cr_not_chest/RG3_J2KI.dcm", "BodyPartExamined is EXTREMITY, expected CHEST or"),
        ("wrong_modality/CT_JPEG70.dcm", NOT_THIS_MODALITY.format("CT")),
        ("wrong_modality/JPEG2000.dcm", NOT_THIS_MODALITY.format("NM")),
        ("wrong_modality/SC_ybr_full_422_uncompressed.dcm", NOT_THIS_MODALITY.format("OT")),
        ("wrong_modality/examples_ybr_color.dcm", NOT_THIS_MODALITY.format("US")),
        ("wrong_modality/rtdose.dcm", NOT_THIS_MODALITY.format("RTDOSE")),
        ("odd_and_damaged/rtplan_truncated.dcm", NOT_THIS_MODALITY.format("RTPLAN")),
        ("codec_other/JLSL_16_15_1_1F.dcm", "Modality is not given"),
        ("seg_examples/seg_image_cr_binary.dcm", NOT_THIS_MODALITY.format("SEG")),
    ],
)
def test_what_is_no_chest_film_is_refused_by_the_lung_bundle(name, words, wishes):
    with pytest.raises(UnsuitableInput, match=words):
        choose(index_study(COLLECTION / name), wishes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("made_damaged/empty.dcm", "no DICOM file"),
        ("made_damaged/text.dcm", "no DICOM file"),
        ("made_damaged/preamble_only.dcm", "lacks SOPClassUID or SOPInstanceUID"),
        ("odd_and_damaged/no_meta.dcm", "no DICOM file"),
        ("odd_and_damaged/UN_sequence.dcm", "lacks SOPClassUID or SOPInstanceUID"),
        ("odd_and_damaged/meta_missing_tsyntax.dcm", "lacks SOPClassUID or SOPInstanceUID"),
    ],
)
def test_what_has_no_header_is_left_out(name, words, wishes):
    with pytest.raises(UnreadableInput, match=words):
        choose(index_study(COLLECTION / name), wishes)


@pytest.mark.parametrize(
    ("name", "refusal", "words"),
    [
        ("made_damaged/ct_raw_cut_60pct.dcm", UnreadableInput, "is truncated: 17223 bytes of pixels, expected 32768"),
        ("made_damaged/jpls_cut_70pct.dcm", UnreadableInput, "holds no pixels"),
        ("made_damaged/rle_bad_offset.dcm", UnreadableInput, r"cannot be decoded \(RLE Lossless\)"),
        ("odd_and_damaged/MR_truncated.dcm", UnreadableInput, "is truncated: 8130 bytes of pixels, expected 8192"),
        ("odd_and_damaged/badVR.dcm", UnsuitableInput, "has 10 × 10 pixels; expected at least 64"),
        ("odd_and_damaged/rtplan_truncated.dcm", UnreadableInput, "has no picture"),
        ("odd_and_damaged/emri_small_jpeg_2k_lossless_too_short.dcm", UnsuitableInput, "has 10 frames"),
        ("wrong_modality/SC_ybr_full_422_uncompressed.dcm", UnsuitableInput, "is a YBR_FULL_422 picture"),
        ("wrong_modality/examples_ybr_color.dcm", UnsuitableInput, "has 30 frames"),
        ("wrong_modality/rtdose.dcm", UnsuitableInput, "has 15 frames"),
        ("codec_other/HTJ2KLossless_08_RGB.dcm", UnsuitableInput, "is a RGB picture"),
        ("codec_other/OBXXXX1A_rle.dcm", UnsuitableInput, "is a PALETTE COLOR picture"),
        ("codec_other/SC_rgb_small_odd_jpeg.dcm", UnsuitableInput, "is a YBR_FULL picture"),
    ],
)
def test_what_is_no_sound_grey_frame_is_refused_when_read(name, refusal, words):
    with pytest.raises(refusal, match=words):
        read_radiograph(instance(COLLECTION / name))


def test_a_stream_with_zeroed_bytes_that_every_decoder_takes_is_read_as_they_read_it():
    path = COLLECTION / "made_damaged" / "j2k_200_bytes_zeroed.dcm"
    found = itk_values(path)
    picture = found > -2000  # the rest is padding, which we take as background
    assert np.abs(read(path).array.T - found)[picture].max() <= 1


@pytest.mark.parametrize("name", ["CT1_J2KR", "CT1_JLSL", "CT1_JPLL", "CT1_RLE", "CT1_RLE_FRAGS"])
def test_lossless_codecs_give_one_picture(name):
    folder = COLLECTION / "codec_ct_chest"
    np.testing.assert_array_equal(read(folder / name).array, read(folder / "CT1_J2KR").array)


@pytest.mark.parametrize(
    "folder", sorted(p.name for p in COLLECTION.iterdir() if p.is_dir()) if COLLECTION.is_dir() else []
)
def test_no_file_of_the_collection_ends_in_anything_but_a_picture_or_a_refusal(folder, wishes):
    index = index_study(COLLECTION / folder)
    files = [p for p in (COLLECTION / folder).rglob("*") if p.is_file() and p != COLLECTION / folder / "DICOMDIR"]
    assert len(index.instances) + len(index.skipped) == len(files)
    for found in index.instances:
        try:
            volume = read_radiograph(found)
        except (UnreadableInput, UnsuitableInput) as refusal:
            assert found.name in str(refusal)
        else:
            assert np.isfinite(volume.array).all()
