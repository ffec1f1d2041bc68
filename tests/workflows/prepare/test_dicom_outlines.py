"""Made-up CT series of 12 × 10 pixels and four slices, with SEG and RTSTRUCT objects whose voxels are known."""

import gzip
import json
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset

from clinibundle.console import Talk
from clinibundle.errors import DataFolderError, UnsuitableInput
from clinibundle.files import short_hash
from clinibundle.workflows.check import check_data_folder
from clinibundle.workflows.prepare import prepare
from dicom.made_objects import Contour, StoredFrame, rtstruct, seg, write
from dicom.made_volumes import PATIENT, ct_series, lps_grid, noise, save_all

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "lung_tumor_ct_dicom"
SHAPE = (4, 10, 12)
GRID = lps_grid()
# Rows, columns that a box of contours encloses, on slices 1 and 2.
BOX = (slice(1, 3), slice(2, 6), slice(3, 9))
OTHER = (slice(2, 4), slice(4, 8), slice(5, 11))


def mask_of(*boxes):
    mask = np.zeros(SHAPE, bool)
    for box in boxes:
        mask[box] = True
    return mask


def contours(box, affine=GRID, off_mm=0.0, images=None):
    """Rectangles half a voxel outside the centres of a box of voxels."""
    slices, rows, columns = box
    x, y = (columns.start - 0.5, columns.stop - 0.5), (rows.start - 0.5, rows.stop - 0.5)
    made = []
    for z in range(slices.start, slices.stop):
        corners = np.array([[x[0], y[0], z, 1], [x[1], y[0], z, 1], [x[1], y[1], z, 1], [x[0], y[1], z, 1]])
        points = (corners @ affine.T)[:, :3] + [0, 0, off_mm]
        made.append(Contour(points, image=None if images is None else images[z]))
    return made


def write_ct(folder, number=1, patient="PID-98765", affine=GRID, values=None, **changes):
    series = ct_series(noise(SHAPE, seed=number) if values is None else values, affine, PatientID=patient, **changes)
    save_all(series, folder)
    return series


def uids(series):
    return [one.SOPInstanceUID for one in series]


