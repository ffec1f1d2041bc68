"""Where the frames of a SEG go: their own grid, a given one, a picture without a place."""

import numpy as np
import pytest
from made_objects import AXIAL, COLUMNS, MASKS, ROWS, SPACING, StoredFrame, check, read, seg, stack
from pydicom.dataset import Dataset

from clinibundle.dicom import outlines
from clinibundle.dicom.outlines import Grid
from clinibundle.errors import GeometryError, UnreadableInput

UPRIGHT = np.array([[0.7, 0, 0, 0.0], [0, 0.5, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1]])
LEFT, RIGHT = np.zeros((2, ROWS, COLUMNS), bool)
LEFT[:, :3], RIGHT[:, 4:] = True, True


def test_frames_make_their_own_grid_whatever_their_order(tmp_path):
    order = [2, 0, 3, 1]
    frames = [StoredFrame(MASKS[i], 1, (-3, 4, 10 + 2.0 * i), f"1.2.{i}") for i in order]
    found = read(tmp_path, seg(frames))
    np.testing.assert_array_equal(found.label_map, MASKS)
    np.testing.assert_allclose(found.affine_lps[:3], [[0.7, 0, 0, -3], [0, 0.5, 0, 4], [0, 0, 2, 10]], atol=1e-9)
    assert found.source_sop_instance_uids == ("1.2.2", "1.2.0", "1.2.3", "1.2.1")


@pytest.mark.parametrize(
    ("heights", "between", "numbers"),
    [
        ([0, 2, 8], 2.0, [0, 1, 4]),
        ([0, 2, 8], None, [0, 1, 4]),
        ([0, 4, 8], 2.0, [0, 2, 4]),
        ([0, 4, 8], None, [0, 1, 2]),
        ([0, 4, 10], 2.0, [0, 2, 5]),
        ([0, 2, 4], 1.25, [0, 1, 2]),  # thickness given as spacing
        ([0, 2.004, 3.997], 2.0, [0, 1, 2]),
        ([0, 1.25, 203.75], None, [0, 1, 163]),
    ],
)
def test_slices_without_frames_are_filled_in(tmp_path, heights, between, numbers):
    found = read(tmp_path, seg(stack(MASKS[:3], heights), between=between))
    assert found.label_map.shape[0] == numbers[-1] + 1
    np.testing.assert_array_equal(found.label_map[numbers], MASKS[:3])
    assert found.label_map.sum() == MASKS[:3].sum()
    np.testing.assert_allclose(found.affine_lps[2, 2] * np.array(numbers), heights, atol=0.01)
    assert check(found, "segmentation_place").value == [numbers[-1] + 1, 3]


@pytest.mark.parametrize(("heights", "between"), [([0, 4, 10], None), ([0, 2, 5], 2.0), ([0, 2, 4.03], 2.0)])
def test_frames_at_uneven_distances_are_refused(tmp_path, heights, between):
    with pytest.raises(GeometryError, match=r"mm apart, which are no multiples of one spacing \(limit 0.01 mm\)"):
        read(tmp_path, seg(stack(MASKS[:3], heights), between=between))


def test_a_single_plane_takes_its_depth_from_what_is_said_of_it(tmp_path):
    assert read(tmp_path, seg(stack(MASKS[:1]))).affine_lps[2, 2] == 2.0
    assert read(tmp_path, seg(stack(MASKS[:1]), between=None)).affine_lps[2, 2] == 1.5
    unknown = read(tmp_path, seg(stack(MASKS[:1]), between=None, thickness=None))
    assert unknown.affine_lps is None
    np.testing.assert_array_equal(unknown.label_map, MASKS[:1])


def test_a_sheared_stack_keeps_its_shear_and_a_crooked_one_is_refused(tmp_path):
    def frames(shift):
        return [StoredFrame(mask, 1, (0, shift(z), 2 * z)) for z, mask in enumerate(MASKS)]

    sheared = read(tmp_path, seg(frames(lambda z: 0.3 * z)))
    np.testing.assert_allclose(sheared.affine_lps[:3, 2], [0, 0.3, 2], atol=1e-9)
    with pytest.raises(GeometryError, match=r"frame \d of the SEG lies 0\.0\d+ mm off an even stack"):
        read(tmp_path, seg(frames(lambda z: 0.02 * (z == 1))))


def test_frames_of_different_orientation_or_spacing_are_refused(tmp_path):
    made = seg(stack(MASKS))
    own = Dataset()
    own.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    made.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [own]
    with pytest.raises(GeometryError, match="differ in orientation or pixel spacing"):
        read(tmp_path, made)


def turned(angle=0.4):
    """Cosines of rows and columns, and the normal, of an oblique plane."""
    x = np.array([np.cos(angle), np.sin(angle), 0])
    y = np.array([-np.sin(angle) * np.cos(1), np.cos(angle) * np.cos(1), np.sin(1)])
    return x, y, np.cross(x, y)


