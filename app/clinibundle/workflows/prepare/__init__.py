"""Turns a public release's or a clinic's own layout into a data folder: a module per source layout.

A bundle's data names the kinds of layout that it takes; `LAYOUTS` knows the kinds and no bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinibundle.console import Talk
from clinibundle.errors import (
    BundleError,
    DataFolderError,
    UnreadableInput,
    UnsuitableInput,
    did_you_mean,
)
from clinibundle.files import refuse_input_in_output, refuse_output_in_input, whole_directory, write_json
from clinibundle.workflows.parallel import in_threads
from clinibundle.workflows.prepare.montgomery_shenzhen import montgomery_shenzhen
from clinibundle.workflows.prepare.pairs import image_label_pairs
from clinibundle.workflows.prepare.plan import LeaveOut, NotThisLayout, Plan, Remark, SourceCase, Written

__all__ = ["LAYOUTS", "PrepareResult", "Remark", "prepare"]

# Kind of layout: what finds it in a source, or raises NotThisLayout.
LAYOUTS: dict[str, Callable[[Path], Plan]] = {
    "montgomery_shenzhen": montgomery_shenzhen,
    "image_label_pairs": image_label_pairs,
}


@dataclass(frozen=True)
class PrepareResult:
    """What became of a source.

    Attributes:
        layout: the kind that was recognised.
        cases: how many cases the data folder has.
        left_out: files that take no part, and why.
        notes: files that were changed on the way, and how.
    """

    layout: str
    cases: int
    left_out: list[Remark]
    notes: list[Remark]


def prepare(layouts: Sequence[str], source: Path, destination: Path, overwrite: bool, talk: Talk) -> PrepareResult:
    """Writes the data folder of the first layout that fits, whole or not at all.

    Args:
        layouts: kinds to look for, in this order.
        source: folder that holds the source; never written to.
        destination: the data folder to make.
        overwrite: replace a `destination` that holds something.
        talk: where stages and progress go.

    Raises:
        BundleError: if a kind is unknown.
        UnreadableInput: if `source` is no folder.
        UnsuitableInput: if it has none of these layouts, or several sets side by side.
        DataFolderError: if none of its cases can be used.
        OutputError: if `destination` cannot be written.
        UsageError: if one of the two folders lies in the other.
    """
    if not source.is_dir():
        raise UnreadableInput(f"'{source}' is no folder; unpack the release and name the folder")
    refuse_output_in_input(destination, source)
    refuse_input_in_output(destination, source)
    layout, plan = _recognise(layouts, source)
    talk.stage(f"Found {plan.found}: {len(plan.cases)} cases, {len(plan.left_out)} files without a counterpart")
    with whole_directory(destination, overwrite) as folder:
        return _write(layout, plan, source, folder, destination.resolve().name, talk)


def _recognise(layouts: Sequence[str], source: Path) -> tuple[str, Plan]:
    expected = []
    for layout in layouts:
        if layout not in LAYOUTS:
            known = ", ".join(LAYOUTS)
            raise BundleError(
                f"the bundle names the unknown layout '{layout}'{did_you_mean(layout, LAYOUTS)}; known are {known}"
            )
        try:
            return layout, LAYOUTS[layout](source)
        except NotThisLayout as reason:
            expected.append(f"{layout} ({reason})")
    wanted = "; or ".join(expected) or "none, since the bundle names no layout"
    raise UnsuitableInput(
        f"'{source}' has no layout that this bundle takes; expected {wanted}; name the folder that holds it"
    )


def _write(layout: str, plan: Plan, source: Path, folder: Path, name: str, talk: Talk) -> PrepareResult:
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    outcomes = in_threads(lambda case: _write_case(plan, case, folder), plan.cases, "Writing pictures and labels", talk)
    done = [(case, written) for case, written in zip(plan.cases, outcomes, strict=True) if isinstance(written, Written)]
    refused = [
        Remark(case.image.relative_to(source).as_posix(), outcome)
        for case, outcome in zip(plan.cases, outcomes, strict=True)
        if isinstance(outcome, str)
    ]
    left_out = [*plan.left_out, *refused]
    if not done:
        raise DataFolderError(
            f"no case of '{source}' can be used: of {len(left_out)} files left out the first is "
            f"'{left_out[0].file}' ({left_out[0].reason}); mend the source"
        )
    folds = plan.folds([case for case, _ in done])
    rows = [_row(case, written, folds[case.name]) for case, written in done]
    write_json(
        folder / "datalist.json", {"name": name, **plan.header, "counts": {"pictures": len(rows)}, "training": rows}
    )
    notes = [
        Remark(case.image.relative_to(source).as_posix(), note) for case, written in done for note in written.notes
    ]
    return PrepareResult(layout, len(rows), left_out, notes)


def _write_case(plan: Plan, case: SourceCase, folder: Path) -> Written | str:
    try:
        return plan.write(case, folder)
    except LeaveOut as reason:
        return str(reason)


def _row(case: SourceCase, written: Written, fold: int) -> dict[str, Any]:
    row = {"image": written.image, "label": written.label, "fold": fold, "group": case.name, **case.facts}
    return {**row, "notes": list(written.notes)} if written.notes else row
