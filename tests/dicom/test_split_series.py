"""A series with several volumes in it is taken apart; one volume is left whole."""

import itertools
import random

import numpy as np
import pytest
from made_volumes import NATIVE, ct_series, decimals, enhanced, lps_grid, noise, read, save, save_all, stacks_in
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from clinibundle.dicom.frames import MAX_FRAMES
from clinibundle.dicom.gate import place
from clinibundle.dicom.index import index_study
from clinibundle.dicom.read_volume import read_volume
from clinibundle.dicom.rules import DicomWishes
from clinibundle.dicom.select import choose
from clinibundle.dicom.stacks import plane_name, split_study
from clinibundle.errors import UnreadableInput

SHAPE = (4, 6, 5)
ONE = {k: generate_uid() for k in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
AXIAL, CORONAL, SAGITTAL = (0, 0, 0), (-90, 0, 0), (0, 90, 0)


def two(first, second):
    """Two volumes in one series, that differ in values and in what is said."""
    return [
        *ct_series(noise(SHAPE, seed=1), **{**ONE, **first}),
        *ct_series(noise(SHAPE, seed=2), **{**ONE, "InstanceNumber": lambda k: k + 11, **second}),
    ]


def volumes_in(folder):
    return [read_volume(place(stack.slices, "a series")) for stack in stacks_in(folder)]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, "AcquisitionNumber 2"),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}, "TemporalPositionIdentifier 2"),
        ({"EchoTime": "1.64"}, {"EchoTime": "5.3"}, "EchoTime 5.3"),
        ({"EchoNumbers": 1}, {"EchoNumbers": 2}, "axial"),
        ({"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70f"}, "ConvolutionKernel B70f"),
        ({"TriggerTime": 0}, {"TriggerTime": 400}, "TriggerTime 400"),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}, "DiffusionBValue 800"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "PRIMARY\\P"),
        ({"SeriesTime": "101112"}, {"SeriesTime": "101512"}, "SeriesTime 101512"),
        ({"AcquisitionTime": "101112"}, {"AcquisitionTime": "101512"}, "AcquisitionTime 101512"),
        ({"StackID": "1"}, {"StackID": "2"}, "axial"),
        ({}, {"FrameOfReferenceUID": generate_uid()}, "axial"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_two_volumes_at_one_place_are_told_apart(tmp_path, first, second, words):
    made = two(first, second)
    random.Random(2).shuffle(made)
    stacks = stacks_in(save_all(made, tmp_path))
    assert [(s.number, s.count, len(s.slices)) for s in stacks] == [(1, 2, 4), (2, 2, 4)]
    assert [s.key for s in stacks] == [f"{ONE['SeriesInstanceUID']}#{number}" for number in (1, 2)]
    assert words in stacks[1].apart_by
    for volume, seed in zip(volumes_in(tmp_path), (1, 2), strict=True):
        np.testing.assert_array_equal(volume.array.T, noise(SHAPE, seed=seed))


def test_three_planes_are_told_apart(tmp_path):
    made = []
    for number, turn in enumerate((AXIAL, CORONAL, SAGITTAL)):
        grid, counted = lps_grid(turn=turn), {"InstanceNumber": lambda k, n=number: 10 * n + k}
        made += ct_series(noise(SHAPE, seed=number), grid, **{**ONE, **counted})
    stacks = stacks_in(save_all(made, tmp_path))
    assert [plane_name(s.header) for s in stacks] == ["axial", "coronal", "sagittal"]
    for number, volume in enumerate(volumes_in(tmp_path)):
        np.testing.assert_array_equal(volume.array.T, noise(SHAPE, seed=number))


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"PixelSpacing": ["1", "1"]},
        {"PixelSpacing": None},
        {"ImageOrientationPatient": None},
    ],
    ids=["localizer", "other pixels", "no spacing", "no orientation"],
)
def test_a_picture_of_another_kind_is_set_aside(tmp_path, changes):
    odd = ct_series(noise((1, 6, 5)), InstanceNumber=0, **ONE, **changes)
    odd[0].ImagePositionPatient = ["0", "0", "500"]
    stacks = stacks_in(save_all([*odd, *ct_series(noise(SHAPE), **ONE)], tmp_path))
    assert [len(s.slices) for s in stacks] == [1, 4]


