"""`clinibundle check`."""

from __future__ import annotations

import typer

from clinibundle.cli.options import BundleName, DatasetDir, Json, Quiet, Verbose
from clinibundle.console import Talk


def check(
    bundle: BundleName, dataset_dir: DatasetDir, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """List every problem of every case of a data folder, before any training.

    Example: clinibundle check lung_xray --dataset-dir data
    """
    from dataclasses import asdict

    from clinibundle.bundle.description import Bundle
    from clinibundle.bundle.find import find_bundle
    from clinibundle.workflows.check import check_data_folder

    talk = Talk(quiet, verbose)
    allowed = Bundle(find_bundle(bundle)).data.label_values
    problems = check_data_folder(
        dataset_dir, label_values=None if allowed is None else [set(v) for v in allowed], talk=talk
    )
    if as_json:
        talk.json([asdict(problem) for problem in problems])
    elif problems:
        talk.table(["severity", "case", "kind", "detail"], [[p.severity, p.case, p.kind, p.detail] for p in problems])
    else:
        talk.result("no problems found")
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)
