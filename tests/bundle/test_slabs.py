"""A volume that is looked at in slabs gets the answer that plain MONAI gives of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from scipy import ndimage

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.memory import Plan
from clinibundle.bundle.predict import Prediction, Predictor
from clinibundle.bundle.slabs import slabs_of
from clinibundle.errors import BundleError
from clinibundle.geometry import turn_lps_ras
from clinibundle.volume import Source, Volume
from dicom.made_volumes import lps_grid
from toy_slices import MEMORY, SMALL_MM3, make_toy_slice_bundle

SPACING_MM = (0.9, 1.1, 2.5)
SHAPE = (40, 37, 10)
PLACES = {
    "axial": lps_grid(SPACING_MM, (-20.0, 31.0, -140.0)),
    "slices from head to foot": lps_grid((0.9, 1.1, -2.5), (-20.0, 31.0, -140.0)),
    "oblique": lps_grid(SPACING_MM, (-20.0, 31.0, -140.0), turn=(20, -15, 25)),
    "prone and oblique": lps_grid(SPACING_MM, (-20.0, 31.0, -140.0), turn=(8, 5, 170)),
    "sagittal": lps_grid(SPACING_MM, (-20.0, 31.0, -140.0), turn=(0, 90, 90)),
    "coronal": lps_grid(SPACING_MM, (-20.0, 31.0, -140.0), turn=(90, 0, 0)),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_slice_bundle(tmp_path_factory.mktemp("slices") / "toy_slices")


def ct(affine: np.ndarray, array: np.ndarray | None = None) -> Volume:
    """Soft blobs in Hounsfield units, some of them too small to stay."""
    if array is None:
        noise = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(SHAPE), 1.2)
        array = (noise / noise.std() * 300 - 300).astype(np.int16)
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(array, affine, spacing, "hounsfield", Source("dicom", "case", "nii.gz"))


def by_plain_monai(root: Path, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Label map and probability by the bundle's own config, all of it, on the whole volume."""
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.yaml"))
    parser["preprocessing"]["transforms"] = parser["preprocessing"]["transforms"][2:]
    parser["postprocessing"]["transforms"] = parser["postprocessing"]["transforms"][:-1]
    parser.parse()
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(root / "models" / "model.pt"))
    image = MetaTensor(
        torch.from_numpy(volume.array[None].astype(np.float32)),
        affine=torch.from_numpy(turn_lps_ras(volume.affine_lps)),
    )
    with torch.inference_mode():
        data = parser.get_parsed_content("preprocessing")({"image": image})
        logits = parser.get_parsed_content("inferer")(data["image"].as_tensor()[None], network.eval())[0]
        pred = MetaTensor(logits, meta=data["image"].meta, applied_operations=data["image"].applied_operations)
        data = parser.get_parsed_content("postprocessing")({**data, "pred": pred})
    return np.asarray(data["pred"])[0], np.asarray(data["probability"])[0]


def in_slabs(root: Path, volume: Volume, count: int, monkeypatch: pytest.MonkeyPatch) -> Prediction:
    monkeypatch.setattr("clinibundle.bundle.predict.plan_run", lambda *_: Plan(count))
    return Predictor(Bundle(root), "cpu")(volume)


def with_transforms(root: Path, section: str, transforms: list[dict[str, Any]]) -> None:
    path = root / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    config[section]["transforms"] = transforms
    path.write_text(yaml.safe_dump(config, sort_keys=False))


EVERY_THICKNESS = tuple(range(1, SHAPE[2] + 1))


