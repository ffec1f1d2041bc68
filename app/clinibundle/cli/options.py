"""Options that several commands share, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleName = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or its name.", show_default=False)
]
DatasetDir = Annotated[
    Path,
    typer.Option("--dataset-dir", help="Data folder: images/, labels/ and perhaps datalist.json.", show_default=False),
]
OutputDir = Annotated[
    Path,
    typer.Option(
        "--output-dir", "-o", help="New folder for the results; appears whole or not at all.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it is there.")]
Overlay = Annotated[
    list[str] | None,
    typer.Option("--overlay", help="Config to put on top, a file or a name such as hardware/cpu; repeatable."),
]
Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="ID=VALUE", help="One id of the config; repeatable.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and refusals.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is found on the way.")]
Identified = Annotated[bool, typer.Option("--identified", help="Show who the patient is.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Read every header again.")]
