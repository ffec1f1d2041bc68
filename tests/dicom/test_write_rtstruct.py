"""RTSTRUCT out: its contours, read by pydicom and filled by scikit-image, against the label map; header; refusals."""

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_ct import COLUMNS, ROWS, SLICES, SPACING_MM, THICKNESS_MM, ct_headers
from made_films import film
from made_segments import ALGORITHM, HEART, LUNG
from made_verdicts import dciodvfy_errors
from made_volumes import lps_grid
from pydicom.uid import generate_uid
from skimage.draw import polygon2mask

from clinibundle.dicom import rtstruct_out
from clinibundle.dicom.header import quietly
from clinibundle.dicom.outlines import Grid
from clinibundle.dicom.rtstruct import read_rtstruct
from clinibundle.dicom.rtstruct_out import write_rtstruct
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.errors import OutputError

PATIENT = {"PatientName": "Kowalska^Jadwiga", "PatientID": "PID-98765", "PatientBirthDate": "19440215"}
UPRIGHT = lps_grid((SPACING_MM, SPACING_MM, THICKNESS_MM), (-12, -12, 0))
RING = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
RING[1:3, 4:20, 5:25] = 1
RING[1:3, 8:16, 9:21] = 0
RING[2, 11:13, 14:16] = 2


def sources(affine=UPRIGHT, shape=RING.shape, **changes):
    """Headers of slices that lie on a grid."""
    x, y = affine[:3, 0], affine[:3, 1]
    with quietly():
        made = ct_headers(
            ImageOrientationPatient=[round(v, 10) for v in (*(x / np.linalg.norm(x)), *(y / np.linalg.norm(y)))],
            PixelSpacing=[round(float(np.linalg.norm(y)), 6), round(float(np.linalg.norm(x)), 6)],
            Rows=shape[1],
            Columns=shape[2],
            **changes,
        )
    for number, header in enumerate(made):
        header.ImagePositionPatient = [round(float(v), 6) for v in affine[:3, 3] + number * affine[:3, 2]]
    return made[: shape[0]]


def written(folder, label_map=RING, affine=UPRIGHT, segments=(LUNG, HEART), algorithm=ALGORITHM, headers=None, **more):
    """An RTSTRUCT as pydicom reads it, and the headers of its sources."""
    headers = sources(affine, label_map.shape) if headers is None else headers
    path = folder / "rtstruct.dcm"
    write_rtstruct(path, label_map, SourceGrid(headers, (), affine), list(segments), algorithm, **more)
    return pydicom.dcmread(path), headers


def contours_of(rtstruct):
    """ROI number, UID of the picture, and points (points, 3) in mm of each contour."""
    for roi in rtstruct.ROIContourSequence:
        for contour in roi.get("ContourSequence", ()):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            (image,) = contour.ContourImageSequence
            yield int(roi.ReferencedROINumber), image.ReferencedSOPInstanceUID, points


def in_pixels(points, header):
    """Columns and rows by the picture's own position, directions and spacing (PS3.3 C.7.6.2.1.1), and mm off it."""
    row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    from_first = points - np.array(header.ImagePositionPatient, float)
    row_mm, column_mm = map(float, header.PixelSpacing)
    return np.stack([from_first @ row / column_mm, from_first @ column / row_mm], 1), from_first @ np.cross(row, column)


def filled(rtstruct, headers, shape):
    """The label map, as the sum over contours."""
    found = np.zeros(shape, int)
    places = {str(header.SOPInstanceUID): number for number, header in enumerate(headers)}
    for roi, uid, points in contours_of(rtstruct):
        pixels, off_mm = in_pixels(points, headers[places[uid]])
        assert np.abs(off_mm).max() < 1e-3
        found[places[uid]] += roi * polygon2mask(shape[1:], pixels[:, ::-1])
    return found


label_maps = st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 2]))
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    label_map=label_maps,
    spacing=st.tuples(st.floats(0.3, 3), st.floats(0.3, 3), st.floats(0.5, 6)),
    origin=st.tuples(*[st.floats(-400, 400)] * 3),
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    shear=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
)
def test_any_label_map_on_any_grid_comes_back_by_other_means(tmp_path, label_map, spacing, origin, turn, shear):
    affine = lps_grid(spacing, origin, turn, shear)
    rtstruct, headers = written(tmp_path, label_map, affine)
    np.testing.assert_array_equal(filled(rtstruct, headers, label_map.shape), label_map)


def test_our_own_reader_finds_labels_and_names(tmp_path):
    _, headers = written(tmp_path)
    grid = Grid(UPRIGHT, RING.shape, tuple(header.SOPInstanceUID for header in headers))
    found = read_rtstruct(tmp_path / "rtstruct.dcm", grid)
    np.testing.assert_array_equal(found.label_map, RING)
    assert found.names == {1: "Lung", 2: "Heart"}
    assert {check.status for check in found.checks} == {"passed"}


