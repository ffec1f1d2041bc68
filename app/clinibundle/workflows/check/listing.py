"""Which cases a data folder has: by its `datalist.json`, or by the names in `images/` and `labels/`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinibundle.workflows.check.problem import Problem
from clinibundle.workflows.folds import fold_by_hash

LIST_NAME = "datalist.json"
_SECTIONS = ("training", "testing")


@dataclass(frozen=True)
class Case:
    """A row of the list.

    Attributes:
        name: how it is called in problems.
        image: its picture; None if not there.
        label: its label; None if not there.
        section: `training` or `testing`.
        fold: as the list has it, None if it has none.
        group: whose pictures must stay together; None if the list does not say.
    """

    name: str
    image: Path | None
    label: Path | None
    section: str
    fold: Any
    group: str | None


def find_cases(folder: Path) -> tuple[list[Case], list[Problem]]:
    """All cases, and what is wrong with the list and the files' names; no file but the list is opened."""
    listing = folder / LIST_NAME
    problems: list[Problem] = []
    if not listing.exists():
        cases = _pair_by_name(folder, problems)
    else:
        rows = _rows_of(listing, problems)
        if rows is None:
            return [], problems
        cases = [case for section, place, row in rows for case in _case_of(folder, section, place, row, problems)]
        problems.extend(_not_listed(folder, [row for *_, row in rows]))
    if not any(case.section == "training" for case in cases):
        expected = f"images/ and labels/ with the same names, or a {LIST_NAME} that lists them under 'training'"
        problems.insert(0, Problem("images", "no_cases", f"no picture to train on; expected {expected}"))
    return cases, problems


def _rows_of(listing: Path, problems: list[Problem]) -> list[tuple[str, int, Any]] | None:
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        detail = f"no readable JSON ({error.strerror if isinstance(error, OSError) else error}); mend or remove it"
        problems.append(Problem(LIST_NAME, "unreadable_list", detail))
        return None
    sections = {name: content.get(name, []) for name in _SECTIONS} if isinstance(content, dict) else None
    if sections is None or not all(isinstance(rows, list) for rows in sections.values()):
        detail = "expected an object with the lists 'training' and, if wanted, 'testing'"
        problems.append(Problem(LIST_NAME, "unreadable_list", detail))
        return None
    return [(name, place, row) for name, rows in sections.items() for place, row in enumerate(rows)]


def _case_of(folder: Path, section: str, place: int, row: Any, problems: list[Problem]) -> Iterator[Case]:
    if not isinstance(row, dict) or not isinstance(row.get("image"), str):
        found = "no text under 'image'" if isinstance(row, dict) else "no object"
        problems.append(
            Problem(f"{section}[{place}]", "malformed_row", f"{found}; expected {{'image': ..., 'label': ...}}")
        )
        return
    name = _shown(folder, row["image"])
    image = _file_of(folder, name, row["image"], problems)
    label = None
    if isinstance(row.get("label"), str):
        label = _file_of(folder, name, row["label"], problems)
    else:
        detail = f"its row in {LIST_NAME} names no label; add one or remove the row"
        problems.append(Problem(name, "image_without_label", detail, "error" if section == "training" else "warning"))
    group = row.get("group")
    yield Case(name, image, label, section, row.get("fold"), None if group is None else str(group))


def _file_of(folder: Path, case: str, named: str, problems: list[Problem]) -> Path | None:
    path = _joined(folder, named)
    if Path(named).is_absolute() or not path.is_relative_to(folder):
        detail = f"the path of '{path.name}' is absolute or leaves the folder, which so cannot be moved as a whole"
        problems.append(Problem(case, "outside_folder", detail, "warning"))
    if path.is_file():
        return path
    problems.append(
        Problem(
            case,
            "missing_file",
            f"{LIST_NAME} names '{_shown(folder, named)}', which is no file; mend the name or bring the file",
        )
    )
    return None


def _joined(folder: Path, named: str) -> Path:
    # By the names alone: a link inside the folder that points elsewhere is the user's own way of keeping data.
    return Path(os.path.normpath(folder / named))


def _shown(folder: Path, named: str) -> str:
    path = _joined(folder, named)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _not_listed(folder: Path, rows: list[Any]) -> Iterator[Problem]:
    named = {
        _joined(folder, value)
        for row in rows
        if isinstance(row, dict)
        for value in row.values()
        if isinstance(value, str)
    }
    for kind in ("images", "labels"):
        for path in _files_in(folder / kind):
            if path not in named:
                yield Problem(
                    f"{kind}/{path.name}", "not_listed", f"{LIST_NAME} does not name it, so it takes no part", "warning"
                )


def _pair_by_name(folder: Path, problems: list[Problem]) -> list[Case]:
    # The same rule as the bundles' own readers: names equal up to the last dot, the name is group, folds by its hash.
    images, labels = _files_in(folder / "images"), {path.stem: path for path in _files_in(folder / "labels")}
    for stem in sorted(labels.keys() - {path.stem for path in images}):
        detail = "no picture in images/ has this name; mend the name or remove the label"
        problems.append(Problem(f"labels/{labels[stem].name}", "label_without_image", detail))
    cases = []
    for path in images:
        name, label = f"images/{path.name}", labels.get(path.stem)
        if label is None:
            problems.append(
                Problem(name, "image_without_label", "no label in labels/ has this name; add one or remove the picture")
            )
        cases.append(Case(name, path, label, "training", fold_by_hash(path.stem), path.stem))
    return cases


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
