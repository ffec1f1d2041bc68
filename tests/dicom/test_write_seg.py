import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_films import COLUMNS, CR, ROWS, SECONDARY_CAPTURE, chest, film, instance, read_film, save
from made_segments import ALGORITHM, HEART, LUNG
from pydicom.uid import generate_uid

from clinibundle.dicom.derived import completed
from clinibundle.dicom.seg import write_seg
from clinibundle.dicom.seg_check import SourceGrid, compare_with_written
from clinibundle.errors import OutputError

CT = "1.2.840.10008.5.1.4.1.1.2"
MASK = (chest() > 2000).astype(np.uint8)
BOTH = np.where(np.arange(COLUMNS) < 40, MASK, 2 * MASK)
EMPTY = np.zeros_like(MASK)
IDENTITY = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex"]
STUDY = ["StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"]
WITHOUT_PATIENT = dict.fromkeys([*IDENTITY, *STUDY])
ODD_VALUES = {
    "PatientAge": "81",
    "PatientBirthDate": "19801399",
    "PatientSex": "male",
    "StudyDate": "2024.1.1",
    "StudyTime": "12:30",
    "PixelSpacing": [0, 0],
    "PatientOrientation": "L",
    "SpecificCharacterSet": "ISO-IR 100",
    "SeriesNumber": -3,
}


def header(**changes):
    """The header of a film as the index gives it."""
    made = film(**changes)
    del made.PixelData
    return made


def written(folder, label_map=MASK, sources=None, segments=(LUNG,)):
    """A SEG, as pydicom reads it."""
    path = folder / "segmentation.dcm"
    sources = sources or [header()]
    write_seg(path, np.stack([label_map] * len(sources)), SourceGrid(sources), segments, ALGORITHM)
    return pydicom.dcmread(path)


def masks_of(seg):
    """Each segment's frame by pydicom alone."""
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    groups = seg.PerFrameFunctionalGroupsSequence
    in_shared = seg.SharedFunctionalGroupsSequence[0].get("SegmentIdentificationSequence")
    numbers = [(in_shared or group.SegmentIdentificationSequence)[0].ReferencedSegmentNumber for group in groups]
    return dict(zip(numbers, frames, strict=True))


def dciodvfy_errors(path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    said = verdict.stdout + verdict.stderr
    assert "Segmentation" in said
    return [line for line in said.splitlines() if line.startswith("Error")]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), rows=st.integers(3, 37), columns=st.integers(3, 37))
def test_any_mask_of_any_size_comes_back_as_it_was(tmp_path, data, rows, columns):
    # Frames of less than 8 pixels are packed wrongly by highdicom 0.28, which write_seg finds and refuses.
    label_map = data.draw(arrays(np.uint8, (rows, columns), elements=st.integers(0, 2)))
    source = header(Rows=rows, Columns=columns)
    path = tmp_path / "segmentation.dcm"
    write_seg(path, label_map[np.newaxis], SourceGrid([source]), [LUNG, HEART], ALGORITHM)
    masks = masks_of(pydicom.dcmread(path))
    for label in (1, 2):
        np.testing.assert_array_equal(masks.get(label, np.zeros((rows, columns))), label_map == label)


