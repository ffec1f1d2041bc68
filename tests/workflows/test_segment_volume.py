"""segment on CT: the outline lies where the thing lies in the patient, by every file and by independent readers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError, GeometryError, UnsuitableInput, UsageError
from clinibundle.workflows.read_input import DicomOptions
from clinibundle.workflows.segment import SegmentOptions, segment
from command_line import Program
from dicom.made_volumes import enhanced, save, save_all
from made_ball import BALL_HU, PATIENT, RADIUS_MM, axial, ball, ball_series, centre_of, save_ball
from toy_bundle import make_toy_volume_bundle

QUIET = Talk(quiet=True)
VOLUME_ML = 4 / 3 * np.pi * RADIUS_MM**3 / 1000
# Half a voxel along each axis is what a ball cut into voxels may be off by; its mean is off by less.
CLOSE_MM = 0.4
MEASUREMENTS = {
    "measurements": [
        {
            "key": "volume_ml",
            "concept": {"value": "118565006", "scheme": "SCT", "meaning": "Volume"},
            "unit": {"value": "mL", "scheme": "UCUM", "meaning": "milliliter"},
        },
        {
            "key": "mean_hu",
            "concept": {"value": "112031", "scheme": "DCM", "meaning": "Attenuation Coefficient"},
            "unit": {"value": "[hnsf'U]", "scheme": "UCUM", "meaning": "Hounsfield unit"},
            "derivation": {"value": "373098007", "scheme": "SCT", "meaning": "Mean"},
        },
    ]
}


def with_dicom(root: Path, **changes: Any) -> Bundle:
    """The bundle of that folder with other wishes."""
    path = root / "configs" / "dicom.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, sort_keys=False))
    return Bundle(root)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """It calls bright what lies above 0 HU, in CT of any plane, and reports what it measures."""
    root = make_toy_volume_bundle(tmp_path_factory.mktemp("bundle") / "toy_ct")
    rules = [
        {"name": "modality", "keywords": ["Modality"], "accept": ["CT"], "missing": "refused"},
        {"name": "slices", "keywords": ["slices"], "at_least": 2},
    ]
    return with_dicom(root, rules=rules, measurements=MEASUREMENTS)


@pytest.fixture
def picky(tmp_path: Path) -> Path:
    """The folder of the toy bundle, whose wishes a test may change."""
    return make_toy_volume_bundle(tmp_path / "toy_ct")


def run(bundle: Bundle, path: Path, out: Path, dicom: DicomOptions | None = None, **options: Any) -> dict[str, Any]:
    segment(bundle, path, out, SegmentOptions(dicom=dicom or DicomOptions(), device="cpu", **options), QUIET)
    return json.loads((out / "measurements.json").read_text())


# Where the ball is found


def filled_pixels(seg: Dataset) -> Iterator[tuple[Dataset, np.ndarray]]:
    """Each frame's functional groups and its filled pixels (row, column), out of the bytes of a SEG."""
    shape = (int(seg.NumberOfFrames), int(seg.Rows), int(seg.Columns))
    if seg.BitsAllocated == 1:
        stored = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little", count=int(np.prod(shape)))
    else:
        stored = np.frombuffer(seg.PixelData, np.uint8, int(np.prod(shape)))
    half = seg.MaximumFractionalValue / 2 if seg.SegmentationType == "FRACTIONAL" else 0
    for groups, frame in zip(seg.PerFrameFunctionalGroupsSequence, stored.reshape(shape), strict=True):
        yield groups, np.argwhere(frame > half)


