from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts_lung_tumor_ct.datalist import (
    fold_of_group,
    neighbours_of,
    read_rows,
    read_training_rows,
    read_validation_rows,
    scans_of,
    with_neighbours,
)


def folder_with(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for row in rows:
        for key in ("image", "label"):
            path = folder / str(row[key])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    (folder / "datalist.json").write_text(json.dumps({"training": rows}))
    return folder


def row(
    name: str, fold: int | None = None, group: str | None = None, ending: str = "png", **more: Any
) -> dict[str, Any]:
    known = {"image": f"images/{name}.{ending}", "label": f"labels/{name}.{ending}", "group": group or name, **more}
    return known if fold is None else {**known, "fold": fold}


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [Path(r["image"]).name.split(".")[0] for r in rows]


@pytest.mark.parametrize(
    ("index", "step", "expected"),
    [
        (14, 1, [12, 13, 14, 15, 16]),
        # Slice 11 is the lowest, 17 is missing.
        (11, 1, [11, 11, 11, 12, 13]),
        (16, 1, [14, 15, 16, 16, 16]),
        # On the way to 18 and 20 slice 17 is missing.
        (15, 2, [11, 13, 15, 16, 16]),
        (19, 1, [18, 18, 19, 19, 19]),
    ],
)
def test_missing_neighbours_are_stood_in_for_by_the_last_slice_on_the_way(
    index: int, step: int, expected: list[int]
) -> None:
    assert neighbours_of(index, {11, 12, 13, 14, 15, 16, 18, 19}, step=step) == expected


@given(st.sets(st.integers(0, 12), min_size=1), st.data(), st.integers(0, 3), st.integers(1, 3))
def test_neighbours_are_those_of_the_definition(present: set[int], data: st.DataObject, reach: int, step: int) -> None:
    index = data.draw(st.sampled_from(sorted(present)))

    def stand_in(offset: int) -> int:
        """The farthest slice within the offset between which and `index` none is missing."""
        towards = 1 if offset > 0 else -1
        unbroken = [d for d in range(abs(offset) + 1) if all(index + towards * k in present for k in range(d + 1))]
        return index + towards * max(unbroken)

    expected = [stand_in(place * step) for place in range(-reach, reach + 1)]
    assert neighbours_of(index, present, reach, step) == expected


def test_validation_fold_and_training_rows_share_no_case(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 0), row("b", 1), row("c", 1), row("d", 2)])
    assert names(read_training_rows(data, 1)) == ["a", "d"]
    assert names(read_validation_rows(data, 1)) == ["b", "c"]


def test_no_fold_means_every_row(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 0), row("b", 1)])
    assert len(read_training_rows(data, None)) == len(read_validation_rows(data, None)) == 2


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from("pqrs"), st.integers(0, 2)), min_size=1), st.integers(0, 2)
)
def test_a_patient_whom_one_folder_holds_out_is_held_out_of_all(
    tmp_path_factory: pytest.TempPathFactory, cases: list[tuple[int, str, int]], fold: int
) -> None:
    base = tmp_path_factory.mktemp("folders")
    listed: list[list[dict[str, Any]]] = [[row("always-0", 5)], [row("always-1", 5)]]
    for number, (folder, patient, its_fold) in enumerate(cases):
        listed[folder].append(row(f"case-{number}", its_fold, patient))
    folders = [folder_with(base / str(number), rows) for number, rows in enumerate(listed)]
    held_out = {patient for _, patient, its_fold in cases if its_fold == fold}
    learnt = {r["group"] for r in read_training_rows(folders, fold)}
    assert learnt == {"always-0", "always-1"} | {patient for _, patient, _ in cases} - held_out


def test_only_the_first_folder_is_measured(tmp_path: Path) -> None:
    folders = [folder_with(tmp_path / name, [row(name, 0)]) for name in "ab"]
    assert names(read_validation_rows(folders, 0)) == ["a"]