def test_each_of_several_slices_carries_its_own_mask(tmp_path):
    series = {"SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
    slices = {"SOPClassUID": CT, "Modality": "CT", "SliceThickness": 2, "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    sources = [header(**series, **slices, ImagePositionPatient=[0, 0, 2 * number]) for number in range(3)]
    label_map = np.stack([MASK, EMPTY, 1 - MASK])
    path = tmp_path / "segmentation.dcm"
    write_seg(path, label_map, SourceGrid(sources), [LUNG], ALGORITHM)
    found = highdicom.seg.segread(path).get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources[::-1]],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(found[..., 0], label_map[::-1])


def test_highdicom_reads_the_mask_at_the_source_film(tmp_path):
    source = header()
    written(tmp_path, BOTH, [source], [LUNG, HEART])
    seg = highdicom.seg.segread(tmp_path / "segmentation.dcm")
    found = seg.get_pixels_by_source_instance([source.SOPInstanceUID], ignore_spatial_locations=True)
    np.testing.assert_array_equal(found[0], np.stack([BOTH == 1, BOTH == 2], axis=-1))
    assert seg.get_segment_numbers(segment_label="Heart") == [2]


def test_an_empty_mask_gives_an_empty_frame(tmp_path):
    seg = written(tmp_path, EMPTY)
    assert seg.NumberOfFrames == 1
    assert not seg.pixel_array.any()


def test_a_label_without_a_pixel_still_has_its_segment(tmp_path):
    seg = written(tmp_path, MASK, segments=[LUNG, HEART])
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["Lung", "Heart"]
    assert list(masks_of(seg)) == [1]


def test_the_seg_refers_to_exactly_the_source_and_lies_in_its_study(tmp_path):
    source = header()
    seg = written(tmp_path, BOTH, [source], [LUNG, HEART])
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    identity = (source.SOPClassUID, source.SOPInstanceUID)
    (listed,) = series.ReferencedInstanceSequence
    assert (listed.ReferencedSOPClassUID, listed.ReferencedSOPInstanceUID) == identity
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame in seg.PerFrameFunctionalGroupsSequence:
        ((image,),) = [
            derivation.SourceImageSequence
            for derivation in shared.get("DerivationImageSequence") or frame.DerivationImageSequence
        ]
        assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == identity
        assert "ReferencedFrameNumber" not in image
        assert image.PurposeOfReferenceCodeSequence[0].CodeMeaning.startswith("Source image")
    referred = {element.value for element in seg.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
    assert referred == {source.SOPInstanceUID}


def new_uids(seg):
    return {
        "instance": seg.SOPInstanceUID,
        "series": seg.SeriesInstanceUID,
        "dimensions": seg.DimensionOrganizationSequence[0].DimensionOrganizationUID,
        **{segment.SegmentLabel: segment.TrackingUID for segment in seg.SegmentSequence},
    }


def test_its_own_uids_are_valid_and_new_in_every_call(tmp_path):
    source = header()
    first, second = (new_uids(written(tmp_path, MASK, [source], [LUNG, HEART])) for _ in range(2))
    assert all(uid.is_valid and 0 < len(uid) <= 64 for uid in [*first.values(), *second.values()])
    assert len({*first.values(), *second.values()}) == 2 * len(first)
    assert not {source.SOPInstanceUID, source.SeriesInstanceUID, source.StudyInstanceUID} & {*first.values()}
    seg = written(tmp_path)
    assert seg.file_meta.MediaStorageSOPInstanceUID == seg.SOPInstanceUID


def test_segments_are_coded_as_in_the_table_and_say_which_algorithm_made_them(tmp_path):
    seg = written(tmp_path, BOTH, segments=[LUNG, HEART])
    for number, (segment, wanted) in enumerate(zip(seg.SegmentSequence, [LUNG, HEART], strict=True), start=1):
        assert (segment.SegmentNumber, segment.SegmentLabel) == (number, wanted.name)
        for code, expected in [
            (segment.SegmentedPropertyCategoryCodeSequence[0], wanted.category),
            (segment.SegmentedPropertyTypeCodeSequence[0], wanted.type),
        ]:
            found = (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)
            assert found == (expected.value, expected.scheme, expected.meaning)
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("lung_xray", "0.3.1")
        assert algorithm.AlgorithmSource == "clinibundle"
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
        assert ALGORITHM.weights_sha256 in algorithm.AlgorithmParameters
    assert seg.SoftwareVersions == "0.1.9"


def test_it_is_a_binary_derived_image_for_research(tmp_path):
    seg = written(tmp_path)
    assert (seg.Modality, seg.SegmentationType, list(seg.ImageType)) == ("SEG", "BINARY", ["DERIVED", "PRIMARY"])
    assert (seg.BitsAllocated, seg.BitsStored, seg.HighBit) == (1, 1, 0)
    assert seg.LossyImageCompression == "00"
    assert "research only" in seg.SeriesDescription


@pytest.mark.parametrize(("number", "expected"), [(3, 9003), (None, 9000), (12_345, 9345), ("", 9000)])
def test_its_series_number_follows_the_sources(tmp_path, number, expected):
    assert written(tmp_path, sources=[header(SeriesNumber=number)]).SeriesNumber == expected


PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "4711",
    "PatientBirthDate": "19441231",
    "PatientSex": "F",
    "PatientAge": "079Y",
    "PatientWeight": "61.5",
    "StudyDate": "20240229",
    "StudyTime": "235959.123",
    "AccessionNumber": "A-1",
    "StudyID": "S-1",
    "StudyDescription": "Thorax",
    "ReferringPhysicianName": "Who^D",
}


def test_the_patient_and_the_study_are_copied(tmp_path):
    seg = written(tmp_path, sources=[header(**PATIENT)])
    assert {keyword: str(seg[keyword].value) for keyword in PATIENT} == PATIENT
    assert seg.PatientOrientation == ["L", "F"]


def test_nothing_is_invented_where_the_source_does_not_know_the_patient(tmp_path):
    seg = written(tmp_path, sources=[header(**WITHOUT_PATIENT)])
    for keyword in WITHOUT_PATIENT:
        assert keyword in seg
        assert not seg[keyword].value
    known = {element.keyword for element in header(**WITHOUT_PATIENT)} | set(WITHOUT_PATIENT)
    of_patient = {e.keyword for e in seg if e.keyword.startswith(("Patient", "Study", "Clinical", "Institution"))}
    assert of_patient <= known


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientAge", "81"),
        ("PatientAge", "081y"),
        ("PatientBirthDate", "1980-01-31"),
        ("PatientBirthDate", "19801399"),
        ("PatientSex", "male"),
        ("PatientSex", "f"),
        ("StudyDate", "20230229"),
        ("StudyTime", "123"),
        ("StudyTime", "12:30"),
        ("StudyTime", "2460"),
    ],
)
def test_values_of_the_wrong_form_are_dropped_rather_than_passed_on(tmp_path, keyword, value):
    seg = written(tmp_path, sources=[header(**{keyword: value})])
    assert not seg.get(keyword)
    assert dciodvfy_errors(tmp_path / "segmentation.dcm") == []


