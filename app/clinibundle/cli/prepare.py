"""`clinibundle prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinibundle.cli.options import BundleName, Overwrite, Quiet, Verbose
from clinibundle.console import Talk


def prepare(
    bundle: BundleName,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The release as it was downloaded and unpacked.")],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="New data folder.")],
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Turn a public release, or pairs of pictures and masks, into a data folder for training.

    Example: clinibundle prepare lung_xray ~/Downloads/lung-masks data
    """
    from clinibundle.bundle.description import Bundle
    from clinibundle.bundle.find import find_bundle
    from clinibundle.workflows.prepare import prepare as run

    talk = Talk(quiet, verbose)
    found = Bundle(find_bundle(bundle))
    result = run(found.data.layouts, source, dest, overwrite, talk)
    for name, reason in result.left_out:
        talk.warning(f"{name} left out: {reason}")
    for name, note in result.notes:
        talk.detail(f"{name}: {note}")
    counts = f"{len(result.left_out)} files left out, {len(result.notes)} changed on the way"
    talk.result(f"{result.cases} cases ({result.layout}) in {dest}; {counts}")
