"""Every problem of every case of a data folder in one list, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from clinibundle.console import Talk
from clinibundle.errors import DataFolderError
from clinibundle.workflows.check.content import look_at
from clinibundle.workflows.check.listing import LIST_NAME, find_cases
from clinibundle.workflows.check.problem import Problem
from clinibundle.workflows.check.split import problems_of_folds, problems_of_groups, problems_of_repeats
from clinibundle.workflows.parallel import in_threads

__all__ = ["TWO_CLASSES", "Problem", "check_data_folder"]

# What a label with one class and background may hold.
TWO_CLASSES: tuple[frozenset[int], ...] = (frozenset({0, 1}), frozenset({0, 255}))


def check_data_folder(
    dataset_dir: Path, label_values: Sequence[AbstractSet[int]] | None = None, talk: Talk | None = None
) -> list[Problem]:
    """Looks at every case of a data folder; nothing is written and nothing stops at the first problem.

    Args:
        dataset_dir: folder with `images/`, `labels/` and, if there is one, `datalist.json`.
        label_values: sets of values that a label may have, such as `TWO_CLASSES`; None allows all whole numbers.
        talk: where progress goes; None for silence.

    Returns:
        Problems of the list and the names first, then of the folds, then of the files case by case, repeats last;
        empty if all is well.

    Raises:
        DataFolderError: if `dataset_dir` is no folder.
    """
    if not dataset_dir.is_dir():
        raise DataFolderError(f"'{dataset_dir}' is no folder; name one that holds images/ and labels/")
    cases, problems = find_cases(dataset_dir.resolve())
    # Without a list, folds come by hash of the pictures' names.
    place = LIST_NAME if (dataset_dir / LIST_NAME).exists() else "images"
    problems += [*problems_of_folds(cases, place), *problems_of_groups(cases)]
    looked = in_threads(lambda case: look_at(case, label_values), cases, "Looking at pictures and labels", talk)
    problems += [problem for one in looked for problem in one.problems]
    problems += problems_of_repeats(looked)
    return problems
