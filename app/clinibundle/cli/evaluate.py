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


def evaluate(
    bundle: BundleName,
    dataset_dir: DatasetDir,
    output_dir: OutputDir,
    fold: Annotated[int | None, typer.Option("--fold", help="Only cases of this fold.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Instead of the bundle's models/model.pt.")] = None,
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
    content = run(found, dataset_dir, output_dir, overlays, settings, device, overwrite, talk)
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
