from __future__ import annotations

import csv
import json
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from PIL import Image

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_bundle
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError, OutputError, UnreadableInput, UnsuitableInput, UsageError
from clinibundle.workflows.read_input import DicomOptions
from clinibundle.workflows.segment import SegmentOptions, segment

QUIET = Talk(quiet=True)


@pytest.fixture(scope="module")
def lungs() -> Bundle:
    return Bundle(find_bundle("lung_xray"))


def run(bundle: Bundle, path: Path, out: Path, **options: object) -> dict[str, object]:
    segment(bundle, path, out, SegmentOptions(device="cpu", **options), QUIET)
    return json.loads((out / "measurements.json").read_text())


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_dicom_study_gives_seg_mask_measurements_and_report(lungs: Bundle, phantoms: Path, tmp_path: Path) -> None:
    study = phantoms / "dicom" / "phantom-000"
    found = run(lungs, study, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "segmentation.dcm", "measurements.dcm", "key_image_001.dcm", "mask.png", "measurements.json", "report.html",
    }  # fmt: skip
    truth = np.asarray(Image.open(phantoms / "labels" / "phantom-000.png")) > 0
    mask = np.asarray(Image.open(tmp_path / "out" / "mask.png"))
    assert set(np.unique(mask)) == {0, 1}
    assert dice(mask > 0, truth) > 0.95
    film = pydicom.dcmread(study / "IM0001")
    seg = highdicom.seg.segread(tmp_path / "out" / "segmentation.dcm")
    frames = seg.get_pixels_by_source_instance([film.SOPInstanceUID], ignore_spatial_locations=True)
    assert np.array_equal(frames[0, :, :, 0], mask)
    whole, right, left = found["findings"]
    assert [f["name"] for f in (whole, right, left)] == ["lung", "right lung", "left lung"]
    row_mm, column_mm = film.PixelSpacing
    assert whole["area_mm2"] == pytest.approx((mask > 0).sum() * row_mm * column_mm, rel=1e-4)
    assert right["voxels"] + left["voxels"] == whole["voxels"] == (mask > 0).sum()
    # The patient faces the viewer: the right lung is on the left of the picture.
    assert (mask[:, : mask.shape[1] // 2] > 0).sum() == pytest.approx(right["voxels"], rel=0.05)
    assert found["not_for_diagnostic_use"] is True and found["source"]["kind"] == "dicom"
    assert found["source"]["shape"] == list(mask.shape)


def test_the_mask_of_a_film_and_of_the_same_picture_file_are_the_same(
    lungs: Bundle, phantoms: Path, tmp_path: Path
) -> None:
    run(lungs, phantoms / "dicom" / "phantom-001" / "IM0001", tmp_path / "film")
    found = run(lungs, phantoms / "images" / "phantom-001.png", tmp_path / "picture")
    masks = [np.asarray(Image.open(tmp_path / kind / "mask.png")) for kind in ("film", "picture")]
    assert np.array_equal(*masks)
    assert found["findings"][0]["area_mm2"] is None
    assert not (tmp_path / "picture" / "segmentation.dcm").exists()


def test_a_report_names_nobody_unless_asked(lungs: Bundle, phantoms: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    film = pydicom.dcmread(phantoms / "dicom" / "phantom-000" / "IM0001")
    film.PatientName, film.PatientID, film.PatientBirthDate = "Quixote^Alonso", "LM-1605", "15470929"
    film.save_as(study / "IM0001")
    run(lungs, study, tmp_path / "anonymous")
    run(lungs, study, tmp_path / "named", identified=True)
    texts = [(tmp_path / kind / "report.html").read_text() for kind in ("anonymous", "named")]
    measurements = (tmp_path / "anonymous" / "measurements.json").read_text()
    for secret in ("Quixote", "Alonso", "LM-1605", "15470929"):
        assert secret not in texts[0] and secret not in measurements
    assert "Quixote" in texts[1]
    # The SEG belongs to the patient's study, so there the module is copied.
    assert pydicom.dcmread(tmp_path / "anonymous" / "segmentation.dcm").PatientID == "LM-1605"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: p.write_text("hello"), UnreadableInput, "neither DICOM nor a picture"),
        (lambda p: p.mkdir(), UnreadableInput, "the folder is empty"),
        (lambda p: p.write_bytes(b""), UnreadableInput, "neither DICOM nor a picture"),
        (lambda p: None, UnreadableInput, "there is nothing at"),
    ],
    ids=["text file", "empty folder", "empty file", "nothing"],
)
def test_what_cannot_be_read_is_refused_and_leaves_nothing(
    lungs: Bundle, tmp_path: Path, make: object, error: type[ClinibundleError], words: str
) -> None:
    make(tmp_path / "input")
    with pytest.raises(error, match=words):
        run(lungs, tmp_path / "input", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir() if p.name != "input"] == []


