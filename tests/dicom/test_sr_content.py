import numpy as np
import pydicom
import pytest
from made_ct import ct_headers
from made_reports import (
    A_HEART,
    COLLECTION,
    LEFT_LUNG,
    RIGHT_LUNG,
    TABLE,
    VOLUME,
    WHOLE_LUNG,
    child,
    children,
    code_of,
    film_headers,
    groups,
    in_slices,
    in_the_collection,
    meaning,
    numbers,
    on_film,
    references,
    uids,
    written,
)
from made_segments import ALGORITHM, HEART, LUNG
from made_verdicts import dciodvfy_errors
from pydicom.sr._concepts_dict import concepts

from clinibundle.dicom.codes import Code, MeasurementTable
from clinibundle.dicom.header import read_header
from clinibundle.dicom.seg import write_seg
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.dicom.sr import write_sr

# In the standard (PS3.16 TID 1500 row 12, and RFC 5646), and not in pydicom's dictionary.
NOT_IN_THE_DICTIONARY = {("UMLS", "C0034375", "qualitative evaluations"), ("RFC5646", "en", "english")}
# The dciodvfy of 2022 does not know that a label map is a segmentation.
LABEL_MAP_UNKNOWN = "Error - Shall not be present for Referenced SOP Class that is not segmentation"


def test_a_volume_is_reported_on_its_segment_and_exactly_the_slices_that_it_lies_in(tmp_path):
    sources = ct_headers()
    report, seg = written(tmp_path, [LEFT_LUNG, A_HEART], sources)
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    for group, number, slices in zip(groups(report), (1, 2), (sources[1:4], sources[3:4]), strict=True):
        assert group.ContentTemplateSequence[0].TemplateIdentifier == "1411"
        (segment,) = references(group, "Referenced Segment")
        assert segment.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert (segment.ReferencedSegmentNumber, segment.get("ReferencedFrameNumber")) == (number, None)
        images = references(group, "Source Image for Segmentation")
        assert sorted(uids(images)) == sorted((source.SOPClassUID, source.SOPInstanceUID) for source in slices)


def test_a_film_is_reported_on_the_frame_that_holds_its_segment(tmp_path):
    (source,) = film_headers()
    both = on_film() * np.where(np.arange(on_film().shape[2]) < 40, 1, 2).astype(np.uint8)
    report, seg = written(tmp_path, [WHOLE_LUNG, A_HEART], [source], both)
    assert report.SOPClassUID.name == "Comprehensive SR Storage"
    for group, number in zip(groups(report), (1, 2), strict=True):
        assert group.ContentTemplateSequence[0].TemplateIdentifier == "1410"
        (frame,) = references(group, "Referenced Segmentation Frame")
        assert frame.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        lies_on = seg.PerFrameFunctionalGroupsSequence[frame.ReferencedFrameNumber - 1]
        assert lies_on.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        assert uids(references(group, "Source Image for Segmentation")) == [(source.SOPClassUID, source.SOPInstanceUID)]


def test_a_seg_of_a_single_segment_is_referred_to_as_one_of_several(tmp_path):
    report, seg = written(tmp_path, [WHOLE_LUNG], film_headers(), on_film(), segments=[LUNG])
    assert "SegmentIdentificationSequence" not in seg.PerFrameFunctionalGroupsSequence[0]
    (frame,) = references(groups(report)[0], "Referenced Segmentation Frame")
    assert (frame.ReferencedSOPInstanceUID, frame.ReferencedFrameNumber) == (seg.SOPInstanceUID, 1)


def test_a_label_map_of_a_film_is_referred_to_by_the_segment(tmp_path):
    report, seg = written(tmp_path, [WHOLE_LUNG, A_HEART], film_headers(), on_film(), kind="labelmap")
    assert seg.NumberOfFrames == 1
    for group, number in zip(groups(report), (1, 2), strict=True):
        (frame,) = references(group, "Referenced Segmentation Frame")
        assert (frame.ReferencedSegmentNumber, frame.get("ReferencedFrameNumber")) == (number, None)
    errors = dciodvfy_errors(tmp_path / "report.dcm", "ComprehensiveSR")
    assert [error for error in errors if not error.startswith(LABEL_MAP_UNKNOWN)] == []