def centre_in_seg(path: Path) -> np.ndarray:
    """Mean place of all filled pixels, by PS3.3 C.7.6.2.1.1 and nothing but pydicom."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    places = []
    for groups, pixels in filled_pixels(seg):
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        places += [corner + axes[0] * column_mm * column + axes[1] * row_mm * row for row, column in pixels]
    return np.mean(places, axis=0)


def centre_by_itk(path: Path) -> np.ndarray:
    import itk

    image = itk.imread(str(path))
    found = np.argwhere(itk.array_from_image(image) > 0)[:, ::-1]
    return np.mean([image.TransformIndexToPhysicalPoint([int(i) for i in index]) for index in found], axis=0)


def centre_in_nifti(path: Path) -> np.ndarray:
    image = nibabel.load(path)
    inside = np.argwhere(np.asarray(image.dataobj) > 0)
    right, front, up = (image.affine @ [*inside.mean(axis=0), 1])[:3]
    return np.array([-right, -front, up])


def as_slices(affine: np.ndarray, folder: Path) -> Path:
    return save_ball(folder, affine)


def as_one_file(affine: np.ndarray, folder: Path) -> Path:
    return save(enhanced(ball(affine), affine, order=[5, *range(5), *range(6, 12)], **PATIENT), folder / "IM1")


PLACES = {
    "axial": (as_slices, axial()),
    "oblique": (as_slices, axial(turn=(20, -15, 25))),
    "coronal": (as_slices, axial(turn=(90, 0, 0))),
    "feet first": (as_slices, axial(turn=(0, 180, 0))),
    "prone": (as_slices, axial(turn=(0, 0, 180))),
    "multi-frame": (as_one_file, axial(turn=(20, -15, 25))),
    "tilted gantry": (as_slices, axial(shear=(0, 0.9))),
    "tilted and turned": (as_slices, axial(turn=(10, 5, -40), shear=(0.2, 0.7))),
}


@pytest.mark.parametrize(("form", "affine"), PLACES.values(), ids=PLACES)
def test_a_ball_is_found_where_it_lies_in_the_patient(
    bundle: Bundle, tmp_path: Path, form: Any, affine: np.ndarray
) -> None:
    truth = centre_of(affine)
    found = run(bundle, form(affine, tmp_path / "study"), tmp_path / "out", DicomOptions(correct_tilt=True))
    (finding,) = found["findings"]
    np.testing.assert_allclose(centre_in_seg(tmp_path / "out" / "segmentation.dcm"), truth, atol=CLOSE_MM)
    np.testing.assert_allclose(centre_in_nifti(tmp_path / "out" / "mask.nii.gz"), truth, atol=CLOSE_MM)
    np.testing.assert_allclose(finding["centroid_lps_mm"], truth, atol=CLOSE_MM)
    tilted = any(check["name"] == "straightened" for check in found["checks"])
    assert tilted == (np.abs(affine[:3, :2].T @ affine[:3, 2]).max() > 0.01)
    if not tilted:
        np.testing.assert_allclose(centre_by_itk(tmp_path / "out" / "segmentation.dcm"), truth, atol=CLOSE_MM)
    # Straightening blurs the ball's edge, and half of an edge towards air lies below 0 HU.
    assert finding["volume_ml"] == pytest.approx(VOLUME_ML, rel=0.12 if tilted else 0.03)
    assert finding["mean_hu"] == pytest.approx(BALL_HU, abs=0 if not tilted else 120)


@pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
def test_every_kind_of_seg_holds_the_ball_at_its_place(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    affine = axial(turn=(20, -15, 25))
    run(bundle, save_ball(tmp_path / "study", affine), tmp_path / "out", seg_kind=kind)
    path = tmp_path / "out" / "segmentation.dcm"
    assert pydicom.dcmread(path).SegmentationType == kind.upper()
    np.testing.assert_allclose(centre_in_seg(path), centre_of(affine), atol=CLOSE_MM)


# What is written


@pytest.fixture(scope="module")
def done(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study and what was made of it in `out`."""
    folder = tmp_path_factory.mktemp("done")
    run(bundle, save_ball(folder / "study"), folder / "out")
    return folder


def test_what_lies_in_the_output(done: Path) -> None:
    assert {path.name for path in (done / "out").iterdir()} == {
        "segmentation.dcm", "measurements.dcm", "key_image_001.dcm", "key_image_002.dcm", "key_image_003.dcm",
        "mask.nii.gz", "measurements.json", "report.html",
    }  # fmt: skip


def test_the_source_and_its_checks_are_in_the_measurements(done: Path) -> None:
    found = json.loads((done / "out" / "measurements.json").read_text())
    slices = [pydicom.dcmread(path) for path in (done / "study").iterdir()]
    slices.sort(key=lambda header: header.ImagePositionPatient[2])
    assert found["source"] == {
        "kind": "dicom",
        "shape": [12, 40, 48],
        "spacing_mm": [2.5, 1.1, 0.8],
        "sop_instance_uids": [header.SOPInstanceUID for header in slices],
    }
    names = {check["name"]: check["status"] for check in found["checks"]}
    assert names["slice_spacing"] == names["gantry_tilt"] == names["slice_order"] == names["units"] == "passed"
    assert names["pixel_spacing"] == "warning"


