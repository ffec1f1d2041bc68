"""Pairs of NIfTI volumes: every problem of every pair before one of them is written, and how large a voxel is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from clinibundle.console import Talk
from clinibundle.geometry import spacing_of
from clinibundle.workflows.check import Problem
from clinibundle.workflows.check.content import Looked, look_at
from clinibundle.workflows.check.listing import Case
from clinibundle.workflows.check.split import problems_of_repeats
from clinibundle.workflows.parallel import in_threads
from clinibundle.workflows.prepare.plan import SourceCase

_DECIMALS = 6


def problems_of_volumes(
    cases: Sequence[SourceCase],
    folds: Mapping[str, int],
    label_values: Sequence[AbstractSet[int]] | None,
    source: Path,
    talk: Talk,
) -> list[Problem]:
    """What `check` would find in these pairs once they are a data folder, and voxels of no possible size.

    Args:
        cases: each with a NIfTI image and one NIfTI label.
        folds: of the cases' names.
        label_values: sets of values that a label may have; None allows all whole numbers.
        source: that problems name the images' places in.
        talk: where progress goes.
    """
    rows = [
        Case(
            case.image.relative_to(source).as_posix(),
            case.image,
            case.masks[0],
            "training",
            folds[case.name],
            case.group or case.name,
        )
        for case in cases
    ]
    looked = in_threads(lambda row: look_at(row, label_values), rows, "Looking at images and labels", talk)
    found = [problem for one in looked for problem in (*one.problems, *_problems_of_voxels(one))]
    return [*found, *problems_of_repeats(looked)]


def spacing_mm(path: Path) -> list[float]:
    """Voxel size along the three axes of a NIfTI that was looked at and is in order."""
    header: Any = nibabel.load(path)
    return [round(size, _DECIMALS) for size in spacing_of(np.asarray(header.affine, np.float64))]


def _problems_of_voxels(looked: Looked) -> list[Problem]:
    image = looked.case.image
    if image is None or any(problem.kind == "unreadable" for problem in looked.problems):
        return []
    sizes = spacing_mm(image)
    if np.isfinite(sizes).all() and min(sizes) > 0:
        return []
    detail = "its header gives voxels of no possible size; expected more than 0 mm along each axis, convert it anew"
    return [Problem(looked.case.name, "voxel_size", detail)]
