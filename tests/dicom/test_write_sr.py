import math

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_ct import ct_headers
from made_films import CR, SECONDARY_CAPTURE, film
from made_reports import (
    A_HEART,
    COLLECTION,
    LEFT_LUNG,
    RIGHT_LUNG,
    TABLE,
    WHOLE_LUNG,
    a_film_with_its_seg,
    child,
    code_of,
    film_headers,
    groups,
    in_slices,
    in_the_collection,
    numbers,
    on_film,
    written,
)
from made_segments import ALGORITHM
from made_verdicts import dciodvfy_errors

from clinibundle.dicom.header import read_header
from clinibundle.dicom.index import index_study
from clinibundle.dicom.sr import compare_with_written, write_sr
from clinibundle.errors import OutputError

IDENTITY = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"]
STUDY = ["StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"]
WITHOUT_PATIENT = dict.fromkeys([*IDENTITY, *STUDY])
ODD_VALUES = {
    "PatientAge": "81",
    "PatientBirthDate": "19801399",
    "PatientSex": "male",
    "StudyDate": "2024.1.1",
    "StudyTime": "12:30",
    "PatientOrientation": "L",
    "SpecificCharacterSet": "ISO-IR 100",
    "SeriesNumber": -3,
}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=5))
def test_any_number_comes_back_exactly_and_as_a_text_of_16_characters(tmp_path, values):
    source, seg = a_film_with_its_seg()
    findings = [{"name": f"lung {n}", "segment_number": 1, "area_mm2": value} for n, value in enumerate(values)]
    write_sr(tmp_path / "report.dcm", source, seg, findings, TABLE, ALGORITHM)
    found = [numbers(group)["Area"] for group in groups(pydicom.dcmread(tmp_path / "report.dcm"))]
    assert [exact for exact, _, _ in found] == values
    for (_, text, _), value in zip(found, values, strict=True):
        assert len(text) <= 16
        assert math.isclose(float(text), value, rel_tol=1e-8)


def test_numbers_have_their_concept_unit_factor_and_derivation(tmp_path):
    report, _ = written(tmp_path, [{**LEFT_LUNG, "confidence": np.float32(0.25), "area_mm2": 7}])
    (group,) = groups(report)
    assert numbers(group) == {
        "Area": (7, "7.0", "mm2"),
        "Volume": (12.25, "12.25", "cm3"),
        "Attenuation Coefficient": (-801.5, "-801.5", "[hnsf'U]"),
        "Certainty of Finding": (25, "25.0", "%"),
    }
    assert code_of(child(child(group, "Attenuation Coefficient"), "Derivation")) == "Mean"
    assert "ContentSequence" not in child(group, "Volume")


def test_what_is_none_or_not_measured_is_left_out(tmp_path):
    report, _ = written(tmp_path, [{**LEFT_LUNG, "mean_hu": None}, {"name": "heart", "segment_number": 2}])
    left, heart = groups(report)
    assert set(numbers(left)) == {"Volume"}
    assert numbers(heart) == {}


def test_highdicom_reads_the_same_numbers(tmp_path):
    written(tmp_path, [LEFT_LUNG, A_HEART])
    content = highdicom.sr.srread(tmp_path / "report.dcm").content
    found = content.get_volumetric_roi_measurement_groups()
    assert [[m.value for m in group.get_measurements()] for group in found] == [[12.25, -801.5], [0.5]]
    assert [group.finding_type.meaning for group in found] == ["Lung", "Heart"]
    assert [group.referenced_segment.referenced_segment_numbers for group in found] == [[1], [2]]


def test_highdicom_reads_the_same_numbers_of_a_film(tmp_path):
    _, seg = written(tmp_path, [WHOLE_LUNG], film_headers(), on_film())
    content = highdicom.sr.srread(tmp_path / "report.dcm").content
    (group,) = content.get_planar_roi_measurement_groups(referenced_sop_instance_uid=seg.SOPInstanceUID)
    assert [m.value for m in group.get_measurements()] == [1234.5, 50]
    assert group.tracking_uid == seg.SegmentSequence[0].TrackingUID


