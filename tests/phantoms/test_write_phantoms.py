import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from clinibundle.errors import BundleError, OutputError, UsageError
from clinibundle.phantoms import write
from clinibundle.phantoms.chest_ct import make_chest_ct
from clinibundle.phantoms.write import PHANTOMS, write_phantom_cases

SMALL = (96, 84)
SMALL_CT = {"shape": (24, 60, 50), "spacing_mm": (12.0, 6.0, 7.0)}
KINDS = list(PHANTOMS)


@pytest.fixture(autouse=True)
def small_cases(monkeypatch):
    kind = PHANTOMS["chest_radiograph"]
    monkeypatch.setitem(PHANTOMS, "chest_radiograph", replace(kind, make=lambda seed: kind.make(seed, SMALL)))
    monkeypatch.setattr(write, "make_chest_ct", lambda seed: make_chest_ct(seed, **SMALL_CT))


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_data_folder_holds_pictures_labels_and_a_datalist_with_folds_groups_and_spacing(tmp_path):
    write_phantom_cases("chest_radiograph", tmp_path / "out", cases=6, seed=0, dicom=False)
    rows = json.loads((tmp_path / "out/datalist.json").read_text())["training"]
    assert [row["fold"] for row in rows] == [0, 1, 2, 3, 4, 0]
    assert len({row["group"] for row in rows}) == 6
    assert rows[0]["image"] == "images/phantom-000.png"
    assert rows[0]["label"] == "labels/phantom-000.png"
    assert rows[0]["spacing_mm"] == [pytest.approx(360 / 84)] * 2
    assert set(files_in(tmp_path / "out")) == {"datalist.json"} | {
        row[key] for row in rows for key in ("image", "label")
    }
    with Image.open(tmp_path / "out" / rows[0]["image"]) as picture:
        assert picture.mode == "I;16"
        assert picture.size == SMALL[::-1]
    with Image.open(tmp_path / "out" / rows[0]["label"]) as truth:
        assert set(np.unique(truth)) == {0, 255}


def test_dicom_adds_a_study_of_its_own_for_each_case_with_the_same_picture(tmp_path):
    write_phantom_cases("chest_radiograph", tmp_path / "out", cases=2, seed=0, dicom=True)
    films = [pydicom.dcmread(tmp_path / f"out/dicom/phantom-00{case}/IM0001") for case in range(2)]
    assert films[0].StudyInstanceUID != films[1].StudyInstanceUID
    assert films[0].PatientID != films[1].PatientID
    for case, film in enumerate(films):
        picture = np.asarray(Image.open(tmp_path / f"out/images/phantom-00{case}.png"))
        np.testing.assert_array_equal(film.pixel_array, picture)


def test_a_folder_of_volumes_holds_nifti_whose_labels_have_the_volume_of_the_tumours_in_the_datalist(tmp_path):
    write_phantom_cases("chest_ct", tmp_path / "out", cases=3, seed=2, dicom=False)
    rows = json.loads((tmp_path / "out/datalist.json").read_text())["training"]
    assert [(row["fold"], row["group"]) for row in rows] == [(0, "phantom-000"), (1, "phantom-001"), (2, "phantom-002")]
    assert rows[1]["image"] == "images/phantom-001.nii.gz"
    assert set(files_in(tmp_path / "out")) == {"datalist.json"} | {
        row[key] for row in rows for key in ("image", "label")
    }
    for row in rows:
        image, label = (nib.load(tmp_path / "out" / row[key]) for key in ("image", "label"))
        np.testing.assert_array_equal(image.affine, label.affine)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert list(image.header.get_zooms()) == row["spacing_mm"] == [7, 6, 12]
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        marked = np.asarray(label.dataobj)
        assert set(np.unique(marked)) == {0, 1}
        voxel_ml = abs(np.linalg.det(label.affine)) / 1000
        for tumour in row["tumours"]:
            left, back, up = tumour["centre_lps_mm"]
            x, y, z = np.rint(np.linalg.solve(label.affine, [-left, -back, up, 1])[:3]).astype(int)
            assert marked[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2].any()
        truth = sum(tumour["volume_ml"] for tumour in row["tumours"])
        # Half a voxel for each, and a whole one for what is smaller than that.
        assert marked.sum() * voxel_ml == pytest.approx(truth, abs=len(row["tumours"]) * voxel_ml)


def test_nifti_and_dicom_of_a_case_show_the_same_voxels_at_the_same_place_in_the_patient(tmp_path):
    write_phantom_cases("chest_ct", tmp_path / "out", cases=1, seed=2, dicom=True)
    image = nib.load(tmp_path / "out/images/phantom-000.nii.gz")
    values = np.asarray(image.dataobj)
    slices = [pydicom.dcmread(path) for path in (tmp_path / "out/dicom/phantom-000").iterdir()]
    assert len(slices) == 24
    for s in slices:
        row_way, column_way = np.array(s.ImageOrientationPatient, float).reshape(2, 3)
        for row, column in np.random.default_rng(0).integers(0, (60, 50), (20, 2)):
            in_plane = column * float(s.PixelSpacing[1]) * row_way + row * float(s.PixelSpacing[0]) * column_way
            left, back, up = np.array(s.ImagePositionPatient, float) + in_plane
            index = np.linalg.solve(image.affine, [-left, -back, up, 1])[:3]
            assert np.abs(index - np.rint(index)).max() < 1e-3
            assert values[tuple(np.rint(index).astype(int))] == int(s.pixel_array[row, column]) - 1024


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes(tmp_path, kind):
    for name in ("first", "second"):
        write_phantom_cases(kind, tmp_path / name, cases=2, seed=7, dicom=kind != "em_section")
    assert files_in(tmp_path / "first") == files_in(tmp_path / "second")


@pytest.mark.parametrize("kind", KINDS)
def test_cases_of_one_seed_and_of_neighbouring_seeds_all_differ(tmp_path, kind):
    for seed in (0, 1):
        write_phantom_cases(kind, tmp_path / str(seed), cases=2, seed=seed, dicom=False)
    pictures = [path.read_bytes() for path in tmp_path.glob("*/images/*")]
    assert len(set(pictures)) == len(pictures) == 4


def test_an_unknown_kind_is_refused_with_the_closest_known_one(tmp_path):
    with pytest.raises(BundleError, match="did you mean 'chest_radiograph'"):
        write_phantom_cases("chest_radiografh", tmp_path / "out", cases=1, seed=0, dicom=False)
    assert not (tmp_path / "out").exists()


def test_a_full_folder_is_kept_unless_overwriting(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        write_phantom_cases("chest_radiograph", tmp_path, cases=1, seed=0, dicom=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    write_phantom_cases("chest_radiograph", tmp_path, cases=1, seed=0, dicom=False, overwrite=True)
    assert (tmp_path / "datalist.json").exists()
    assert not (tmp_path / "notes.txt").exists()


def test_sections_of_a_microscope_are_no_dicom(tmp_path):
    with pytest.raises(UsageError, match="no DICOM"):
        write_phantom_cases("em_section", tmp_path / "out", cases=1, seed=0, dicom=True)
    assert not (tmp_path / "out").exists()
    write_phantom_cases("em_section", tmp_path / "out", cases=1, seed=0, dicom=False)
    (row,) = json.loads((tmp_path / "out/datalist.json").read_text())["training"]
    assert row["spacing_mm"] == [4e-6, 4e-6]
