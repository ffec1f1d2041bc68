"""Flat pictures, several of a patient, many without anything to find."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.workflows.evaluate import evaluate

SIDE = 20
GROUPS = {"p0": "p", "p1": "p", "q0": "q", "q1": "q", "q2": "q"}


def square(*places: slice) -> np.ndarray:
    picture = np.zeros((SIDE, SIDE), np.uint8)
    if places:
        picture[places] = 255
    return picture


def save(data: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    for folder, pixels in (("images", image), ("labels", label)):
        (data / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(data / folder / f"{name}.png")


def run(root: Path, data: Path, out: Path) -> dict[str, Any]:
    return evaluate(Bundle(root), data, out, (), {}, "cpu", False, Talk(quiet=True))


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """Of p a tumour of 100 pixels is found by half; of q one of 20 is missed, and one of two empty slices is clean."""
    data = tmp_path / "data"
    save(data, "p0", square(slice(0, 5), slice(0, 10)), square(slice(0, 10), slice(0, 10)))
    save(data, "p1", square(), square())
    save(data, "q0", square(), square(slice(0, 2), slice(0, 10)))
    save(data, "q1", square(slice(0, 1), slice(0, 10)), square())
    save(data, "q2", square(), square())
    rows = [
        {"image": f"images/{name}.png", "label": f"labels/{name}.png", "group": group, "fold": 0}
        for name, group in GROUPS.items()
    ]
    (data / "datalist.json").write_text(json.dumps({"training": rows}))
    return data


def test_beside_the_mean_over_slices_stand_pixels_patients_and_slices_with_and_without_something_to_find(
    toy_bundle: Path, slices: Path, tmp_path: Path
) -> None:
    content = run(toy_bundle, slices, tmp_path / "out")
    # Slices: 2/3, 1, 0, 0, 1. Pixels: tp 50, fp 10, fn 70. Patient p: 2/3, q: 0.
    assert content["summary"]["dice"]["mean"] == pytest.approx((2 / 3 + 2) / 5)
    assert content["pooled"]["dice"] == {"value": pytest.approx(100 / 180), "ci95": [0, pytest.approx(2 / 3)], "n": 5}
    assert content["pooled"]["sensitivity"]["value"] == pytest.approx(50 / 120)
    assert content["pooled"]["ppv"]["value"] == pytest.approx(50 / 60)
    assert (content["per_group"]["dice"]["mean"], content["per_group"]["dice"]["n"]) == (pytest.approx(1 / 3), 2)
    found = content["where_truth"]["dice"]
    assert (found["mean"], found["ci95"], found["n"]) == (pytest.approx(1 / 3), [0, pytest.approx(2 / 3)], 2)
    empty = {"cases": 3, "nothing_found": 2, "share": pytest.approx(2 / 3), "ci95": [0.5, 1]}
    assert content["where_empty"] == empty
    assert content["missed"] == 1


def test_what_stands_beside_the_means_is_in_the_report(toy_bundle: Path, slices: Path, tmp_path: Path) -> None:
    run(toy_bundle, slices, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    for name in ("dice, all pixels together", "dice, mean over groups", "nothing found, where there is nothing"):
        assert name in page


def test_the_table_has_the_counts_by_which_tables_can_be_pooled(toy_bundle: Path, slices: Path, tmp_path: Path) -> None:
    content = run(toy_bundle, slices, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "per_case.csv").open()))
    tp, fp, fn, tn = (sum(int(row[name]) for row in rows) for name in ("tp", "fp", "fn", "tn"))
    assert (tp, fp, fn, tn) == (50, 10, 70, 5 * SIDE**2 - 130)
    assert content["pooled"]["iou"]["value"] == pytest.approx(tp / (tp + fp + fn))


def test_a_case_for_itself_that_has_something_to_find_is_not_told_thrice(toy_bundle: Path, tmp_path: Path) -> None:
    save(tmp_path / "data", "a", square(slice(0, 5), slice(0, 10)), square(slice(0, 10), slice(0, 10)))
    run(toy_bundle, tmp_path / "data", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "all pixels together" in page and "over groups" not in page and "something to find" not in page


def test_the_list_gives_row_and_column_of_flat_pictures(toy_bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    # The mask that is found lies three rows above the true one.
    save(data, "a", square(slice(3, 4), slice(3, 4)), square(slice(6, 7), slice(3, 4)))
    row = {"image": "images/a.png", "label": "labels/a.png", "fold": 0, "spacing_mm": [0.5, 2.0]}
    (data / "datalist.json").write_text(json.dumps({"training": [row]}))
    assert run(toy_bundle, data, tmp_path / "out")["summary"]["hd95_mm"]["mean"] == 1.5


def test_flat_nifti_files_have_their_own_spacing(toy_bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder, at in (("images", 3), ("labels", 6)):
        (data / folder).mkdir(parents=True)
        pixels = np.zeros((SIDE, SIDE), np.uint8)
        pixels[at, 3] = 1
        nibabel.save(nibabel.Nifti1Image(pixels, np.diag([0.5, 2.0, 1.0, 1.0])), data / folder / "a.nii.gz")
    row = {"image": "images/a.nii.gz", "label": "labels/a.nii.gz", "fold": 0, "spacing_mm": [9.0, 9.0, 9.0]}
    (data / "datalist.json").write_text(json.dumps({"training": [row]}))
    assert run(toy_bundle, data, tmp_path / "out")["summary"]["hd95_mm"]["mean"] == 1.5


def test_flat_pictures_have_no_lesions_told_apart(toy_bundle: Path, slices: Path, tmp_path: Path) -> None:
    measure = toy_bundle / "configs" / "measure.yaml"
    described = yaml.safe_load(measure.read_text())
    described["findings"][0]["lesions"] = {"minimum_volume_ml": 0.03}
    measure.write_text(yaml.safe_dump(described))
    assert "lesions" not in run(toy_bundle, slices, tmp_path / "out")


def test_masks_on_another_grid_than_the_picture_are_shown_without_it(
    toy_bundle: Path, slices: Path, tmp_path: Path
) -> None:
    path = toy_bundle / "configs" / "evaluate.yaml"
    config = yaml.safe_load(path.read_text())
    smaller = {"_target_": "Resized", "keys": ["image", "label"], "spatial_size": [10, 10], "mode": "nearest"}
    config["dataset"]["transform"]["transforms"].append(smaller)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert run(toy_bundle, slices, tmp_path / "out")["cases"] == 5
    assert "on a grid that is not the picture" in (tmp_path / "out" / "report.html").read_text()