def test_a_label_map_of_slices_is_referred_to_by_the_segment_and_all_of_its_slices(tmp_path):
    sources = ct_headers()
    report, _ = written(tmp_path, [LEFT_LUNG, A_HEART], sources, kind="labelmap")
    for group, number in zip(groups(report), (1, 2), strict=True):
        assert references(group, "Referenced Segment")[0].ReferencedSegmentNumber == number
        images = references(group, "Source Image for Segmentation")
        assert sorted(uids(images)) == sorted((source.SOPClassUID, source.SOPInstanceUID) for source in sources[1:4])
    errors = dciodvfy_errors(tmp_path / "report.dcm", "Comprehensive3DSR")
    assert [error for error in errors if not error.startswith(LABEL_MAP_UNKNOWN)] == []


@in_the_collection
def test_of_a_multi_frame_source_the_frames_are_named(tmp_path):
    source = read_header(COLLECTION / "mf_enhanced" / "eCT_Supplemental.dcm")
    label_map = np.zeros((2, source.Rows, source.Columns), np.uint8)
    label_map[1, :9, :9] = 1
    grid = SourceGrid([source], frames=[0, 1])
    write_seg(tmp_path / "segmentation.dcm", label_map, grid, [LUNG, HEART], ALGORITHM)
    write_sr(tmp_path / "report.dcm", [source], tmp_path / "segmentation.dcm", [WHOLE_LUNG], TABLE, ALGORITHM)
    (group,) = groups(pydicom.dcmread(tmp_path / "report.dcm"))
    (image,) = references(group, "Source Image for Segmentation")
    assert (image.ReferencedSOPInstanceUID, image.ReferencedFrameNumber) == (source.SOPInstanceUID, 2)
    assert dciodvfy_errors(tmp_path / "report.dcm", "Comprehensive3DSR") == []


@pytest.mark.parametrize("make", [ct_headers, film_headers], ids=["slices", "film"])
def test_a_finding_whose_segment_has_no_voxel_is_reported_on_the_source_alone(tmp_path, make):
    sources = make()
    label_map = on_film() if make is film_headers else (in_slices() == 1).astype(np.uint8)
    report, _ = written(tmp_path, [{**A_HEART, "volume_ml": 0}], sources, label_map)
    (group,) = groups(report)
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1501"
    expected = [(source.SOPClassUID, source.SOPInstanceUID) for source in sources]
    assert uids(references(group, "Source of Measurement")) == expected
    images = [item for item in group.ContentSequence if item.ValueType == "IMAGE"]
    assert len(images) == len(sources)
    assert numbers(group)["Volume"][0] == 0


def test_a_segments_only_finding_has_the_segments_identity(tmp_path):
    report, seg = written(tmp_path, [A_HEART])
    (group,) = groups(report)
    heart = seg.SegmentSequence[1]
    assert child(group, "Tracking Identifier").TextValue == heart.TrackingID == "lung_xray Heart"
    assert heart.TrackingUID == child(group, "Tracking Unique Identifier").UID


def test_findings_that_share_a_segment_say_so_and_refer_to_the_whole_series(tmp_path):
    sources = ct_headers()
    report, seg = written(tmp_path, [WHOLE_LUNG, LEFT_LUNG, RIGHT_LUNG], sources)
    identities = [child(group, "Tracking Identifier").TextValue for group in groups(report)]
    assert identities == [
        f"lung_xray {name} (one of 3 findings on segment 1, Lung)" for name in ("lung", "left lung", "right lung")
    ]
    tracking = {child(group, "Tracking Unique Identifier").UID for group in groups(report)}
    assert len(tracking) == 3
    assert seg.SegmentSequence[0].TrackingUID not in tracking
    for group in groups(report):
        assert references(group, "Referenced Segment")[0].ReferencedSegmentNumber == 1
        assert references(group, "Source Image for Segmentation") == []
        assert sources[0].SeriesInstanceUID == child(group, "Source Series for Segmentation").UID
    whole, left, right = groups(report)
    assert children(whole, "Finding Site") == []
    for group, side in ((left, "Left"), (right, "Right")):
        site = child(group, "Finding Site")
        assert (code_of(site), code_of(child(site, "Laterality"))) == ("Lung", side)


