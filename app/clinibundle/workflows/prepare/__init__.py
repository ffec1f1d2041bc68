"""Turns a public release's or a clinic's own layout into a data folder: a module per source layout.

A bundle's data names the kinds of layout that it takes; `LAYOUTS` knows the kinds and no bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinibundle.console import Talk
from clinibundle.errors import (
    BundleError,
    ClinibundleError,
    DataFolderError,
    OutputError,
    UnreadableInput,
    UnsuitableInput,
    did_you_mean,
)
from clinibundle.files import (
    refuse_full_directory,
    refuse_input_in_output,
    refuse_output_in_input,
    whole_directory,
    write_json,
)
from clinibundle.workflows.parallel import in_threads
from clinibundle.workflows.prepare.decathlon import decathlon
from clinibundle.workflows.prepare.dicom_outlines import dicom_outlines
from clinibundle.workflows.prepare.montgomery_shenzhen import montgomery_shenzhen
from clinibundle.workflows.prepare.pairs import image_label_pairs
from clinibundle.workflows.prepare.plan import LeaveOut, NotThisLayout, Origin, Plan, Remark, SourceCase, Written
from clinibundle.workflows.prepare.section_stacks import section_stacks
from clinibundle.workflows.prepare.task_tar import is_tar, unpacked_task

__all__ = ["LAYOUTS", "PrepareResult", "Remark", "prepare"]

# Kind of layout: what finds it in a source, or raises NotThisLayout.
LAYOUTS: dict[str, Callable[[Origin], Plan]] = {
    "montgomery_shenzhen": lambda origin: montgomery_shenzhen(origin.folder),
    "image_label_pairs": image_label_pairs,
    "decathlon": decathlon,
    "dicom_outlines": dicom_outlines,
    "section_stacks": section_stacks,
}
_GIVEN_OUT_AS_TAR = "decathlon"


@dataclass(frozen=True)
class PrepareResult:
    """What became of a source.

    Attributes:
        layout: the kind that was recognised.
        cases: how many cases the data folder has.
        left_out: files that take no part, and why.
        notes: files that were changed on the way, and how.
        refused: cases that were meant to take part and could not, and why.
    """

    layout: str
    cases: int
    left_out: list[Remark]
    notes: list[Remark]
    refused: list[Remark] = field(default_factory=list)


def prepare(
    layouts: Sequence[str],
    source: Path,
    destination: Path,
    overwrite: bool,
    talk: Talk,
    label_values: Sequence[AbstractSet[int]] | None = None,
    outline_names: Sequence[str] = (),
) -> PrepareResult:
    """Writes the data folder of the first layout that fits, whole or not at all.

    Args:
        layouts: kinds to look for, in this order.
        source: folder that holds the source, or a decathlon task's tar; never written to.
        destination: the data folder to make.
        overwrite: replace a `destination` that holds something.
        talk: where stages and progress go.
        label_values: sets of values that the labels of volumes may have; None allows what the source itself declares.
        outline_names: patterns of the names of the DICOM outlines to take; of series with one outline it may be empty.

    Raises:
        BundleError: if a kind is unknown.
        UnreadableInput: if `source` is no folder.
        UnsuitableInput: if it has none of these layouts, or several sets side by side.
        DataFolderError: if its volumes have problems, all of which are told, or none of its cases can be used.
        OutputError: if `destination` cannot be written.
        UsageError: if one of the two folders lies in the other.
    """
    unpacks = source.is_file() and _GIVEN_OUT_AS_TAR in layouts and is_tar(source)
    if not source.is_dir() and not unpacks:
        raise UnreadableInput(f"'{source}' is no folder; unpack the release and name the folder")
    refuse_output_in_input(destination, source)
    refuse_input_in_output(destination, source)
    refuse_full_directory(destination, overwrite)
    with _folder_of(source, unpacks, destination, talk) as folder:
        origin = Origin(folder, talk, label_values, outline_names, is_temporary=unpacks)
        layout, plan = _recognise([_GIVEN_OUT_AS_TAR] if unpacks else layouts, origin)
        talk.stage(f"Found {plan.found}: {len(plan.cases)} cases, {len(plan.left_out)} files without a counterpart")
        _refuse_problems(plan, talk)
        with whole_directory(destination, overwrite) as partial:
            return _write(layout, plan, origin, partial, destination.resolve().name)


@contextmanager
def _folder_of(source: Path, unpacks: bool, destination: Path, talk: Talk) -> Iterator[Path]:
    if not unpacks:
        yield source
        return
    with unpacked_task(source, destination, talk) as folder:
        yield folder


def _recognise(layouts: Sequence[str], origin: Origin) -> tuple[str, Plan]:
    expected = []
    for layout in layouts:
        if layout not in LAYOUTS:
            known = ", ".join(LAYOUTS)
            raise BundleError(
                f"the bundle names the unknown layout '{layout}'{did_you_mean(layout, LAYOUTS)}; known are {known}"
            )
        try:
            return layout, LAYOUTS[layout](origin)
        except NotThisLayout as reason:
            expected.append(f"{layout} ({reason})")
    wanted = "; or ".join(expected) or "none, since the bundle names no layout"
    raise UnsuitableInput(
        f"the source has no layout that this bundle takes; expected {wanted}; name the folder that holds it"
    )


def _refuse_problems(plan: Plan, talk: Talk) -> None:
    problems = plan.find_problems()
    for problem in problems:
        tell = talk.problem if problem.severity == "error" else talk.warning
        tell(f"{problem.case}: {problem.detail}")
    if errors := sum(problem.severity == "error" for problem in problems):
        raise DataFolderError(
            f"the source has {errors} errors, listed above, expected none; nothing was written, mend them first"
        )


def _write(layout: str, plan: Plan, origin: Origin, folder: Path, name: str) -> PrepareResult:
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    done: list[tuple[SourceCase, Written]] = []
    left_out, refused = list(plan.left_out), list(plan.refused)
    for case, outcome in zip(plan.cases, _write_cases(plan, folder, origin.talk), strict=True):
        if isinstance(outcome, Written):
            done.append((case, outcome))
        else:
            (left_out if isinstance(outcome, LeaveOut) else refused).append(Remark(_shown(case, origin), str(outcome)))
    if not done:
        for file, reason in refused:
            origin.talk.problem(f"{file}: {reason}")
        unused = [*refused, *left_out]
        first = f"the first is '{unused[0].file}' ({unused[0].reason})" if unused else "it lists no case"
        raise DataFolderError(f"no case of the source can be used: of {len(unused)} left out {first}; mend the source")
    folds = plan.folds([case for case, _ in done])
    rows = [_row(case, written, folds[case.name]) for case, written in done]
    write_json(
        folder / "datalist.json", {"name": name, **plan.header, "counts": {"pictures": len(rows)}, "training": rows}
    )
    notes = [Remark(_shown(case, origin), note) for case, written in done for note in written.notes]
    return PrepareResult(layout, len(rows), left_out, notes, refused)


def _write_cases(plan: Plan, folder: Path, talk: Talk) -> list[Written | LeaveOut | ClinibundleError]:
    def write(case: SourceCase) -> Written | LeaveOut | ClinibundleError:
        try:
            return plan.write(case, folder)
        except OutputError:
            raise
        except (LeaveOut, ClinibundleError) as reason:
            return reason

    what = "Writing pictures and labels"
    if plan.side_by_side:
        return in_threads(write, plan.cases, what, talk)
    outcomes = []
    with talk.progress(what, len(plan.cases)) as step:
        for case in plan.cases:
            outcomes.append(write(case))
            step()
    return outcomes


def _shown(case: SourceCase, origin: Origin) -> str:
    return case.shown or case.image.relative_to(origin.folder).as_posix()


def _row(case: SourceCase, written: Written, fold: int) -> dict[str, Any]:
    files = {"image": written.image, "label": written.label}
    row = {**files, "fold": fold, "group": case.group or case.name, **case.facts, **written.facts}
    return {**row, "notes": list(written.notes)} if written.notes else row
