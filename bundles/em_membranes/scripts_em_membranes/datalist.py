"""Which sections take part: reads a data folder's `datalist.json`, or pairs `images/` and `labels/` by name.

MONAI's `load_decathlon_datalist` knows no folds, nor that neighbouring sections show the same cells.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NUMBER_OF_BLOCKS = 4
"""Of neighbouring sections, into which a folder without a list is cut."""


def read_rows(dataset_dir: str | Path, section: str = "training") -> list[dict[str, Any]]:
    """Rows of one part of a data folder, with absolute paths in `image` and `label`.

    Args:
        dataset_dir: folder with `images/`, `labels/` and, if there is one, `datalist.json`. Without a list the pictures
            are taken for neighbouring sections in the order of their names: folds are blocks of them.
        section: `training` or `testing`; a folder without a list has only `training`.

    Raises:
        ValueError: if no picture is found, or a listed file is not there.
    """
    folder = Path(dataset_dir).resolve()
    listing = folder / "datalist.json"
    rows = (
        json.loads(listing.read_text(encoding="utf-8")).get(section, []) if listing.is_file() else _paired_rows(folder)
    )
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


def _paired_rows(folder: Path) -> list[dict[str, Any]]:
    images = sorted(p for p in folder.glob("images/*") if not p.name.startswith("."))
    labels = {p.stem: p for p in folder.glob("labels/*")}
    pairs = [(p, labels[p.stem]) for p in images if p.stem in labels]
    blocks = [number * NUMBER_OF_BLOCKS // len(pairs) for number in range(len(pairs))]
    return [
        {"image": str(image), "label": str(label), "group": f"block{block}", "fold": block, "section": number}
        for number, ((image, label), block) in enumerate(zip(pairs, blocks, strict=True))
    ]


def read_training_rows(
    dataset_dir: str | Path, validation_fold: int | None, leave_out_neighbours: bool = True
) -> list[dict[str, Any]]:
    """Rows to learn from: all but the validation fold, or really all if `validation_fold` is None.

    Args:
        dataset_dir: see `read_rows`.
        validation_fold: whose sections are measured on.
        leave_out_neighbours: whether sections next to one of that fold, which show partly the same cells, are left out
            as well; known where rows have a `section` number.
    """
    rows = read_rows(dataset_dir)
    if validation_fold is None:
        return [_only_what_is_needed(row) for row in rows]
    kept_aside = [row for row in rows if row.get("fold", 0) == validation_fold]
    near = {row["section"] + step for row in kept_aside if "section" in row for step in (-1, 1)}
    learnt = [
        row
        for row in rows
        if row.get("fold", 0) != validation_fold and not (leave_out_neighbours and row.get("section") in near)
    ]
    if not learnt:
        raise ValueError(f"every row of '{dataset_dir}' is in fold {validation_fold}: nothing is left to learn from")
    return [_only_what_is_needed(row) for row in learnt]


def read_validation_rows(
    dataset_dir: str | Path, validation_fold: int | None, section: str = "training"
) -> list[dict[str, Any]]:
    """Rows to measure on: the validation fold.

    With `validation_fold` None every row is measured: for a test set, or to watch a final training on all data,
    whose figure then says nothing about other sections.
    """
    rows = read_rows(dataset_dir, section)
    measured = [row for row in rows if validation_fold is None or row.get("fold", 0) == validation_fold]
    if not measured:
        folds = sorted({row.get("fold", 0) for row in rows})
        raise ValueError(f"no row of '{dataset_dir}' is in fold {validation_fold}; its folds are {folds}")
    return [_only_what_is_needed(row) for row in measured]


def _only_what_is_needed(row: dict[str, Any]) -> dict[str, Any]:
    # Other keys differ from row to row, and a batch can only be made of rows with the same keys.
    return {"image": row["image"], "label": row["label"]}
