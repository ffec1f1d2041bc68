"""`clinibundle evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinibundle.cli.options import (
    BundleName,
    DatasetDir,
    Device,
    Json,
    OutputDir,
    Overlay,
    Overwrite,
    Quiet,
    Setting,
    Verbose,
)
from clinibundle.console import Talk
from clinibundle.errors import UsageError


def evaluate(
    bundle: BundleName,
    dataset_dir: DatasetDir,
    output_dir: OutputDir,
    fold: Annotated[int | None, typer.Option("--fold", help="Only cases of this fold.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Instead of the bundle's models/model.pt.")] = None,
    fold_weights: Annotated[
        list[str] | None,
        typer.Option(
            "--fold-weights",
            metavar="FOLD=PATH",
            help="Weights that were learnt without this fold, which its cases are measured with; repeatable.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    overlay: Overlay = None,
    setting: Setting = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a bundle on labelled data: metrics with intervals, a table per case, a report.

    Example: clinibundle evaluate lung_xray --dataset-dir data --output-dir figures
    """
    from clinibundle.bundle.configs import parse_settings
    from clinibundle.bundle.description import Bundle
    from clinibundle.bundle.find import find_bundle, find_overlay
    from clinibundle.report.wording import count_text
    from clinibundle.workflows.evaluate import evaluate as run
    from clinibundle.workflows.evaluate.summary import further_figures

    talk = Talk(quiet, verbose)
    found = Bundle(find_bundle(bundle))
    settings = parse_settings(setting or [])
    if fold is not None:
        settings["fold"] = fold
    if weights is not None:
        settings["weights"] = str(weights.resolve())
    overlays = [find_overlay(name, found.root) for name in overlay or []]
    by_fold = _by_fold(fold_weights or [])
    content = run(found, dataset_dir, output_dir, overlays, settings, device, overwrite, talk, by_fold)
    if as_json:
        talk.json(content)
    else:
        rows = [[name, v["mean"], v["std"], *v["ci95"], v["n"]] for name, v in content["summary"].items()]
        talk.table(["metric", "mean", "std", "95 % from", "to", "cases"], rows)
        further = [
            [one.name, one.value, *(one.ci95 or (None, None)), count_text(one.n, one.of)]
            for one in further_figures(content)
        ]
        talk.table(["beside the means over all cases", "value", "95 % from", "to", "of"], further)
        talk.result(
            f"{content['cases']} cases, {content['missed']} missed, {len(content['refused'])} could not be read"
        )
    if content["refused"]:
        raise typer.Exit(1)


def _by_fold(pairs: list[str]) -> dict[int, Path]:
    """`0=a.pt` and the like as a mapping.

    Raises:
        UsageError: if a pair has another form.
    """
    found: dict[int, Path] = {}
    for pair in pairs:
        fold, equals, path = pair.partition("=")
        if not equals or not fold.isdigit() or not path:
            raise UsageError(f"--fold-weights '{pair}': expected FOLD=PATH, as in 0=runs/fold_0/last.pt")
        found[int(fold)] = Path(path)
    return found
