from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinibundle.bundle.configs import all_ids, parse_settings, read_config
from clinibundle.errors import BundleError, UsageError


def overlay(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "overlay.yaml"
    path.write_text(text)
    return path


def test_settings_win_over_overlays_and_overlays_over_the_config(toy_bundle: Path, tmp_path: Path) -> None:
    file = overlay(tmp_path, "epochs: 5\nlearning_rate: 0.5\n")
    config = read_config(toy_bundle, "train", [file], {"epochs": 7})
    assert (config["epochs"], config["learning_rate"]) == (7, 0.5)


def test_bundle_root_is_set_so_that_a_bundle_runs_from_anywhere(toy_bundle: Path) -> None:
    assert read_config(toy_bundle, "train")["bundle_root"] == str(toy_bundle)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, r"--set: the config has no id 'epoch' \(did you mean 'epochs'\?\)"),
        ({"network_def::in_chanels": 3}, "no id 'network_def::in_chanels'"),
    ],
)
def test_a_mistyped_id_is_refused(toy_bundle: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(toy_bundle, "train", (), settings)


def test_a_mistyped_id_in_an_overlay_is_refused_with_its_file(toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"overlay\.yaml: the config has no id 'learning_rat'.*'learning_rate'"):
        read_config(toy_bundle, "train", [overlay(tmp_path, "learning_rat: 1\n")])


def test_an_overlay_may_bring_components_and_imports_of_its_own(toy_bundle: Path, tmp_path: Path) -> None:
    text = "math: $import math\nother_loss: {_target_: DiceLoss}\nlearning_rate: $math.pi\n"
    config = read_config(toy_bundle, "train", [overlay(tmp_path, text)])
    assert config["learning_rate"] == "$math.pi"


def test_a_nested_id_can_be_set(toy_bundle: Path) -> None:
    config = read_config(toy_bundle, "inference", (), parse_settings(["inferer#overlap=0.5"]))
    assert config["inferer"]["overlap"] == 0.5


def test_a_bundle_without_the_config_says_which(toy_bundle: Path) -> None:
    (toy_bundle / "configs" / "train.yaml").unlink()
    with pytest.raises(BundleError, match=r"'toy_bright' has no configs/train\.yaml"):
        read_config(toy_bundle, "train")


def test_values_mean_what_they_say() -> None:
    found = parse_settings(["a=3", "b=true", "c=null", "d=[1, 2]", "e=1.5", "f=text", "g='10'", "h="])
    assert found == {"a": 3, "b": True, "c": None, "d": [1, 2], "e": 1.5, "f": "text", "g": "10", "h": None}


@pytest.mark.parametrize("pair", ["epochs", "=3"])
def test_a_setting_without_an_id_or_a_value_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="expected id=value"):
        parse_settings([pair])


@given(
    st.recursive(
        st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3),
    )
)
def test_every_part_of_a_config_has_an_id(config: object) -> None:
    def count(value: object) -> int:
        items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        return len(items) + sum(count(item) for item in items)

    assert len(all_ids(config)) == count(config)
