"""Volumes: millimetres from their own affine, lesion by lesion, the telling slice, and no mask kept."""

from __future__ import annotations

import csv
import gc
import io
import json
import math
import re
import weakref
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.metrics import compute_hausdorff_distance
from PIL import Image

from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import BundleError, DataFolderError
from clinibundle.metrics.binary import count_pixels
from clinibundle.metrics.surface import surface_dice
from clinibundle.workflows.evaluate import evaluate
from clinibundle.workflows.evaluate.measured import Masks, Measured
from clinibundle.workflows.evaluate.worst import WorstCases
from command_line import Program
from toy_bundle import ARGMAX, SOFTMAX, make_toy_volume_bundle

SHAPE = (12, 8, 6)
SPACING_MM = (1.0, 2.0, 5.0)
VOXEL_ML = 0.01
RAS = np.diag([*SPACING_MM, 1.0])
AIR = -1000
# What the network of the toy bundle makes of a value is the logistic function of a tenth of it.
CONFIDENCE = {hu: 1 / (1 + math.exp(-hu / 10)) for hu in (10, 20, 30)}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(make_toy_volume_bundle(tmp_path / "toy_ct"))


def change(bundle: Bundle, name: str, **values: Any) -> Bundle:
    """The bundle with other values in one of its configs."""
    path = bundle.root / "configs" / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}, sort_keys=False))
    return Bundle(bundle.root)


@pytest.fixture
def lesion_bundle(bundle: Bundle) -> Bundle:
    """Two voxels are a lesion, one is none."""
    finding = {"label": 1, "name": "bright", "lesions": {"minimum_volume_ml": 1.5 * VOXEL_ML}}
    return change(bundle, "measure", findings=[finding])


def volume(**boxes: int) -> np.ndarray:
    """A scan with a value in each box, named such as `x2y3z123`: the index along x, y and the indices along z."""
    values = np.full(SHAPE, AIR, np.int16)
    for box, value in boxes.items():
        x, y, z = ([int(digit) for digit in part] for part in box[1:].replace("y", " ").replace("z", " ").split())
        values[np.ix_(x, y, z)] = value
    return values


def save(data: Path, name: str, image: np.ndarray, label: np.ndarray, affine: np.ndarray = RAS) -> None:
    for folder, values in (("images", image), ("labels", label.astype(np.uint8))):
        (data / folder).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, affine), data / folder / f"{name}.nii.gz")


def listed(data: Path, **facts: dict[str, Any]) -> None:
    rows = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz", "fold": 0, **f} for n, f in facts.items()]
    (data / "datalist.json").write_text(json.dumps({"training": rows}))


def run(bundle: Bundle, data: Path, out: Path) -> dict[str, Any]:
    return evaluate(bundle, data, out, (), {}, "cpu", False, Talk(quiet=True))