def changed_film(phantoms: Path, tmp_path: Path, **changes: object) -> Path:
    film = pydicom.dcmread(phantoms / "dicom" / "phantom-000" / "IM0001")
    for keyword, value in changes.items():
        if value is None:
            delattr(film, keyword)
        else:
            setattr(film, keyword, value)
    film.save_as(tmp_path / "film.dcm")
    return tmp_path / "film.dcm"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"Modality": "CT"}, UnsuitableInput, "Modality is CT, expected CR or DX"),
        ({"BodyPartExamined": "KNEE"}, UnsuitableInput, "BodyPartExamined is KNEE"),
        ({"ViewPosition": "LL"}, UnsuitableInput, "ViewPosition says 'LL'"),
        ({"SeriesDescription": "Thorax LATERAL"}, UnsuitableInput, "its description says 'lateral'"),
        ({"PatientOrientation": ["A", "F"]}, UnsuitableInput, "lateral view"),
        ({"PixelData": None}, UnreadableInput, "holds no pixels"),
        ({"PixelData": b"\0" * 100}, UnreadableInput, "is truncated"),
    ],
    ids=["ct", "knee", "lateral", "lateral by description", "lateral by orientation", "no pixels", "truncated"],
)
def test_what_must_not_be_segmented_is_refused_and_leaves_nothing(
    lungs: Bundle, phantoms: Path, tmp_path: Path, changes: dict[str, object], error: type[ClinibundleError], words: str
) -> None:
    film = changed_film(phantoms, tmp_path, **changes)
    with pytest.raises(error, match=words):
        run(lungs, film, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["film.dcm"]


def test_a_film_stored_mirrored_has_its_sides_named_rightly(lungs: Bundle, phantoms: Path, tmp_path: Path) -> None:
    usual = run(lungs, phantoms / "dicom" / "phantom-000", tmp_path / "usual")["findings"]
    mirrored = changed_film(phantoms, tmp_path, PatientOrientation=["R", "F"])
    found = run(lungs, mirrored, tmp_path / "mirrored")
    by_name = {f["name"]: f["voxels"] for f in found["findings"]}
    assert by_name["left lung"] == usual[1]["voxels"] and by_name["right lung"] == usual[2]["voxels"]
    assert "laterality" in [c["name"] for c in found["checks"] if c["status"] == "warning"]


def test_noise_is_marked_as_doubtful(lungs: Bundle, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    found = run(lungs, tmp_path / "noise.png", tmp_path / "out")
    assert {c["name"] for c in found["checks"] if c["status"] == "warning"} & {"lung_share", "confidence", "two_lungs"}


def test_a_full_output_folder_is_refused_before_any_work(lungs: Bundle, phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="is not empty; name another folder or add --overwrite"):
        run(lungs, phantoms / "images" / "phantom-000.png", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_the_input_folder_is_never_written_to(lungs: Bundle, phantoms: Path) -> None:
    with pytest.raises(UsageError, match="never written to"):
        run(lungs, phantoms / "images", phantoms / "images" / "out")


def test_a_folder_of_pictures_gives_a_folder_a_case_and_a_summary(
    lungs: Bundle, phantoms: Path, tmp_path: Path
) -> None:
    source = tmp_path / "films"
    source.mkdir()
    for name in ("phantom-000", "phantom-001"):
        (source / f"{name}.png").write_bytes((phantoms / "images" / f"{name}.png").read_bytes())
    (source / "broken.png").write_bytes(b"no picture")
    outcomes = segment(lungs, source, tmp_path / "out", SegmentOptions(device="cpu"), QUIET)
    assert [(o.case, o.refusal is None) for o in outcomes] == [
        ("broken", False), ("phantom-000", True), ("phantom-001", True),
    ]  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").open()))
    assert [row["status"] for row in rows] == ["refused", "done", "done"]
    assert "cannot be read as a picture" in rows[0]["reason"] and float(rows[1]["lung fraction"]) > 0.1
    assert not (tmp_path / "out" / "broken").exists()
    before = (tmp_path / "out" / "phantom-000" / "mask.png").stat().st_mtime_ns
    again = segment(lungs, source, tmp_path / "out", SegmentOptions(device="cpu", resume=True), QUIET)
    assert (tmp_path / "out" / "phantom-000" / "mask.png").stat().st_mtime_ns == before
    assert [o.findings for o in again] == [o.findings for o in outcomes]


def test_several_studies_are_refused_unless_all_are_wanted(lungs: Bundle, phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsuitableInput, match="series fit equally well; choose one with --series"):
        run(lungs, phantoms / "dicom", tmp_path / "out")
    outcomes = segment(
        lungs,
        phantoms / "dicom",
        tmp_path / "out",
        SegmentOptions(device="cpu", dicom=DicomOptions(every_study=True)),
        QUIET,
    )
    assert len(outcomes) == 6 and all(o.refusal is None for o in outcomes)


def test_the_best_of_a_study_is_taken_and_the_others_are_explained(
    lungs: Bundle, phantoms: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    study.mkdir()
    film = pydicom.dcmread(phantoms / "dicom" / "phantom-000" / "IM0001")
    film.save_as(study / "a")
    film.SOPInstanceUID, film.SeriesInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    film.ViewPosition = "LL"
    film.save_as(study / "b")
    found = run(lungs, study, tmp_path / "out")
    assert found["source"]["sop_instance_uids"] == [pydicom.dcmread(study / "a").SOPInstanceUID]
    assert "ViewPosition says &#39;LL&#39;" in (tmp_path / "out" / "report.html").read_text()