def test_folds_by_picture_part_the_pictures_and_not_the_patients(tmp_path: Path) -> None:
    pictures = [row(f"p_z{n:03}", 0, "p", original_slice_index=n) for n in range(40)]
    data = folder_with(tmp_path, pictures)
    measured = read_validation_rows(data, 3, folds_by="picture")
    learnt = read_training_rows(data, 3, folds_by="picture")
    assert sorted(names(measured) + names(learnt)) == names(read_rows(data))
    assert names(measured) == [name for name in names(read_rows(data)) if fold_of_group(f"{name}.png") == 3]
    # No picture is seen beside one of the other side of the split.
    for side in (learnt, measured):
        own = {r["image"] for r in side}
        assert all(set(r["slices"]) <= own for r in with_neighbours(side))


@pytest.mark.parametrize(("ending", "folds_by"), [("nii.gz", "picture"), ("png", "slice")])
def test_other_ways_to_make_folds_are_refused(tmp_path: Path, ending: str, folds_by: str) -> None:
    data = folder_with(tmp_path, [row("a", 0, ending=ending)])
    with pytest.raises(
        ValueError, match=f"folds by '{folds_by}': expected 'patient', or 'picture' where every case is"
    ):
        read_training_rows(data, 1, folds_by)


def test_neighbours_come_from_the_feet_upwards_and_from_the_same_scan(tmp_path: Path) -> None:
    rows = [row(f"{patient}{n}", group=patient, original_slice_index=n) for patient in "pq" for n in (12, 11, 10, 7)]
    rows += [row("other/p13", group="p", original_slice_index=13), row("alone", group="p"), row("v", ending="nii.gz")]
    found = with_neighbours(read_rows(folder_with(tmp_path, rows)))
    assert names(found) == [Path(r["image"]).name.split(".")[0] for r in rows]
    slices = {
        name: [Path(path).stem for path in r["slices"]]
        for name, r in zip(names(found), found, strict=True)
        if name != "v"
    }
    assert slices["p11"] == ["p10", "p10", "p11", "p12", "p12"]
    assert slices["q10"] == ["q10", "q10", "q10", "q11", "q12"]
    assert slices["p7"] == ["p7"] * 5 and slices["alone"] == ["alone"] * 5
    # Of another folder, and so of another scan.
    assert slices["p13"] == ["p13"] * 5
    assert "slices" not in found[-1]


@pytest.mark.parametrize("ending", ["png", "nii.gz"])
def test_a_case_that_is_listed_twice_is_refused(tmp_path: Path, ending: str) -> None:
    data = folder_with(tmp_path, [row("a", 0, ending=ending), row("a", 0, ending=ending)])
    with pytest.raises(ValueError, match="are the same slice: one file that is listed twice, or two of one group"):
        scans_of(read_rows(data))


def test_two_pictures_of_one_place_are_refused(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row(name, 0, "p", original_slice_index=4) for name in "ab"])
    with pytest.raises(ValueError, match=r"a\.png' and .*b\.png' are the same slice"):
        with_neighbours(read_rows(data))


def test_without_a_list_names_pair_and_folds_do_not_depend_on_the_machine(tmp_path: Path) -> None:
    for sub, stems in (("images", "abc"), ("labels", "abd")):
        (tmp_path / sub).mkdir()
        for stem in stems:
            (tmp_path / sub / f"{stem}.nii.gz").write_bytes(b"")
    rows = read_rows(tmp_path)
    assert [r["group"] for r in rows] == ["a", "b"]
    assert [r["fold"] for r in rows] == [fold_of_group("a"), fold_of_group("b")] == [4, 0]


def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no training cases in .* expected images/ and labels/"):
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


def test_a_fold_that_holds_every_patient_leaves_nothing_to_learn_from(tmp_path: Path) -> None:
    data = folder_with(tmp_path, [row("a", 2), row("b", 2)])
    with pytest.raises(ValueError, match="every patient is in fold 2: nothing is left to learn from"):
        read_training_rows(data, 2)
