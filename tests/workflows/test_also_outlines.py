"""`segment --also`: which objects are written beside the SEG, and what is refused before the network is loaded."""

from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from clinibundle.bundle.description import Bundle
from clinibundle.dicom.outlines import Grid
from clinibundle.dicom.rtstruct import read_rtstruct
from clinibundle.errors import OutputError, UnsuitableInput
from clinibundle.workflows.write_objects import Objects, refuse_impossible, write_objects
from command_line import Program
from dicom.made_volumes import ct_series, lps_grid, noise, read, save_all
from toy_bundle import make_toy_bundle, make_toy_volume_bundle

SHAPE = (5, 12, 16)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle(make_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy_bright"))


def written(bundle: Bundle, folder: Path, also: list[str], tilt: float = 0) -> tuple[np.ndarray, Grid]:
    """The label map of a case whose objects are written into a folder, and the grid that it lies on."""
    series = ct_series(noise(SHAPE), lps_grid(turn=(20, -10, 5), shear=(0, tilt)))
    volume = read(save_all(series, folder / "study"), tilt_allowed=bool(tilt))
    label_map = (np.random.default_rng(1).random(SHAPE[::-1]) < 0.6).astype(np.uint8)
    refuse_impossible(bundle, volume, also)
    case = Objects(volume, SimpleNamespace(label_map=label_map, probability={}, weights_sha256="ab" * 32), [], [])
    write_objects(folder, bundle, bundle.dicom, case, also=also)
    return label_map.T, Grid(volume.affine_lps, SHAPE, tuple(volume.source.sop_instance_uids))


@pytest.mark.parametrize("tilt", [0, 0.6])
def test_a_volume_becomes_contours_and_lines_as_well(bundle, tmp_path, tilt):
    label_map, grid = written(bundle, tmp_path, ["rtstruct", "gsps"], tilt)
    found = read_rtstruct(tmp_path / "outline_rtstruct.dcm", grid)
    np.testing.assert_array_equal(found.label_map, label_map)
    assert found.names == {1: "Bright"}
    state = pydicom.dcmread(tmp_path / "outline_gsps.dcm")
    assert [i.ReferencedSOPInstanceUID for i in state.ReferencedSeriesSequence[0].ReferencedImageSequence] == list(
        grid.sop_instance_uids
    )
    colour = pydicom.dcmread(tmp_path / "outline_rtstruct.dcm").ROIContourSequence[0].ROIDisplayColor
    assert tuple(colour) == bundle.report.colours[0]


def test_nothing_is_written_that_was_not_asked_for(bundle, tmp_path):
    written(bundle, tmp_path, [])
    assert not list(tmp_path.glob("outline_*"))
    assert (tmp_path / "segmentation.dcm").is_file()


def test_pet_is_refused_as_presentation_state_and_taken_as_contours(bundle, tmp_path):
    series = ct_series(noise(SHAPE), RescaleSlope=lambda number: 1 + number)
    volume = read(save_all(series, tmp_path / "study"))
    refuse_impossible(bundle, volume, ["rtstruct"])
    with pytest.raises(OutputError, match="of different rescale"):
        refuse_impossible(bundle, volume, ["gsps"])


def test_a_bundle_that_does_not_know_dicom_is_refused(bundle, tmp_path):
    volume = read(save_all(ct_series(noise(SHAPE)), tmp_path / "study"))
    with pytest.raises(UnsuitableInput, match="--also gsps needs DICOM pictures and a bundle that says"):
        refuse_impossible(SimpleNamespace(dicom=None), volume, ["gsps"])


def test_a_film_gets_its_lines_and_is_refused_contours_before_the_bundle_is_loaded(
    bundle, tmp_path, clinibundle: Program
):
    assert clinibundle("phantom", bundle.root, tmp_path / "made", "--cases", 1, "--dicom").code == 0
    film = tmp_path / "made" / "dicom" / "phantom-000"
    done = clinibundle("segment", bundle.root, film, "--output-dir", tmp_path / "out", "--also", "gsps")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "outline_gsps.dcm").is_file()
    assert not (tmp_path / "out" / "outline_rtstruct.dcm").exists()
    refused = clinibundle("segment", bundle.root, film, "--output-dir", tmp_path / "no", "--also", "rtstruct")
    assert refused.code == 1
    assert "no RTSTRUCT is made for a source without a place in the patient" in refused.err
    assert "loading" not in refused.err
    assert not (tmp_path / "no").exists()


def test_a_picture_is_refused(bundle, tmp_path, clinibundle: Program):
    assert clinibundle("phantom", bundle.root, tmp_path / "made", "--cases", 1).code == 0
    picture = tmp_path / "made" / "images" / "phantom-000.png"
    refused = clinibundle("segment", bundle.root, picture, "--output-dir", tmp_path / "no", "--also", "gsps")
    assert (refused.code, "--also gsps needs DICOM pictures" in refused.err) == (1, True)


def test_a_moving_picture_is_made_of_any_volume_and_of_no_flat_picture(tmp_path: Path, clinibundle: Program) -> None:
    toy = make_toy_volume_bundle(tmp_path / "toy_ct")
    values = np.random.default_rng(0).integers(-1000, -900, (16, 12, 5)).astype(np.int16)
    values[4:9, 3:8, 2] = 300
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    ran = clinibundle("segment", toy, tmp_path / "scan.nii.gz", "-o", tmp_path / "out", "--also", "gif")
    assert ran.code == 0, ran.err
    with Image.open(tmp_path / "out" / "slices.gif") as gif:
        assert gif.n_frames == 5
    flat = make_toy_bundle(tmp_path / "toy_flat")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)).save(tmp_path / "film.png")
    refused = clinibundle("segment", flat, tmp_path / "film.png", "-o", tmp_path / "none", "--also", "gif")
    assert refused.code == 1 and "this is a flat picture" in refused.err and not (tmp_path / "none").exists()
