import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image

from clinibundle.errors import BundleError, OutputError
from clinibundle.phantoms import write
from clinibundle.phantoms.write import write_phantom_cases

SMALL = (96, 84)


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    kind = write.PHANTOMS["chest_radiograph"]
    monkeypatch.setitem(write.PHANTOMS, "chest_radiograph", replace(kind, make=lambda seed: kind.make(seed, SMALL)))


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


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        write_phantom_cases("chest_radiograph", tmp_path / name, cases=2, seed=7, dicom=True)
    assert files_in(tmp_path / "first") == files_in(tmp_path / "second")


def test_cases_of_one_seed_and_of_neighbouring_seeds_all_differ(tmp_path):
    for seed in (0, 1):
        write_phantom_cases("chest_radiograph", tmp_path / str(seed), cases=2, seed=seed, dicom=False)
    pictures = [path.read_bytes() for path in tmp_path.glob("*/images/*.png")]
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
