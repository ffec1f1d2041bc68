"""What the network sees, and what is made of its answer, is the same in training, evaluation and inference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from made_scans import draw_chest, write_list, write_pictures, write_volume
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from repository import ROOT
from scripts_lung_tumor_ct.slice_store import store_slices

BUNDLE = ROOT / "bundles" / "lung_tumor_ct"
RECIPES = ROOT / "configs" / "recipes"


def config(name: str, *overlays: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = ConfigParser.load_config_files(
        [str(BUNDLE / "configs" / f"{name}.yaml"), *map(str, overlays)]
    )
    return loaded


def parts(name: str, **settings: Any) -> ConfigParser:
    parser = ConfigParser(config(name))
    parser.update({"bundle_root": str(BUNDLE), **settings})
    return parser


@pytest.mark.parametrize("spacing_mm", [1.75, 2.0])
def test_training_and_inference_make_the_same_channels_of_a_volume(tmp_path: Path, spacing_mm: float) -> None:
    spacing = (spacing_mm, spacing_mm, 3.0)
    row = write_volume(tmp_path, "a", *draw_chest((100, 80, 7), spacing), spacing, "RAS")
    inferred = parts("inference").get_parsed_content("preprocessing")({"image": row["image"]})["image"]
    learnt = parts("train").get_parsed_content("validate#preprocessing")
    slices = store_slices([row], tmp_path / "store", spacing_mm=1.75)
    assert inferred.shape[0] == 5 and len(slices) == inferred.shape[-1] == 7
    for stored in slices:
        channels = learnt(stored)["image"]
        assert channels.shape == inferred.shape[:-1]
        # Half a HU, where a resampled value is rounded to be stored.
        limit = 1e-6 if spacing_mm == 1.75 else 0.55 / 1400
        assert float((channels - inferred[..., stored["slice"]].as_tensor()).abs().max()) <= limit


def test_evaluation_and_inference_treat_picture_and_answer_alike() -> None:
    evaluate, inference = config("evaluate"), config("inference")
    loading = evaluate["preprocessing"]["transforms"][:1], inference["preprocessing"]["transforms"][:2]
    assert [[part["_target_"] for part in parts] for parts in loading] == [
        ["scripts_lung_tumor_ct.load.LoadScand"], ["LoadImaged", "EnsureChannelFirstd"],
    ]  # fmt: skip
    assert evaluate["preprocessing"]["transforms"][1:] == inference["preprocessing"]["transforms"][2:]
    assert evaluate["inferer"] == inference["inferer"]
    last = [section["postprocessing"]["transforms"].pop() for section in (evaluate, inference)]
    assert [part["_target_"] for part in last] == ["scripts_lung_tumor_ct.load.KeepOwnSliced", "SaveImaged"]
    assert evaluate["postprocessing"] == inference["postprocessing"]


def test_training_sees_hounsfield_units_pixels_and_windows_as_inference_does() -> None:
    train, inference = config("train"), config("inference")
    steps = {part["_target_"]: part for part in inference["preprocessing"]["transforms"]}
    assert steps["Spacingd"]["pixdim"] == [train["spacing_mm"], train["spacing_mm"], -1]
    assert [steps["ScaleIntensityRanged"][key] for key in ("a_min", "a_max")] == train["window_hu"]
    assert all(steps["ScaleIntensityRanged"][key] == train["scale"][key] for key in ("b_min", "b_max", "clip"))
    windows = (train["validate"]["inferer"], inference["inferer"])
    assert len({str([part[key] for key in ("roi_size", "overlap", "mode")]) for part in windows}) == 1


def test_the_seed_recipe_sees_the_same_in_training_evaluation_and_inference(tmp_path: Path) -> None:
    evaluate, inference = (config(name, RECIPES / f"slices_2d_{name}.yaml") for name in ("evaluate", "inference"))
    assert evaluate["preprocessing"]["transforms"][1:] == inference["preprocessing"]["transforms"][2:]
    assert evaluate["inferer"] == inference["inferer"]
    train = config("train", RECIPES / "slices_2d.yaml")
    assert train["network_def"] == evaluate["network_def"] == inference["network_def"]
    parser = ConfigParser(train)
    row = write_volume(tmp_path, "a", *draw_chest((100, 80, 3), seed=2), axes="RAS")
    learnt = parser.get_parsed_content("validate#preprocessing")
    inferred = ConfigParser(inference).get_parsed_content("preprocessing")({"image": row["image"]})["image"]
    for stored in store_slices([row], tmp_path / "store", slice_size=train["slice_size"]):
        difference = learnt(stored)["image"] - inferred[..., stored["slice"]].as_tensor()
        assert float(difference.abs().max()) <= 0.55 / 3071


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network that has learnt nothing and finds a good deal everywhere."""
    torch.manual_seed(4)
    network = parts("inference").get_parsed_content("network_def").train()
    # Else the running statistics of a new network are those of nothing.
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.inference_mode():
        for _ in range(20):
            network(torch.rand(2, 5, 64, 64))
        answer = network.eval()(torch.rand(2, 5, 64, 64))
        last = next(value for value in reversed(list(network.parameters())) if value.shape == (2,))
        last[1] -= (answer[:, 1] - answer[:, 0]).median()
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


