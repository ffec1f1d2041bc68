"""`clinibundle convert`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinibundle.cli.options import Json, Overwrite, Quiet, Verbose
from clinibundle.console import Talk

if TYPE_CHECKING:
    from clinibundle.dicom.codes import Segment


class ObjectKindOption(str, Enum):
    """Masks on the frames of a series, or contours for planning systems."""

    seg = "seg"
    rtstruct = "rtstruct"


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
    object_kind: Annotated[
        ObjectKindOption, typer.Option("--as", help="What a label map becomes in DICOM.")
    ] = ObjectKindOption.seg,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """A DICOM series to NIfTI through the geometry gate; SEG or RTSTRUCT to a label map, and back.

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
    chosen = tuple(segment or ())
    options = ConvertOptions(series, correct_tilt, lies_on, segments, chosen, overwrite, object_kind.value)
    done = run(source, output, options, talk)
    if as_json:
        checks = [check.as_dict() for check in done.checks]
        talk.json({"output": str(output), "labels": done.labels, "checks": checks})
        return
    for check in done.checks:
        if check.status == "passed":
            talk.detail(f"{check.name}: {check.detail}")
        else:
            talk.warning(f"{check.name}: {check.detail}")
    for number, name in done.labels.items():
        talk.result(f"label {number}: {name}")
    talk.result(f"wrote {output}")
