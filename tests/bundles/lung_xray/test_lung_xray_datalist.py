from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts_lung_xray.datalist import fold_of_group, read_rows, read_training_rows, read_validation_rows


def folder_with(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    for sub in ("images", "labels"):
        (tmp_path / sub).mkdir(exist_ok=True)
    for row in rows:
        for key in ("image", "label"):
            (tmp_path / str(row[key])).write_bytes(b"")
    (tmp_path / "datalist.json").write_text(json.dumps({"training": rows}))
    return tmp_path


def row(name: str, fold: int, **more: object) -> dict[str, object]:
    return {"image": f"images/{name}.png", "label": f"labels/{name}.png", "fold": fold, "group": name, **more}


def test_validation_fold_and_training_rows_share_no_picture(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 0), row("b", 1), row("c", 1), row("d", 2)])
    learnt = {Path(r["image"]).stem for r in read_training_rows(data, 1)}
    measured = {Path(r["image"]).stem for r in read_validation_rows(data, 1)}
    assert (learnt, measured) == ({"a", "d"}, {"b", "c"})


def test_no_fold_means_every_row(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 0), row("b", 1)])
    assert len(read_training_rows(data, None)) == len(read_validation_rows(data, None)) == 2


def test_rows_marked_training_only_are_never_measured(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 0), row("b", 0, training_only=True)])
    assert [Path(r["image"]).stem for r in read_validation_rows(data, 0)] == ["a"]
    assert len(read_training_rows(data, 1)) == 2


def test_convention_comes_from_the_row_or_from_the_config(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 0, convention="heart_included"), row("b", 0)])
    found = [r["convention"] for r in read_validation_rows(data, 0, default_convention="heart_excluded")]
    assert found == ["heart_included", "heart_excluded"]


def test_without_a_list_names_pair_and_folds_do_not_depend_on_the_machine(tmp_path: Path) -> None:
    for sub, names in (("images", "abc"), ("labels", "abd")):
        (tmp_path / sub).mkdir()
        for name in names:
            (tmp_path / sub / f"{name}.png").write_bytes(b"")
    rows = read_rows(tmp_path)
    assert [r["group"] for r in rows] == ["a", "b"]
    assert [r["fold"] for r in rows] == [fold_of_group("a"), fold_of_group("b")] == [4, 0]


def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no training pictures in .* expected images/ and labels/"):
        read_rows(tmp_path)


def test_listed_files_that_are_missing_are_counted_and_named(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 0), row("b", 0)])
    (data / "labels/b.png").unlink()
    with pytest.raises(ValueError, match=r"1 files that .* are not there, the first is .*labels/b\.png"):
        read_rows(data)


def test_a_fold_that_nobody_has_is_refused_with_the_folds_there_are(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 0), row("b", 1)])
    with pytest.raises(ValueError, match=r"no row of .* is in fold 4; its folds are \[0, 1\]"):
        read_validation_rows(data, 4)