def evaluated(data: Path, weights: Path, output_dir: Path) -> list[dict[str, Any]]:
    """What evaluate.yaml leaves of each case, in the order of the list; before small finds are removed."""
    parser = parts("evaluate", dataset_dir=str(data), output_dir=str(output_dir), weights=str(weights))
    steps = parser["postprocessing"]["transforms"]
    # Whether a find is small depends on slices farther away than a picture's neighbours.
    parser["postprocessing"]["transforms"] = [step for step in steps if step["_target_"] != "RemoveSmallObjectsd"]
    parser["device"] = "$torch.device('cpu')"
    parser["inferer"]["roi_size"] = [64, 64]
    # Of the handlers only the first, which loads the weights.
    del parser["handlers"][1:]
    evaluator = parser.get_parsed_content("evaluator")
    left: list[dict[str, Any]] = []

    @evaluator.on(Events.ITERATION_COMPLETED)
    def _keep(engine: Engine) -> None:
        left.extend(engine.state.output)

    evaluator.run()
    return left


def test_a_picture_with_neighbours_gives_the_mask_of_its_slice_in_the_volume(tmp_path: Path, weights: Path) -> None:
    hu, label = draw_chest((64, 48, 6), (1.4, 1.4, 3.0), tumour_mm=(10.0, 0.0, 0.0), radius_mm=6)
    volumes, pictures = tmp_path / "volumes", tmp_path / "pictures"
    write_list(volumes, [write_volume(volumes, "a", hu, label, (1.4, 1.4, 3.0), "RAS", fold=0)])
    write_list(pictures, write_pictures(pictures, "a", hu, label, range(20, 26), fold=0, spacing_mm=[1.4, 1.4]))
    (volume,) = evaluated(volumes, weights, tmp_path / "out")
    slices = evaluated(pictures, weights, tmp_path / "out")
    assert len(slices) == 6 and tuple(volume["pred"].shape) == (1, 64, 48, 6)
    for place, picture in enumerate(slices):
        assert tuple(picture["pred"].shape) == tuple(picture["label"].shape) == (1, 64, 48)
        for key, limit in (("probability", 1e-5), ("pred", 0), ("label", 0)):
            # The volume's axes run to the right and to the front, the picture's to the left and to the back.
            same = np.asarray(volume[key])[:, ::-1, ::-1, place]
            if key == "pred":
                unsure = np.abs(np.asarray(picture["probability"]) - 0.5) < 1e-5
                assert unsure.mean() < 0.01 and np.array_equal(same[~unsure], np.asarray(picture[key])[~unsure])
            else:
                assert np.abs(same - np.asarray(picture[key])).max() <= limit
    shares = [float(np.mean(np.asarray(picture["pred"]))) for picture in slices]
    assert min(shares) > 0.01 and max(shares) < 0.99


def test_finds_smaller_than_a_hundred_cubic_millimetres_are_removed() -> None:
    step = config("inference")["postprocessing"]["transforms"][-2]
    remove = ConfigParser({"step": step}).get_parsed_content("step")
    pred = torch.zeros(1, 20, 20, 4)
    # Voxels of 3 cubic millimetres: thirty and forty of them.
    pred[0, 2:7, 2:8, 0] = 1
    pred[0, 10:18, 10:15, 2] = 1
    found = remove({"pred": MetaTensor(pred, affine=torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0])))})["pred"]
    assert found.sum() == 40 and found[0, 10:18, 10:15, 2].all()
