"""Which cases take part: reads `datalist.json` of one or more data folders, or pairs `images/` and `labels/` by name.

A case is a CT volume (NIfTI, values in HU) or a picture of one slice (16 bit, HU + 1024). Pictures of one patient that
state `original_slice_index` are slices of one scan, and know their neighbours.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

NUMBER_OF_FOLDS_BY_HASH = 5
PICTURE_OFFSET_HU = 1024
"""Pictures hold HU + 1024."""
_PICTURES = (".png", ".tif", ".tiff")


def fold_of_group(group: str) -> int:
    """The fold, 0 to 4, of a patient in a data folder that brings no folds of its own: the same on every machine."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % NUMBER_OF_FOLDS_BY_HASH


def read_rows(dataset_dir: str | Path, section: str = "training") -> list[dict[str, Any]]:
    """Rows of one section of a data folder, with absolute paths in `image` and `label`.

    Args:
        dataset_dir: folder with `images/`, `labels/` and, if there is one, `datalist.json`.
        section: `training` or `testing`; a folder without a list has only `training`.

    Raises:
        ValueError: if no case is found, or a listed file is not there.
    """
    folder = Path(dataset_dir).resolve()
    listing = folder / "datalist.json"
    if listing.is_file():
        rows = json.loads(listing.read_text(encoding="utf-8")).get(section, [])
    else:
        images = sorted(p for p in folder.glob("images/*") if not p.name.startswith("."))
        labels = {_stem(p): p for p in folder.glob("labels/*")}
        rows = [
            {"image": str(p), "label": str(labels[_stem(p)]), "group": _stem(p), "fold": fold_of_group(_stem(p))}
            for p in images
            if _stem(p) in labels
        ]
    if not rows:
        raise ValueError(
            f"no {section} cases in '{dataset_dir}': expected images/ and labels/ with the same names, "
            "or a datalist.json that lists them; set dataset_dir to such a folder"
        )
    absolute = [{**row, **{key: str(folder / row[key]) for key in ("image", "label") if key in row}} for row in rows]
    missing = [
        row[key] for row in absolute for key in ("image", "label") if key in row and not Path(row[key]).is_file()
    ]
    if missing:
        raise ValueError(f"{len(missing)} files that '{listing}' lists are not there, the first is '{missing[0]}'")
    return absolute


def read_training_rows(
    dataset_dirs: str | Path | Sequence[str | Path], validation_fold: int | None, folds_by: str = "patient"
) -> list[dict[str, Any]]:
    """Rows to learn from: all but the validation fold, or really all if `validation_fold` is None.

    A patient whom one of the folders puts into the validation fold is left out of all of them.

    Args:
        dataset_dirs: one data folder or more.
        validation_fold: that is left out.
        folds_by: `patient`; or `picture`, which deals the pictures out without regard to patients. That is a mistake,
            and there to show how much it flatters.
    """
    rows = [row for folder in _folders(dataset_dirs) for row in _with_folds_by(read_rows(folder), folds_by)]
    kept_aside = {_group(row) for row in rows if validation_fold is not None and _fold(row) == validation_fold}
    if folds_by == "patient":
        learnt = [row for row in rows if _group(row) not in kept_aside]
    else:
        learnt = [row for row in rows if validation_fold is None or _fold(row) != validation_fold]
    if not learnt:
        raise ValueError(f"every patient is in fold {validation_fold}: nothing is left to learn from")
    return learnt


def read_validation_rows(
    dataset_dir: str | Path | Sequence[str | Path],
    validation_fold: int | None,
    section: str = "training",
    folds_by: str = "patient",
) -> list[dict[str, Any]]:
    """Rows to measure on: the validation fold of the (first) data folder.

    With `validation_fold` None every row is measured: for a test set, or to watch a final training on all data,
    whose figure then says nothing about new patients.
    """
    folder = _folders(dataset_dir)[0]
    rows = _with_folds_by(read_rows(folder, section), folds_by)
    measured = [row for row in rows if validation_fold is None or _fold(row) == validation_fold]
    if not measured:
        folds: Collection[Any] = sorted({_fold(row) for row in rows})
        raise ValueError(f"no row of '{folder}' is in fold {validation_fold}; its folds are {list(folds)}")
    return measured


def is_picture(path: str | Path) -> bool:
    """Whether the file is a picture of one slice, which holds HU + 1024, and no volume."""
    return str(path).lower().endswith(_PICTURES)


def with_neighbours(rows: Sequence[dict[str, Any]], reach: int = 2) -> list[dict[str, Any]]:
    """Rows of pictures with `slices`: the paths of 2 * reach + 1 slices from the feet upwards, their own in the middle.

    Where there is no picture of a neighbour, the nearest one on the way to it stands in; so a slice without any
    neighbour comes with copies of itself. Rows of volumes stay as they are.
    """
    slices: dict[str, list[str]] = {}
    for scan in scans_of([row for row in rows if is_picture(row["image"])]):
        path_of = {slice_number(row): row["image"] for row in scan}
        for number, path in path_of.items():
            slices[path] = [path_of[neighbour] for neighbour in neighbours_of(number, path_of, reach)]
    return [{**row, "slices": slices[row["image"]]} if row["image"] in slices else row for row in rows]


def scans_of(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of one scan together, from the feet upwards.

    A volume is a scan, and so are all pictures of a patient in one folder that state their place; a picture that does
    not is alone.

    Raises:
        ValueError: if two rows are the same slice.
    """
    scans: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        alone = not is_picture(row["image"]) or "original_slice_index" not in row
        scan = scans["", row["image"]] if alone else scans[str(Path(row["image"]).parent), _group(row)]
        twin = scan.setdefault(slice_number(row), row)
        if twin is not row:
            raise ValueError(
                f"'{twin['image']}' and '{row['image']}' are the same slice: one file that is listed twice, or two of "
                "one group and original_slice_index"
            )
    return [[scan[number] for number in sorted(scan)] for scan in scans.values()]


def slice_number(row: Mapping[str, Any]) -> int:
    """Number of a picture's slice in its scan, counted from the feet; 0 where the row does not state it."""
    return int(row.get("original_slice_index", 0))


def neighbours_of(index: int, present: Collection[int], reach: int = 2, step: int = 1) -> list[int]:
    """Numbers of the slices at index - reach * step ... index + reach * step.

    One that is not there is stood in for by the last one on the way to it from which every slice is there.
    """
    below, above = [index], [index]
    for direction, found in ((-1, below), (1, above)):
        last = index
        for distance in range(1, reach * step + 1):
            if last == index + direction * (distance - 1) and index + direction * distance in present:
                last = index + direction * distance
            if distance % step == 0:
                found.append(last)
    return below[:0:-1] + above


def _folders(dataset_dirs: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [dataset_dirs] if isinstance(dataset_dirs, (str, Path)) else list(dataset_dirs)


def _with_folds_by(rows: list[dict[str, Any]], folds_by: str) -> list[dict[str, Any]]:
    if folds_by == "patient":
        return rows
    if folds_by != "picture" or not all(is_picture(row["image"]) for row in rows):
        raise ValueError(f"folds by '{folds_by}': expected 'patient', or 'picture' where every case is a picture")
    return [{**row, "fold": fold_of_group(Path(row["image"]).name)} for row in rows]


def _group(row: dict[str, Any]) -> str:
    return str(row.get("group", _stem(Path(row["image"]))))


def _fold(row: dict[str, Any]) -> int:
    return int(row.get("fold", fold_of_group(_group(row))))


def _stem(path: Path) -> str:
    return path.name.split(".nii")[0] if ".nii" in path.name else path.stem