def test_its_own_uids_are_new_in_every_call_and_the_observers_is_not(tmp_path):
    sources = ct_headers()
    (first, seg), (second, _) = (written(tmp_path, [LEFT_LUNG], sources) for _ in range(2))
    own = [uid for report in (first, second) for uid in (report.SOPInstanceUID, report.SeriesInstanceUID)]
    assert len({*own, seg.SOPInstanceUID, seg.SeriesInstanceUID, sources[0].SeriesInstanceUID}) == 7
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert first.StudyInstanceUID == sources[0].StudyInstanceUID
    observers = {child(report, "Device Observer UID").UID for report in (first, second)}
    assert len(observers) == 1
    assert first.SeriesNumber == seg.SeriesNumber + 1000 == 10003


def test_a_seg_can_be_given_as_a_data_set(tmp_path):
    sources = ct_headers()
    _, seg = written(tmp_path, [], sources)
    write_sr(tmp_path / "second.dcm", sources, seg, [LEFT_LUNG], TABLE, ALGORITHM)
    assert numbers(groups(pydicom.dcmread(tmp_path / "second.dcm"))[0])["Volume"][0] == 12.25


def test_the_patient_and_the_study_are_copied_and_nothing_is_invented(tmp_path):
    patient = {
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "PatientSex": "F",
        "PatientWeight": "61.5",
        "StudyID": "S",
    }
    report, _ = written(tmp_path, [LEFT_LUNG], ct_headers(**patient))
    assert {keyword: str(report[keyword].value) for keyword in patient} == patient
    report, _ = written(tmp_path, [LEFT_LUNG], ct_headers(**WITHOUT_PATIENT, PatientAge=None))
    for keyword in WITHOUT_PATIENT:
        assert keyword in report
        assert not report[keyword].value
    known = {element.keyword for element in ct_headers()[0]}
    assert {element.keyword for element in report if element.keyword.startswith(("Patient", "Study"))} <= known
    assert "PatientAge" not in report


def test_finding_and_patient_may_be_written_in_different_alphabets(tmp_path):
    film(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Zoë").save_as(tmp_path / "film.dcm")
    source = read_header(tmp_path / "film.dcm")
    report, _ = written(tmp_path, [{**LEFT_LUNG, "name": "胸水"}, RIGHT_LUNG], [source], on_film())
    assert report.PatientName == "Müller^Zoë"
    assert child(groups(report)[0], "Tracking Identifier").TextValue.startswith("lung_xray 胸水 (one of 2")


KINDS = {
    "CT": (ct_headers, {}, "Comprehensive3DSR"),
    "DX": (film_headers, {}, "ComprehensiveSR"),
    "CR": (film_headers, {"SOPClassUID": CR, "Modality": "CR"}, "ComprehensiveSR"),
    "SC": (film_headers, {"SOPClassUID": SECONDARY_CAPTURE, "Modality": "OT"}, "ComprehensiveSR"),
}


@pytest.mark.parametrize("findings", [[], [WHOLE_LUNG, LEFT_LUNG, A_HEART]], ids=["nothing found", "three findings"])
@pytest.mark.parametrize("odd", [{}, WITHOUT_PATIENT, ODD_VALUES], ids=["sound", "without patient", "odd values"])
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(tmp_path, kind, odd, findings):
    make, changes, expected = KINDS[kind]
    sources = make(**changes, **odd)
    label_map = on_film() if make is film_headers else in_slices()
    written(tmp_path, findings, sources, label_map if findings else 0 * label_map)
    assert dciodvfy_errors(tmp_path / "report.dcm", expected) == []


def test_dciodvfy_finds_no_error_in_a_finding_without_a_voxel(tmp_path):
    written(tmp_path, [A_HEART], label_map=(in_slices() == 1).astype(np.uint8))
    assert dciodvfy_errors(tmp_path / "report.dcm", "Comprehensive3DSR") == []


@in_the_collection
@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("ct_axial3_with_seg", "Comprehensive3DSR"),
        ("mr_sagittal_gap", "Comprehensive3DSR"),
        ("cr_chest_mono1_nopreamble", "ComprehensiveSR"),
        ("cr_chest_mono2_raw", "ComprehensiveSR"),
    ],
)
def test_dciodvfy_finds_no_error_in_reports_on_real_images(tmp_path, folder, kind):
    headers = [instance.header for instance in index_study(COLLECTION / folder).instances]
    sources = [header for header in headers if header.get("Modality") != "SEG"]
    label_map = np.ones((len(sources), sources[0].Rows, sources[0].Columns), np.uint8)
    report, _ = written(tmp_path, [WHOLE_LUNG, A_HEART], sources, label_map)
    assert report.PatientID == (sources[0].get("PatientID") or "")
    assert dciodvfy_errors(tmp_path / "report.dcm", kind) == []