def test_a_picture_of_another_size_is_set_aside(tmp_path):
    odd = ct_series(noise((1, 3, 5)), InstanceNumber=9, **ONE)
    assert [len(s.slices) for s in stacks_in(save_all([*odd, *ct_series(noise(SHAPE), **ONE)], tmp_path))] == [4, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"AcquisitionNumber": lambda k: k},
        {"AcquisitionTime": lambda k: f"10111{k}"},
        {"TriggerTime": lambda k: 100 * k},
        {"ImageType": lambda k: ["ORIGINAL", "PRIMARY", "AXIAL", f"PART{k}"]},
        {"PixelSpacing": lambda k: ["0.5", "0.75"] if k % 2 else ["0.50000", "0.75001"]},
    ],
    ids=["acquisitions", "times", "triggers", "types", "rounding"],
)
def test_what_changes_from_slice_to_slice_takes_no_volume_apart(tmp_path, changes):
    (only,) = stacks_in(save_all(ct_series(noise(SHAPE), **changes), tmp_path))
    assert (only.key, only.apart_by, len(only.slices)) == (only.series_uid, "", 4)


def test_a_slice_that_was_sent_twice_at_another_time_takes_no_volume_apart(tmp_path):
    made = ct_series(noise(SHAPE), AcquisitionTime=lambda k: f"10111{k}", **ONE)
    again = ct_series(noise(SHAPE), AcquisitionTime="111111", **ONE)[2]
    (only,) = stacks_in(save_all([*made, again], tmp_path))
    assert len(only.slices) == 5


def test_two_passes_and_two_echoes_make_four_volumes(tmp_path):
    made = []
    for number, (echo, acquisition) in enumerate(itertools.product((1, 2), (1, 2))):
        said = {"EchoTime": echo, "AcquisitionNumber": acquisition, "InstanceNumber": lambda k, n=number: 10 * n + k}
        made += ct_series(noise(SHAPE, seed=number), **ONE, **said)
    random.Random(4).shuffle(made)
    save_all(made, tmp_path)
    for number, volume in enumerate(volumes_in(tmp_path)):
        np.testing.assert_array_equal(volume.array.T, noise(SHAPE, seed=number))


def test_several_series_of_several_studies_are_kept_apart(tmp_path):
    save_all(ct_series(noise(SHAPE)), tmp_path / "b")
    save_all(ct_series(noise(SHAPE)), tmp_path / "a")
    stacks = stacks_in(tmp_path)
    assert len({s.series_uid for s in stacks}) == 2
    assert all(s.slices[0].instance.name.startswith(folder) for s, folder in zip(stacks, "ab", strict=True))


@pytest.mark.parametrize("changes", [{"Modality": "SEG"}, {"Modality": "RTDOSE"}, {"Rows": None}, {"Modality": "SR"}])
def test_what_is_no_picture_is_in_no_stack(tmp_path, changes):
    assert stacks_in(save_all(ct_series(noise(SHAPE), **changes), tmp_path)) == []


@pytest.mark.parametrize(
    ("turn", "name"),
    [
        (AXIAL, "axial"),
        (CORONAL, "coronal"),
        (SAGITTAL, "sagittal"),
        ((29, 0, 0), "axial"),
        ((31, 0, 0), "oblique"),
        ((59, 0, 0), "oblique"),
        ((61, 0, 0), "coronal"),
        ((0, 180, 0), "axial"),
    ],
)
def test_a_plane_is_named_by_its_normal(turn, name):
    assert plane_name(ct_series(noise(SHAPE), lps_grid(turn=turn))[0]) == name


def test_a_plane_without_an_orientation_has_no_name():
    assert plane_name(ct_series(noise(SHAPE), ImageOrientationPatient=None)[0]) == ""
    assert plane_name(ct_series(noise(SHAPE), ImageOrientationPatient=["0"] * 6)[0]) == "oblique"


# Enhanced multi-frame files.


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.keyword)
def test_frames_in_any_order_are_the_slices_of_one_volume(tmp_path, syntax, shared):
    values, grid = noise(SHAPE), lps_grid(turn=(10, 20, 30))
    save(enhanced(values, grid, order=[2, 0, 3, 1], shared_orientation=shared), tmp_path / "file", syntax)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array.T, values)
    np.testing.assert_allclose(volume.affine_lps, grid, atol=1e-6)
    assert volume.source.frames == (1, 3, 0, 2)
    assert len(volume.source.datasets) == len(volume.source.paths) == 1


