from __future__ import annotations

from pathlib import Path

import pytest

from clinibundle.bundle.find import find_bundle, find_overlay, known_bundles
from clinibundle.errors import BundleError, UsageError
from repository import ROOT


def test_a_bundle_is_found_by_name_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_bundle("lung_xray") == ROOT / "bundles" / "lung_xray"


def test_a_bundle_is_found_by_path(toy_bundle: Path) -> None:
    assert find_bundle(str(toy_bundle)) == toy_bundle


def test_the_current_projects_bundle_comes_before_the_packaged_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_bundle: Path
) -> None:
    (tmp_path / "bundles").mkdir()
    toy_bundle.rename(tmp_path / "bundles" / "lung_xray")
    monkeypatch.chdir(tmp_path)
    assert find_bundle("lung_xray") == tmp_path / "bundles" / "lung_xray"
    assert known_bundles()["lung_xray"] == Path("bundles/lung_xray")


def test_a_mistyped_bundle_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match=r"no bundle 'lung_xry' \(did you mean 'lung_xray'\?\)"):
        find_bundle("lung_xry")


def test_a_folder_without_metadata_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"it has no configs/metadata\.json"):
        find_bundle(str(tmp_path))


def test_an_overlay_is_found_by_name_by_path_and_in_the_bundle(tmp_path: Path, toy_bundle: Path) -> None:
    assert find_overlay("hardware/cpu", toy_bundle).name == "cpu.yaml"
    own = tmp_path / "mine.yaml"
    own.write_text("epochs: 1\n")
    assert find_overlay(str(own), toy_bundle) == own
    (toy_bundle / "configs" / "hardware").mkdir()
    (toy_bundle / "configs" / "hardware" / "cpu.yaml").write_text("epochs: 1\n")
    assert find_overlay("hardware/cpu", toy_bundle).is_relative_to(toy_bundle)


def test_a_mistyped_overlay_is_refused_with_the_one_that_was_meant(toy_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"no overlay 'hardware/cpx' \(did you mean 'hardware/cpu'\?\)"):
        find_overlay("hardware/cpx", toy_bundle)
