from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.predict import Predictor, as_meta_tensor, pick_device
from clinibundle.errors import BundleError, UsageError
from clinibundle.volume import Source, Volume


def grey_volume(array: np.ndarray, spacing: tuple[float, ...] | None = None) -> Volume:
    return Volume(array.astype(np.float32), None, spacing, "grey", Source("picture", "case", "png"))


@pytest.mark.parametrize("shape", [(64, 64), (130, 71), (33, 200)])
def test_the_label_map_lies_on_the_source_grid_and_is_not_turned(toy_bundle: Path, shape: tuple[int, int]) -> None:
    array = np.random.default_rng(0).random(shape)
    array[0, 0], array[-1, -1] = 0, 1
    prediction = Predictor(Bundle(toy_bundle), "cpu")(grey_volume(array))
    scaled = (array - array.min()) / (array.max() - array.min())
    assert prediction.label_map.shape == shape
    assert np.array_equal(prediction.label_map, scaled > 0.5)
    assert prediction.probability[1].shape == shape


def test_many_volumes_can_follow_each_other(toy_bundle: Path) -> None:
    predictor = Predictor(Bundle(toy_bundle), "cpu")
    ramp = np.linspace(0, 1, 80 * 90).reshape(80, 90)
    first, second = predictor(grey_volume(ramp)), predictor(grey_volume(ramp))
    assert np.array_equal(first.label_map, second.label_map)


def test_damaged_weights_are_refused_by_the_bundles_name(toy_bundle: Path) -> None:
    weights = toy_bundle / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BundleError, match="the weights of 'toy_bright' cannot be loaded"):
        Predictor(Bundle(toy_bundle), "cpu")


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("__import__('pathlib').Path('harmed').touch()",)


def test_weights_that_hold_code_are_refused_and_not_run(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(Harmful(), toy_bundle / "models" / "model.pt")
    with pytest.raises(BundleError, match="cannot be loaded"):
        Predictor(Bundle(toy_bundle), "cpu")
    assert not (tmp_path / "harmed").exists()


def test_a_setting_or_overlay_may_take_other_weights_and_the_answer_says_so(toy_bundle: Path, tmp_path: Path) -> None:
    bundle, ramp = Bundle(toy_bundle), grey_volume(np.linspace(0, 1, 64 * 64).reshape(64, 64))
    state = torch.load(bundle.weights, weights_only=True)
    torch.save({key: torch.zeros_like(value) for key, value in state.items()}, tmp_path / "other.pt")
    usual = Predictor(bundle, "cpu")(ramp)
    changed = Predictor(bundle, "cpu", settings={"weights": str(tmp_path / "other.pt")})(ramp)
    (tmp_path / "other.yaml").write_text(f"weights: {tmp_path / 'other.pt'}\n")
    overlaid = Predictor(bundle, "cpu", overlays=[tmp_path / "other.yaml"])(ramp)
    assert usual.label_map.any() and not changed.label_map.any() and not overlaid.label_map.any()
    assert usual.weights_sha256 == hashlib.sha256(bundle.weights.read_bytes()).hexdigest()
    assert changed.weights_sha256 == hashlib.sha256((tmp_path / "other.pt").read_bytes()).hexdigest()
    said = {
        name: [check.value for check in found.checks if check.name == "inference_config"]
        for name, found in {"usual": usual, "changed": changed, "overlaid": overlaid}.items()
    }
    assert said == {"usual": [], "changed": ["weights"], "overlaid": ["other"]}


def test_missing_weights_are_refused(toy_bundle: Path) -> None:
    (toy_bundle / "models" / "model.pt").unlink()
    with pytest.raises(BundleError, match=r"'toy_bright' has no weights at '.*models/model\.pt'"):
        Predictor(Bundle(toy_bundle), "cpu")


def test_a_postprocessing_that_does_not_come_back_to_the_grid_is_found(toy_bundle: Path) -> None:
    path = toy_bundle / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text())
    config["preprocessing"]["transforms"].append({"_target_": "Resized", "keys": "image", "spatial_size": [32, 32]})
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(BundleError, match="its postprocessing must invert its preprocessing"):
        Predictor(Bundle(toy_bundle), "cpu")(grey_volume(np.random.default_rng(0).random((64, 64))))


def test_an_unknown_component_is_named(toy_bundle: Path) -> None:
    path = toy_bundle / "configs" / "inference.yaml"
    path.write_text(path.read_text().replace("Activationsd", "Activationz"))
    with pytest.raises(BundleError, match="Activationz"):
        Predictor(Bundle(toy_bundle), "cpu")


@pytest.mark.parametrize("wanted", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_not_replaced(wanted: str) -> None:
    with pytest.raises(UsageError, match=f"--device '?{wanted}"):
        pick_device(wanted)


def test_a_meta_tensor_has_channel_first_and_the_ras_affine() -> None:
    affine = np.array([[2.0, 0, 0, 10], [0, 3.0, 0, 20], [0, 0, 4.0, 30], [0, 0, 0, 1]])
    volume = Volume(np.zeros((4, 5, 6), np.float32), affine, (2, 3, 4), "hounsfield", Source("dicom", "c", "nii.gz"))
    tensor = as_meta_tensor(volume)
    assert tuple(tensor.shape) == (1, 4, 5, 6)
    assert np.array_equal(tensor.affine.numpy(), [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])


def test_a_metadata_fault_names_file_key_and_value(toy_bundle: Path) -> None:
    path = toy_bundle / "configs" / "measure.yaml"
    path.write_text("findings: [{label: one, name: bright}]\n")
    with pytest.raises(BundleError, match=r"toy_bright/configs/measure\.yaml: 'findings\.0\.label': .*'one'"):
        _ = Bundle(toy_bundle).measure
