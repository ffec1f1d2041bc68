"""Stacks of sections, as the ISBI 2012 challenge gives them out, into a data folder: a picture for each page.

`train-volume.tif` belongs to `train-labels.tif`; 8 or 16 bit. Neighbouring sections show the same cells, so folds are
blocks of neighbours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clinibundle.errors import UnsuitableInput
from clinibundle.pictures.read import TIFF_SUFFIXES
from clinibundle.pictures.sections import Stack, open_sections
from clinibundle.workflows.prepare.plan import (
    NotThisLayout,
    Origin,
    Plan,
    Remark,
    SourceCase,
    Written,
    files_in,
    shallowest_folder,
)

NUMBER_OF_BLOCKS = 4
_VOLUME, _LABELS = "-volume", "-labels"


def section_stacks(origin: Origin) -> Plan:
    """Finds stacks and their labels.

    Raises:
        NotThisLayout: if there is no such pair.
        UnsuitableInput: if a stack and its labels differ in size.
        UnreadableInput: if one of them is damaged.
    """
    root = shallowest_folder(origin.folder, 1, lambda folder: bool(_pairs(folder)))
    if root is None:
        raise NotThisLayout("train-volume.tif beside train-labels.tif")
    pairs = _pairs(root)
    cases = [case for volume, labels in pairs.items() for case in _sections(volume, labels, len(pairs) > 1)]
    used = {*pairs, *pairs.values()}
    left_out = [
        Remark(path.relative_to(origin.folder).as_posix(), "no stack of labels belongs to it, or no stack of sections")
        for path in files_in(root, TIFF_SUFFIXES)
        if path not in used
    ]
    return Plan(
        found=f"stacks of sections with labels in '{root.relative_to(origin.folder).as_posix()}'",
        cases=cases,
        left_out=left_out,
        write=_write,
        folds=lambda written: {case.name: int(case.group.rpartition("-")[2]) for case in written},
        header={
            "description": "Pages of stacks; blocks of neighbouring sections are groups and folds.",
            "n_folds": NUMBER_OF_BLOCKS,
        },
    )


def _pairs(folder: Path) -> dict[Path, Path]:
    """Stacks of sections, each with its labels."""
    files = {path.stem.lower(): path for path in files_in(folder, TIFF_SUFFIXES)}
    return {
        path: files[name.removesuffix(_VOLUME) + _LABELS]
        for name, path in files.items()
        if name.endswith(_VOLUME) and name.removesuffix(_VOLUME) + _LABELS in files
    }


def _sections(volume: Path, labels: Path, several: bool) -> list[SourceCase]:
    with open_sections(volume) as stack, open_sections(labels) as truth:
        sizes = _size(stack), _size(truth)
        if sizes[0] != sizes[1]:
            raise UnsuitableInput(
                f"'{volume.name}' has {sizes[0]}, '{labels.name}' {sizes[1]}; expected a page of labels each"
            )
        count = len(stack.sections)
        # datalist.json states it as (row, column).
        facts = {} if stack.spacing_mm is None else {"spacing_mm": list(stack.spacing_mm[::-1])}
    stem = volume.stem.lower().removesuffix(_VOLUME)
    digits = max(2, len(str(count - 1)))
    return [
        SourceCase(
            f"{stem}-{number:0{digits}d}" if several else f"section{number:0{digits}d}",
            volume,
            (labels,),
            facts={"section": number, **facts},
            group=f"{stem}-block-{number * NUMBER_OF_BLOCKS // count}",
            shown=f"{volume.name}, page {number + 1}",
        )
        for number in range(count)
    ]


def _size(stack: Stack) -> str:
    rows, columns = stack.sections[0].shape
    return f"{len(stack.sections)} pages of {rows} × {columns}"


def _write(case: SourceCase, folder: Path) -> Written:
    number = int(case.facts["section"])
    image, label = f"images/{case.name}.png", f"labels/{case.name}.png"
    _save(_page(case.image, number), folder / image)
    truth = _page(case.masks[0], number)
    # One value beside 0 is an interior; several are cells.
    is_mask = len(np.unique(truth[truth > 0])) <= 1
    _save(np.where(truth > 0, np.uint8(255), np.uint8(0)) if is_mask else truth, folder / label)
    return Written(image, label)


def _page(path: Path, number: int) -> NDArray[Any]:
    with open_sections(path) as stack:
        section = stack.sections[number]
        return section.read(slice(0, section.shape[0]), slice(0, section.shape[1]))


def _save(values: NDArray[Any], path: Path) -> None:
    if values.dtype not in (np.uint8, np.uint16):
        raise UnsuitableInput(f"the pages hold {values.dtype}; expected whole numbers of 8 or 16 bits")
    Image.fromarray(values).save(path)
