"""The frames of a SEG, however they are coded."""

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_objects import DEFLATED_FRAMES, MASKS, read, seg, stack, write
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from clinibundle.dicom import inflate, seg_frames
from clinibundle.errors import UnreadableInput

RANDOM = np.random.default_rng(11)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, DEFLATED_FRAMES], ids=lambda uid: uid.name)
@settings(max_examples=30)
@given(masks=hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 19))))
def test_single_bits_are_read_however_they_are_coded(tmp_path_factory, syntax, masks):
    found = read(tmp_path_factory.getbasetemp(), seg(stack(masks), syntax=syntax))
    np.testing.assert_array_equal(found.label_map, masks)
    assert found.label_map.dtype == np.uint16
    assert found.label_map.flags.c_contiguous


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DEFLATED_FRAMES, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [8, 16])
def test_bytes_and_words_are_read_however_they_are_coded(tmp_path, kind, syntax, bits):
    largest = 300 if bits == 16 else 255
    # JPEG 2000 takes no pictures under 32 pixels.
    values = RANDOM.integers(0, largest, (3, 33, 37)).astype(f"u{bits // 8}")
    names = {n: str(n) for n in range(1, largest)}
    frames = stack(values, segment=None if kind == "LABELMAP" else 1)
    if syntax in (RLELossless, JPEG2000Lossless):
        made = seg(frames, kind, bits, names)
        made.compress(syntax, generate_instance_uid=False)
    else:
        made = seg(frames, kind, bits, names, syntax=syntax)
    expected = values if kind == "LABELMAP" else values >= 127.5
    np.testing.assert_array_equal(read(tmp_path, made).label_map, expected)


def test_a_deflated_file_is_read(tmp_path):
    made = seg(stack(MASKS), syntax=ExplicitVRLittleEndian)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    np.testing.assert_array_equal(read(tmp_path, made).label_map, MASKS)


def test_a_deflated_file_that_grows_beyond_all_measure_is_refused(tmp_path, monkeypatch):
    made = seg(stack(np.zeros((40, 512, 512), bool)))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert read(tmp_path, made).label_map.shape == (40, 512, 512)
    monkeypatch.setattr(inflate, "UNSUSPECTED_BYTES", 1000)
    with pytest.raises(UnreadableInput, match="its deflated data set grows beyond"):
        read(tmp_path, made)


@pytest.mark.parametrize("syntax", [RLELossless, DEFLATED_FRAMES], ids=lambda uid: uid.name)
def test_a_coded_frame_that_grows_beyond_its_size_takes_no_more_memory(syntax):
    decode = seg_frames._inflate if syntax == DEFLATED_FRAMES else seg_frames._unpack_run_lengths
    made = seg(stack(np.zeros((1, 512, 8192), bool)), syntax=syntax)
    (frame,) = seg_frames._encoded_frames(made)
    assert len(frame) < 10_000
    assert len(decode(frame, 100)) == 100


@pytest.mark.parametrize("syntax", [RLELossless, DEFLATED_FRAMES], ids=lambda uid: uid.name)
def test_a_coded_frame_that_ends_early_is_refused(tmp_path, syntax):
    made = seg(stack(MASKS), syntax=syntax)
    made.Columns = 100
    with pytest.raises(UnreadableInput, match=r"a frame of the SEG holds \d+ bytes, expected 63"):
        read(tmp_path, made)


def test_a_compressed_picture_that_is_cut_or_of_another_size_is_refused(tmp_path):
    made = seg(stack(RANDOM.integers(0, 255, (2, 33, 37)).astype(np.uint8)), "FRACTIONAL", 8)
    made.compress(JPEG2000Lossless, generate_instance_uid=False)
    first, second = seg_frames._encoded_frames(made)
    made.PixelData = encapsulate([first, second[:-40]])
    with pytest.raises(UnreadableInput, match="frame 2 of the SEG ends early: it is truncated"):
        read(tmp_path, made)
    made.Rows = 34
    with pytest.raises(UnreadableInput, match=r"compressed picture of \(33, 37\), its header says \(34, 37\)"):
        read(tmp_path, made)


def test_a_byte_order_that_was_retired_before_there_were_any_is_refused(tmp_path):
    made = seg(stack(MASKS))
    path = write(made, tmp_path / "seg.dcm")
    whole = pydicom.dcmread(path)
    whole.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    with pytest.raises(UnreadableInput, match="stored as Explicit VR Big Endian, retired"):
        list(seg_frames.decode_frames(whole, [0]))
