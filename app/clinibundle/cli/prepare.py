"""`clinibundle prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinibundle.cli.options import BundleName, Overwrite, Quiet, Verbose
from clinibundle.console import Talk


def prepare(
    bundle: BundleName,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The release as it was downloaded and unpacked, or its .tar.")
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="New data folder.")],
    roi: Annotated[
        list[str] | None,
        typer.Option(
            "--roi",
            metavar="NAME",
            help="DICOM outlines to take in place of the bundle's own choice; * stands for anything; repeatable.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Turn a public release, image and label pairs, or DICOM with outlines into a data folder for training.

    Example: clinibundle prepare lung_xray ~/Downloads/lung-masks data
    """
    from clinibundle.bundle.description import Bundle
    from clinibundle.bundle.find import find_bundle
    from clinibundle.workflows.prepare import prepare as run

    talk = Talk(quiet, verbose)
    data = Bundle(find_bundle(bundle)).data
    allowed = None if data.label_values is None else [set(values) for values in data.label_values]
    result = run(
        data.layouts,
        source,
        dest,
        overwrite,
        talk,
        label_values=allowed,
        outline_names=roi or data.outline_names,
    )
    for name, reason in result.left_out:
        talk.warning(f"{name} left out: {reason}")
    for name, note in result.notes:
        talk.detail(f"{name}: {note}")
    for name, reason in result.refused:
        talk.refusal(f"{name}: {reason}")
    counts = f"{len(result.left_out)} files left out, {len(result.notes)} changed on the way"
    talk.result(f"{result.cases} cases ({result.layout}) in {dest}; {counts}")
    if result.refused:
        raise typer.Exit(1)