def test_a_finding_on_a_segment_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OutputError, match="a finding lies on segment 3, which the SEG does not have"):
        written(tmp_path, [LEFT_LUNG, {**A_HEART, "segment_number": 3}])
    assert not (tmp_path / "report.dcm").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan")])
def test_a_measurement_that_is_no_finite_number_is_refused(tmp_path, value):
    with pytest.raises(OutputError, match=r"'volume_ml' of the finding 'left lung' is (nan|inf); expected a number"):
        written(tmp_path, [{**LEFT_LUNG, "volume_ml": value}])
    assert not (tmp_path / "report.dcm").exists()


@pytest.mark.parametrize("lost", ["SegmentSequence", "PerFrameFunctionalGroupsSequence", "SeriesNumber"])
def test_a_damaged_seg_is_refused_without_a_word_of_the_patient(tmp_path, lost):
    sources = ct_headers(PatientName="Secret^Name", PatientID="4711")
    _, seg = written(tmp_path, [LEFT_LUNG], sources)
    del seg[lost]
    with pytest.raises(OutputError, match=r"no DICOM SR can be made for this source \(\w+Error\)") as refusal:
        write_sr(tmp_path / "second.dcm", sources, seg, [LEFT_LUNG], TABLE, ALGORITHM)
    assert "Secret" not in str(refusal.value)
    assert "4711" not in str(refusal.value)


def test_a_seg_of_other_images_is_refused(tmp_path):
    _, seg = written(tmp_path, [])
    with pytest.raises(OutputError, match="no DICOM SR can be made"):
        write_sr(tmp_path / "second.dcm", ct_headers(), seg, [LEFT_LUNG], TABLE, ALGORITHM)


def test_a_source_of_an_unknown_kind_is_refused(tmp_path):
    sources = ct_headers()
    _, seg = written(tmp_path, [], sources)
    sources[0].SOPClassUID = "1.2.3.4.5"
    with pytest.raises(OutputError, match="no DICOM SR can be made"):
        write_sr(tmp_path / "second.dcm", sources, seg, [], TABLE, ALGORITHM)


def first_number(report):
    return next(item for item in groups(report)[0].ContentSequence if item.ValueType == "NUM")


def change_the_exact_number(report):
    value = first_number(report).MeasuredValueSequence[0]
    value.FloatingPointValue = math.nextafter(value.FloatingPointValue, math.inf)


def change_the_text(report):
    first_number(report).MeasuredValueSequence[0].NumericValue = "12.26"


def change_the_unit(report):
    first_number(report).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = "mm3"


def change_the_concept(report):
    first_number(report).ConceptNameCodeSequence[0].CodeValue = "42798000"


def lose_a_number(report):
    groups(report)[0].ContentSequence.remove(first_number(report))


def exchange_the_findings(report):
    child(report, "Imaging Measurements").ContentSequence = groups(report)[::-1]


def lose_a_finding(report):
    child(report, "Imaging Measurements").ContentSequence.pop()


def lose_the_values(report):
    del first_number(report).MeasuredValueSequence


@pytest.mark.parametrize(
    "change",
    [
        change_the_exact_number,
        change_the_text,
        change_the_unit,
        change_the_concept,
        lose_a_number,
        exchange_the_findings,
        lose_a_finding,
        lose_the_values,
    ],
)
def test_a_report_that_differs_from_what_was_meant_is_found(tmp_path, change):
    findings = [LEFT_LUNG, A_HEART]
    report, _ = written(tmp_path, findings)
    path = tmp_path / "report.dcm"
    compare_with_written(path, findings, TABLE)
    change(report)
    report.save_as(path)
    with pytest.raises(OutputError, match="nothing was kept, please report this"):
        compare_with_written(path, findings, TABLE)