@pytest.mark.parametrize("keyword", ["PatientWeight", "PatientSize"])
def test_a_weight_or_size_that_is_no_number_is_dropped(tmp_path, keyword):
    path = save(film(**{keyword: "12345678"}), tmp_path / "film")
    path.write_bytes(path.read_bytes().replace(b"12345678", b"heavy   "))
    assert keyword not in written(tmp_path, sources=[instance(path).header])
    assert dciodvfy_errors(tmp_path / "segmentation.dcm") == []


@pytest.mark.parametrize("spacing", [[0, 0], [-1, 1], ["nan", "nan"], ["0.2"], [1, 1, 1], ""])
def test_an_impossible_pixel_spacing_is_dropped(tmp_path, spacing):
    seg = written(tmp_path, sources=[header(PixelSpacing=spacing, SliceThickness="1")])
    assert "PixelSpacing" not in {element.keyword for element in seg.iterall()}


@pytest.mark.parametrize("orientation", ["L", ["X", "Y"], ["L", "F", "H"], "", None])
def test_an_impossible_patient_orientation_is_left_empty(tmp_path, orientation):
    seg = written(tmp_path, sources=[header(PatientOrientation=orientation)])
    assert "PatientOrientation" in seg
    assert not seg.PatientOrientation
    assert dciodvfy_errors(tmp_path / "segmentation.dcm") == []


def test_a_film_with_a_frame_of_reference_keeps_its_patient_orientation(tmp_path):
    seg = written(tmp_path, sources=[header(FrameOfReferenceUID=generate_uid())])
    assert seg.PatientOrientation == ["L", "F"]
    assert dciodvfy_errors(tmp_path / "segmentation.dcm") == []


@pytest.mark.parametrize(
    ("character_set", "name", "expected"),
    [
        ("ISO_IR 100", "Müller^Zoë", "ISO_IR 100"),
        ("ISO_IR 192", "Müller^Zoë", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "ISO_IR 192"),
        ("ISO-IR 100", "Müller^Zoë", "ISO_IR 192"),
        ("", "Doe^Jane", "ISO_IR 192"),
        (None, "Doe^Jane", None),
    ],
)
def test_names_of_all_alphabets_come_through(tmp_path, character_set, name, expected):
    path = save(film(SpecificCharacterSet=character_set, PatientName=name), tmp_path / "film")
    seg = written(tmp_path, sources=[instance(path).header])
    assert str(seg.PatientName) == name
    assert seg.get("SpecificCharacterSet") == expected
    assert dciodvfy_errors(tmp_path / "segmentation.dcm") == []