def write_rt(path, series, rois, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(rtstruct(dict(enumerate(rois, 1)), images=uids(series), **more), path)


def write_seg(path, series, masks, named=True):
    """A SEG whose frames name their pictures, or which names the series alone."""
    frames = [
        StoredFrame(mask[z].astype(np.uint8), number, (GRID @ [0, 0, z, 1])[:3], uids(series)[z] if named else None)
        for number, mask in enumerate(masks.values(), 1)
        for z in range(len(mask))
        if mask[z].any()
    ]
    spacing = tuple(np.linalg.norm(GRID[:3, :2], axis=0)[::-1])
    between = float(np.linalg.norm(GRID[:3, 2]))
    made = seg(frames, names=dict(enumerate(masks, 1)), spacing=spacing, between=between, thickness=between)
    if not named:
        item = Dataset()
        item.SeriesInstanceUID = series[0].SeriesInstanceUID
        made.ReferencedSeriesSequence = [item]
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(made, path)


def run(source, dest, *names, talk=None):
    return prepare(["dicom_outlines"], source, dest, False, talk or Talk(quiet=True), outline_names=names)


def rows_of(dest):
    return json.loads((dest / "datalist.json").read_text())["training"]


def stored(path):
    """Array (slices, rows, columns) and affine, read by nibabel."""
    found = nibabel.load(path)
    return np.asarray(found.dataobj).T, found.affine


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "dest"


@pytest.mark.parametrize(("kind", "turn"), [("SEG", (0, 0, 0)), ("RTSTRUCT", (0, 0, 0)), ("RTSTRUCT", (5, -10, 15))])
def test_a_series_and_its_outline_become_a_pair_voxel_by_voxel(source, dest, kind, turn):
    affine = lps_grid(turn=turn)
    series = write_ct(source / "a/b", affine=affine)
    if kind == "RTSTRUCT":
        write_rt(source / "elsewhere/x.dcm", series, [("GTV", contours(BOX, affine))])
    else:
        write_seg(source / "elsewhere/x.dcm", series, {"GTV": mask_of(BOX)})
    result = run(source, dest)
    assert (result.layout, result.cases, result.left_out, result.refused) == ("dicom_outlines", 1, [], [])
    (row,) = rows_of(dest)
    name = short_hash(series[0].SeriesInstanceUID)
    assert (row["image"], row["label"]) == (f"images/{name}.nii.gz", f"labels/{name}.nii.gz")
    assert row["spacing_mm"] == [0.75, 0.5, 2.5] and row["modality"] == "CT"
    image, image_affine = stored(dest / row["image"])
    label, label_affine = stored(dest / row["label"])
    np.testing.assert_array_equal(image, noise(SHAPE, seed=1))
    np.testing.assert_array_equal(label, mask_of(BOX))
    assert (image.dtype, label.dtype) == (np.int16, np.uint8)
    for found in (image_affine, label_affine):
        np.testing.assert_allclose(found, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-4)
    assert [one for one in check_data_folder(dest, [{0, 1}]) if one.kind != "few_folds"] == []


def test_patients_in_one_heap_keep_their_outlines_and_their_folds(source, dest):
    boxes, patients = {}, {}
    for number in range(12):
        series = write_ct(source / f"s{number}", number, patient=f"PID-{number % 7}")
        box = (slice(1, 3), slice(1, 3 + number % 4), slice(1, 3 + number // 4))
        write_rt(source / f"rt{number}", series, [("GTV", contours(box))])
        name = short_hash(series[0].SeriesInstanceUID)
        boxes[name], patients[name] = box, number % 7
    assert run(source, dest).cases == 12
    rows = rows_of(dest)
    groups = {}
    for row in rows:
        name = Path(row["image"]).name.removesuffix(".nii.gz")
        np.testing.assert_array_equal(stored(dest / row["label"])[0], mask_of(boxes[name]))
        groups.setdefault(patients[name], set()).add((row["group"], row["fold"]))
    assert all(len(found) == 1 for found in groups.values())
    assert len({group for found in groups.values() for group, _ in found}) == 7
    # Five patients have two series each, two have one.
    assert sorted(Counter(row["fold"] for row in rows).values()) == [2, 2, 2, 3, 3]


def test_all_outlines_that_fit_a_pattern_are_united_even_where_they_overlap(source, dest):
    series = write_ct(source / "ct")
    outside = (slice(0, 1), slice(0, 2), slice(0, 2))
    rois = [("GTV-1", contours(BOX)), ("Lung", contours(outside)), (" gtv 2", contours(OTHER))]
    write_rt(source / "rt", series, rois)
    run(source, dest, "GTV*")
    np.testing.assert_array_equal(stored(dest / rows_of(dest)[0]["label"])[0], mask_of(BOX, OTHER))


def test_segments_are_chosen_by_name_as_well(source, dest):
    series = write_ct(source / "ct")
    write_seg(source / "seg", series, {"Lung": mask_of((slice(0, 1), slice(0, 3), slice(0, 3))), "Tumor": mask_of(BOX)})
    run(source, dest, "nodule", "tumor")
    np.testing.assert_array_equal(stored(dest / rows_of(dest)[0]["label"])[0], mask_of(BOX))


@pytest.mark.parametrize(
    ("names", "expected"), [(("tumour",), "expected one called 'tumour'"), ((), "expected a single one")]
)
def test_where_no_outline_is_meant_those_that_are_there_are_told(source, dest, capsys, names, expected):
    series = write_ct(source / "ct")
    write_rt(source / "rt", series, [("GTV-1", contours(BOX)), ("KOWALSKA jadwiga node", contours(OTHER))])
    with pytest.raises(DataFolderError):
        run(source, dest, *names)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"its outlines are 'GTV-1', '(hidden)', {expected}; choose with --roi NAME" in line
    assert not dest.exists()


def test_a_refused_case_does_not_stop_the_others(source, dest):
    sound = write_ct(source / "sound", 1)
    write_rt(source / "sound_rt", sound, [("GTV", contours(BOX))])
    lost = write_ct(source / "lost", 2)
    half = [contours(BOX)[0], contours(BOX, off_mm=1.0)[1]]
    write_rt(source / "lost_rt", lost, [("GTV", half)])
    gap = write_ct(source / "gap", 3)
    write_rt(source / "gap_rt", gap, [("GTV", contours(BOX))])
    (source / "gap/IM0002").unlink()
    orphan = ct_series(noise(SHAPE, seed=4))
    write_rt(source / "orphan_rt", orphan, [("GTV", contours(BOX))])
    (source / "torn_rt").write_bytes((source / "sound_rt").read_bytes()[:1100])
    write_ct(source / "plain", 5)
    empty = write_ct(source / "empty", 6)
    write_rt(source / "empty_rt", empty, [("GTV", [])])
    (source / "notes.txt").write_text("x")
    result = run(source, dest)
    assert result.cases == 1
    reasons = dict(result.refused)
    end = {name: f"series …{one[0].SeriesInstanceUID[-8:]}" for name, one in
           {"lost": lost, "gap": gap, "empty": empty}.items()}  # fmt: skip
    assert "1 of 2 contours lie on no slice" in reasons[end["lost"]]
    assert "slice" in reasons[end["gap"]] and "spacing" in reasons[end["gap"]]
    assert "encloses no voxel" in reasons[end["empty"]]
    assert "the series that it was drawn on is not in the source" in reasons["orphan_rt"]
    left_out = dict(result.left_out)
    assert set(left_out.values()) >= {"nothing is drawn on it"} and "notes.txt" in left_out
    assert "torn_rt" in {*left_out, *reasons}
    assert len(rows_of(dest)) == 1
    assert [len(list((dest / kind).iterdir())) for kind in ("images", "labels")] == [1, 1]


def test_an_object_that_names_only_the_series_is_paired(source, dest):
    series = write_ct(source / "ct")
    write_ct(source / "other", 2)
    write_seg(source / "seg", series, {"a": mask_of(BOX)}, named=False)
    assert run(source, dest).cases == 1
    assert rows_of(dest)[0]["group"] == short_hash(series[0].SeriesInstanceUID)


def test_contours_that_name_their_pictures_are_enough(source, dest):
    series = write_ct(source / "ct")
    write(rtstruct({1: ("GTV", contours(BOX, images=uids(series)))}), source / "rt")
    assert run(source, dest).cases == 1


def test_an_object_without_references_is_refused(source, dest, capsys):
    write_ct(source / "ct")
    write(rtstruct({1: ("GTV", contours(BOX))}), source / "rt")
    with pytest.raises(DataFolderError):
        run(source, dest)
    assert "does not say which series it was drawn on" in capsys.readouterr().err


@pytest.mark.parametrize("same", [True, False])
def test_two_objects_on_one_series_have_to_agree(source, dest, capsys, same):
    series = write_ct(source / "ct")
    write_rt(source / "rt", series, [("GTV", contours(BOX))])
    write_seg(source / "seg", series, {"Neoplasm": mask_of(BOX if same else OTHER)})
    if same:
        assert run(source, dest).cases == 1
        return
    with pytest.raises(DataFolderError):
        run(source, dest)
    assert "2 objects outline it differently ('rt', 'seg')" in capsys.readouterr().err
    assert run(source, dest, "gtv").cases == 1


def test_a_tilted_series_is_refused_with_the_way_out(source, dest, capsys):
    affine = lps_grid(shear=(0, 0.4))
    series = write_ct(source / "ct", affine=affine)
    write_rt(source / "rt", series, [("GTV", contours(BOX, affine))])
    with pytest.raises(DataFolderError):
        run(source, dest)
    assert "convert --correct-tilt" in capsys.readouterr().err


def test_a_ct_without_hounsfield_units_is_refused_and_another_modality_is_not(source, dest, capsys):
    off = {"RescaleIntercept": None, "RescaleSlope": None, "RescaleType": None}
    series = write_ct(source / "ct", **off)
    write_rt(source / "rt", series, [("GTV", contours(BOX))])
    with pytest.raises(DataFolderError):
        run(source, dest)
    assert "not known to be Hounsfield units" in capsys.readouterr().err
    mr = write_ct(source / "mr", 2, Modality="MR", **off)
    write_rt(source / "mr_rt", mr, [("GTV", contours(BOX))])
    result = run(source, dest)
    assert (result.cases, len(result.refused), rows_of(dest)[0]["modality"]) == (1, 1, "MR")


def test_fractions_of_hounsfield_units_are_rounded(source, dest):
    series = write_ct(source / "ct", RescaleSlope="0.25", RescaleIntercept="-800")
    write_rt(source / "rt", series, [("GTV", contours(BOX))])
    run(source, dest)
    image, _ = stored(dest / rows_of(dest)[0]["image"])
    assert image.dtype == np.int16
    np.testing.assert_allclose(image, noise(SHAPE, seed=1) * 0.25 - 800, atol=0.5)


def test_without_patient_ids_a_study_is_a_patient_and_that_is_said(source, dest):
    for number in range(2):
        series = write_ct(source / f"ct{number}", number, patient="")
        write_rt(source / f"rt{number}", series, [("GTV", contours(BOX))])
    notes = run(source, dest).notes
    assert [note.reason for note in notes if "no PatientID" in note.reason] == [
        "its header has no PatientID: each study counts as a patient of its own"
    ] * 2
    assert len({row["group"] for row in rows_of(dest)}) == 2


def test_no_patient_is_to_be_found_in_what_is_written_or_said(source, dest, capsys):
    parts = [*PATIENT["PatientName"].split("^"), PATIENT["PatientID"], "98765", PATIENT["PatientBirthDate"], "20240229"]
    series = write_ct(source / "Kowalska_Jadwiga/1944-02-15")
    write_rt(source / "Kowalska_Jadwiga/PID-98765.dcm", series, [("Kowalska GTV", contours(BOX))])
    lost = write_ct(source / "98765", 2)
    write_rt(source / "98765.rt", lost, [("Jadwiga", contours(BOX, off_mm=1))])
    (source / "kowalska.txt").write_text("x")
    result = run(source, dest, talk=Talk(verbose=True))
    assert (result.cases, len(result.refused)) == (1, 1)
    said = capsys.readouterr()
    contents = [path.read_bytes() for path in dest.rglob("*") if path.is_file()]
    contents += [gzip.decompress(content) for content in contents if content[:2] == b"\x1f\x8b"]
    texts = [said.out, said.err, repr(result), *(path.relative_to(dest).as_posix() for path in dest.rglob("*"))]
    for part in parts:
        assert not [text for text in texts if part.casefold() in text.casefold()]
        assert not [content for content in contents if part.casefold().encode() in content.lower()]
    # Nor is a number that can be tried out.
    assert short_hash(PATIENT["PatientID"]) not in (dest / "datalist.json").read_text()


def test_dicom_without_outlines_is_no_such_source(source, dest):
    write_ct(source / "ct")
    with pytest.raises(UnsuitableInput, match="SEG or RTSTRUCT objects drawn on them"):
        run(source, dest)


def test_two_runs_write_the_same_list(source, dest, tmp_path):
    for number in range(3):
        series = write_ct(source / f"ct{number}", number, patient=f"P{number}")
        write_rt(source / f"rt{number}", series, [("GTV", contours(BOX))])
    run(source, dest)
    run(source, tmp_path / "again")
    assert rows_of(dest) == rows_of(tmp_path / "again")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared collection is not beside the repository")
def test_the_outline_of_a_real_patient_has_the_known_volume(dest):
    result = run(SHARED, dest, "GTV*")
    assert (result.cases, result.refused) == (1, [])
    (row,) = rows_of(dest)
    image, _ = stored(dest / row["image"])
    label, affine = stored(dest / row["label"])
    assert (image.min(), image.max(), image.dtype) == (-1000, 2254, np.int16)
    assert label.sum() == 2256
    assert label.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000 == pytest.approx(6.460, abs=5e-4)