@pytest.mark.parametrize(
    "groups",
    [
        lambda k: {"FrameContentSequence": {"TemporalPositionIndex": 1 + k // 4}},
        lambda k: {"FrameContentSequence": {"StackID": str(1 + k // 4)}},
        lambda k: {"FrameContentSequence": {"FrameAcquisitionNumber": 1 + k // 4}},
        lambda k: {"MREchoSequence": {"EffectiveEchoTime": 2.0 + k // 4}},
        lambda k: {"CTReconstructionSequence": {"ConvolutionKernel": f"B{3 + k // 4}0f"}},
        lambda k: {"CTImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "AB"[k // 4]]}},
        lambda k: {"MRDiffusionSequence": {"DiffusionBValue": 800.0 * (k // 4)}},
    ],
    ids=["time", "stack", "acquisition", "echo", "kernel", "type", "diffusion"],
)
def test_frames_of_two_volumes_are_told_apart(tmp_path, groups):
    values, grid = noise((8, 6, 5)), lps_grid()
    place_ = [{"ImagePositionPatient": decimals(*(grid @ [0, 0, k % 4, 1])[:3])} for k in range(8)]
    made = enhanced(
        values, grid, [7, 0, 4, 1, 6, 2, 5, 3], frame_values=lambda k: {**groups(k), "PlanePositionSequence": place_[k]}
    )
    save(made, tmp_path / "file")
    first, second = sorted(volumes_in(tmp_path), key=lambda volume: volume.source.frames[0] != 1)
    np.testing.assert_array_equal(first.array.T, values[:4])
    np.testing.assert_array_equal(second.array.T, values[4:])


def test_an_enhanced_mr_is_read_in_its_own_units(tmp_path):
    values = noise(SHAPE, np.uint16, 0, 900)
    changes = {"SOPClassUID": EnhancedMRImageStorage, "Modality": "MR"}
    scaled = lambda k: {"PixelValueTransformationSequence": {"RescaleSlope": 0.5, "RescaleType": "US"}}  # noqa: E731
    volume = read(save(enhanced(values, shared_orientation=False, frame_values=scaled, **changes), tmp_path / "file"))
    np.testing.assert_array_equal(volume.array.T, values * np.float32(0.5))
    assert (volume.meaning, volume.spacing_mm) == ("grey", pytest.approx((0.75, 0.5, 2.5)))


def test_a_single_frame_out_of_many_says_which_one_it_is(tmp_path):
    made = enhanced(noise(SHAPE), frame_values=lambda k: {"FrameContentSequence": {"StackID": str(k)}})
    save(made, tmp_path / "file")
    assert [volume.source.frames for volume in volumes_in(tmp_path)] == [(0,), (1,), (2,), (3,)]


def test_enhanced_files_of_one_frame_each_make_a_volume(tmp_path):
    values, grid = noise(SHAPE), lps_grid()
    for k in range(4):
        at = lps_grid(origin=(grid @ [0, 0, k, 1])[:3])
        save(enhanced(values[k : k + 1], at, InstanceNumber=k + 1, **ONE), tmp_path / f"{9 - k}")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array.T, values)
    assert volume.source.frames == (0, 0, 0, 0)


def test_rescales_stand_in_the_functional_groups(tmp_path):
    values = noise(SHAPE, np.uint16, 0, 3000)
    rescales = lambda k: {"PixelValueTransformationSequence": {"RescaleIntercept": -1000 - k}}  # noqa: E731
    volume = read(save(enhanced(values, order=[3, 1, 0, 2], frame_values=rescales), tmp_path / "file"))
    np.testing.assert_array_equal(volume.array.T, values.astype(int) - 1000 - np.arange(4)[:, None, None])
    assert volume.meaning == "hounsfield"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: setattr(d, "NumberOfFrames", 5), "declares 5 frames and describes 4"),
        (lambda d: setattr(d, "NumberOfFrames", MAX_FRAMES + 1), "declares 20001 frames, more than the limit"),
    ],
)
def test_a_multi_frame_file_that_contradicts_itself_is_left_out(tmp_path, change, words):
    made = enhanced(noise(SHAPE))
    change(made)
    save(made, tmp_path / "file")
    stacks, (skipped,) = split_study(index_study(tmp_path).instances)
    assert stacks == []
    assert words in skipped.reason
    with pytest.raises(UnreadableInput, match=words):
        choose(index_study(tmp_path), DicomWishes(object="volume", rules=[]))


def test_a_volume_is_refused_if_a_file_of_its_series_cannot_be_told_to_be_no_part_of_it(tmp_path):
    sound, torn = (enhanced(noise(SHAPE), lps_grid(origin=(0, 0, 40 * k)), **ONE) for k in range(2))
    torn.NumberOfFrames = 3
    save(sound, tmp_path / "sound")
    save(torn, tmp_path / "torn")
    with pytest.raises(UnreadableInput, match="declares 3 frames and describes 4"):
        choose(index_study(tmp_path), DicomWishes(object="volume", rules=[]))
    (tmp_path / "torn").unlink()
    assert choose(index_study(tmp_path), DicomWishes(object="volume", rules=[])).chosen.placed is not None
