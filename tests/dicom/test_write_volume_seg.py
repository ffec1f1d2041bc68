"""A mask on a volume lies at its place in the patient, whoever reads the SEG; what was altered afterwards is found."""

import shutil
import subprocess
import time

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_segments import ALGORITHM, HEART, LUNG
from made_volumes import check_of, ct_series, decimals, enhanced, lps_grid, noise, read, save, save_all, stacks_in
from pydicom.uid import generate_uid

from clinibundle.bundle.predict import Prediction
from clinibundle.dicom.gate import place
from clinibundle.dicom.header import read_header
from clinibundle.dicom.read_volume import read_volume
from clinibundle.dicom.seg import write_seg
from clinibundle.dicom.seg_check import SourceGrid, compare_with_written
from clinibundle.errors import OutputError
from clinibundle.workflows.segment_case import predict_on_source_grid

SHAPE = (5, 8, 11)
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
GRIDS = {
    "axial": lps_grid(),
    "coronal": lps_grid(turn=(-90, 0, 0)),
    "sagittal": lps_grid(turn=(0, 90, 0)),
    "oblique": lps_grid(turn=(20, 30, 40)),
    "upside down": lps_grid(turn=(0, 180, 0)),
    "tilted": lps_grid(turn=(-16.5, 0, 0), shear=(0, -0.74)),
}
# A label in each slice but the first, both labels in most.
LABELS = noise(SHAPE, np.uint8, 0, 3, seed=5)
LABELS[LABELS > 2] = 0
LABELS[0] = 0


def grid_of(volume):
    return SourceGrid([read_header(path) for path in volume.source.paths], volume.source.frames, volume.affine_lps)


def write(volume, path, labels=LABELS, kind="binary", segments=(LUNG, HEART)):
    probability = {segment.label: (labels == segment.label) * np.float32(0.7) for segment in segments}
    write_seg(path, labels, grid_of(volume), segments, ALGORITHM, kind, probability)
    return pydicom.dcmread(path)


def points_of(affine, mask):
    """Places in the patient of the voxels of a mask (slices, rows, columns), sorted."""
    k, j, i = np.nonzero(mask)
    return sorted_points((affine @ np.stack([i, j, k, np.ones_like(i)]))[:3].T)


def sorted_points(points):
    rounded = np.round(points, 4) + 0.0
    return rounded[np.lexsort(rounded.T)]


def by_pydicom(seg, number):
    """Places in the patient of the pixels of a segment, by the frames' own groups alone (PS3.3 C.7.6.2.1.1)."""
    shared, found = seg.SharedFunctionalGroupsSequence[0], [np.empty((0, 3))]
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for picture, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        said = lambda keyword, own=groups: (own if keyword in own else shared)[keyword].value[0]  # noqa: E731
        if seg.SegmentationType == "LABELMAP":
            shown = picture == number
        elif said("SegmentIdentificationSequence").ReferencedSegmentNumber == number:
            shown = picture > 0
        else:
            continue
        rows, columns = np.nonzero(shown)
        start = np.array(said("PlanePositionSequence").ImagePositionPatient, float)
        along, down = np.array(said("PlaneOrientationSequence").ImageOrientationPatient, float).reshape(2, 3)
        row_mm, column_mm = (float(side) for side in said("PixelMeasuresSequence").PixelSpacing)
        found.append(start + columns[:, None] * column_mm * along + rows[:, None] * row_mm * down)
    return sorted_points(np.concatenate(found))


def by_highdicom(path, number):
    volume = highdicom.seg.segread(path).get_volume(segment_numbers=[number], rescale_fractional=False)
    index = np.argwhere(volume.array[..., 0] > 0)
    return sorted_points((volume.affine @ np.column_stack([index, np.ones(len(index))]).T)[:3].T)


