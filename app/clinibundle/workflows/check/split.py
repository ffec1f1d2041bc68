"""What is wrong with the folds: a patient, or a picture, on both sides of a split makes every figure too good."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from clinibundle.workflows.check.content import Looked
from clinibundle.workflows.check.listing import Case
from clinibundle.workflows.check.problem import Problem


def problems_of_folds(cases: Sequence[Case], place: str) -> Iterator[Problem]:
    """Folds that are missing, no whole numbers, or too few; only training rows need one.

    Args:
        cases: all cases.
        place: where their folds come from, for problems that are no single case's.
    """
    rows = [case for case in cases if case.section == "training"]
    unnumbered = [case for case in rows if case.fold is None]
    if rows and len(unnumbered) == len(rows):
        yield Problem(place, "fold_missing", "no row has a 'fold'; give each patient's rows one, from 0 on")
        return
    for case in unnumbered:
        yield Problem(case.name, "fold_missing", "its row has no 'fold', while others have one")
    for case in rows:
        if case.fold is not None and not _is_fold(case.fold):
            yield Problem(
                case.name, "fold_not_integer", f"its fold is {case.fold!r}, expected a whole number from 0 on"
            )
    folds = {case.fold for case in rows if _is_fold(case.fold)}
    if len(folds) == 1:
        detail = f"all rows are in fold {min(folds)}: nothing is left to learn from, or to measure on"
        yield Problem(place, "few_folds", detail, "warning")
    elif folds:
        gaps = max(folds) + 1 - len(folds)
        if gaps:
            shown = ", ".join(map(str, sorted(folds)))
            detail = f"its folds are {shown}; {gaps} of the numbers up to {max(folds)} have no case"
            yield Problem(place, "empty_fold", detail, "warning")


def problems_of_groups(cases: Sequence[Case]) -> Iterator[Problem]:
    """Groups in two folds, or in training and testing. The group is not named, it may be a patient's number."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.group is not None and _side_of(case) is not None:
            groups[case.group].append(case)
    for members in groups.values():
        first_of_side: dict[str | None, Case] = {}
        for case in members:
            first_of_side.setdefault(_side_of(case), case)
        (side, first), *others = first_of_side.items()
        for other_side, case in others:
            detail = f"its group is in {other_side} and, with '{first.name}', in {side}; keep a patient on one side"
            yield Problem(case.name, "group_in_two_folds", detail)


def problems_of_repeats(looked: Sequence[Looked]) -> Iterator[Problem]:
    """The same picture under two names: an error across folds, a warning within one."""
    pictures: dict[str, list[Case]] = defaultdict(list)
    for one in looked:
        if one.fingerprint is not None:
            pictures[one.fingerprint].append(one.case)
    for first, *others in pictures.values():
        for case in others:
            here, there = _side_of(case), _side_of(first)
            if here is not None and there is not None and here != there:
                yield Problem(
                    case.name,
                    "same_picture",
                    f"the same picture as '{first.name}', {here} here and {there} there; remove one",
                )
            else:
                yield Problem(
                    case.name, "same_picture", f"the same picture as '{first.name}'; it counts twice", "warning"
                )


def _is_fold(fold: Any) -> bool:
    return isinstance(fold, int) and not isinstance(fold, bool) and fold >= 0


def _side_of(case: Case) -> str | None:
    if case.section == "testing":
        return "the test set"
    return f"fold {case.fold}" if _is_fold(case.fold) else None