def table(out: Path) -> dict[str, dict[str, str]]:
    return {row["case"]: row for row in csv.DictReader((out / "per_case.csv").open())}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three scans of two patients: in `a` one of two lesions is found and there is one false find, `b` is empty."""
    data = tmp_path / "data"
    # Of a lesion of four voxels three are found; three voxels are found where nothing is; one voxel is too small.
    found = volume(x2y2z123=10, x7y5z123=30, x9y7z5=30)
    save(data, "a", found, volume(x2y2z1234=1, x9y1z0=1) > 0)
    save(data, "b", volume(), volume() > 0)
    save(data, "c", volume(x4y4z12=20), volume(x4y4z12=1) > 0)
    listed(data, a={"group": "p"}, b={"group": "p"}, c={"group": "q"})
    return data


def test_distances_are_in_millimetres_of_the_affine_and_not_of_the_list(bundle: Bundle, tmp_path: Path) -> None:
    data = tmp_path / "data"
    save(data, "along_x", volume(x2y2z2=10), volume(x5y2z2=1) > 0)
    save(data, "along_y", volume(x2y2z2=10), volume(x2y5z2=1) > 0)
    save(data, "along_z", volume(x2y2z2=10), volume(x2y2z5=1) > 0)
    turned = np.array([[0, 0, 1.0, 0], [5, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]])
    save(data, "turned", volume(x2y2z2=10), volume(x5y2z2=1) > 0, turned)
    listed(data, **{name: {"spacing_mm": list(SPACING_MM)} for name in ("along_x", "along_y", "along_z", "turned")})
    run(bundle, data, tmp_path / "out")
    found = {name: float(row["hd95_mm"]) for name, row in table(tmp_path / "out").items()}
    assert found == {"along_x": 3, "along_y": 6, "along_z": 15, "turned": 15}


def test_the_distance_of_an_anisotropic_volume_is_that_of_monai(bundle: Bundle, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    image = np.where(random.random(SHAPE) < 0.1, 50, AIR).astype(np.int16)
    truth = random.random(SHAPE) < 0.05
    save(tmp_path / "data", "a", image, truth)
    content = run(bundle, tmp_path / "data", tmp_path / "out")
    both = (torch.from_numpy(mask)[None, None].float() for mask in (image > 0, truth))
    expected = compute_hausdorff_distance(*both, include_background=True, percentile=95, spacing=SPACING_MM).item()
    assert content["summary"]["hd95_mm"]["mean"] == pytest.approx(expected, abs=1e-5)


def test_a_scans_lesions_are_counted_and_its_volume_is_compared(
    lesion_bundle: Bundle, scans: Path, tmp_path: Path
) -> None:
    run(lesion_bundle, scans, tmp_path / "out")
    row = table(tmp_path / "out")["a"]
    expected = {
        "true_lesions": 2,
        "predicted_lesions": 2,
        "found_lesions": 1,
        "missed_lesions": 1,
        "false_finds": 1,
        "lesion_sensitivity": 0.5,
        "lesion_ppv": 0.5,
        # Six voxels of predicted lesions and five true ones.
        "volume_error_ml": 0.01,
        "absolute_volume_error_ml": 0.01,
        "relative_volume_error": 0.2,
        # tp and so on of all voxels, the one that is no lesion with them.
        "tp": 3,
        "fp": 4,
        "fn": 2,
        "tn": math.prod(SHAPE) - 9,
    }
    assert {name: float(row[name]) for name in expected} == expected
    found, truth = (np.asarray(nibabel.load(scans / kind / "a.nii.gz").dataobj) > 0 for kind in ("images", "labels"))
    assert float(row["surface_dice_2mm"]) == pytest.approx(surface_dice(found, truth, SPACING_MM, 2.0), abs=1e-5)
    empty = table(tmp_path / "out")["b"]
    assert (empty["true_lesions"], empty["lesion_sensitivity"], empty["surface_dice_2mm"]) == ("0", "", "1.0")


def test_all_scans_together_say_how_many_lesions_were_found(lesion_bundle: Bundle, scans: Path, tmp_path: Path) -> None:
    lesions = run(lesion_bundle, scans, tmp_path / "out")["lesions"]
    assert lesions["hit_rule"] == "IoU of at least 0.1"
    stated = ("scans", "minimum_volume_ml", "surface_tolerance_mm", "true_lesions", "found_lesions", "missed_lesions")
    assert [lesions[name] for name in stated] == [3, 0.015, 2.0, 3, 2, 1]
    assert (lesions["predicted_lesions"], lesions["false_finds"], lesions["true_lesions_below_minimum"]) == (3, 1, 1)
    # Patient p alone has 1 of 2 lesions found and 1 false find in 2 scans, q alone 1 of 1 and none.
    sensitivity, false_finds = lesions["lesion_sensitivity"], lesions["false_finds_per_scan"]
    assert (sensitivity["mean"], sensitivity["ci95"], sensitivity["n"]) == (pytest.approx(2 / 3), [0.5, 1], 3)
    assert (false_finds["mean"], false_finds["ci95"], false_finds["n"]) == (pytest.approx(1 / 3), [0, 0.5], 3)
    assert lesions["per_scan"]["lesion_ppv"]["mean"] == pytest.approx((0.5 + 1) / 2)


def test_froc_turns_the_threshold_of_the_lesions_confidence(lesion_bundle: Bundle, scans: Path, tmp_path: Path) -> None:
    froc = run(lesion_bundle, scans, tmp_path / "out")["lesions"]["froc"]
    points = [
        (point["threshold"], point["lesion_sensitivity"]["mean"], point["false_finds_per_scan"]["mean"])
        for point in froc["points"]
    ]
    steps = [math.floor(CONFIDENCE[hu] * 100) / 100 for hu in (10, 20, 30)]
    third = pytest.approx(1 / 3)
    assert points == [
        (steps[0], pytest.approx(2 / 3), third), (steps[1], third, third), (steps[2], 0, third), (1.0, 0, 0)
    ]  # fmt: skip
    assert froc["sensitivity_at_false_finds_per_scan"] == {
        "0.125": 0, "0.25": 0, **dict.fromkeys(["0.5", "1", "2", "4", "8"], pytest.approx(2 / 3))
    }  # fmt: skip
    assert froc["score"] == pytest.approx(5 * 2 / 3 / 7)
    assert "FROC" in (tmp_path / "out" / "report.html").read_text()


def test_without_a_probability_there_is_no_froc(lesion_bundle: Bundle, scans: Path, tmp_path: Path) -> None:
    plain = change(lesion_bundle, "evaluate", postprocessing={"_target_": "Compose", "transforms": [SOFTMAX, ARGMAX]})
    content = run(plain, scans, tmp_path / "out")
    assert content["lesions"]["froc"] is None and content["lesions"]["found_lesions"] == 2
    assert "FROC" not in (tmp_path / "out" / "report.html").read_text()


def test_a_probability_that_is_not_the_foregrounds_is_refused(
    lesion_bundle: Bundle, scans: Path, tmp_path: Path
) -> None:
    copy = {"_target_": "CopyItemsd", "keys": "pred", "names": "probability"}
    both = change(
        lesion_bundle, "evaluate", postprocessing={"_target_": "Compose", "transforms": [SOFTMAX, copy, ARGMAX]}
    )
    with pytest.raises(
        DataFolderError, match=r"'probability' of the shape \(2, 12, 8, 6\), expected .* \(1, 12, 8, 6\)"
    ):
        run(both, scans, tmp_path / "out")


def test_the_bundle_says_what_a_hit_is_and_how_near_surfaces_must_be(
    lesion_bundle: Bundle, scans: Path, tmp_path: Path
) -> None:
    strict = change(lesion_bundle, "measure", hit={"overlap": "dice", "threshold": 0.9}, surface_tolerance_mm=0.5)
    lesions = run(strict, scans, tmp_path / "out")["lesions"]
    # 3 of 4 voxels are a Dice of 6/7.
    assert (lesions["hit_rule"], lesions["found_lesions"], lesions["false_finds"]) == ("Dice of at least 0.9", 1, 2)
    assert "surface_dice_0.5mm" in lesions["per_scan"] and "surface_dice_0.5mm" in table(tmp_path / "out")["a"]


@pytest.mark.parametrize(
    "hit", [{"overlap": "dice"}, {"overlap": "near"}, {"overlap": "any", "threshold": 0.5}, {"overlap": "any", "x": 1}]
)
def test_a_rule_that_cannot_be_is_refused(bundle: Bundle, hit: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"measure.yaml: 'hit"):
        _ = change(bundle, "measure", hit=hit).measure


def test_a_bundle_that_asks_for_no_lesions_gets_none(bundle: Bundle, scans: Path, tmp_path: Path) -> None:
    content = run(bundle, scans, tmp_path / "out")
    assert "lesions" not in content and "true_lesions" not in table(tmp_path / "out")["a"]


def test_the_terminal_shows_what_stands_beside_the_means(
    lesion_bundle: Bundle, scans: Path, tmp_path: Path, clinibundle: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    ran = clinibundle("evaluate", lesion_bundle.root, "--dataset-dir", scans, "--output-dir", tmp_path / "out")
    assert ran.code == 0, ran.err
    lines = {name: cells for name, *cells in (re.split(" {2,}", line.strip()) for line in ran.out.splitlines())}
    # tp 3 + 2, fp 4, fn 2.
    assert (lines["dice, all pixels together"][0], lines["dice, all pixels together"][-1]) == ("0.625", "3 cases")
    assert lines["dice, mean over groups"][-1] == "2 groups"
    assert lines["dice, where there is something to find"][-1] == "2 cases"
    assert lines["nothing found, where there is nothing"] == ["1", "1", "1", "1 case"]
    assert lines["lesions found (IoU of at least 0.1)"] == ["0.6667", "0.5", "1", "3 lesions"]
    assert lines["false finds per scan"] == ["0.3333", "0", "0.5", "3 scans"]
    assert lines["FROC score, 1/8 to 8 false finds per scan"] == ["0.4762", "–", "–", "3 scans"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(name in page for name in ("dice, mean over groups", "lesions found (IoU of at least 0.1)", "FROC score"))


def test_cases_that_cannot_be_compared_are_listed_and_the_others_counted(
    lesion_bundle: Bundle, scans: Path, tmp_path: Path
) -> None:
    whole = (scans / "images" / "b.nii.gz").read_bytes()
    (scans / "images" / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    small = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), RAS)
    nibabel.save(small, scans / "labels" / "c.nii.gz")
    content = run(lesion_bundle, scans, tmp_path / "out")
    assert content["cases"] == 1 and [case["case"] for case in content["refused"]] == ["b", "c"]
    assert "(12, 8, 6) and the true mask (3, 3, 3)" in content["refused"][1]["reason"]


def masks_of(prediction: np.ndarray, truth: np.ndarray, affine: np.ndarray = RAS) -> tuple[Measured, Masks]:
    counts = count_pixels(prediction, truth)
    facts = {"case": "a", "group": "a", "fold": None}
    return Measured(facts, {"dice": counts.ratios()["dice"]}, counts, None, None, 0.0), Masks(prediction, truth, affine)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LPI", "SAR"])
def test_a_volumes_figure_is_the_slice_with_most_disagreement_as_radiologists_look_at_it(
    tmp_path: Path, codes: str
) -> None:
    # Along right, front and up: most is found in slice 1, but in slice 3 a voxel is false on the left, in front.
    image, truth = np.zeros((24, 16, 5), np.int16), np.zeros((24, 16, 5), bool)
    truth[4:20, 4:12, 1] = True
    prediction = truth.copy()
    prediction[2:6, 10:14, 3] = True
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    affine = RAS @ nibabel.orientations.inv_ornt_aff(turn, image.shape)
    image, prediction, truth = (nibabel.orientations.apply_orientation(a, turn) for a in (image, prediction, truth))
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "a.nii.gz")

    worst = WorstCases("dice", False, None)
    worst.consider(*masks_of(prediction, truth, affine), str(tmp_path / "a.nii.gz"))
    (figure,) = worst.figures()

    assert figure.caption == "a: dice 0.941, slice 4 of 5"
    pixels = np.asarray(Image.open(io.BytesIO(figure.png)).convert("RGB")).astype(int)
    assert pixels.shape[:2] == (16, 24)
    rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 2] > 100)
    # The patient's front is up, and his left on the right: columns 23 - 5 to 23 - 2, rows 15 - 13 to 15 - 10.
    assert (columns.mean(), rows.mean()) == (19.5, 3.5)


def test_of_all_cases_only_the_worst_are_kept_and_of_those_one_slice(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), RAS), tmp_path / "a.nii.gz")
    worst, kept = WorstCases("dice", False, None), []
    for size in range(1, 12):
        truth = np.zeros(SHAPE, bool)
        truth[:size] = True
        measured, masks = masks_of(truth & (np.arange(SHAPE[2]) < 3), truth)
        worst.consider(measured, masks, str(tmp_path / "a.nii.gz"))
        kept += [weakref.ref(masks), weakref.ref(masks.prediction), weakref.ref(masks.truth)]
    del measured, masks, truth
    gc.collect()
    assert [reference() for reference in kept] == [None] * 33
    assert len(worst.figures()) == 6
    assert max(case.labels.nbytes for case in worst._worst) == SHAPE[0] * SHAPE[1]
    assert all(case.labels.base is None for case in worst._worst)


def test_out_of_fold_each_case_is_measured_with_its_own_folds_weights(bundle: Bundle, tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = []
    for fold in range(3):
        name = f"scan{fold}.nii.gz"
        for kind, values in (("images", volume(x12y3z12=20)), ("labels", (volume(x12y3z12=20) > 0).astype(np.uint8))):
            (data / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, RAS), data / kind / name)
        rows.append({"image": f"images/{name}", "label": f"labels/{name}", "fold": fold, "group": f"p{fold}"})
    (data / "datalist.json").write_text(json.dumps({"training": rows}))
    right = torch.load(bundle.weights, weights_only=True)
    # Blind: whatever it sees is background.
    blind = {name: torch.zeros_like(tensor) for name, tensor in right.items()}
    blind["bias"][0] = 10
    torch.save(blind, tmp_path / "blind.pt")
    weights = {0: bundle.weights, 2: tmp_path / "blind.pt"}
    content = evaluate(bundle, data, tmp_path / "out", [], {}, "cpu", False, Talk(quiet=True), weights)
    with (tmp_path / "out" / "per_case.csv").open() as stream:
        found = {row["case"]: float(row["dice"]) for row in csv.DictReader(stream)}
    # Of fold 1 there are no weights.
    assert found == {"scan0": 1.0, "scan2": 0.0}
    assert set(content["weights_sha256"]) == {"0", "2"} and content["missed"] == 1
    assert content["fold"] == "each by its own weights (0, 2)"


def test_fold_weights_of_folds_that_no_case_is_in_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(volume(x12y3z12=20), RAS), data / kind / "scan.nii.gz")
    (data / "datalist.json").write_text(
        json.dumps({"training": [{"image": "images/scan.nii.gz", "label": "labels/scan.nii.gz", "fold": 1}]})
    )
    with pytest.raises(DataFolderError, match=r"is in the folds \[4\]"):
        evaluate(bundle, data, tmp_path / "out", [], {}, "cpu", False, Talk(quiet=True), {4: bundle.weights})


def test_a_fold_without_its_weights_is_wrong_usage(clinibundle: Program, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    ran = clinibundle(
        "evaluate", bundle.root, "--dataset-dir", tmp_path / "data", "-o", tmp_path / "out", "--fold-weights", "zero"
    )
    assert ran.code == 2 and "expected FOLD=PATH" in ran.err