def dciodvfy_errors(path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    assert "Segmentation" in said
    return [line for line in said.splitlines() if line.startswith("Error")]


# Where it lies.


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
@pytest.mark.parametrize("turned", GRIDS)
def test_every_voxel_lies_where_it_lay_in_the_patient(tmp_path, turned, kind):
    made = ct_series(noise(SHAPE), GRIDS[turned], InstanceNumber=lambda k: 9 - k)
    volume = read(save_all(made[::-1], tmp_path / "in"), tilt_allowed=True)
    seg = write(volume, tmp_path / "seg.dcm", kind=kind)
    for number in (1, 2):
        expected = points_of(GRIDS[turned], number == LABELS)
        np.testing.assert_allclose(by_pydicom(seg, number), expected, atol=2e-4)
        if turned != "tilted":
            np.testing.assert_allclose(by_highdicom(tmp_path / "seg.dcm", number), expected, atol=2e-4)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    turn=ANGLES, spacing=st.tuples(*[st.floats(0.3, 6)] * 3), order=st.permutations(range(5)), seed=st.integers(0, 99)
)
def test_any_mask_on_any_grid_lies_where_it_lay(tmp_path, turn, spacing, order, seed):
    grid, mask = lps_grid(spacing, turn=turn), noise(SHAPE, np.uint8, 0, 1, seed)
    for old in tmp_path.glob("in/*"):
        old.unlink()
    made = ct_series(noise(SHAPE), grid)
    volume = read(save_all([made[k] for k in order], tmp_path / "in"))
    seg = write(volume, tmp_path / "seg.dcm", mask, segments=[LUNG])
    np.testing.assert_allclose(by_pydicom(seg, 1), points_of(grid, mask), atol=2e-4)
    np.testing.assert_allclose(by_highdicom(tmp_path / "seg.dcm", 1), points_of(grid, mask), atol=2e-4)


@pytest.mark.parametrize("shared", [True, False], ids=["shared geometry", "geometry in each frame"])
@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_on_a_multi_frame_source_too(tmp_path, kind, shared):
    order, grid = [2, 0, 4, 3, 1], GRIDS["oblique"]
    source = enhanced(noise(SHAPE), grid, order, shared)
    volume = read(save(source, tmp_path / "in"))
    seg = write(volume, tmp_path / "seg.dcm", kind=kind)
    for number in (1, 2):
        np.testing.assert_allclose(by_pydicom(seg, number), points_of(grid, number == LABELS), atol=2e-4)
    assert frames_referred_to(seg, source) == {order.index(k) + 1 for k in range(1, 5)}


def frames_referred_to(seg, source):
    found = [item for item in seg.iterall() if item.keyword == "ReferencedSOPInstanceUID"]
    assert {item.value for item in found} == {source.SOPInstanceUID}
    return {item.value for item in seg.iterall() if item.keyword == "ReferencedFrameNumber"}


