"""`clinibundle phantom`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinibundle.cli.options import BundleName, Overwrite, Quiet, Seed, Verbose
from clinibundle.console import Talk


def phantom(
    bundle: BundleName,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="New data folder.")],
    cases: Annotated[int, typer.Option("--cases", min=1, help="How many.")] = 4,
    dicom: Annotated[bool, typer.Option("--dicom", help="As DICOM studies too.")] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make up cases with known truth, as a data folder and as DICOM; the same seed gives the same files.

    Example: clinibundle phantom lung_xray phantoms --cases 8 --dicom
    """
    from clinibundle.bundle.description import Bundle
    from clinibundle.bundle.find import find_bundle
    from clinibundle.errors import BundleError
    from clinibundle.phantoms.write import write_phantom_cases

    talk = Talk(quiet, verbose)
    found = Bundle(find_bundle(bundle))
    if found.data.phantom is None:
        raise BundleError(f"the bundle '{found.name}' names no phantom in configs/data.yaml")
    write_phantom_cases(found.data.phantom, dest, cases, seed, dicom, overwrite=overwrite)
    talk.result(f"{cases} made-up cases in {dest}")