def test_frames_are_put_on_the_slices_of_a_larger_oblique_grid(tmp_path):
    x, y, normal = turned()
    affine = np.eye(4)
    affine[:3] = np.column_stack([x * 0.7, y * 0.5, normal * 2, [-20, 30, 5]])
    grid = Grid(affine, (9, 12, 10))
    # Two columns to the right, three rows down, on slices 7 and 1.
    first = {z: (affine @ [2, 3, z, 1])[:3] for z in (7, 1)}
    frames = [StoredFrame(MASKS[0], 1, first[7]), StoredFrame(MASKS[1], 2, first[1])]
    found = read(tmp_path, seg(frames, orientation=[*x, *y]), grid)
    expected = np.zeros((9, 12, 10), int)
    expected[7, 3:8, 2:9], expected[1, 3:8, 2:9] = MASKS[0], MASKS[1] * 2
    np.testing.assert_array_equal(found.label_map, expected)
    assert found.affine_lps is affine


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ((0, 0, 2.12), "frame 2 of the SEG lies 0.12 mm off the nearest voxels"),
        ((0, 0, 3.0), "frame 2 of the SEG lies 1 mm off"),
        ((0, 0, 10), "frame 2 of the SEG lies 4 mm off"),
        ((0, 0, -2), "frame 2 of the SEG lies 2 mm off"),
        ((0.2, 0, 2), "frame 2 of the SEG lies 0.2 mm off"),
        ((0.7, 0, 2), "frame 2 of the SEG lies 0.7 mm off"),
    ],
)
def test_a_frame_that_fits_no_plane_of_the_grid_is_refused_with_its_distance(tmp_path, position, words):
    grid = Grid(UPRIGHT, (4, ROWS, COLUMNS))
    frames = [StoredFrame(MASKS[0]), StoredFrame(MASKS[1], 1, position)]
    with pytest.raises(GeometryError, match=words):
        read(tmp_path, seg(frames), grid)
    nearly = [StoredFrame(MASKS[0]), StoredFrame(MASKS[1], 1, (0, 0, 2.099))]
    np.testing.assert_array_equal(read(tmp_path, seg(nearly), grid).label_map[:2], MASKS[:2])


@pytest.mark.parametrize("orientation", [(-1, 0, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0), (1, 0, 0, 0, 0, 1)])
def test_frames_that_run_otherwise_than_the_grid_are_refused(tmp_path, orientation):
    with pytest.raises(GeometryError, match="off the nearest voxels of the picture"):
        read(tmp_path, seg(stack(MASKS), orientation=orientation), Grid(UPRIGHT, (4, ROWS, COLUMNS)))


def test_frames_larger_than_the_grid_are_refused(tmp_path):
    with pytest.raises(GeometryError, match="have 5 × 7 pixels, the slices of the picture only 5 × 6"):
        read(tmp_path, seg(stack(MASKS)), Grid(UPRIGHT, (4, ROWS, 6)))


def test_frames_without_a_place_follow_the_pictures_they_were_drawn_on(tmp_path):
    frames = [
        StoredFrame(LEFT, 1, None, "1.2.1"),
        StoredFrame(MASKS[0], 1, None, "1.2.2"),
        StoredFrame(RIGHT, 2, None, "1.2.1"),
    ]
    found = read(tmp_path, seg(frames))
    np.testing.assert_array_equal(found.label_map, [LEFT + 2 * RIGHT, MASKS[0]])
    assert found.affine_lps is None
    assert check(found, "segmentation_place").status == "warning"
    with pytest.raises(GeometryError, match="have no place in the patient"):
        read(tmp_path, seg(frames), Grid(UPRIGHT, (4, ROWS, COLUMNS)))
    with pytest.raises(GeometryError, match="neither a place in the patient nor a picture"):
        read(tmp_path, seg([StoredFrame(LEFT, 1, None), StoredFrame(RIGHT, 1, None)]))
    with pytest.raises(UnreadableInput, match="some frames of the SEG have a place and others do not"):
        read(tmp_path, seg([StoredFrame(LEFT, 1), StoredFrame(RIGHT, 1, None, "1.2.1")]))


@pytest.mark.parametrize(
    ("orientation", "spacing"),
    [((0, 0, 0, 0, 1, 0), SPACING), ((1, 0, 0, 1, 0, 0), SPACING), (AXIAL, (0, 0.7)), (AXIAL, (0.5, -0.7))],
)
def test_planes_that_are_none_are_refused(tmp_path, orientation, spacing):
    with pytest.raises(UnreadableInput, match="no sound position, orientation and spacing"):
        read(tmp_path, seg(stack(MASKS), orientation=orientation, spacing=spacing))


def test_frames_too_far_apart_for_the_memory_are_refused(tmp_path, monkeypatch):
    made = seg(stack(MASKS[:3], [0, 2, 200]))
    assert read(tmp_path, made).label_map.shape[0] == 101
    monkeypatch.setattr(outlines, "MAX_VOXELS", 101 * ROWS * COLUMNS - 1)
    with pytest.raises(UnreadableInput, match="would have 101 × 5 × 7 voxels, more than the limit of 3534"):
        read(tmp_path, made)