def test_of_a_multi_frame_source_with_two_volumes_the_one_that_was_taken_is_referred_to(tmp_path):
    grid = lps_grid()
    where = [{"ImagePositionPatient": decimals(*(grid @ [0, 0, k % 5, 1])[:3])} for k in range(10)]
    source = enhanced(
        noise((10, 8, 11)),
        grid,
        frame_values=lambda k: {
            "FrameContentSequence": {"TemporalPositionIndex": 1 + k // 5},
            "PlanePositionSequence": where[k],
        },
    )
    save(source, tmp_path / "in")
    for at, stack in enumerate(stacks_in(tmp_path / "in")):
        seg = write(read_volume(place(stack.slices, "a series")), tmp_path / "seg.dcm")
        np.testing.assert_allclose(by_pydicom(seg, 1), points_of(grid, LABELS == 1), atol=2e-4)
        assert frames_referred_to(seg, source) == {5 * at + k for k in range(2, 6)}


def test_on_a_single_slice_of_a_multi_frame_source(tmp_path):
    source = enhanced(noise((3, 8, 11)), frame_values=lambda k: {"FrameContentSequence": {"StackID": str(k)}})
    save(source, tmp_path / "in")
    volume = read_volume(place(stacks_in(tmp_path / "in")[1].slices, "a series"))
    seg = write(volume, tmp_path / "seg.dcm", LABELS[1:2])
    np.testing.assert_allclose(by_pydicom(seg, 1), points_of(volume.affine_lps, LABELS[1:2] == 1), atol=2e-4)
    assert frames_referred_to(seg, source) == {2}


def test_several_multi_frame_files_are_refused_in_words(tmp_path):
    one = {k: generate_uid() for k in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
    for k in range(2):
        save(enhanced(noise((2, 8, 11)), lps_grid(origin=(0, 0, 5 * k)), **one), tmp_path / "in" / str(k))
    with pytest.raises(OutputError, match="the volume's frames lie in 2 multi-frame files, expected one file"):
        write(read(tmp_path / "in"), tmp_path / "seg.dcm", LABELS[:4])


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageOrientationPatient": lambda k: ["1", "0", "0", "0", "1", f"{k * 1e-4:.4f}"]},
        {"SliceThickness": None},
        {"SliceThickness": "0"},
        {"SliceThickness": "5"},
        {"SpacingBetweenSlices": "7"},
        {"FrameOfReferenceUID": None},
        {"FrameOfReferenceUID": ""},
        {"PixelSpacing": lambda k: ["0.5", "0.75"] if k % 2 else ["0.50000", "0.75001"]},
        {"PositionReferenceIndicator": None},
        {"ImagePositionPatient": lambda k: decimals(0.03 * (-1) ** k, 0, 2.5 * k)},
    ],
    ids=lambda changes: "-".join(f"{k} {'changes' if callable(v) else v}" for k, v in changes.items()),
)
def test_what_passed_the_gate_can_be_referred_to(tmp_path, changes):
    made = ct_series(noise(SHAPE), **changes)
    volume = read(save_all(made, tmp_path / "in"))
    seg = write(volume, tmp_path / "seg.dcm")
    np.testing.assert_allclose(by_pydicom(seg, 1), points_of(volume.affine_lps, LABELS == 1), atol=0.07)
    (measures,) = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.SpacingBetweenSlices == pytest.approx(2.5, abs=1e-6)
    assert measures.SliceThickness == float(changes.get("SliceThickness", 2.5) or 0) or 2.5
    assert seg.FrameOfReferenceUID == (made[0].get("FrameOfReferenceUID") or seg.FrameOfReferenceUID)
    assert len(seg.FrameOfReferenceUID) > 0
    assert dciodvfy_errors(tmp_path / "seg.dcm") == []


# What it says.


def test_a_fractional_seg_holds_the_probability(tmp_path):
    volume = read(save_all(ct_series(noise(SHAPE)), tmp_path / "in"))
    probability = np.random.default_rng(2).random((2, *SHAPE), dtype=np.float32) * 1.2 - 0.1
    named = {1: probability[0], 2: probability[1]}
    write_seg(tmp_path / "seg.dcm", LABELS, grid_of(volume), [LUNG, HEART], ALGORITHM, "fractional", named)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    found = seg.get_pixels_by_source_instance(volume.source.sop_instance_uids, assert_missing_frames_are_empty=True)
    np.testing.assert_allclose(found, np.moveaxis(np.clip(probability, 0, 1), 0, -1), atol=0.5 / 255 + 1e-6)
    with pytest.raises(OutputError, match="needs the probability of 'Heart'"):
        write_seg(
            tmp_path / "s.dcm", LABELS, grid_of(volume), [LUNG, HEART], ALGORITHM, "fractional", {1: probability[0]}
        )


@pytest.mark.parametrize("kind", ["binary", "fractional"])
@pytest.mark.parametrize("source", ["slices", "tilted", "frames", "empty"])
def test_dciodvfy_finds_no_error(tmp_path, kind, source):
    if source == "frames":
        save(enhanced(noise(SHAPE), shared_orientation=False), tmp_path / "in")
    else:
        save_all(ct_series(noise(SHAPE), GRIDS["tilted" if source == "tilted" else "axial"]), tmp_path / "in")
    volume = read(tmp_path / "in", tilt_allowed=True)
    write(volume, tmp_path / "seg.dcm", LABELS * (source != "empty"), kind)
    assert dciodvfy_errors(tmp_path / "seg.dcm") == []


