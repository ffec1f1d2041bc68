"""`clinibundle pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinibundle.cli.options import BundleName, Overlay, Overwrite, Quiet, Verbose
from clinibundle.console import Talk


def pack(
    bundle: BundleName,
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The file to write, a zip.")],
    overlay: Overlay = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pack a bundle into one file that can be sent: overlays put in, a manifest, a made-up case with its answer.

    Example: clinibundle pack lung_xray --output lung_xray.zip
    """
    from clinibundle.bundle.description import Bundle
    from clinibundle.bundle.find import find_bundle, find_overlay
    from clinibundle.workflows.pack import pack as run

    talk = Talk(quiet, verbose)
    found = Bundle(find_bundle(bundle))
    run(found, [find_overlay(name, found.root) for name in overlay or []], output, overwrite, talk)
    talk.result(f"written to {output}, {output.stat().st_size / 1e6:.1f} MB")