def test_a_hole_hangs_on_a_channel_of_one_contour(tmp_path):
    rtstruct, headers = written(tmp_path)
    found = [(roi, uid) for roi, uid, _ in contours_of(rtstruct)]
    assert found == [(1, headers[1].SOPInstanceUID), (1, headers[2].SOPInstanceUID), (2, headers[2].SOPInstanceUID)]


def test_numbers_of_rois_are_the_labels_however_they_are_sorted(tmp_path):
    segments = [HEART.model_copy(update={"label": 7}), LUNG.model_copy(update={"label": 300})]
    label_map = np.where(RING == 1, 300, 7 * (RING == 2).astype(np.int64))
    rtstruct, headers = written(tmp_path, label_map, segments=segments)
    assert [(roi.ROINumber, roi.ROIName) for roi in rtstruct.StructureSetROISequence] == [(7, "Heart"), (300, "Lung")]
    np.testing.assert_array_equal(filled(rtstruct, headers, RING.shape), label_map)


@pytest.mark.parametrize("label_map", [np.zeros_like(RING), np.where(RING == 1, 1, 0)])
def test_a_label_without_a_voxel_still_has_its_roi(tmp_path, label_map):
    rtstruct, headers = written(tmp_path, label_map)
    assert [roi.ROIName for roi in rtstruct.StructureSetROISequence] == ["Lung", "Heart"]
    assert "ContourSequence" not in rtstruct.ROIContourSequence[1]
    np.testing.assert_array_equal(filled(rtstruct, headers, RING.shape), label_map)
    assert dciodvfy_errors(tmp_path / "rtstruct.dcm", "RTStructureSet") == []


def test_a_contour_of_more_than_64_kilobytes_is_written_whole(tmp_path):
    label_map = (np.random.default_rng(2).random((1, 120, 130)) < 0.75).astype(np.uint8)
    rtstruct, headers = written(tmp_path, label_map)
    longest = max(len("\\".join(map(str, points.ravel()))) for _, _, points in contours_of(rtstruct))
    assert longest > 65_534
    np.testing.assert_array_equal(filled(rtstruct, headers, label_map.shape), label_map)


def test_the_object_says_what_it_is_whose_and_who_made_it(tmp_path):
    headers = sources(PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 100", PositionReferenceIndicator="SN")
    wide = LUNG.model_copy(update={"name": "Płuco"})
    rtstruct, _ = written(tmp_path, segments=[wide, HEART], headers=headers, colours=[(1, 2, 3), (4, 5, 6)])
    source = headers[0]
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "StudyID", "FrameOfReferenceUID"):
        assert rtstruct[keyword].value == source[keyword].value
    assert rtstruct.PositionReferenceIndicator == "SN"
    assert rtstruct.SeriesInstanceUID != source.SeriesInstanceUID
    assert (rtstruct.Modality, rtstruct.ApprovalStatus) == ("RTSTRUCT", "UNAPPROVED")
    assert rtstruct.StructureSetLabel == "Research only"
    for said in (rtstruct.StructureSetName, rtstruct.StructureSetDescription, rtstruct.SeriesDescription):
        assert "lung_xray 0.3.1" in said
    assert "not for diagnostic use" in rtstruct.StructureSetDescription
    assert [roi.ROIName for roi in rtstruct.StructureSetROISequence] == ["Płuco", "Heart"]
    assert {roi.ROIGenerationAlgorithm for roi in rtstruct.StructureSetROISequence} == {"AUTOMATIC"}
    assert {roi.ReferencedFrameOfReferenceUID for roi in rtstruct.StructureSetROISequence} == {
        source.FrameOfReferenceUID
    }
    assert [list(roi.ROIDisplayColor) for roi in rtstruct.ROIContourSequence] == [[1, 2, 3], [4, 5, 6]]
    codes = [item.RTROIIdentificationCodeSequence[0] for item in rtstruct.RTROIObservationsSequence]
    assert [(code.CodeValue, code.CodingSchemeDesignator) for code in codes] == [
        ("39607008", "SCT"),
        ("80891009", "SCT"),
    ]


def test_it_refers_to_study_series_and_every_slice(tmp_path):
    rtstruct, headers = written(tmp_path)
    (frame,) = rtstruct.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == headers[0].StudyInstanceUID
    assert series.SeriesInstanceUID == headers[0].SeriesInstanceUID
    images = [(image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) for image in series.ContourImageSequence]
    assert images == [(header.SOPClassUID, header.SOPInstanceUID) for header in headers]


