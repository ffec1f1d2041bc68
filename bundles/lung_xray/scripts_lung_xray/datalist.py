"""Which pictures take part: reads a data folder's `datalist.json`, or pairs `images/` and `labels/` by name.

MONAI's `load_decathlon_datalist` knows neither folds nor folders without a list, and answers an empty folder
with an obscure error of the data loader.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

NUMBER_OF_FOLDS_BY_HASH = 5


def fold_of_group(group: str) -> int:
    """The fold, 0 to 4, of a patient in a data folder that brings no folds of its own: the same on every machine."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % NUMBER_OF_FOLDS_BY_HASH


def read_rows(dataset_dir: str | Path, section: str = "training") -> list[dict[str, Any]]:
    """Rows of one section of a data folder, with absolute paths in `image` and `label`.

    Args:
        dataset_dir: folder with `images/`, `labels/` and, if there is one, `datalist.json`.
        section: `training` or `testing`; a folder without a list has only `training`.

    Raises:
        ValueError: if no picture is found, or a listed file is not there.
    """
    folder = Path(dataset_dir).resolve()
    listing = folder / "datalist.json"
    if listing.is_file():
        rows = json.loads(listing.read_text(encoding="utf-8")).get(section, [])
    else:
        images = sorted(p for p in folder.glob("images/*") if not p.name.startswith("."))
        labels = {p.stem: p for p in folder.glob("labels/*")}
        rows = [
            {"image": str(p), "label": str(labels[p.stem]), "group": p.stem, "fold": fold_of_group(p.stem)}
            for p in images
            if p.stem in labels
        ]
    if not rows:
        raise ValueError(
            f"no {section} pictures in '{dataset_dir}': expected images/ and labels/ with the same names, "
            "or a datalist.json that lists them; set dataset_dir to such a folder"
        )
    absolute = [{**row, **{key: str(folder / row[key]) for key in ("image", "label") if key in row}} for row in rows]
    missing = [
        row[key] for row in absolute for key in ("image", "label") if key in row and not Path(row[key]).is_file()
    ]
    if missing:
        raise ValueError(f"{len(missing)} files that '{listing}' lists are not there, the first is '{missing[0]}'")
    return absolute


def read_training_rows(dataset_dir: str | Path, validation_fold: int | None) -> list[dict[str, Any]]:
    """Rows to learn from: all but the validation fold, or really all if `validation_fold` is None."""
    rows = read_rows(dataset_dir)
    learnt = [row for row in rows if validation_fold is None or row.get("fold", 0) != validation_fold]
    if not learnt:
        raise ValueError(f"every row of '{dataset_dir}' is in fold {validation_fold}: nothing is left to learn from")
    return [_only_what_is_needed(row, "heart_excluded") for row in learnt]


def read_validation_rows(
    dataset_dir: str | Path,
    validation_fold: int | None,
    section: str = "training",
    default_convention: str = "heart_excluded",
) -> list[dict[str, Any]]:
    """Rows to measure on: the validation fold without rows marked `training_only`.

    With `validation_fold` None every row is measured: for a test set, or to watch a final training on all data,
    whose figure then says nothing about new patients.
    """
    rows = [row for row in read_rows(dataset_dir, section) if not row.get("training_only", False)]
    measured = [row for row in rows if validation_fold is None or row.get("fold", 0) == validation_fold]
    if not measured:
        folds: Collection[Any] = sorted({row.get("fold", 0) for row in rows})
        raise ValueError(f"no row of '{dataset_dir}' is in fold {validation_fold}; its folds are {list(folds)}")
    return [_only_what_is_needed(row, default_convention) for row in measured]


def _only_what_is_needed(row: dict[str, Any], default_convention: str) -> dict[str, Any]:
    # Other keys differ from row to row (age, view, ...), and a batch can only be made of rows with the same keys.
    convention = row.get("convention", default_convention)
    return {"image": row["image"], "label": row["label"], "convention": convention}
