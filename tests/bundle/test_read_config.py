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
        ({"resume_path::epoch": 3}, "no id 'resume_path::epoch'"),
        ({"training::7": "$print()"}, "no id 'training::7'"),
        ({"part_of_nothing::epochs": 3}, "no id 'part_of_nothing::epochs'"),
    ],
)
def test_a_mistyped_id_is_refused(toy_bundle: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(toy_bundle, "train", (), settings)


@pytest.mark.parametrize(
    ("id_", "meant"),
    [
        ("network_def::in_chanels", "network_def::in_channels"),
        # An argument that the config does not state is suggested too.
        ("network_def::paddding", "network_def::padding"),
        ("inferer::overlapp", "inferer::overlap"),
    ],
)
def test_an_argument_that_a_component_does_not_take_is_refused(toy_bundle: Path, id_: str, meant: str) -> None:
    for where in ("--set", "overlay"):
        with pytest.raises(UsageError, match=rf"no id '{id_}' \(did you mean '{meant}'\?\)"):
            if where == "--set":
                read_config(toy_bundle, "inference", (), {id_: 3})
            else:
                read_config(toy_bundle, "inference", [overlay(toy_bundle, f"{id_}: 3\n")])


@pytest.mark.parametrize(
    "id_",
    [
        # Arguments that the config leaves at their defaults, and MONAI's own keys.
        "network_def::padding", "inferer::mode", "inferer::_disabled_",
        # Takes any argument.
        "preprocessing::transforms::0::any_reader_option",
    ],
)  # fmt: skip
def test_an_argument_that_a_component_takes_can_be_added(toy_bundle: Path, id_: str) -> None:
    assert read_config(toy_bundle, "inference", (), {id_: "text"})[id_] == "text"


def test_what_a_component_takes_is_not_judged_where_it_cannot_be_imported(toy_bundle: Path) -> None:
    settings = {"network_def": {"_target_": "nowhere.at.all"}, "network_def::anything": 3}
    assert read_config(toy_bundle, "inference", (), settings)["network_def::anything"] == 3


def test_a_plain_mapping_takes_no_new_key_but_a_part(toy_bundle: Path, tmp_path: Path) -> None:
    config = toy_bundle / "configs" / "train.yaml"
    config.write_text(config.read_text() + "sizes: {batch: 2}\nkeys: {}\n")
    with pytest.raises(UsageError, match=r"no id 'sizes::bacth' \(did you mean 'sizes::batch'\?\)"):
        read_config(toy_bundle, "train", (), {"sizes::bacth": 4})
    with pytest.raises(UsageError, match="no id 'sizes::bacth'"):
        read_config(toy_bundle, "train", [overlay(tmp_path, "sizes#bacth: 4\n")])
    parts = "keys#dice: {_target_: MeanDice}\nkeys#both: {one: {_target_: MeanDice}}\nkeys#same: '@epochs'\n"
    assert set(read_config(toy_bundle, "train", [overlay(tmp_path, parts)])["keys"]) == {"dice", "both", "same"}


def test_an_overlay_adds_to_a_list_with_a_plus(toy_bundle: Path, tmp_path: Path) -> None:
    file = overlay(tmp_path, "+training: [$print()]\n")
    assert read_config(toy_bundle, "train", [file])["training"][-1] == "$print()"
    with pytest.raises(
        UsageError, match=r"overlay\.yaml: '\+epochs' adds to a list or mapping, and 'epochs' is neither"
    ):
        read_config(toy_bundle, "train", [overlay(tmp_path, "+epochs: 3\n")])


@pytest.mark.parametrize(
    "text",
    [
        "epochs: 5\n",
        # A new argument of a component that training alone has.
        "optimizer#momentum: 0.9\n",
        # One of a component that the overlay itself has put in place of training's.
        "optimizer: {_target_: torch.optim.AdamW}\noptimizer#amsgrad: true\n",
    ],
)
def test_what_another_config_alone_has_is_left_out(toy_bundle: Path, tmp_path: Path, text: str) -> None:
    config = toy_bundle / "configs" / "train.yaml"
    config.write_text(config.read_text() + "optimizer: {_target_: torch.optim.SGD, lr: 0.1}\n")
    file = overlay(tmp_path, text)
    for name in ("evaluate", "inference"):
        assert read_config(toy_bundle, name, [file]).get() == read_config(toy_bundle, name).get()
    assert read_config(toy_bundle, "train", [file]).get() != read_config(toy_bundle, "train").get()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 5\n", r"'epoch' \(did you mean 'epochs'\?\)"),
        ("optimizer#momentun: 0.9\n", r"'optimizer::momentun' \(did you mean 'optimizer::momentum'\?\)"),
    ],
)
def test_what_no_config_has_is_refused_with_what_another_one_has(
    toy_bundle: Path, tmp_path: Path, text: str, message: str
) -> None:
    config = toy_bundle / "configs" / "train.yaml"
    config.write_text(config.read_text() + "optimizer: {_target_: torch.optim.SGD, lr: 0.1}\n")
    with pytest.raises(UsageError, match=message):
        read_config(toy_bundle, "evaluate", [overlay(tmp_path, text)])


def test_a_mistyped_id_in_an_overlay_is_refused_with_its_file(toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"overlay\.yaml: the config has no id 'learning_rat'.*'learning_rate'"):
        read_config(toy_bundle, "train", [overlay(tmp_path, "learning_rat: 1\n")])


def test_an_overlay_may_bring_an_id_that_it_refers_to_itself(toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("rate: 0.25\nlearning_rate: '@rate'\n")
    parser = read_config(toy_bundle, "train", [tmp_path / "own.yaml"])
    assert parser.get_parsed_content("learning_rate") == 0.25
    (tmp_path / "slip.yaml").write_text("ratee: 0.25\nlearning_rate: '@rate'\n")
    with pytest.raises(UsageError, match="no id 'ratee'"):
        read_config(toy_bundle, "train", [tmp_path / "slip.yaml"])


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


@pytest.mark.parametrize("pair", ["a=2024-01-31", "a=[.nan]", "a=.inf"])
def test_a_value_that_a_record_of_the_run_cannot_hold_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="quote it"):
        parse_settings([pair])


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