@pytest.mark.parametrize("place", PLACES)
def test_slabs_of_any_thickness_give_the_answer_of_the_whole(
    root: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = ct(PLACES[place])
    label_map, probability = by_plain_monai(root, volume)
    assert 0.02 < label_map.mean() < 0.5 and label_map.sum() < (probability > 0.5).sum()
    for count in EVERY_THICKNESS if place == "oblique" else (1, 4, SHAPE[2]):
        found = in_slabs(root, volume, count, monkeypatch)
        np.testing.assert_array_equal(found.label_map, label_map, err_msg=f"{count} slabs")
        np.testing.assert_allclose(found.probability[1], probability, atol=2.5e-4)


def test_more_slabs_than_a_sagittal_volume_has_slices_are_cut_across_the_axis_from_foot_to_head(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = ct(PLACES["sagittal"])
    label_map, _ = by_plain_monai(root, volume)
    across = int(np.argmax(np.abs(volume.affine_lps[2, :3])))
    assert across != 2
    found = in_slabs(root, volume, SHAPE[across], monkeypatch)
    np.testing.assert_array_equal(found.label_map, label_map)


def test_the_halo_is_needed(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = make_toy_slice_bundle(tmp_path / "toy_slices")
    metadata = json.loads((other / "configs" / "metadata.json").read_text())
    metadata["memory"]["slabs"]["halo_slices"] = 1
    (other / "configs" / "metadata.json").write_text(json.dumps(metadata))
    volume = ct(PLACES["axial"])
    label_map, _ = by_plain_monai(root, volume)
    assert (in_slabs(other, volume, 5, monkeypatch).label_map != label_map).any()


def test_an_object_that_a_border_cuts_into_small_pieces_stays_and_a_small_one_goes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.full(SHAPE, -1000, np.int16)
    array[10:13, 10:13, 5:9] = 1500
    array[30:32, 30:32, 7] = 1500
    volume = ct(PLACES["axial"], array)
    label_map, probability = by_plain_monai(root, volume)
    _, count = ndimage.label(label_map, np.ones((3, 3, 3)))
    _, before = ndimage.label(probability > 0.5, np.ones((3, 3, 3)))
    assert (count, before) == (1, 2)
    # In slabs of one slice every piece is smaller than what is removed.
    voxel_mm3 = np.prod(SPACING_MM)
    assert max(label_map.sum(axis=(0, 1))) * voxel_mm3 < SMALL_MM3 < label_map.sum() * voxel_mm3
    for count in (2, 3, 7, SHAPE[2]):
        np.testing.assert_array_equal(in_slabs(root, volume, count, monkeypatch).label_map, label_map)


@pytest.mark.parametrize(
    "clean",
    [
        {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"},
        {"_target_": "FillHolesd", "keys": ["pred"]},
        {"_target_": "monai.transforms.RemoveSmallObjectsd", "keys": "pred", "min_size": 9},
    ],
    ids=lambda clean: clean["_target_"],
)
def test_every_way_of_cleaning_is_done_on_the_whole(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: dict[str, Any]
) -> None:
    other = make_toy_slice_bundle(tmp_path / "toy_slices")
    transforms = yaml.safe_load((other / "configs" / "inference.yaml").read_text())["postprocessing"]["transforms"]
    with_transforms(other, "postprocessing", [*transforms[:-2], clean, transforms[-1]])
    # A bright shell around a dark core, whose every slice but two is an open ring, and another object beside it.
    array = np.full(SHAPE, -1000, np.int16)
    array[8:22, 8:22, 1:9] = 1500
    array[12:18, 12:18, 4:7] = -1000
    array[30:36, 28:34, 3:6] = 1500
    volume = ct(PLACES["axial"], array)
    label_map, _ = by_plain_monai(other, volume)
    for count in (1, 4, SHAPE[2]):
        np.testing.assert_array_equal(in_slabs(other, volume, count, monkeypatch).label_map, label_map)


def test_a_tilt_within_the_gates_tolerance_does_not_shift_slabs_against_each_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheared = PLACES["axial"].copy()
    sheared[0, 2] += np.tan(np.radians(0.09)) * SPACING_MM[2]
    volume = ct(sheared)
    whole = in_slabs(root, volume, 1, monkeypatch)
    for count in (2, 5, SHAPE[2]):
        np.testing.assert_array_equal(in_slabs(root, volume, count, monkeypatch).label_map, whole.label_map)


def test_a_volume_in_which_nothing_is_found_is_empty(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = in_slabs(root, ct(PLACES["axial"], np.full(SHAPE, -1000, np.int16)), 3, monkeypatch)
    assert not found.label_map.any() and found.label_map.dtype == np.uint8


def test_slabs_cover_every_slice_once_and_differ_by_one_slice_at_most() -> None:
    for slices, count, halo in [(14, 4, 2), (5, 5, 0), (100, 7, 3), (1, 1, 2)]:
        slabs = slabs_of(slices, count, halo)
        assert [k for slab in slabs for k in range(slices)[slab.core]] == list(range(slices))
        sizes = {slab.core.stop - slab.core.start for slab in slabs}
        assert max(sizes) - min(sizes) <= 1
        assert all(
            slab.seen == slice(max(0, slab.core.start - halo), min(slices, slab.core.stop + halo)) for slab in slabs
        )


# What a bundle may not say


def test_a_bundle_that_resamples_between_slices_cannot_be_cut(tmp_path: Path) -> None:
    root = make_toy_slice_bundle(tmp_path / "toy_slices")
    transforms = yaml.safe_load((root / "configs" / "inference.yaml").read_text())["preprocessing"]["transforms"]
    transforms[3]["pixdim"] = [1.4, 1.4, 1.25]
    with_transforms(root, "preprocessing", transforms)
    with pytest.raises(BundleError, match=r"'toy_slices' makes 19 slices of 10.*leave 'slabs' out of metadata\.json"):
        Predictor(Bundle(root), "cpu")(ct(PLACES["axial"]))


@pytest.mark.parametrize("change", ["in between", "other key"])
def test_cleaning_that_cannot_be_put_off_to_the_end_is_refused(tmp_path: Path, change: str) -> None:
    root = make_toy_slice_bundle(tmp_path / "toy_slices")
    transforms = yaml.safe_load((root / "configs" / "inference.yaml").read_text())["postprocessing"]["transforms"]
    if change == "in between":
        transforms[-2], transforms[-3] = transforms[-3], transforms[-2]
    else:
        transforms[-2]["keys"] = "probability"
    with_transforms(root, "postprocessing", transforms)
    with pytest.raises(BundleError, match="cleans whole objects before the end of its postprocessing, or elsewhere"):
        Predictor(Bundle(root), "cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slabs": {"axis": "SI", "halo_slices": 2, "statistics": "volume"}}, r"memory\.slabs\.statistics"),
        ({"slabs": {"axis": "SI", "statistics": "none"}}, r"memory\.slabs\.halo_slices"),
        ({"slabs": {"axis": "up", "halo_slices": 2, "statistics": "none"}}, r"memory\.slabs\.axis"),
        ({"network_spacing_mm": [1.4, 1.4, 2.0]}, "what is resampled along SI cannot be cut across it"),
        ({"network_spacing_mm": [0, None, None]}, "must be above 0"),
        ({"bytes": 3}, r"memory\.bytes"),
    ],
)
def test_a_statement_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    root = make_toy_slice_bundle(tmp_path / "toy_slices", MEMORY | change)
    with pytest.raises(BundleError, match=said):
        _ = Bundle(root).metadata
