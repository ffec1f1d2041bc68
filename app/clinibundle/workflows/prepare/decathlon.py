"""A task of the Medical Segmentation Decathlon, as its .tar or unpacked, into a data folder.

Source: M. Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 2022;
http://medicaldecathlon.com. `dataset.json` stands beside `imagesTr/` and `labelsTr/` and lists pairs under `training`:
`{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}`. Other sets come in the same form.

Each volume is a patient of its own. Files are taken over byte by byte, or compressed where they are not. The images for
testing have no labels and stay behind. The list is read as plain JSON: MONAI's `load_decathlon_datalist` stops at the
first fault of a list, and takes seconds to import.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinibundle.errors import UnreadableInput
from clinibundle.pictures.read import NIFTI_SUFFIXES, case_name
from clinibundle.workflows.check import Problem
from clinibundle.workflows.folds import NUMBER_OF_FOLDS
from clinibundle.workflows.prepare.plan import (
    NotThisLayout,
    Origin,
    Plan,
    Remark,
    SourceCase,
    Written,
    files_in,
    folds_of_groups,
    shallowest_folder,
)
from clinibundle.workflows.prepare.task_tar import IMAGES, LABELS, LIST_NAME
from clinibundle.workflows.prepare.volumes import problems_of_volumes, spacing_mm

_ENDING = ".nii.gz"
_TEST_IMAGES = "imagesTs"
_TOLD = ("description", "reference", "licence", "release")


def decathlon(origin: Origin) -> Plan:
    """Finds the task; which of its pairs are in order is for `find_problems`.

    Raises:
        NotThisLayout: if there is none.
        UnsuitableInput: if there are several side by side.
        UnreadableInput: if its list cannot be read.
    """
    root = shallowest_folder(
        origin.folder, 1, lambda folder: (folder / LIST_NAME).is_file() and (folder / LABELS).is_dir()
    )
    if root is None:
        raise NotThisLayout(f"{LIST_NAME} beside {IMAGES}/ and {LABELS}/, or the .tar of such a task")
    listing = _read_list(root / LIST_NAME)
    problems: list[Problem] = []
    cases = _cases_of(root, listing["training"], problems)
    folds = folds_of_groups(cases)
    declared = _declared_values(listing)
    allowed = origin.label_values or (None if declared is None else [declared.keys()])

    def find_problems() -> list[Problem]:
        return [*problems, *problems_of_volumes(cases, folds, allowed, root, origin.talk)]

    return Plan(
        found=f"a decathlon task in '{root.relative_to(origin.folder).as_posix()}'",
        cases=cases,
        left_out=_without_part(root, cases),
        write=lambda case, folder: _write(origin, case, folder),
        folds=lambda _: folds,
        header=_header(listing, declared),
        find_problems=find_problems,
    )


def _read_list(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableInput(
            f"{LIST_NAME} is no readable JSON ({type(error).__name__}); download the task again"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("training"), list):
        raise UnreadableInput(f"{LIST_NAME} has no list 'training' of images and labels; download the task again")
    return content


def _cases_of(root: Path, rows: Sequence[Any], problems: list[Problem]) -> list[SourceCase]:
    """The pairs whose files are there; what is wrong with the other rows is added to `problems`."""
    cases: dict[str, SourceCase] = {}
    for number, row in enumerate(rows):
        image, label = (row.get("image"), row.get("label")) if isinstance(row, dict) else (None, None)
        if not isinstance(image, str) or not isinstance(label, str):
            detail = "expected an image and a label, each the name of one file; mend the row"
            problems.append(Problem(f"training[{number}]", "malformed_row", detail))
            continue
        files = [_file_of(root, name, number, problems) for name in (image, label)]
        if files[0] is None or files[1] is None:
            continue
        name = case_name(files[0])
        if name in cases:
            detail = f"a second case is called '{name}', and names must tell cases apart; remove or rename one"
            problems.append(Problem(f"training[{number}]", "repeated_name", detail))
            continue
        cases[name] = SourceCase(name, files[0], (files[1],))
    return list(cases.values())


def _file_of(root: Path, named: str, row: int, problems: list[Problem]) -> Path | None:
    path = Path(os.path.normpath(root / named))
    if not path.is_relative_to(root) or path == root:
        problems.append(
            Problem(f"training[{row}]", "outside_folder", f"'{path.name}' lies outside the task's folder; mend the row")
        )
    elif not path.name.lower().endswith(NIFTI_SUFFIXES):
        problems.append(
            Problem(f"training[{row}]", "not_nifti", f"'{path.name}' is no NIfTI by its ending; expected .nii.gz")
        )
    elif not path.is_file():
        detail = f"{LIST_NAME} names '{path.relative_to(root).as_posix()}', which is not there; download the task again"
        problems.append(Problem(f"training[{row}]", "missing_file", detail))
    else:
        return path
    return None


def _declared_values(listing: Mapping[str, Any]) -> dict[int, str] | None:
    """What the list says that labels hold: `{"0": "background"}` as in the decathlon, or `{"background": 0}`."""
    labels = listing.get("labels")
    if not isinstance(labels, dict):
        return None
    values = {int(key): str(name) for key, name in labels.items() if key.isdecimal()}
    values = values or {value: name for name, value in labels.items() if isinstance(value, int)}
    return values or None


def _without_part(root: Path, cases: Sequence[SourceCase]) -> list[Remark]:
    used = {file for case in cases for file in (case.image, *case.masks)}
    remarks = [
        Remark(path.relative_to(root).as_posix(), f"{LIST_NAME} does not list it with a counterpart")
        for kind in (IMAGES, LABELS)
        for path in files_in(root / kind, NIFTI_SUFFIXES)
        if path not in used
    ]
    tests = files_in(root / _TEST_IMAGES, NIFTI_SUFFIXES)
    return [*remarks, Remark(_TEST_IMAGES, f"its {len(tests)} images have no labels")] if tests else remarks


def _header(listing: Mapping[str, Any], declared: Mapping[int, str] | None) -> dict[str, Any]:
    header = {key: listing[key] for key in _TOLD if isinstance(listing.get(key), str)}
    modality = listing.get("modality")
    if isinstance(modality, dict):
        header["modality"] = ", ".join(str(name) for name in modality.values())
    if declared is not None:
        header["label_values"] = {str(value): name for value, name in sorted(declared.items())}
    return {**header, "n_folds": NUMBER_OF_FOLDS}


def _write(origin: Origin, case: SourceCase, folder: Path) -> Written:
    image, label = f"images/{case.name}{_ENDING}", f"labels/{case.name}{_ENDING}"
    origin.take(case.image, folder / image)
    origin.take(case.masks[0], folder / label)
    return Written(image, label, facts={"spacing_mm": spacing_mm(folder / image)})
