"""`clinibundle convert`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinibundle.cli.options import Json, Overwrite, Quiet, Verbose
from clinibundle.console import Talk

if TYPE_CHECKING:
    from clinibundle.dicom.codes import Segment


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="DICOM series, SEG or RTSTRUCT; or a label map as NIfTI.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="What it becomes, by its ending.", show_default=False)
    ],
    lies_on: Annotated[
        Path | None, typer.Option("--source", metavar="SERIES", help="The series that outlines lie on.")
    ] = None,
    series: Annotated[str | None, typer.Option("--series", metavar="UID", help="Take this DICOM series.")] = None,
    correct_tilt: Annotated[
        bool, typer.Option("--correct-tilt", help="Straighten volumes of a tilted gantry rather than refuse them.")
    ] = False,
    segment: Annotated[
        list[str] | None, typer.Option("--segment", metavar="NAME", help="Segment or ROI to take; repeatable.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="Bundle that says what the labels of a SEG mean.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """A DICOM series to NIfTI through the geometry gate; SEG or RTSTRUCT to a label map, and a label map to a SEG.

    Example: clinibundle convert study/ --output ct.nii.gz
    """
    from clinibundle.workflows.convert import ConvertOptions
    from clinibundle.workflows.convert import convert as run

    talk = Talk(quiet, verbose)
    segments: tuple[Segment, ...] = ()
    if bundle is not None:
        from clinibundle.bundle.description import Bundle
        from clinibundle.bundle.find import find_bundle
        from clinibundle.errors import UsageError

        described = Bundle(find_bundle(bundle)).dicom
        if described is None:
            raise UsageError(
                f"the bundle '{bundle}' does not say what its labels are called in DICOM; name another one"
            )
        segments = tuple(described.segments)
    options = ConvertOptions(series, correct_tilt, lies_on, segments, tuple(segment or ()), overwrite)
    checks = run(source, output, options, talk)
    if as_json:
        talk.json({"output": str(output), "checks": [asdict(check) for check in checks]})
        return
    for check in checks:
        if check.status == "passed":
            talk.detail(f"{check.name}: {check.detail}")
        else:
            talk.warning(f"{check.name}: {check.detail}")
    talk.result(f"wrote {output}")
