from __future__ import annotations

from pathlib import Path

import pytest

from clinibundle.bundle.find import find_overlay
from clinibundle.workflows.record import shown_overlay, shown_path


@pytest.fixture
def place(tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for path in ("configs/losses/dice.yaml", "own.yaml", "toy_bright/configs/half.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("epochs: 1\n")
    return tmp_path


@pytest.mark.parametrize("overlay", ["losses/dice", "half", "hardware/cpu", "own.yaml"])
def test_an_overlay_is_shown_as_it_can_be_named_again(place: Path, overlay: str) -> None:
    assert shown_overlay(find_overlay(overlay, place / "toy_bright"), place / "toy_bright") == overlay


def test_an_overlay_whose_name_means_another_file_is_shown_by_its_path(place: Path) -> None:
    (place / "toy_bright" / "configs" / "losses").mkdir()
    (place / "toy_bright" / "configs" / "losses" / "dice.yaml").write_text("epochs: 2\n")
    shown = shown_overlay(Path("configs/losses/dice.yaml"), place / "toy_bright")
    assert shown == "configs/losses/dice.yaml"
    assert find_overlay(shown, place / "toy_bright").samefile(place / "configs" / "losses" / "dice.yaml")


def test_a_path_below_the_current_folder_is_shown_from_there_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown_path("own.yaml") == shown_path(place / "own.yaml") == "own.yaml"
    monkeypatch.chdir(place / "configs")
    assert shown_path(place / "own.yaml") == str(place / "own.yaml")