def test_outlines_that_a_person_drew_are_said_to_be_manual(tmp_path):
    rtstruct, _ = written(tmp_path, algorithm=None)
    assert {roi.ROIGenerationAlgorithm for roi in rtstruct.StructureSetROISequence} == {"MANUAL"}
    assert rtstruct.StructureSetName == "drawn outlines"


@pytest.mark.parametrize(
    ("changes", "algorithm"),
    [
        ({}, ALGORITHM),
        ({}, None),
        ({"PatientAge": "81", "StudyDate": "2024.1.1", "PatientSex": "male", "PatientID": None}, ALGORITHM),
    ],
)
def test_dciodvfy_finds_no_error(tmp_path, changes, algorithm):
    written(tmp_path, headers=sources(**changes), algorithm=algorithm)
    assert dciodvfy_errors(tmp_path / "rtstruct.dcm", "RTStructureSet") == []


def test_the_sources_stay_as_they_were(tmp_path):
    headers = sources(PatientAge="81")
    before = [header.to_json() for header in headers]
    written(tmp_path, headers=headers)
    assert [header.to_json() for header in headers] == before


# -- refusals


def refusal(headers, affine=UPRIGHT, label_map=RING, frames=(), segments=(LUNG, HEART), path=None):
    with pytest.raises(OutputError) as caught:
        write_rtstruct(path, label_map, SourceGrid(headers, frames, affine), segments, ALGORITHM)
    said = str(caught.value)
    assert not [part for part in PATIENT.values() if part in said]
    return said


def test_a_film_is_refused(tmp_path):
    label_map = np.zeros((1, 96, 80), np.uint8)
    assert "without a place in the patient" in refusal([film(**PATIENT)], None, label_map)


@pytest.mark.parametrize("uids", [[None] * 6, [""] * 6, ["1.2.3"] * 5 + ["1.2.4"], ["1.2.3"] * 5 + [""]])
def test_slices_without_one_frame_of_reference_are_refused(uids):
    headers = sources(**PATIENT)
    for header, uid in zip(headers, uids, strict=True):
        header.FrameOfReferenceUID = uid
    assert "without a place in the patient" in refusal(headers)


@pytest.mark.parametrize(("frames", "changes"), [((0, 1, 2, 3, 4, 5), {}), ((), {"NumberOfFrames": 6})])
def test_multi_frame_sources_are_refused(frames, changes):
    said = refusal(sources(**PATIENT, **changes)[:1], frames=frames)
    assert said == (
        "no RTSTRUCT is made for a multi-frame source, expected one picture a file; the DICOM SEG holds the outline"
    )


def test_slices_in_another_order_than_the_grid_are_refused():
    assert "slice 1 of the source does not lie where its grid says" in refusal(sources(**PATIENT)[::-1])


def test_a_source_without_identity_is_refused():
    headers = sources(**PATIENT)
    del headers[3].SOPInstanceUID
    assert "no SOPInstanceUID" in refusal(headers)


def test_a_label_without_a_segment_is_refused():
    assert "label 2 has no row" in refusal(sources(**PATIENT), segments=[LUNG])


@pytest.mark.parametrize(
    "worse",
    [
        lambda outlines: outlines[1:],
        lambda outlines: [outline + 1 for outline in outlines],
        lambda outlines: [outline[::3] for outline in outlines],
        lambda outlines: [outline[:2] for outline in outlines],
    ],
)
def test_what_reads_back_differently_is_refused(tmp_path, monkeypatch, worse):
    right = rtstruct_out.keyholed_outlines_of
    monkeypatch.setattr(rtstruct_out, "keyholed_outlines_of", lambda mask: worse(right(mask)))
    path = tmp_path / "rtstruct.dcm"
    assert "read back" in refusal(sources(**PATIENT), path=path)


def test_a_reference_that_is_lost_is_refused(tmp_path, monkeypatch):
    right = rtstruct_out._image

    def lost(source):
        made = right(source)
        made.ReferencedSOPInstanceUID = generate_uid()
        return made

    monkeypatch.setattr(rtstruct_out, "_image", lost)
    assert "read back" in refusal(sources(**PATIENT), path=tmp_path / "rtstruct.dcm")


def test_a_damaged_header_is_refused_without_quoting_it(tmp_path, monkeypatch):
    def damaged(source):
        raise ValueError(f"not a valid value: {source.PatientName}")

    monkeypatch.setattr(rtstruct_out, "completed", damaged)
    assert "no RTSTRUCT can be made for this source (ValueError)" in refusal(
        sources(**PATIENT), path=tmp_path / "rtstruct.dcm"
    )
