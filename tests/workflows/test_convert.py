"""Series to NIfTI, outlines to label maps and back: held against dcm2niix, nibabel and pydicom, voxel by voxel."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from clinibundle.checks import Check
from clinibundle.console import Talk
from clinibundle.dicom.codes import Code, Segment
from clinibundle.errors import (
    ClinibundleError,
    GeometryError,
    OutputError,
    UnreadableInput,
    UnsuitableInput,
    UsageError,
)
from clinibundle.workflows.convert import Converted, ConvertOptions, convert
from dicom.made_volumes import enhanced, save, save_all
from made_ball import PATIENT, SHAPE, axial, ball, ball_series, centre_of, save_ball
from repository import ROOT

QUIET = Talk(quiet=True)
SHARED = ROOT.parent / "shared" / "data"
needs_collection = pytest.mark.skipif(not (SHARED / "dicom").is_dir(), reason="the shared data are not there")
needs_dcm2niix = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OBLIQUE = axial(turn=(20, -15, 25))
TILTED = axial(shear=(0, 1.3))


def run(path: Path, output: Path, **options: Any) -> Converted:
    return convert(path, output, ConvertOptions(**options), QUIET)


def check_of(done: Converted, name: str) -> Check:
    (found,) = (check for check in done.checks if check.name == name)
    return found


def by_dcm2niix(folder: Path, work: Path) -> Any:
    """The one NIfTI that dcm2niix makes of a folder, neither cut nor reordered."""
    work.mkdir()
    command = ["dcm2niix", "-f", "%s", "-z", "n", "-b", "n", "-l", "o", "-o", str(work), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = work.glob("*.nii")
    return nibabel.load(found)


def assert_same_voxels_at_the_same_places(ours: Any, theirs: Any) -> None:
    """Whichever way each is turned; dcm2niix keeps rows from bottom to top."""
    ours, theirs = nibabel.as_closest_canonical(ours), nibabel.as_closest_canonical(theirs)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=2e-3)
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))


REGULAR = [
    "dicom/made_ct_regular",
    "dicom/made_ct_reversed_numbers",
    "dicom/made_ct_rescale_varies",
    "dicom/made_ct_signed_padding",
    "lung_tumor_ct_dicom/PAT2",
]


@needs_collection
@needs_dcm2niix
@pytest.mark.parametrize("name", REGULAR)
def test_a_regular_series_is_as_dcm2niix_has_it(tmp_path: Path, name: str) -> None:
    run(SHARED / name, tmp_path / "ct.nii.gz")
    assert_same_voxels_at_the_same_places(
        nibabel.load(tmp_path / "ct.nii.gz"), by_dcm2niix(SHARED / name, tmp_path / "theirs")
    )


@needs_collection
def test_slices_whose_positions_are_rounded_lie_where_they_say_on_the_whole(tmp_path: Path) -> None:
    # dcm2niix takes the first step for all of them, and is 0.06 mm beside the last slice.
    series = SHARED / "dicom" / "made_ct_rounding"
    run(series, tmp_path / "ct.nii")
    affine = LPS_TO_RAS @ nibabel.load(tmp_path / "ct.nii").affine
    said = sorted((pydicom.dcmread(p).ImagePositionPatient for p in series.iterdir()), key=lambda place: place[2])
    for k, place in enumerate(said):
        np.testing.assert_allclose((affine @ [0, 0, k, 1])[:3], place, atol=0.01)


@needs_dcm2niix
@pytest.mark.parametrize("turn", [(0, 0, 0), (20, -15, 25), (90, 0, 0), (0, 90, 0), (180, 0, 0), (0, 180, 7)], ids=str)
def test_a_series_that_lies_any_way_is_as_dcm2niix_has_it(tmp_path: Path, turn: tuple[int, int, int]) -> None:
    study = save_ball(tmp_path / "study", axial(turn=turn), BodyPartExamined="CHEST")
    run(study, tmp_path / "ct.nii")
    assert_same_voxels_at_the_same_places(nibabel.load(tmp_path / "ct.nii"), by_dcm2niix(study, tmp_path / "theirs"))


@pytest.mark.parametrize("affine", [axial(), OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("form", ["slices", "multi-frame"])
def test_voxels_and_places_are_those_of_the_series(tmp_path: Path, affine: np.ndarray, form: str) -> None:
    if form == "slices":
        save_ball(tmp_path / "study", affine)
    else:
        save(enhanced(ball(affine), affine, order=[*range(11, -1, -1)], **PATIENT), tmp_path / "study" / "IM1")
    run(tmp_path / "study", tmp_path / "ct.nii.gz")
    image = nibabel.load(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, ball(affine))
    np.testing.assert_allclose(image.affine, LPS_TO_RAS @ affine, atol=1e-4)


def test_a_tilted_series_is_refused_and_straightened_if_asked(tmp_path: Path) -> None:
    study = save_ball(tmp_path / "study", TILTED)
    with pytest.raises(GeometryError, match="add --correct-tilt"):
        run(study, tmp_path / "ct.nii")
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
    done = run(study, tmp_path / "ct.nii", correct_tilt=True)
    assert check_of(done, "gantry_tilt").status == check_of(done, "straightened").status == "fixed"
    image = nibabel.load(tmp_path / "ct.nii")
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    inside = np.argwhere(np.asarray(image.dataobj) > -350)
    found = (LPS_TO_RAS @ image.affine @ [*inside.mean(axis=0), 1])[:3]
    np.testing.assert_allclose(found, centre_of(TILTED), atol=0.4)


# Which volume is meant


def with_a_scout(folder: Path) -> Path:
    made = ball_series()
    (scout, *_) = ball_series(axial(turn=(0, 90, 0)), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    scout.StudyInstanceUID = made[0].StudyInstanceUID
    return save_all([*made, scout], folder)


def test_a_scout_is_set_aside(tmp_path: Path) -> None:
    run(with_a_scout(tmp_path / "study"), tmp_path / "ct.nii")
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "ct.nii").dataobj).T, ball(axial()))


def test_a_scout_alone_is_refused(tmp_path: Path) -> None:
    save_ball(tmp_path / "study", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(UnsuitableInput, match="ImageType says 'LOCALIZER'"):
        run(tmp_path / "study", tmp_path / "ct.nii")


def two_series(folder: Path) -> list[str]:
    uids = []
    for name, extra in (("a", 0), ("b", 40)):
        made = ball_series(StudyInstanceUID="1.2.3", RescaleIntercept=extra)
        uids.append(str(made[0].SeriesInstanceUID))
        save_all(made, folder / name)
    return uids


def test_of_two_series_the_user_decides(tmp_path: Path) -> None:
    uids = two_series(tmp_path / "study")
    with pytest.raises(UnsuitableInput, match="2 series fit equally well; choose one with --series: ") as refused:
        run(tmp_path / "study", tmp_path / "ct.nii")
    assert all(uid in str(refused.value) for uid in uids)
    for uid, extra in zip(uids, (0, 40), strict=True):
        run(tmp_path / "study", tmp_path / "ct.nii", series=uid, overwrite=True)
        assert np.asarray(nibabel.load(tmp_path / "ct.nii").dataobj).max() == 300 + extra


def a_gap_beside_a_sound_one(folder: Path) -> list[str]:
    uids = two_series(folder)
    (folder / "a" / "IM0005").unlink()
    return uids


def a_slice_of_another_size(folder: Path) -> list[str]:
    """What is left of the series has a gap, and the odd slice alone would make a sound volume."""
    made = ball_series()
    made[5].Rows, made[5].PixelData = 20, made[5].PixelData[: 20 * 48 * 2]
    save_all(made, folder)
    return [f"{made[0].SeriesInstanceUID}#{number}" for number in (1, 2)]


@pytest.mark.parametrize("make", [a_gap_beside_a_sound_one, a_slice_of_another_size])
def test_a_faulty_volume_is_no_reason_to_take_another_in_silence(tmp_path: Path, make: Any) -> None:
    keys = make(tmp_path / "study")
    with pytest.raises(UnsuitableInput, match="2 volumes could be meant; choose one with --series") as refused:
        run(tmp_path / "study", tmp_path / "ct.nii")
    assert all(key in str(refused.value) for key in keys)
    faulty, sound = keys
    with pytest.raises(GeometryError, match="at least 1 slice is missing"):
        run(tmp_path / "study", tmp_path / "ct.nii", series=faulty)
    run(tmp_path / "study", tmp_path / "ct.nii", series=sound)


def test_a_dose_page_is_nobodys_volume(tmp_path: Path) -> None:
    made = ball_series()
    (page, *_) = ball_series(ImagePositionPatient=None, ImageOrientationPatient=None)
    save_all([*made, page], tmp_path / "study")
    run(tmp_path / "study", tmp_path / "ct.nii")
    assert nibabel.load(tmp_path / "ct.nii").shape == SHAPE[::-1]


def test_what_a_dicomdir_misses_is_a_warning(tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    files = FileSet()
    for dataset in ball_series():
        files.add(dataset)
    files.write(tmp_path / "cd")
    sorted((tmp_path / "cd" / "PT000000").rglob("IM*"))[-1].unlink()
    check = check_of(run(tmp_path / "cd", tmp_path / "ct.nii"), "missing_files")
    assert (check.status, check.value) == ("warning", 1)


# Outlines


@needs_collection
def test_a_known_rtstruct_gives_the_voxels_that_are_known_of_it(tmp_path: Path) -> None:
    series = SHARED / "lung_tumor_ct_dicom" / "PAT2"
    done = run(series / "DCM_RS_00041.dcm", tmp_path / "labels.nii.gz", source=series)
    image = nibabel.load(tmp_path / "labels.nii.gz")
    stored = np.asarray(image.dataobj)
    assert (int((stored == 1).sum()), set(np.unique(stored)), dict(done.labels)) == (2256, {0, 1}, {1: "GTV-1"})
    volume_ml = 2256 * abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert volume_ml == pytest.approx(6.460, abs=5e-4)
    run(series, tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(image.affine, nibabel.load(tmp_path / "ct.nii.gz").affine)


def label_map() -> np.ndarray:
    """(x, y, z): three objects of odd shape, two of them touching; slices at the ends are empty."""
    found = np.zeros(SHAPE[::-1], np.uint8)
    found[5:20, 3:9, 2:7] = 1
    found[20:31, 3:12, 4:9] = 2
    found[7, 30:38, 3:10] = 3
    found[6:9, 4, 3] = 0
    return found


def write_labels(path: Path, array: np.ndarray, affine_lps: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, LPS_TO_RAS @ affine_lps), path)
    return path


def as_slices(folder: Path, affine: np.ndarray) -> Path:
    return save_ball(folder, affine)


def as_one_file(folder: Path, affine: np.ndarray) -> Path:
    return save(enhanced(ball(affine), affine, order=[3, 1, 2, 0, *range(4, 12)], **PATIENT), folder / "IM1")


@pytest.mark.parametrize("source", [as_slices, as_one_file])
@pytest.mark.parametrize("affine", [axial(), OBLIQUE, TILTED], ids=["axial", "oblique", "tilted"])
def test_labels_to_seg_and_back_are_the_same(tmp_path: Path, affine: np.ndarray, source: Any) -> None:
    study, tilted = source(tmp_path / "study", affine), affine is TILTED
    labels = write_labels(tmp_path / "labels.nii.gz", label_map(), affine)
    options = {"source": study, "correct_tilt": tilted}
    run(labels, tmp_path / "seg.dcm", **options)
    done = run(tmp_path / "seg.dcm", tmp_path / "back.nii.gz", **options)
    assert dict(done.labels) == {number: f"Label {number}" for number in (1, 2, 3)}
    if tilted:
        # On the straightened grid, as the NIfTI of that series; from there, too, the way back is exact.
        run(study, tmp_path / "ct.nii.gz", correct_tilt=True)
        ct, back = (nibabel.load(tmp_path / name) for name in ("ct.nii.gz", "back.nii.gz"))
        np.testing.assert_allclose(back.affine, ct.affine, atol=1e-4)
        assert back.shape == ct.shape
        run(tmp_path / "back.nii.gz", tmp_path / "seg2.dcm", **options)
        first, second = (pydicom.dcmread(tmp_path / name).PixelData for name in ("seg.dcm", "seg2.dcm"))
        assert first == second
        run(tmp_path / "seg2.dcm", tmp_path / "frames.nii.gz")
        stored = np.asarray(nibabel.load(tmp_path / "frames.nii.gz").dataobj)
        np.testing.assert_array_equal(stored, label_map()[:, :, 2:10])
    else:
        image = nibabel.load(tmp_path / "back.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj), label_map())
        np.testing.assert_allclose(image.affine, LPS_TO_RAS @ affine, atol=1e-4)


@pytest.mark.parametrize("affine", [axial(), OBLIQUE], ids=["axial", "oblique"])
def test_labels_to_rtstruct_and_back_are_the_same(tmp_path: Path, affine: np.ndarray) -> None:
    study = save_ball(tmp_path / "study", affine)
    labels = write_labels(tmp_path / "labels.nii.gz", label_map(), affine)
    run(labels, tmp_path / "rt.dcm", source=study, object_kind="rtstruct")
    assert pydicom.dcmread(tmp_path / "rt.dcm").Modality == "RTSTRUCT"
    done = run(tmp_path / "rt.dcm", tmp_path / "back.nii.gz", source=study)
    assert dict(done.labels) == {number: f"Label {number}" for number in (1, 2, 3)}
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "back.nii.gz").dataobj), label_map())


def test_a_turned_label_map_gives_the_same_seg(tmp_path: Path) -> None:
    study = save_ball(tmp_path / "study")
    write_labels(tmp_path / "straight.nii.gz", label_map(), axial())
    image = nibabel.load(tmp_path / "straight.nii.gz")
    # As other programs store them, such as those that want axes from left, from front, from below.
    turned = image.as_reoriented(nibabel.orientations.axcodes2ornt("SPL"))
    assert turned.shape != image.shape
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    for name in ("straight", "turned"):
        run(tmp_path / f"{name}.nii.gz", tmp_path / f"{name}.dcm", source=study)
    first, second = (pydicom.dcmread(tmp_path / f"{name}.dcm").PixelData for name in ("straight", "turned"))
    assert first == second


def test_a_label_map_of_another_series_is_refused(tmp_path: Path) -> None:
    study = save_ball(tmp_path / "study")
    labels = write_labels(tmp_path / "labels.nii.gz", label_map(), axial(turn=(0, 0, 3)))
    with pytest.raises(GeometryError, match="expected a label map drawn on that series"):
        run(labels, tmp_path / "seg.dcm", source=study)
    assert not (tmp_path / "seg.dcm").exists()


def test_labels_that_leave_numbers_out_are_renumbered_and_it_is_said(tmp_path: Path) -> None:
    study = save_ball(tmp_path / "study")
    array = np.where(label_map() == 2, 7, 0).astype(np.uint8) + np.where(label_map() == 1, 3, 0).astype(np.uint8)
    labels = write_labels(tmp_path / "labels.nii.gz", array, axial())
    done = run(labels, tmp_path / "seg.dcm", source=study)
    assert "label 3 is segment 1, label 7 is segment 2" in check_of(done, "segment_numbers").detail
    segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert [(s.SegmentNumber, s.SegmentLabel) for s in segments] == [(1, "Label 3"), (2, "Label 7")]
    run(tmp_path / "seg.dcm", tmp_path / "back.nii.gz", source=study)
    back = np.asarray(nibabel.load(tmp_path / "back.nii.gz").dataobj)
    np.testing.assert_array_equal(back, np.array([0, 0, 0, 1, 0, 0, 0, 2])[array])


def test_a_table_says_what_the_labels_mean(tmp_path: Path) -> None:
    study = save_ball(tmp_path / "study")
    lesion = Code(value="52988006", scheme="SCT", meaning="Lesion")
    change = Code(value="49755003", scheme="SCT", meaning="Morphologically Altered Structure")
    table = [Segment(label=n, name=f"Thing {n}", category=change, type=lesion) for n in (1, 2, 3)]
    labels = write_labels(tmp_path / "labels.nii.gz", label_map(), axial())
    done = run(labels, tmp_path / "seg.dcm", source=study, segments=table)
    assert done.labels[3] == "Thing 3"
    (_, second, _) = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert second.SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"
    # Who drew it, no file tells: not the program that converted it.
    assert second.SegmentAlgorithmType == "MANUAL"
    with pytest.raises(OutputError, match="label 3 has no row"):
        run(labels, tmp_path / "seg2.dcm", source=study, segments=table[:2])


@pytest.mark.parametrize("chosen", [("2",), ("Label 2",), ("2", "Label 3")])
def test_segments_are_chosen_by_number_or_name(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    study = save_ball(tmp_path / "study")
    run(write_labels(tmp_path / "labels.nii.gz", label_map(), axial()), tmp_path / "seg.dcm", source=study)
    run(tmp_path / "seg.dcm", tmp_path / "back.nii.gz", source=study, names=chosen)
    wanted = {int(name[-1]) for name in chosen}
    back = np.asarray(nibabel.load(tmp_path / "back.nii.gz").dataobj)
    np.testing.assert_array_equal(back, np.where(np.isin(label_map(), list(wanted)), label_map(), 0))


@pytest.mark.parametrize("name", ["Label 9", "9", "²"])
def test_a_segment_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    study = save_ball(tmp_path / "study")
    run(write_labels(tmp_path / "labels.nii.gz", label_map(), axial()), tmp_path / "seg.dcm", source=study)
    with pytest.raises(UsageError, match="there is no segment"):
        run(tmp_path / "seg.dcm", tmp_path / "back.nii.gz", names=[name])


def test_pages_of_a_tiff_are_the_slices(tmp_path: Path) -> None:
    study = save_ball(tmp_path / "study")
    run(write_labels(tmp_path / "labels.nii.gz", label_map(), axial()), tmp_path / "seg.dcm", source=study)
    run(tmp_path / "seg.dcm", tmp_path / "back.tif", source=study)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "back.tif"), label_map().T)
    with pytest.raises(OutputError, match="name a TIFF or NIfTI file"):
        run(tmp_path / "seg.dcm", tmp_path / "back.png", source=study)


@needs_collection
def test_a_seg_on_a_film_becomes_a_png(tmp_path: Path) -> None:
    path = SHARED / "dicom" / "seg_examples" / "seg_image_cr_binary.dcm"
    run(path, tmp_path / "mask.png")
    seg = pydicom.dcmread(path)
    frames = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")[: seg.Rows * seg.Columns]
    found = np.asarray(Image.open(tmp_path / "mask.png"))
    assert found.any()
    np.testing.assert_array_equal(found > 0, frames.reshape(seg.Rows, seg.Columns))


# Refusals


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a study, a label map on it, and an empty one."""
    save_ball(tmp_path / "study")
    write_labels(tmp_path / "labels.nii.gz", label_map(), axial())
    write_labels(tmp_path / "empty.nii.gz", label_map() * 0, axial())
    monkeypatch.chdir(tmp_path)
    return tmp_path


