"""Every command works on a bundle that no line of the application knows, in bundles/ of the current folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from clinibundle.cli.app import app
from command_line import SIDE, Program, Ran, write_squares
from made_ball import axial, ball, save_ball
from toy_bundle import make_toy_bundle, make_toy_volume_bundle

# The bundle's network is told that everything brighter than this share of the range is foreground.
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of somebody's own: two bundles, a data folder and a CT, which the tests below add to."""
    folder = tmp_path_factory.mktemp("project")
    make_toy_bundle(folder / "bundles" / "toy_bright", THRESHOLD)
    make_toy_volume_bundle(folder / "bundles" / "toy_ct")
    save_ball(folder / "ct")
    write_squares(folder / "data", "bjmca")
    return folder


@pytest.fixture
def run(place: Path, clinibundle: Program, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.chdir(place)

    def run_well(line: str) -> Ran:
        ran = clinibundle(*line.split())
        assert ran.code == 0, ran.err
        return ran

    return run_well


@pytest.fixture(scope="module")
def made(place: Path) -> Path:
    """Where `phantom` puts its cases."""
    return place / "made"


def test_list(run) -> None:
    assert "toy_bright" in [row["name"] for row in json.loads(run("list --json").out)]


def test_show(run) -> None:
    assert "Finds what is bright." in run("show toy_bright").out


def test_phantom_then_segment_on_its_dicom_and_its_picture(run, place: Path, made: Path) -> None:
    run("phantom toy_bright made --cases 1 --dicom")
    run("segment toy_bright made/dicom/phantom-000 --output-dir film")
    run("segment toy_bright made/images/phantom-000.png --output-dir picture")
    picture = np.asarray(Image.open(made / "images" / "phantom-000.png")).astype(float)
    bright = (picture - picture.min()) / (picture.max() - picture.min()) > THRESHOLD
    for kind in ("film", "picture"):
        assert np.array_equal(np.asarray(Image.open(place / kind / "mask.png")) > 0, bright)
        found = json.loads((place / kind / "measurements.json").read_text())
        assert (found["bundle"], found["findings"][0]["voxels"]) == ("toy_bright", bright.sum())
        assert "Bright spots" in (place / kind / "report.html").read_text()
    seg = highdicom.seg.segread(place / "film" / "segmentation.dcm")
    assert seg.get_segment_description(1).segment_label == "Bright"


def test_studies(run, place: Path) -> None:
    (study,) = json.loads(run("studies ct --json --no-cache").out)["studies"]
    assert study["series"][0]["volumes"][0]["slices"] == 12


def test_segment_on_a_ct_and_convert_what_it_wrote(run, place: Path) -> None:
    run("segment toy_ct ct --output-dir volume")
    run("convert volume/segmentation.dcm --output labels.nii.gz --source ct")
    run("convert labels.nii.gz --output again.dcm --source ct --bundle toy_ct")
    run("convert ct --output ct.nii.gz")
    for name in ("volume/mask.nii.gz", "labels.nii.gz"):
        np.testing.assert_array_equal(np.asarray(nibabel.load(place / name).dataobj).T, ball(axial()) > 0)
    np.testing.assert_array_equal(np.asarray(nibabel.load(place / "ct.nii.gz").dataobj).T, ball(axial()))
    first, second = (highdicom.seg.segread(place / name) for name in ("volume/segmentation.dcm", "again.dcm"))
    np.testing.assert_array_equal(first.pixel_array, second.pixel_array)
    assert second.get_segment_description(1).segment_label == "Bright"
    found = json.loads((place / "volume" / "measurements.json").read_text())
    assert (found["bundle"], found["findings"][0]["voxels"]) == ("toy_ct", (ball(axial()) > 0).sum())


def test_segment_on_a_folder_of_pictures(run, place: Path) -> None:
    run("segment toy_bright data/images --output-dir several")
    rows = {row["case"]: row for row in csv.DictReader((place / "several" / "summary.csv").open())}
    for name in "bjmca":
        truth = np.asarray(Image.open(place / "data" / "labels" / f"{name}.png")) > 0
        assert np.array_equal(np.asarray(Image.open(place / "several" / name / "mask.png")) > 0, truth)
        assert float(rows[name]["bright fraction"]) == pytest.approx(truth.sum() / SIDE**2, abs=1e-5)


def test_check(run) -> None:
    assert run("check toy_bright --dataset-dir data").out == "no problems found\n"


def test_evaluate(run, place: Path) -> None:
    run("evaluate toy_bright --dataset-dir data --output-dir figures")
    content = json.loads((place / "figures" / "metrics.json").read_text())
    assert content["cases"] == 5 and content["missed"] == 0
    assert content["summary"]["dice"]["mean"] == 1 and content["summary"]["hd95_px"]["mean"] == 0


def test_train_and_evaluate_what_it_left(run, place: Path) -> None:
    told = run("train toy_bright --dataset-dir data --epochs 3")
    weights = place / "runs" / "toy_bright" / "one" / "model.pt"
    assert told.out == f"best weights: {weights}\n"
    assert torch.load(weights, weights_only=True).keys() == {"weight", "bias"}
    run("train toy_bright --dataset-dir data --epochs 4 --resume --device cpu")
    assert (weights.parent / "checkpoint_epoch=4.pt").is_file()
    run(f"evaluate toy_bright --dataset-dir data --output-dir again --weights {weights}")


def test_inspect_pack_and_segment_with_what_was_packed(run, place: Path) -> None:
    bundle = make_toy_bundle(place / "own" / "toy_sent", THRESHOLD)
    # Its way to train is to copy files, which no clinic would take from another.
    (bundle / "configs" / "train.yaml").unlink()
    assert run(f"inspect {bundle}").out.endswith("toy_sent: clean\n")
    run(f"pack {bundle} --output sent.zip")
    run("inspect sent.zip")
    run("segment sent.zip data/images/a.png --output-dir by_zip")
    truth = np.asarray(Image.open(place / "data" / "labels" / "a.png")) > 0
    assert np.array_equal(np.asarray(Image.open(place / "by_zip" / "mask.png")) > 0, truth)


def test_prepare(run, place: Path) -> None:
    assert run("prepare toy_bright data prepared").out.startswith("5 cases (image_label_pairs) in prepared")
    assert len(json.loads((place / "prepared" / "datalist.json").read_text())["training"]) == 5


def test_no_command_is_forgotten_here() -> None:
    text = Path(__file__).read_text()
    for command in app.registered_commands:
        assert f'run("{command.name}' in text or f'run(f"{command.name}' in text or command.name == "version"