def test_the_seg_belongs_to_the_patient_and_refers_to_the_slices_it_lies_on(done: Path) -> None:
    seg = pydicom.dcmread(done / "out" / "segmentation.dcm")
    by_uid = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, (done / "study").iterdir())}
    first = next(iter(by_uid.values()))
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
        assert seg[keyword].value == first[keyword].value
    assert seg.SeriesInstanceUID != first.SeriesInstanceUID
    (referenced,) = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == first.SeriesInstanceUID
    filled = 0
    for groups, pixels in filled_pixels(seg):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        header = by_uid[source.ReferencedSOPInstanceUID]
        np.testing.assert_allclose(
            np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float), header.ImagePositionPatient
        )
        bright = np.frombuffer(header.PixelData, "<i2").reshape(header.Rows, header.Columns) > 0
        np.testing.assert_array_equal(pixels, np.argwhere(bright))
        filled += len(pixels)
    assert filled == (ball(axial()) > 0).sum()


def numbers_in(report: Dataset) -> Iterator[tuple[str, float]]:
    """Code and value of every number in the tree of a structured report."""
    for item in report.get("ContentSequence", ()):
        if item.ValueType == "NUM":
            yield item.ConceptNameCodeSequence[0].CodeValue, float(item.MeasuredValueSequence[0].NumericValue)
        yield from numbers_in(item)


def test_the_structured_report_says_what_measurements_json_says(done: Path) -> None:
    (finding,) = json.loads((done / "out" / "measurements.json").read_text())["findings"]
    report = pydicom.dcmread(done / "out" / "measurements.dcm")
    assert dict(numbers_in(report)) == {
        "118565006": pytest.approx(finding["volume_ml"]),
        "112031": pytest.approx(finding["mean_hu"]),
    }
    seg = pydicom.dcmread(done / "out" / "segmentation.dcm")
    assert str(seg.SOPInstanceUID) in str(report)


def test_key_images_show_slices_that_the_ball_lies_in(done: Path) -> None:
    by_uid = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, (done / "study").iterdir())}
    shown = []
    for path in sorted((done / "out").glob("key_image_*.dcm")):
        image = pydicom.dcmread(path)
        (source,) = image.SourceImageSequence
        height = float(by_uid[source.ReferencedSOPInstanceUID].ImagePositionPatient[2])
        assert abs(height - centre_of(axial())[2]) <= RADIUS_MM
        number = round((height - axial()[2, 3]) / 2.5) + 1
        assert image.ImageComments == f"slice {number} of 12 with the outline that was found"
        pixels = image.pixel_array.astype(int)
        # The outline is drawn in the bundle's colour, a red.
        assert (pixels[..., 0] - pixels[..., 1] > 100).any()
        shown.append(number)
    assert len(set(shown)) == 3


def test_the_report_is_one_page_with_pictures_and_the_numbers(done: Path) -> None:
    page = (done / "out" / "report.html").read_text()
    assert page.count("data:image/png") >= 6
    assert "48 × 40 × 12" in page and "0.8 × 1.1 × 2.5 mm" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_the_same_volume_as_nifti_gives_the_same_mask(bundle: Bundle, done: Path, tmp_path: Path) -> None:
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ axial()
    nibabel.save(nibabel.Nifti1Image(ball(axial()).T, ras), tmp_path / "ct.nii.gz")
    found = run(bundle, tmp_path / "ct.nii.gz", tmp_path / "out")
    masks = [nibabel.load(folder / "out" / "mask.nii.gz") for folder in (done, tmp_path)]
    np.testing.assert_array_equal(*(np.asarray(mask.dataobj) for mask in masks))
    np.testing.assert_allclose(masks[0].affine, masks[1].affine, atol=1e-4)
    np.testing.assert_allclose(found["findings"][0]["centroid_lps_mm"], centre_of(axial()), atol=CLOSE_MM)