REFUSED: dict[str, tuple[str, str, dict[str, Any], type[ClinibundleError], str]] = {
    "nothing there": ("nothing", "x.nii", {}, UnreadableInput, "there is nothing at 'nothing'"),
    "no label map there": ("nothing", "x.dcm", {"source": Path("study")}, UnreadableInput, "there is nothing at"),
    "no source there": ("labels.nii.gz", "x.dcm", {"source": Path("no")}, UnreadableInput, "there is nothing at 'no'"),
    "ending of a series": ("study", "x.png", {}, UsageError, "'x.png' has another ending than .nii, .nii.gz"),
    "seg without source": ("labels.nii.gz", "x.dcm", {}, UsageError, "a SEG lies on the frames of a series; name the"),
    "rtstruct without source": ("labels.nii.gz", "x.dcm", {"object_kind": "rtstruct"}, UsageError, "an RTSTRUCT lies"),
    "seg of a series": ("study", "x.dcm", {"source": Path("study")}, UnreadableInput, "cannot be read as NIfTI"),
    "nifti to nifti": ("labels.nii.gz", "x.nii.gz", {}, UnreadableInput, "it is no DICOM file"),
    "nothing drawn": ("empty.nii.gz", "x.dcm", {"source": Path("study")}, UnsuitableInput, "no voxel above 0"),
    "into the input": ("study", "study/x.nii", {}, UsageError, "the input, which is never written to"),
    "into the source": (
        "labels.nii.gz", "study/x.dcm", {"source": Path("study")}, UsageError, "the input, which is never written to",
    ),
    "over the input": (
        "labels.nii.gz", "labels.nii.gz", {"overwrite": True}, UsageError, "the input, which is never written to",
    ),
    "an output that is there": ("study", "empty.nii.gz", {}, OutputError, "add --overwrite"),
    "a series that is not there": ("study", "x.nii", {"series": "1.2.3"}, UnsuitableInput, "no series 1.2.3"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "output", "options", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_leaves_everything_as_it_was(
    place: Path, source: str, output: str, options: dict[str, Any], error: type[ClinibundleError], words: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    with pytest.raises(error, match=words):
        run(Path(source), Path(output), **options)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_nothing_is_written_beside_a_dicomdir(tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    files = FileSet()
    for dataset in ball_series():
        files.add(dataset)
    files.write(tmp_path / "cd")
    with pytest.raises(UsageError, match="never written to"):
        run(tmp_path / "cd" / "DICOMDIR", tmp_path / "cd" / "ct.nii")
    run(tmp_path / "cd" / "DICOMDIR", tmp_path / "ct.nii")
    assert json.dumps(nibabel.load(tmp_path / "ct.nii").shape) == "[48, 40, 12]"