def test_a_finding_without_codes_is_what_its_segment_is(tmp_path):
    report, _ = written(tmp_path, [A_HEART, WHOLE_LUNG], table=MeasurementTable(measurements=[VOLUME]))
    assert [code_of(child(group, "Finding")) for group in groups(report)] == ["Heart", "Lung"]


@pytest.mark.parametrize("make", [ct_headers, film_headers], ids=["slices", "film"])
def test_without_a_finding_the_report_says_so_of_these_images(tmp_path, make):
    sources = make()
    label_map = np.zeros((len(sources), sources[0].Rows, sources[0].Columns), np.uint8)
    report, seg = written(tmp_path, [], sources, label_map)
    assert groups(report) == []
    finding = child(child(report, "Qualitative Evaluations"), "Finding")
    assert finding.TextValue == "No finding: lung_xray 0.3.1 found nothing to measure in these images."
    listed = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == {*(source.SOPInstanceUID for source in sources), seg.SOPInstanceUID}


@pytest.mark.parametrize("findings", [[], [LEFT_LUNG]], ids=["nothing found", "lung found"])
def test_every_report_says_what_it_is_who_made_it_and_that_it_is_for_no_diagnosis(tmp_path, findings):
    report, _ = written(tmp_path, findings)
    assert meaning(report) == "Imaging Measurement Report"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert code_of(child(report, "Language of Content Item and Descendants")) == "English"
    assert code_of(child(report, "Procedure reported")) == "Imaging procedure"
    words = child(child(report, "Qualitative Evaluations"), "Comment").TextValue
    assert words.startswith("Not for diagnostic use")
    assert code_of(child(report, "Observer Type")) == "Device"
    assert child(report, "Device Observer Name").TextValue == "clinibundle"
    assert child(report, "Device Observer Model Name").TextValue == "lung_xray 0.3.1"
    assert child(report, "Device Observer Serial Number").TextValue == ALGORITHM.weights_sha256
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert "research only" in report.SeriesDescription


def test_each_group_says_which_algorithm_measured(tmp_path):
    report, _ = written(tmp_path, [LEFT_LUNG, A_HEART])
    for group in groups(report):
        assert child(group, "Algorithm Name").TextValue == "lung_xray"
        assert child(group, "Algorithm Version").TextValue == "0.3.1"
        assert ALGORITHM.weights_sha256 in child(group, "Algorithm Parameters").TextValue
        assert code_of(child(group, "Algorithm Family")) == "Artificial Intelligence"


def test_the_procedure_can_be_given(tmp_path):
    chest_ct = Code(value="24627-2", scheme="LN", meaning="CT Chest")
    report, _ = written(tmp_path, [], table=TABLE.model_copy(update={"procedure": chest_ct}))
    (code,) = child(report, "Procedure reported").ConceptCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("24627-2", "LN", "CT Chest")


def test_all_codes_stand_in_pydicoms_dictionary_of_the_standard(tmp_path):
    report, _ = written(tmp_path, [WHOLE_LUNG, LEFT_LUNG, {**A_HEART, "mean_hu": 1}])
    known = {
        (scheme, value, words.lower())
        for scheme, by_keyword in concepts.items()
        for by_value in by_keyword.values()
        for value, (words, _) in by_value.items()
    }
    # The standard itself writes "Source Image for Segmentation" in two ways.
    used = {
        (item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning.lower())
        for element in report.iterall()
        if element.VR == "SQ"
        for item in element.value
        if "CodeValue" in item
    }
    assert len(used) > 20
    assert used - known == NOT_IN_THE_DICTIONARY
