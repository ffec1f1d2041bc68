"""SEG to label map: segments, fractions, background, real objects against highdicom, and damage."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_objects import (
    COLUMNS,
    DEFLATED_FRAMES,
    MASKS,
    PATIENT,
    ROWS,
    StoredFrame,
    check,
    code,
    described_segment,
    read,
    seg,
    stack,
    write,
)
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from clinibundle.dicom import outlines
from clinibundle.dicom.outlines import Grid
from clinibundle.dicom.read_seg import read_seg
from clinibundle.errors import ClinibundleError, GeometryError, UnreadableInput, UnsuitableInput, UsageError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared collection is not beside the repository")


# -- segments
LEFT, RIGHT, ALL = np.zeros((3, ROWS, COLUMNS), bool)
LEFT[:, :3], RIGHT[:, 4:], ALL[:] = True, True, True


def test_each_segment_keeps_its_number_name_and_code(tmp_path):
    made = seg([StoredFrame(LEFT, 4), StoredFrame(RIGHT, 300)], names={300: "right", 4: "left", 9: "empty"})
    made.SegmentSequence[1].SegmentedPropertyTypeCodeSequence = [code("80891009", "SCT", "Heart")]
    del made.SegmentSequence[0].SegmentedPropertyCategoryCodeSequence
    found = read(tmp_path, made)
    np.testing.assert_array_equal(found.label_map[0], LEFT * 4 + RIGHT * 300)
    assert found.names == {300: "right", 4: "left", 9: "empty"}
    assert set(found.codes) == {4, 9}
    assert (found.codes[4].label, found.codes[4].name) == (4, "left")
    assert found.codes[4].type.model_dump() == {"value": "80891009", "scheme": "SCT", "meaning": "Heart"}
    assert found.codes[4].category.value == "123037004"


def test_overlapping_segments_are_refused_by_number_until_others_are_chosen(tmp_path):
    made = seg([StoredFrame(LEFT, 1), StoredFrame(ALL, 2), StoredFrame(RIGHT, 3)], names={1: "a", 2: "b", 3: "c"})
    with pytest.raises(UnsuitableInput, match="segments 1 and 2 overlap, and a label map holds one segment a voxel"):
        read(tmp_path, made)
    for chosen in ([1, 3], ["a", "c"]):
        found = read(tmp_path, made, segments=chosen)
        np.testing.assert_array_equal(found.label_map[0], LEFT + 3 * RIGHT)
        assert found.names == {1: "a", 3: "c"}


def test_a_segment_in_two_frames_of_one_place_is_both(tmp_path):
    found = read(tmp_path, seg([StoredFrame(MASKS[0]), StoredFrame(MASKS[1])]))
    np.testing.assert_array_equal(found.label_map[0], MASKS[0] | MASKS[1])


def test_a_segment_that_is_not_there_is_refused(tmp_path):
    made = seg(stack(MASKS), names={1: "Liver"})
    with pytest.raises(UsageError, match=r"no segment 'liver' among the 1 of this object \(did you mean 'Liver'\?\)"):
        read(tmp_path, made, segments=["liver"])
    with pytest.raises(UsageError, match="no segment 2 among"):
        read(tmp_path, made, segments=[2])


def label_map(values, names=None, padding=None, **more):
    made = seg(stack([np.array(values, np.uint8)], segment=None), "LABELMAP", 8, names or {1: "a", 2: "b"}, **more)
    if padding is not None:
        made.add_new("PixelPaddingValue", "US", padding)
    return made


def test_background_of_a_label_map_is_what_the_object_says(tmp_path):
    assert read(tmp_path, label_map([[0, 1, 2]])).label_map.tolist() == [[[0, 1, 2]]]
    assert read(tmp_path, label_map([[0, 1, 7]], padding=7)).label_map.tolist() == [[[0, 1, 0]]]
    made = label_map([[0, 3, 1]], {0: "air", 1: "a", 3: "none"})
    for item in (made.SegmentSequence[0], made.SegmentSequence[2]):
        item.SegmentedPropertyTypeCodeSequence = [code("125040", "DCM", "Background")]
    found = read(tmp_path, made)
    assert found.label_map.tolist() == [[[0, 0, 1]]]
    assert found.names == {1: "a"}


def test_a_label_map_gives_only_the_chosen_segments(tmp_path):
    assert read(tmp_path, label_map([[0, 1, 2]]), segments=[2]).label_map.tolist() == [[[0, 0, 2]]]


@settings(max_examples=30)
@given(values=hnp.arrays(np.uint8, (2, 3, 4)), fraction=st.integers(1, 255).map(lambda n: n / 255))
def test_fractions_are_cut_where_it_is_said(tmp_path_factory, values, fraction):
    found = read(tmp_path_factory.getbasetemp(), seg(stack(values), "FRACTIONAL", 8), fraction=fraction)
    np.testing.assert_array_equal(found.label_map == 1, values >= round(fraction * 255))
    said = check(found, "segmentation_type")
    assert (said.status, said.limit) == ("fixed", fraction)
    assert f"at least {fraction:g} of" in said.detail


@pytest.mark.parametrize("fraction", [0, -1, 1.01, float("nan")])
def test_a_fraction_that_is_none_is_refused(tmp_path, fraction):
    with pytest.raises(UsageError, match="expected more than 0 and at most 1"):
        read(tmp_path, seg(stack(MASKS)), fraction=fraction)


# -- damage


def setting(**attributes):
    def change(made):
        for keyword, value in attributes.items():
            setattr(made, keyword, value)

    return change


def without(*keywords):
    def change(made):
        for keyword in keywords:
            delattr(made, keyword)

    return change


def in_frame(sequence, keyword, value):
    def change(made):
        setattr(made.PerFrameFunctionalGroupsSequence[1][sequence][0], keyword, value)

    return change


def second_segment(made):
    made.SegmentSequence.append(described_segment(1, "again"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            setting(Rows=60_000, Columns=60_000, NumberOfFrames=50_000),
            "declares 50000 frames of 60000 × 60000 pixels, more",
        ),
        (setting(NumberOfFrames=0), "declares 0 frames of 5 × 7 pixels: it has no picture"),
        (setting(NumberOfFrames=3), "describes 4 frames and declares 3"),
        (setting(BitsAllocated=32), "stores 1 unsigned values of 32 bits a pixel, expected"),
        (setting(PixelRepresentation=1), "stores 1 signed values of 1 bits a pixel, expected"),
        (setting(SegmentationType="SURFACE"), "neither binary nor fractional nor a label map"),
        (setting(SegmentationType="FRACTIONAL", MaximumFractionalValue=0), "MaximumFractionalValue of the SEG is 0"),
        (setting(PixelData=b"12"), "is truncated: 2 bytes of pixels, expected 18"),
        (without("PixelData"), "holds no pixels"),
        (without("SegmentSequence"), "the SEG is damaged or lacks"),
        (without("SegmentationType"), "the SEG is damaged or lacks"),
        (without("Rows"), "the SEG is damaged or lacks"),
        (without("PerFrameFunctionalGroupsSequence"), "does not say where its frames belong"),
        (without("SharedFunctionalGroupsSequence"), "the SEG is damaged or lacks"),
        (second_segment, "two segments of the SEG have the number 1"),
        (
            in_frame("SegmentIdentificationSequence", "ReferencedSegmentNumber", 9),
            "frames of segment 9, which it does not",
        ),
        (
            lambda made: delattr(made.PerFrameFunctionalGroupsSequence[1], "SegmentIdentificationSequence"),
            "which segment",
        ),
        (in_frame("PlanePositionSequence", "ImagePositionPatient", [0, 0]), "the SEG is damaged or lacks"),
        (in_frame("PlanePositionSequence", "ImagePositionPatient", [0, 0, 1e9]), "no sound position"),
    ],
)
def test_a_damaged_object_is_refused_in_a_sentence(tmp_path, change, words):
    made = seg(stack(MASKS))
    change(made)
    with pytest.raises(UnreadableInput, match=words):
        read(tmp_path, made)


def test_pixels_of_a_segment_that_is_not_described_are_refused(tmp_path):
    with pytest.raises(UnreadableInput, match="pixels of segment 3, which it does not describe"):
        read(tmp_path, label_map([[0, 3]]))
    with pytest.raises(UnreadableInput, match="describes a segment 0, which is no background"):
        read(tmp_path, label_map([[0, 1]], {0: "skin", 1: "a"}))


def test_what_is_no_seg_is_refused_by_its_kind(tmp_path):
    made = seg(stack(MASKS))
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    with pytest.raises(UnreadableInput, match="found CT Image Storage, expected a DICOM SEG"):
        read(tmp_path, made)
    made.SOPClassUID = "1.2.3.4"
    with pytest.raises(UnreadableInput, match="found an object of unknown kind"):
        read(tmp_path, made)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, DEFLATED_FRAMES], ids=lambda uid: uid.name)
@settings(max_examples=100)
@given(
    place=st.floats(0, 1, exclude_max=True), some=st.binary(min_size=1, max_size=6), cut=st.none() | st.floats(0.02, 1)
)
def test_whatever_bytes_are_damaged_it_is_read_or_refused(tmp_path_factory, syntax, place, some, cut):
    path = tmp_path_factory.getbasetemp() / "damaged_seg.dcm"
    content = bytearray(write(seg(stack(MASKS[:2], source="1.2.3"), syntax=syntax), path).read_bytes())
    at = 132 + int(place * (len(content) - 132))
    content[at : at + len(some)] = some
    path.write_bytes(content if cut is None else content[: int(cut * len(content))])
    try:
        found = read_seg(path)
    except ClinibundleError as refusal:
        assert str(refusal)
        assert not [secret for secret in PATIENT.values() if secret in str(refusal)]
    else:
        assert found.label_map.size <= outlines.MAX_VOXELS


# -- real objects


def by_highdicom(path, segment):
    """Stored values (slices, rows, columns) of one segment with the slices rising, and index (x, y, z) to mm."""
    volume = highdicom.seg.segread(path).get_volume(
        segment_numbers=[segment], combine_segments=False, rescale_fractional=False, allow_missing_positions=True
    )
    # Its slices fall, and its indices are slice, row, column.
    falling = volume.affine[:, [2, 1, 0, 3]]
    falling[:3, 3] += falling[:3, 2] * (volume.array.shape[0] - 1)
    falling[:3, 2] *= -1
    return volume.array[::-1, :, :, 0], falling


# Segments, shape, voxels that are in; from the collection's index.json and highdicom.
IN_PATIENT = {
    "seg_examples/seg.dcm": ([1], (13, 128, 128)),
    "seg_examples/seg_image_ct_binary.dcm": ([1], (3, 16, 16)),
    "seg_examples/seg_image_ct_binary_overlap.dcm": ([1, 2], (165, 16, 16)),
    "seg_examples/seg_image_ct_binary_fractional.dcm": ([1], (3, 16, 16)),
    "seg_examples/seg_image_ct_true_fractional.dcm": ([1], (3, 16, 16)),
    "mf_legacy_seg_24x38/label.seg": ([1], (3, 38, 24)),
    "mf_legacy_seg_24x38/sparse-labelmap-ppv5.dcm": ([1], (3, 38, 24)),
    "ct_axial3_with_seg/seg/liver.dcm": ([1], (3, 512, 512)),
    "ct_axial3_with_seg/seg/liver_j2k.dcm": ([1], (3, 512, 512)),
    "ct_axial3_with_seg/seg/partial_overlaps.dcm": ([1, 2, 3, 4, 5], (3, 512, 512)),
}


@needs_shared
@pytest.mark.parametrize("name", IN_PATIENT)
def test_segments_are_what_and_where_highdicom_reads_them(name):
    segments, shape = IN_PATIENT[name]
    for segment in segments:
        found = read_seg(SHARED / name, segments=[segment])
        values, affine = by_highdicom(SHARED / name, segment)
        assert found.label_map.shape == shape
        assert found.label_map.any()
        threshold = 127.5 if "fractional" in name else 1
        np.testing.assert_array_equal(found.label_map == segment, values >= threshold)
        np.testing.assert_allclose(found.affine_lps, affine, atol=1e-4)


@needs_shared
@pytest.mark.parametrize("name", ["liver_rle", "liver_deflate", "liver_j2k"])
def test_one_mask_in_four_codings_is_one_mask(name):
    folder = SHARED / "ct_axial3_with_seg" / "seg"
    found, plain = read_seg(folder / f"{name}.dcm"), read_seg(folder / "liver.dcm")
    assert round(plain.label_map.mean(), 3) == 0.136
    np.testing.assert_array_equal(found.label_map, plain.label_map)
    np.testing.assert_array_equal(found.affine_lps, plain.affine_lps)


@needs_shared
@pytest.mark.parametrize("name", ["partial_overlaps.dcm", "../../seg_examples/seg_image_ct_binary_overlap.dcm"])
def test_real_overlapping_segments_are_refused(name):
    with pytest.raises(UnsuitableInput, match="segments 1 and 2 overlap"):
        read_seg(SHARED / "ct_axial3_with_seg" / "seg" / name)


@needs_shared
def test_a_mask_lies_on_the_slices_of_its_ct():
    folder = SHARED / "ct_axial3_with_seg"
    slices = [pydicom.dcmread(folder / f"0{n}.dcm", stop_before_pixels=True) for n in (3, 2, 1)]
    affine = np.diag([0.810547, 0.810547, 1.0, 1.0])
    affine[:3, 3] = slices[0].ImagePositionPatient
    uids = tuple(str(one.SOPInstanceUID) for one in slices)
    found = read_seg(folder / "seg" / "liver_rle.dcm", Grid(affine, (3, 512, 512), uids))
    np.testing.assert_array_equal(found.label_map, read_seg(folder / "seg" / "liver_rle.dcm").label_map)
    assert set(found.source_sop_instance_uids) == set(uids)
    with pytest.raises(GeometryError, match=r"frame 1 of the SEG lies .* mm off the nearest voxels"):
        read_seg(SHARED / "mf_legacy_seg_24x38" / "label.seg", Grid(affine, (3, 512, 512)))


@needs_shared
def test_a_sparse_label_map_has_its_frames_at_both_ends():
    found = read_seg(SHARED / "mf_legacy_seg_24x38" / "sparse-labelmap-ppv5.dcm")
    assert (found.label_map == 1).sum(axis=(1, 2)).tolist() == [315, 0, 315]


@needs_shared
def test_a_mask_on_a_radiograph_has_no_place_in_the_patient():
    path = SHARED / "seg_examples" / "seg_image_cr_binary.dcm"
    found = read_seg(path)
    (uids,) = highdicom.seg.segread(path).get_source_image_uids()
    assert found.source_sop_instance_uids == (uids[2],)
    np.testing.assert_array_equal(found.label_map[0], pydicom.dcmread(path).pixel_array)
    assert found.affine_lps is None


@needs_shared
@pytest.mark.parametrize("name", ["seg_image_sm_control_labelmap", "seg_image_sm_control_labelmap_palette_color"])
def test_tiles_of_a_slide_are_put_together(name):
    path = SHARED / "seg_examples" / f"{name}.dcm"
    found = read_seg(path)
    whole = highdicom.seg.segread(path).get_total_pixel_matrix(combine_segments=True)
    assert len(np.unique(whole)) == 20
    np.testing.assert_array_equal(found.label_map, whole[np.newaxis])
    assert len(found.names) == 20


@needs_shared
def test_tiles_outside_the_slide_are_refused(tmp_path):
    made = pydicom.dcmread(SHARED / "seg_examples" / "seg_image_sm_control_labelmap.dcm")
    place = made.PerFrameFunctionalGroupsSequence[4].PlanePositionSlideSequence[0]
    for position in (0, 51):
        place.RowPositionInTotalImagePixelMatrix = position
        with pytest.raises(UnreadableInput, match="lies outside the 50 × 50 pixels"):
            read(tmp_path, made)


@needs_shared
def test_no_file_of_the_collection_ends_in_anything_but_outlines_or_a_refusal():
    files = [path for path in sorted(SHARED.rglob("*")) if path.is_file() and path.stat().st_size < 300_000]
    read_files = 0
    for path in files:
        try:
            read_files += read_seg(path).label_map.dtype == np.uint16
        except ClinibundleError as refusal:
            assert str(path) not in str(refusal)
    assert (len(files) > 200, read_files) == (True, 13)