def test_slices_without_a_label_are_left_out_and_an_empty_volume_is_whole(tmp_path):
    volume = read(save_all(ct_series(noise(SHAPE)), tmp_path / "in"))
    assert write(volume, tmp_path / "seg.dcm", segments=[LUNG, HEART]).NumberOfFrames == 8
    empty = write(volume, tmp_path / "seg.dcm", 0 * LABELS, segments=[LUNG])
    assert (empty.NumberOfFrames, int(empty.pixel_array.max())) == (5, 0)


# What was altered.


def flip_a_bit(seg):
    seg.PixelData = bytes([seg.PixelData[0] ^ 4]) + seg.PixelData[1:]


def move_by_a_millimetre(seg):
    seg.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient[1] += 1


def exchange_places(seg):
    first, second = (seg.PerFrameFunctionalGroupsSequence[at] for at in (0, 1))
    first.PlanePositionSequence, second.PlanePositionSequence = (
        second.PlanePositionSequence,
        first.PlanePositionSequence,
    )


def exchange_sources(seg):
    first, second = (seg.PerFrameFunctionalGroupsSequence[at] for at in (0, 1))
    first.DerivationImageSequence, second.DerivationImageSequence = (
        second.DerivationImageSequence,
        first.DerivationImageSequence,
    )


def exchange_frames(seg):
    frames = seg.PerFrameFunctionalGroupsSequence
    seg.PerFrameFunctionalGroupsSequence = [frames[1], frames[0], *frames[2:]]


def refer_to_another_source(seg):
    item = seg.PerFrameFunctionalGroupsSequence[2].DerivationImageSequence[0].SourceImageSequence[0]
    item.ReferencedSOPInstanceUID = generate_uid()


def turn_by_a_degree(seg):
    cosine, sine = np.cos(np.radians(1)), np.sin(np.radians(1))
    item = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    item.ImageOrientationPatient = decimals(cosine, sine, 0, -sine, cosine, 0)


def stretch(seg):
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0] *= 1.01


def lie_in_another_frame_of_reference(seg):
    seg.FrameOfReferenceUID = generate_uid()


def lose_the_last_frame(seg):
    seg.PerFrameFunctionalGroupsSequence = seg.PerFrameFunctionalGroupsSequence[:-1]
    seg.NumberOfFrames -= 1


def lose_pixels(seg):
    seg.PixelData = seg.PixelData[:-2]


def change_the_segment(seg):
    for groups in seg.PerFrameFunctionalGroupsSequence:
        if "SegmentIdentificationSequence" in groups:
            item = groups.SegmentIdentificationSequence[0]
            item.ReferencedSegmentNumber = 3 - item.ReferencedSegmentNumber


ALTERATIONS = [
    flip_a_bit,
    move_by_a_millimetre,
    exchange_places,
    exchange_sources,
    exchange_frames,
    refer_to_another_source,
    turn_by_a_degree,
    stretch,
    lie_in_another_frame_of_reference,
    lose_the_last_frame,
    lose_pixels,
    change_the_segment,
]