def test_completing_a_header_leaves_the_source_as_it_was():
    source = header(**ODD_VALUES)
    before = source.to_json()
    assert completed(source) is not source
    assert source.to_json() == before


@pytest.mark.parametrize("label_map", [MASK, EMPTY], ids=["lungs", "empty"])
@pytest.mark.parametrize("odd", [{}, WITHOUT_PATIENT, ODD_VALUES], ids=["sound", "without patient", "odd values"])
@pytest.mark.parametrize("kind", [{}, {"SOPClassUID": CR, "Modality": "CR"}, {"SOPClassUID": SECONDARY_CAPTURE}])
def test_dciodvfy_finds_no_error(tmp_path, kind, odd, label_map):
    (source,) = read_film(film(**kind, **odd), tmp_path).source.datasets
    written(tmp_path, label_map, [source])
    assert dciodvfy_errors(tmp_path / "segmentation.dcm") == []


def test_dciodvfy_finds_no_error_in_two_segments(tmp_path):
    written(tmp_path, BOTH, segments=[LUNG, HEART])
    assert dciodvfy_errors(tmp_path / "segmentation.dcm") == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_source_that_nothing_can_refer_to_is_refused(tmp_path, keyword, value):
    source = header()
    if value is None:
        del source[keyword]
    else:
        setattr(source, keyword, value)
    with pytest.raises(OutputError, match=f"its header has no {keyword}"):
        write_seg(tmp_path / "s.dcm", MASK[np.newaxis], SourceGrid([source]), [LUNG], ALGORITHM)
    assert not (tmp_path / "s.dcm").exists()


def test_a_source_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"no DICOM SEG can be made for this source \(KeyError\)"):
        written(tmp_path, sources=[header(SOPClassUID="1.2.3.4.5")])


def test_a_mask_of_another_size_than_its_source_is_refused(tmp_path):
    with pytest.raises(OutputError, match="no DICOM SEG can be made"):
        written(tmp_path, MASK[:-1])


def altered(path, change):
    seg = pydicom.dcmread(path)
    change(seg)
    seg.save_as(path)


def flip_one_bit(seg):
    pixels = bytearray(seg.PixelData)
    pixels[len(pixels) // 2] ^= 0b100
    seg.PixelData = bytes(pixels)


def refer_to_another_film(seg):
    for element in seg.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            element.value = generate_uid()


def exchange_segments(seg):
    numbers = [group.SegmentIdentificationSequence[0] for group in seg.PerFrameFunctionalGroupsSequence]
    numbers[0].ReferencedSegmentNumber, numbers[1].ReferencedSegmentNumber = 2, 1


def lose_pixels(seg):
    seg.PixelData = seg.PixelData[:100]


@pytest.mark.parametrize("change", [flip_one_bit, refer_to_another_film, exchange_segments, lose_pixels])
def test_a_seg_that_differs_from_what_was_meant_is_found(tmp_path, change):
    source = header()
    seg = written(tmp_path, BOTH, [source], [LUNG, HEART])
    path = tmp_path / "segmentation.dcm"
    masks = BOTH[np.newaxis]
    assert seg.Rows == ROWS
    compare_with_written(path, masks, SourceGrid([source]), 2)
    altered(path, change)
    with pytest.raises(OutputError, match=r"(differs from the mask|cannot be read back).*nothing was kept"):
        compare_with_written(path, masks, SourceGrid([source]), 2)


def test_a_flipped_bit_is_found_in_its_frame(tmp_path):
    source = header()
    written(tmp_path, MASK, [source])
    altered(tmp_path / "segmentation.dcm", flip_one_bit)
    with pytest.raises(OutputError, match="frame 1 does not show the mask of source frame 1"):
        compare_with_written(tmp_path / "segmentation.dcm", MASK[np.newaxis], SourceGrid([source]), 1)


def test_a_label_that_the_table_does_not_name_is_refused(tmp_path):
    with pytest.raises(OutputError, match="label 2 has no row in the bundle's table of segments"):
        written(tmp_path, BOTH, segments=[LUNG])
