"""`clinibundle inspect`."""

from __future__ import annotations

from typing import Annotated

import typer

from clinibundle.cli.options import Json, Quiet, Verbose
from clinibundle.console import Talk

EXIT_CODES = {"CLEAN": 0, "NEEDS_TRUST": 3, "DANGEROUS": 4}


def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="folder, packed zip, or name of a bundle at hand")],
    everything: Annotated[bool, typer.Option("--all", help="list what is clean as well")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look through a bundle without running anything of it: 0 clean, 3 needs trust, 4 dangerous.

    Example: clinibundle inspect bundles/lung_xray
    """
    from pathlib import Path

    from clinibundle.bundle.find import find_bundle
    from clinibundle.exchange.inspection import inspect_bundle
    from clinibundle.exchange.tell import as_data, facts_of, rows_of

    talk = Talk(quiet, verbose)
    found = inspect_bundle(Path(path) if Path(path).exists() else find_bundle(path))
    if as_json:
        talk.json(as_data(found))
    else:
        rows = rows_of(found, everything)
        if rows:
            talk.table(["verdict", "what", "why", "where"], rows)
        talk.table(["fact", "value"], facts_of(found))
        talk.result(f"{found.name}: {found.verdict.words}")
    raise typer.Exit(EXIT_CODES[found.verdict.name])
