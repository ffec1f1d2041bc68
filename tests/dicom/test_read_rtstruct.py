"""RTSTRUCT to label map: which voxels a contour encloses, on which slice it lies, and what is refused or said."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_objects import PATIENT, Contour, check, rtstruct, write
from skimage.draw import polygon2mask

from clinibundle.dicom.contours import fill_even_odd
from clinibundle.dicom.outlines import Grid
from clinibundle.dicom.rtstruct import read_rtstruct
from clinibundle.errors import ClinibundleError, GeometryError, UnreadableInput, UnsuitableInput, UsageError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared collection is not beside the repository")

SHAPE = (4, 20, 24)
# Columns 0.5 mm, rows 0.75 mm, slices 3 mm apart.
GRID = Grid(
    np.array([[0.5, 0, 0, -30.0], [0, 0.75, 0, 12.0], [0, 0, 3.0, 100.0], [0, 0, 0, 1]]), SHAPE, ("1.2.1", "1.2.2")
)
SQUARE = np.array([[3.5, 4.5], [9.5, 4.5], [9.5, 10.5], [3.5, 10.5]])
INNER = np.array([[5.5, 6.5], [7.5, 6.5], [7.5, 8.5], [5.5, 8.5]])


def in_patient(points, z, grid=GRID):
    """(points, 3) in mm of (points, 2) in voxels on a slice."""
    voxels = np.column_stack([points, np.full(len(points), float(z)), np.ones(len(points))])
    return (voxels @ grid.affine_lps.T)[:, :3]


def contour(points, z=1, grid=GRID, **more):
    return Contour(in_patient(np.asarray(points, float), z, grid), **more)


def read(folder, rois, grid=GRID, chosen=None, **more):
    return read_rtstruct(write(rtstruct(rois, **more), folder / "rt.dcm"), grid, chosen)


def enclosed(polygons, shape):
    """Even-odd by scikit-image, one polygon after the other."""
    masks = [polygon2mask(shape, np.asarray(polygon)[:, ::-1]) for polygon in polygons]
    return np.logical_xor.reduce(masks)


# -- filling

coordinate = st.integers(-40, 260).map(lambda tenth: tenth / 10 + 0.037)
polygon = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9)


def off_edges(polygons, shape):
    """Voxels whose centres lie on no edge: there a referee and we may differ in what is in."""
    y, x = np.indices(shape)
    clear = np.ones(shape, bool)
    for points in map(np.array, polygons):
        for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
            along = end - start
            share = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(along @ along, 1e-12)
            nearest = start[:, None, None] + np.clip(share, 0, 1) * along[:, None, None]
            clear &= np.hypot(x - nearest[0], y - nearest[1]) > 1e-4
    return clear


@settings(max_examples=150)
@given(polygons=st.lists(polygon, min_size=1, max_size=3))
def test_voxels_are_in_if_their_centres_are(polygons):
    found = fill_even_odd([np.array(p) for p in polygons], SHAPE[1:])
    clear = off_edges(polygons, SHAPE[1:])
    np.testing.assert_array_equal(found[clear], enclosed(polygons, SHAPE[1:])[clear])


def test_a_contour_of_more_points_than_are_taken_at_once_is_filled_as_one():
    angle = np.linspace(0, 2 * np.pi, 10_001)[:-1]
    star = np.column_stack([np.cos(angle), np.sin(angle)]) * (50 + 20 * np.sin(9 * angle))[:, np.newaxis] + 80.013
    np.testing.assert_array_equal(fill_even_odd([star], (160, 170)), enclosed([star], (160, 170)))


def test_squares_that_share_their_edges_share_no_voxel_and_leave_none_out():
    whole = np.zeros((12, 12), int)
    for x in (0, 4, 8):
        for y in (0, 4, 8):
            whole += fill_even_odd([np.array([[x, y], [x + 4, y], [x + 4, y + 4], [x, y + 4]], float)], (12, 12))
    assert (whole == 1).all()


def test_contours_through_voxel_centres_stand_rounding_noise():
    square = np.array([[2, 2], [6, 2], [6, 6], [2, 6]], float)
    noise = np.random.default_rng(3).uniform(-1e-8, 1e-8, (20, 4, 2))
    expected = np.zeros((9, 9), bool)
    expected[2:6, 2:6] = True
    for shift in noise:
        np.testing.assert_array_equal(fill_even_odd([square + shift], (9, 9)), expected)


@pytest.mark.parametrize("bridge", [([3, 4], [5, 6]), ([3, 4], [5, 7.3]), ([3.1, 4.7], [5.9, 6.3])])
def test_the_bridge_of_a_keyhole_contour_takes_and_gives_no_voxel(bridge):
    outer = [[3, 4], [3, 12], [12, 12], [12, 4]]
    outer[0], inner = bridge[0], [bridge[1], [9, 6], [9, 9], [5, 9]]
    keyhole = np.array([*outer, outer[0], *inner, inner[0]], float)
    apart = fill_even_odd([np.array(outer, float)], (20, 20)) ^ fill_even_odd([np.array(inner, float)], (20, 20))
    assert apart.sum() > 20
    np.testing.assert_array_equal(fill_even_odd([keyhole], (20, 20)), apart)


# -- from the patient to the grid


def test_a_contour_fills_its_slice_under_the_number_of_its_roi(tmp_path):
    found = read(tmp_path, {7: ("GTV-1", [contour(SQUARE, 2)])})
    expected = np.zeros(SHAPE, np.uint16)
    expected[2, 5:11, 4:10] = 7
    np.testing.assert_array_equal(found.label_map, expected)
    assert found.label_map.dtype == np.uint16
    assert found.label_map.flags.c_contiguous
    assert found.names == {7: "GTV-1"}
    assert found.affine_lps is GRID.affine_lps


def test_a_contour_within_another_is_a_hole(tmp_path):
    found = read(tmp_path, {1: ("ring", [contour(SQUARE), contour(INNER)])})
    assert (found.label_map != 0).sum() == 36 - 4
    assert not found.label_map[1, 7:9, 6:8].any()


def test_the_hole_of_one_roi_has_room_for_another(tmp_path):
    rois = {1: ("rim", [contour(SQUARE), contour(INNER)]), 2: ("core", [contour(INNER)])}
    assert np.bincount(read(tmp_path, rois).label_map.ravel())[1:].tolist() == [32, 4]


@settings(max_examples=40)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    shear=st.floats(-1, 1),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    points=polygon,
    z=st.integers(0, SHAPE[0] - 1),
)
def test_oblique_and_sheared_grids_are_filled_as_upright_ones(tmp_path_factory, angles, shear, origin, points, z):
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[[i, j], [i, j]], step[i, j], step[j, i] = np.cos(angle), -np.sin(angle), np.sin(angle)
        turn = step @ turn
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0.8, 0, 0], [0, 1.1, shear], [0, 0, 2.5]])
    affine[:3, 3] = origin
    grid = Grid(affine, SHAPE)
    found = read(tmp_path_factory.getbasetemp(), {1: ("x", [contour(points, z, grid)])}, grid)
    clear = off_edges([points], SHAPE[1:])
    np.testing.assert_array_equal(found.label_map[z][clear], enclosed([points], SHAPE[1:])[clear])
    assert not np.delete(found.label_map, z, axis=0).any()


@pytest.mark.parametrize(("off_mm", "taken"), [(0.09, True), (-0.09, True), (0.11, False), (-1.4, False)])
def test_a_contour_is_taken_for_a_slice_within_a_tenth_of_a_millimetre(tmp_path, off_mm, taken):
    found = read(tmp_path, {1: ("x", [contour(SQUARE, 0), contour(SQUARE, 1 + off_mm / 3)])})
    assert found.label_map[1].any() == taken
    said = check(found, "contour_slices")
    assert said.status == ("passed" if taken else "warning")
    assert taken or f"1 of 2 contours lie on no slice (up to {abs(off_mm):.3g} mm off)" in said.detail


@pytest.mark.parametrize(("z", "off"), [(-1, "3 mm"), (4, "3 mm"), (9, "18 mm"), (1.5, "1.5 mm")])
def test_contours_that_lie_on_no_slice_at_all_are_refused(tmp_path, z, off):
    with pytest.raises(GeometryError, match=f"none of the 1 contours lies on a slice .*{off} off"):
        read(tmp_path, {1: ("x", [contour(SQUARE, z)])})


def test_a_contour_across_slices_is_left_out_and_said(tmp_path):
    slanted = Contour(in_patient(SQUARE, 1) + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 6]]))
    found = read(tmp_path, {1: ("x", [contour(SQUARE, 0), slanted])})
    assert "1 of 2 contours lie on no slice" in check(found, "contour_slices").detail


def test_a_contour_beyond_the_edge_is_cut_there_and_said(tmp_path):
    found = read(tmp_path, {1: ("x", [contour(SQUARE - [6, 0])])})
    assert (found.label_map != 0).sum() == 6 * 4
    assert check(found, "contour_extent").status == "warning"
    assert not [c for c in read(tmp_path, {1: ("x", [contour(SQUARE)])}).checks if c.name == "contour_extent"]


# -- what is in a structure set


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_points_and_open_lines_enclose_nothing(tmp_path, kind):
    found = read(tmp_path, {1: ("x", [contour(SQUARE)]), 2: ("isocentre", [contour(INNER, kind=kind)])})
    assert set(np.unique(found.label_map)) == {0, 1}
    assert check(found, "contour_kinds").value == 1
    assert check(found, "empty_rois").value == 1


def test_contours_that_are_named_for_the_even_odd_rule_are_closed(tmp_path):
    assert (read(tmp_path, {1: ("x", [contour(SQUARE, kind="CLOSEDPLANAR_XOR")])}).label_map != 0).sum() == 36


def test_overlapping_rois_are_refused_by_number_until_others_are_chosen(tmp_path):
    rois = {3: ("body", [contour(SQUARE)]), 5: ("GTV", [contour(INNER)]), 6: ("other", [contour(INNER, 3)])}
    with pytest.raises(UnsuitableInput, match="ROIs 3 and 5 overlap"):
        read(tmp_path, rois)
    for chosen in ([5, 6], ["GTV", "other"], ["GTV", 6]):
        found = read(tmp_path, rois, chosen=chosen)
        assert np.bincount(found.label_map.ravel())[1:].tolist() == [0, 0, 0, 0, 4, 4]
        assert found.names == {5: "GTV", 6: "other"}


def test_a_roi_that_is_not_there_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(UsageError, match=r"no ROI 'gtv1' among the 1 of this object \(did you mean 'gtv-1'\?\)"):
        read(tmp_path, {1: ("gtv-1", [contour(SQUARE)])}, chosen=["gtv1"])
    with pytest.raises(UsageError, match="no ROI 2 among"):
        read(tmp_path, {1: ("gtv-1", [contour(SQUARE)])}, chosen=[2])
    with pytest.raises(UsageError, match="no ROI was chosen"):
        read(tmp_path, {1: ("gtv-1", [contour(SQUARE)])}, chosen=[])


def test_roi_numbers_that_are_no_labels_are_counted_anew(tmp_path):
    rois = {0: ("a", [contour(SQUARE, 1)]), 70_000: ("b", [contour(SQUARE, 2)])}
    found = read(tmp_path, rois)
    assert [np.unique(plane)[-1] for plane in found.label_map] == [0, 1, 2, 0]
    assert found.names == {1: "a", 2: "b"}
    assert check(found, "roi_numbers").status == "fixed"
    chosen = read(tmp_path, rois, chosen=[70_000])
    assert chosen.names == {2: "b"}
    assert set(np.unique(chosen.label_map)) == {0, 2}


@pytest.mark.parametrize(
    ("images", "status", "absent"),
    [(["1.2.1"], "passed", 0), (["1.2.1", "1.2.9"], "warning", 1), (["9"], "warning", 1)],
)
def test_references_to_pictures_that_are_not_there_are_said(tmp_path, images, status, absent):
    found = read(tmp_path, {1: ("x", [contour(SQUARE, image=images[0])])}, images=images)
    assert found.source_sop_instance_uids == tuple(images)
    assert (check(found, "references").status, check(found, "references").value) == (status, absent)


# -- damage


def broken(change):
    made = rtstruct({1: ("x", [contour(SQUARE), contour(INNER, 2)])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(made)
    return made


def data(values):
    def change(made):
        one = made.ROIContourSequence[0].ContourSequence[1]
        one.ContourData = values
        del one.NumberOfContourPoints

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: delattr(made, "StructureSetROISequence"), "the RTSTRUCT is damaged or lacks"),
        (lambda made: delattr(made, "ROIContourSequence"), "the RTSTRUCT is damaged or lacks"),
        (lambda made: delattr(made.ROIContourSequence[0], "ReferencedROINumber"), "the RTSTRUCT is damaged or lacks"),
        (
            lambda made: setattr(made.ROIContourSequence[0], "ReferencedROINumber", 9),
            "contours of ROI 9, which it does",
        ),
        (
            lambda made: made.StructureSetROISequence.append(made.StructureSetROISequence[0]),
            "two ROIs of the RTSTRUCT have the number 1",
        ),
        (data(["1", "2", "3", "4"]), "a contour of ROI 1 holds 4 numbers, expected three for each point"),
        (data([]), "a contour of ROI 1 holds 0 numbers"),
        (data(["1", "nan", "3"]), "holds 3 numbers, one of them no place in a patient"),
        (data(["1", "inf", "3"]), "holds 3 numbers, one of them no place in a patient"),
        (data(["1", "1e300", "3"]), "holds 3 numbers, one of them no place in a patient"),
        (
            lambda made: setattr(made.ROIContourSequence[0].ContourSequence[1], "NumberOfContourPoints", 5),
            "holds 12 numbers, its header says 5 points",
        ),
    ],
)
def test_a_damaged_structure_set_is_refused_in_a_sentence(tmp_path, change, words):
    with pytest.raises(UnreadableInput, match=words):
        read_rtstruct(write(broken(change), tmp_path / "rt.dcm"), GRID)


def test_a_contour_of_words_is_refused_in_a_sentence(tmp_path):
    path = write(broken(data(["1", "2", "3"])), tmp_path / "rt.dcm")
    assert b"1\\2\\3" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"1\\2\\3", b"1\\x\\3"))
    with pytest.raises(UnreadableInput, match="the RTSTRUCT is damaged or lacks"):
        read_rtstruct(path, GRID)


def test_a_roi_without_contours_is_said_and_empty(tmp_path):
    made = broken(lambda made: delattr(made.ROIContourSequence[0], "ContourSequence"))
    found = read_rtstruct(write(made, tmp_path / "rt.dcm"), GRID)
    assert not found.label_map.any()
    assert check(found, "empty_rois").value == 1


def test_what_is_no_structure_set_is_refused_by_its_kind(tmp_path):
    made = rtstruct({1: ("x", [contour(SQUARE)])})
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    with pytest.raises(UnreadableInput, match="found CT Image Storage, expected a DICOM RTSTRUCT"):
        read_rtstruct(write(made, tmp_path / "ct.dcm"), GRID)
    (tmp_path / "text").write_text("no DICOM")
    with pytest.raises(UnreadableInput, match="no DICOM file"):
        read_rtstruct(tmp_path / "text", GRID)


@settings(max_examples=200)
@given(
    place=st.floats(0, 1, exclude_max=True), some=st.binary(min_size=1, max_size=6), cut=st.none() | st.floats(0.02, 1)
)
def test_whatever_bytes_are_damaged_it_is_read_or_refused(tmp_path_factory, place, some, cut):
    path = tmp_path_factory.getbasetemp() / "damaged_rt.dcm"
    content = bytearray(write(broken(lambda made: None), path).read_bytes())
    at = 132 + int(place * (len(content) - 132))
    content[at : at + len(some)] = some
    path.write_bytes(content if cut is None else content[: int(cut * len(content))])
    try:
        found = read_rtstruct(path, GRID)
    except ClinibundleError as refusal:
        assert str(refusal)
        assert not [secret for secret in PATIENT.values() if secret in str(refusal)]
    else:
        assert found.label_map.shape == SHAPE


# -- real objects


def grid_of(paths):
    """The grid of single-frame slices, straight from their headers."""
    slices = sorted((pydicom.dcmread(p) for p in paths), key=lambda one: float(one.ImagePositionPatient[2]))
    orientation = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = (float(v) for v in slices[0].PixelSpacing)
    first, last = (np.array(one.ImagePositionPatient, float) for one in (slices[0], slices[-1]))
    affine = np.eye(4)
    affine[:3] = np.column_stack(
        [orientation[0] * column_mm, orientation[1] * row_mm, (last - first) / (len(slices) - 1), first]
    )
    shape = (len(slices), slices[0].Rows, slices[0].Columns)
    return Grid(affine, shape, tuple(str(one.SOPInstanceUID) for one in slices))


@needs_shared
def test_the_published_tumour_has_its_published_volume():
    folder = SHARED / "lung_tumor_ct_dicom" / "PAT2"
    found = read_rtstruct(folder / "DCM_RS_00041.dcm", grid_of(folder.glob("DCM_IMG_*.dcm")), rois=["GTV-1"])
    voxels = int((found.label_map == 1).sum())
    assert voxels == 2256
    assert voxels * abs(np.linalg.det(found.affine_lps[:3, :3])) / 1000 == pytest.approx(6.460, abs=5e-4)
    assert {one.name: one.status for one in found.checks} == {"contour_slices": "passed", "references": "passed"}


@needs_shared
def test_the_square_on_the_water_phantom_is_filled():
    folder = SHARED / "dicom" / "rtstruct_phantom"
    grid = grid_of(folder.glob("ct_*.dcm"))
    found = read_rtstruct(folder / "rt.dcm", grid)
    contours = pydicom.dcmread(folder / "rt.dcm").ROIContourSequence[0].ContourSequence
    polygons = [np.array(one.ContourData, float).reshape(-1, 3) for one in contours]
    assert [np.unique(points[:, 2]).tolist() for points in polygons] == [[60.0], [60.0]]
    expected = enclosed([(points[:, :2] + 125) / 0.488281 for points in polygons], grid.shape[1:])
    np.testing.assert_array_equal(found.label_map[0] == 1, expected)
    assert not found.label_map[1].any()


@needs_shared
def test_a_structure_set_whose_pictures_are_not_there_is_read_as_far_as_they_are():
    folder = SHARED / "dicom" / "rtstruct_phantom"
    found = read_rtstruct(folder / "non_existent_reference_rt.dcm", grid_of(folder.glob("ct_*.dcm")))
    assert set(np.unique(found.label_map)) == {0, 1, 2, 3, 4}
    assert (
        check(found, "contour_slices").detail == "4 of 12 contours lie on no slice (up to 5 mm off) and were left out"
    )
    assert check(found, "references").detail == "it refers to 3 pictures, of which 1 are not in this series"
    elsewhere = Grid(GRID.affine_lps, SHAPE, GRID.sop_instance_uids)
    with pytest.raises(GeometryError, match="none of the 12 contours lies on a slice of the picture"):
        read_rtstruct(folder / "non_existent_reference_rt.dcm", elsewhere)
