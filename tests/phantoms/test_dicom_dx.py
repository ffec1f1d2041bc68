import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from clinibundle.phantoms.chest_radiograph import make_chest_radiograph
from clinibundle.phantoms.dicom_dx import write_dx_study

SPACING = 2.5


@pytest.fixture(scope="module")
def picture():
    return make_chest_radiograph(1, (128, 112))[0]


def test_pydicom_reads_back_the_picture_and_its_grid(tmp_path, picture):
    (path,) = write_dx_study(tmp_path, [picture], seed=4, spacing_mm=SPACING)
    film = pydicom.dcmread(path)
    np.testing.assert_array_equal(film.pixel_array, picture)
    assert path.name == "IM0001"
    assert film.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1.1"
    assert film.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert (film.PatientName, film.PatientID) == ("Phantom^Chest", "PHANTOM-4")
    assert (film.ViewPosition, film.BodyPartExamined) == ("PA", "CHEST")
    assert film.PatientOrientation == ["L", "F"]
    assert film.PixelSpacing == film.ImagerPixelSpacing == [SPACING, SPACING]
    assert film.PhotometricInterpretation == "MONOCHROME2"


def test_monochrome1_stores_the_grey_inverted(tmp_path, picture):
    (path,) = write_dx_study(tmp_path, [picture], seed=4, spacing_mm=SPACING, monochrome1=True)
    film = pydicom.dcmread(path)
    assert film.PhotometricInterpretation == "MONOCHROME1"
    assert film.PresentationLUTShape == "INVERSE"
    np.testing.assert_array_equal(4095 - film.pixel_array, picture)


def test_films_of_one_study_share_its_uid_and_have_their_own(tmp_path, picture):
    paths = write_dx_study(tmp_path, [picture, picture[::-1]], seed=4, spacing_mm=SPACING)
    films = [pydicom.dcmread(path) for path in paths]
    assert [path.name for path in paths] == ["IM0001", "IM0002"]
    assert len({film.StudyInstanceUID for film in films}) == len({film.SeriesInstanceUID for film in films}) == 1
    assert len({film.SOPInstanceUID for film in films}) == 2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_study(tmp_path, picture):
    first, second, other = (
        write_dx_study(tmp_path / name, [picture], seed=seed, spacing_mm=SPACING)[0]
        for name, seed in [("first", 4), ("second", 4), ("other", 5)]
    )
    assert first.read_bytes() == second.read_bytes()
    assert pydicom.dcmread(first).StudyInstanceUID != pydicom.dcmread(other).StudyInstanceUID


def test_more_than_12_bits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="4095"):
        write_dx_study(tmp_path, [np.full((4, 4), 4096, dtype=np.uint16)], seed=0, spacing_mm=SPACING)


@pytest.mark.parametrize("monochrome1", [False, True])
def test_dciodvfy_finds_no_error(tmp_path, picture, monochrome1):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    (path,) = write_dx_study(tmp_path, [picture], seed=4, spacing_mm=SPACING, monochrome1=monochrome1)
    verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    said = verdict.stdout + verdict.stderr
    assert "DXImageForPresentation" in said
    assert "Error" not in said, said