@pytest.fixture(scope="module", params=["slices", "frames"])
def written(request, tmp_path_factory):
    """A volume of either form, and its SEGs by kind with what they should hold."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "slices":
        save_all(ct_series(noise(SHAPE)), folder / "in")
    else:
        save(enhanced(noise(SHAPE), order=[4, 2, 0, 1, 3]), folder / "in")
    volume = read(folder / "in")
    segs = {}
    for kind in ("binary", "fractional", "labelmap"):
        write(volume, folder / f"{kind}.dcm", kind=kind)
        fractions = np.stack([(number == LABELS) * np.float32(0.7) for number in (1, 2)], axis=-1)
        segs[kind] = (folder / f"{kind}.dcm", fractions if kind == "fractional" else LABELS)
    return grid_of(volume), segs


@pytest.mark.parametrize(
    ("alter", "kind"),
    # The frames of a label map belong to no segment.
    [(alter, kind) for alter in ALTERATIONS for kind in ("binary", "fractional", "labelmap")][:-1],
)
def test_a_seg_that_was_altered_is_found(tmp_path, written, kind, alter):
    grid, segs = written
    path, pixels = segs[kind]
    compare_with_written(path, pixels, grid, 2)
    seg = pydicom.dcmread(path)
    alter(seg)
    seg.save_as(tmp_path / "altered.dcm")
    with pytest.raises(OutputError, match=r"(differs from the mask|cannot be read back).*nothing was kept"):
        compare_with_written(tmp_path / "altered.dcm", pixels, grid, 2)


def test_a_seg_of_another_mask_is_found(written):
    grid, segs = written
    other = LABELS.copy()
    other[0, 0, 0] = 1
    with pytest.raises(OutputError, match="1 frames with an outline are not in it"):
        compare_with_written(segs["binary"][0], other, grid, 2)


# Tilt: shown to the bundle upright, and back.


CENTRE, RADIUS_MM = np.array([-4.0, 14.0, 141.0]), 9.0


def away(affine, shape):
    """Distance of voxels (x, y, z) from the centre of a ball, mm."""
    index = np.indices(shape).reshape(3, -1)
    places = (affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    return np.linalg.norm(places - CENTRE[:, None], axis=0).reshape(shape)


@pytest.mark.parametrize("shear", [(0, 0.74), (0, -0.74), (0.9, 0), (0, 0)])
def test_a_mask_drawn_on_the_upright_grid_comes_back_within_half_a_pixel(tmp_path, shear):
    grid = lps_grid(shear=shear)
    volume = read(save_all(ct_series(noise((10, 48, 40)), grid), tmp_path / "in"), tilt_allowed=True)
    seen = []

    def draw(shown):
        seen.append(shown)
        inside = away(shown.affine_lps, shown.array.shape) < RADIUS_MM
        return Prediction(inside.astype(np.uint8), {1: inside.astype(np.float32)}, "ab" * 32)

    same, prediction = predict_on_source_grid(draw, volume)
    assert prediction.label_map.shape == volume.array.shape
    assert np.array_equal(prediction.label_map, prediction.probability[1])
    np.testing.assert_array_equal(same.affine_lps, volume.affine_lps)
    np.testing.assert_array_equal(same.array, volume.array)
    x, y, z = seen[0].affine_lps[:3, :3].T
    assert max(abs(x @ z), abs(y @ z)) < 1e-6
    distance, half_a_pixel = away(grid, volume.array.shape), np.hypot(0.75, 0.5) / 2
    assert prediction.label_map[distance < RADIUS_MM - half_a_pixel].all()
    assert not prediction.label_map[distance > RADIUS_MM + half_a_pixel].any()
    assert prediction.label_map.any()
    assert (check_of(same, "straightened") is not None) == any(shear)
    seg = write(same, tmp_path / "seg.dcm", prediction.label_map.T, segments=[LUNG])
    np.testing.assert_allclose(by_pydicom(seg, 1), points_of(grid, prediction.label_map.T), atol=2e-4)


# Time.


@pytest.mark.slow
def test_a_whole_chest_is_written_and_compared_in_seconds(tmp_path):
    one, slices = ct_series(np.zeros((1, 512, 512), np.int16), lps_grid((0.7, 0.7, 1)))[0], 300
    for k in range(slices):
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.ImagePositionPatient = decimals(0, 0, k)
        save(one, tmp_path / "in" / str(k))
    z, y, x = np.ogrid[:slices, :512, :512]
    lungs = [((x - at) / 90) ** 2 + ((y - 256) / 140) ** 2 + ((z - 150) / 140) ** 2 < 1 for at in (150, 360)]
    grid = grid_of(read(tmp_path / "in"))
    start = time.process_time()
    write_seg(tmp_path / "seg.dcm", (lungs[0] | lungs[1]).astype(np.uint8), grid, [LUNG], ALGORITHM)
    # Two seconds where this was written; the limit leaves room for slower machines.
    assert time.process_time() - start < 10