def test_nothing_found_is_an_answer(bundle: Bundle, tmp_path: Path) -> None:
    made = ball_series()
    for dataset in made:
        dataset.PixelData = np.full((40, 48), -900, "<i2").tobytes()
    found = run(bundle, save_all(made, tmp_path / "study"), tmp_path / "out")
    (finding,) = found["findings"]
    assert (finding["voxels"], finding["volume_ml"], finding["centroid_lps_mm"]) == (0, 0, None)
    assert not any(len(pixels) for _, pixels in filled_pixels(pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")))
    assert list(numbers_in(pydicom.dcmread(tmp_path / "out" / "measurements.dcm"))) == []


# The input


def state(folder: Path) -> dict[str, Any]:
    """Every path below a folder with its time, and its content if it is a file; the folder itself too."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest() if path.is_file() else None)
        for path in (folder, *folder.rglob("*"))
    }


def disc(folder: Path, missing: int = 0) -> Path:
    files = FileSet()
    for dataset in ball_series():
        files.add(dataset)
    files.write(folder)
    for path in sorted(p for p in folder.rglob("IM*") if p.is_file())[12 - missing :]:
        path.unlink()
    return folder


@pytest.mark.parametrize("missing", [0, 2])
def test_a_disc_is_read_by_its_dicomdir_and_told_if_it_is_incomplete(
    bundle: Bundle, tmp_path: Path, missing: int
) -> None:
    before = state(disc(tmp_path / "cd", missing))
    for path in (tmp_path / "cd", tmp_path / "cd" / "DICOMDIR"):
        found = run(bundle, path, tmp_path / "out", overwrite=True)
        warnings = {c["name"]: c["value"] for c in found["checks"] if c["status"] == "warning"}
        assert warnings == {"pixel_spacing": [1.1, 0.8], **({"missing_files": missing} if missing else {})}
        assert found["source"]["shape"][0] == 12 - missing
    assert state(tmp_path / "cd") == before


def test_nothing_is_written_beside_a_dicomdir(bundle: Bundle, tmp_path: Path) -> None:
    before = state(disc(tmp_path / "cd"))
    with pytest.raises(UsageError, match="never written to"):
        run(bundle, tmp_path / "cd" / "DICOMDIR", tmp_path / "cd" / "out")
    assert state(tmp_path / "cd") == before


# Which volume is taken


def two_series(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Two series of one study; their UIDs."""
    uids = []
    for name, changes in (("a", first), ("b", second)):
        affine = changes.pop("affine", axial())
        made = ball_series(affine, StudyInstanceUID="1.2.3", **changes)
        uids.append(str(made[0].SeriesInstanceUID))
        save_all(made, folder / name)
    return uids


def thick() -> np.ndarray:
    affine = axial()
    affine[:3, 2] *= 2
    return affine


def test_the_finer_series_is_preferred_and_the_other_explained(picky: Path, tmp_path: Path) -> None:
    coarse, fine = two_series(tmp_path / "study", {"affine": thick()}, {})
    found = run(Bundle(picky), tmp_path / "study", tmp_path / "out")
    assert found["source"]["spacing_mm"][0] == 2.5
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"…{coarse[-8:]}" in page and f"…{fine[-8:]}" in page
    assert "slice_spacing_mm is 2.5" in page
    run(Bundle(picky), tmp_path / "study", tmp_path / "other", DicomOptions(series=coarse))
    other = json.loads((tmp_path / "other" / "measurements.json").read_text())
    assert other["source"]["spacing_mm"][0] == 5


def rule(keyword: str, **limits: Any) -> dict[str, Any]:
    return {"rules": [{"name": "it", "keywords": [keyword], **limits}]}


RULED_OUT = {
    "too thick": (
        rule("slice_spacing_mm", at_most=2, why="small things"),
        r"slice_spacing_mm is 2\.5, expected at most 2 \(small things\)",
    ),
    "too few": (rule("slices", at_least=20), "slices is 12, expected at least 20"),
    "too short": (rule("coverage_mm", at_least=100), "coverage_mm is 30, expected at least 100"),
    "too coarse": (rule("pixel_spacing_mm", at_most=1), r"pixel_spacing_mm is 1\.1, expected at most 1"),
    "plane": (rule("plane", accept=["coronal"]), "plane is axial, expected coronal"),
    "kernel": (rule("ConvolutionKernel", refuse_words=["B30f"]), "ConvolutionKernel says 'B30f'"),
    "score": ({"minimum_score": 9}, r"nothing fits well: the best, series [\d.]+, has a score of \d+ where 9 is"),
}


@pytest.mark.parametrize(("wishes", "words"), RULED_OUT.values(), ids=RULED_OUT)
def test_a_volume_that_the_bundle_does_not_want_is_refused(
    picky: Path, tmp_path: Path, wishes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsuitableInput, match=words):
        run(with_dicom(picky, **wishes), save_ball(tmp_path / "study"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_low_score_is_taken_if_the_user_names_the_series(picky: Path, tmp_path: Path) -> None:
    made = ball_series()
    save_all(made, tmp_path / "study")
    series = str(made[0].SeriesInstanceUID)
    run(with_dicom(picky, minimum_score=9), tmp_path / "study", tmp_path / "out", DicomOptions(series=series))


def test_a_tie_is_refused_with_the_list(picky: Path, tmp_path: Path) -> None:
    uids = two_series(tmp_path / "study", {}, {})
    with pytest.raises(UnsuitableInput, match="2 series fit equally well; choose one with --series: ") as refused:
        run(Bundle(picky), tmp_path / "study", tmp_path / "out")
    assert all(uid in str(refused.value) for uid in uids)


def test_a_volume_within_a_series_is_chosen_by_its_number(picky: Path, tmp_path: Path) -> None:
    one, other = ball_series(), ball_series(AcquisitionNumber=2, InstanceNumber=lambda number: 100 + number)
    for first, second in zip(one, other, strict=True):
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(second, keyword, first[keyword].value)
    save_all(one + other, tmp_path / "study")
    key = f"{one[0].SeriesInstanceUID}#2"
    with pytest.raises(UnsuitableInput, match=f"2 volumes fit equally well.*{key}"):
        run(Bundle(picky), tmp_path / "study", tmp_path / "out")
    found = run(Bundle(picky), tmp_path / "study", tmp_path / "out", DicomOptions(series=key))
    assert found["source"]["sop_instance_uids"] == [str(dataset.SOPInstanceUID) for dataset in other]


def without_a_slice(folder: Path) -> Path:
    save_ball(folder)
    (folder / "IM0005").unlink()
    return folder


REFUSED = {
    "missing slice": (without_a_slice, GeometryError, "at least 1 slice is missing"),
    "tilt": (lambda f: save_ball(f, axial(shear=(0, 1))), GeometryError, "add --correct-tilt"),
    "other units": (lambda f: save_ball(f, RescaleType="OD"), UnsuitableInput, "this bundle needs Hounsfield units"),
    "no rescale": (
        lambda f: save_ball(f, RescaleIntercept=None), UnsuitableInput, "this bundle needs Hounsfield units",
    ),
    "scout": (
        lambda f: save_ball(f, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), UnsuitableInput, "says 'LOCALIZER'",
    ),
    "mr": (lambda f: save_ball(f, Modality="MR"), UnsuitableInput, "Modality is MR, expected CT"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_leaves_nothing_and_the_input_as_it_was(
    picky: Path, tmp_path: Path, make: Any, error: type[ClinibundleError], words: str
) -> None:
    make(tmp_path / "study")
    before = state(tmp_path / "study")
    with pytest.raises(error, match=words):
        run(Bundle(picky), tmp_path / "study", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study", "toy_ct"]
    assert state(tmp_path / "study") == before


def test_of_several_studies_one_refused_does_not_stop_the_rest(picky: Path, tmp_path: Path) -> None:
    save_ball(tmp_path / "studies" / "sound")
    without_a_slice(tmp_path / "studies" / "broken")
    options = SegmentOptions(dicom=DicomOptions(every_study=True), device="cpu")
    outcomes = segment(Bundle(picky), tmp_path / "studies", tmp_path / "out", options, QUIET)
    assert sorted(bool(outcome.refusal) for outcome in outcomes) == [False, True]
    (refused,) = (outcome for outcome in outcomes if outcome.refusal)
    assert not (tmp_path / "out" / refused.case).exists()
    assert "at least 1 slice is missing" in (tmp_path / "out" / "summary.csv").read_text()


def test_lesions_are_rows_of_their_own_and_what_has_no_meaning_for_them_all_is_a_dash(
    tmp_path: Path, clinibundle: Program
) -> None:
    root = make_toy_volume_bundle(tmp_path / "toy_ct")
    changes = {
        "measure": {"findings": [{"label": 1, "name": "bright", "lesions": {}}]},
        "report": {"columns": [{"key": "longest_axial_diameter_mm", "heading": "Diameter", "format": ".2f"}]},
    }
    for name, values in changes.items():
        path = root / "configs" / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}, sort_keys=False))
    scan = np.full((16, 12, 5), -1000, np.int16)
    scan[2:6, 3:6, 2] = 300
    scan[10:12, 3:5, 4] = 300
    nibabel.save(nibabel.Nifti1Image(scan, np.eye(4)), tmp_path / "scan.nii.gz")
    ran = clinibundle("segment", root, tmp_path / "scan.nii.gz", "-o", tmp_path / "out")
    lines = [line.split() for line in ran.out.splitlines() if line.startswith("scan")]
    # From corner to corner of 4 x 3 and of 2 x 2 pixels of a millimetre.
    assert [line[1:-1] for line in lines] == [["bright", "–"], ["bright", "1", "5.00"], ["bright", "2", "2.83"]]
    found = json.loads((tmp_path / "out" / "measurements.json").read_text())
    assert found["findings"][0]["lesions"] == 2
    # The second lies in the last slice.
    assert [c["value"] for c in found["checks"] if c["name"] == "lesion_at_border"] == ["bright 2"]
