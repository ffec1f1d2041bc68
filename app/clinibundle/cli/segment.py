"""`clinibundle segment`."""

from __future__ import annotations

from enum import Enum
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from clinibundle.cli.options import BundleName, Device, Json, OutputDir, Overlay, Overwrite, Quiet, Setting, Verbose
from clinibundle.console import Talk
from clinibundle.errors import UsageError


class SegKindOption(str, Enum):
    """A bit mask per segment, the probability of each, or one picture of labels."""

    binary = "binary"
    fractional = "fractional"
    labelmap = "labelmap"


class AlsoOption(str, Enum):
    """Contours for planning systems, lines that viewers draw over the pictures, and a moving picture."""

    rtstruct = "rtstruct"
    gsps = "gsps"
    gif = "gif"


def segment(
    bundle: BundleName,
    source: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="DICOM file, folder, DICOMDIR or zip; picture, or folder of pictures."),
    ],
    output_dir: OutputDir,
    series: Annotated[
        str | None, typer.Option("--series", metavar="UID", help="Take this DICOM series; UID#2 for its second volume.")
    ] = None,
    every_study: Annotated[
        bool, typer.Option("--all", help="Every study of the input, each in a folder of its own.")
    ] = False,
    correct_tilt: Annotated[
        bool, typer.Option("--correct-tilt", help="Straighten volumes of a tilted gantry rather than refuse them.")
    ] = False,
    seg: Annotated[
        SegKindOption, typer.Option("--seg", help="How the DICOM SEG holds the outline.")
    ] = SegKindOption.binary,
    also: Annotated[
        list[AlsoOption] | None,
        typer.Option("--also", help="The outline as RTSTRUCT, presentation state or GIF as well; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep cases that are finished; for several cases.")] = False,
    identified: Annotated[bool, typer.Option("--identified", help="Show in the report who the patient is.")] = False,
    max_memory: Annotated[
        float | None,
        typer.Option(
            "--max-memory",
            metavar="GIB",
            help="Keep within so much memory, or refuse; four fifths of what is free if not given.",
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run whatever a packed bundle names, not only what is on the allow-list.")
    ] = False,
    overwrite: Overwrite = False,
    overlay: Overlay = None,
    setting: Setting = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Outline what a bundle knows on a DICOM study or picture, measure it, and write SEG, mask and report.

    Example: clinibundle segment lung_xray study/ --output-dir result
    """
    from clinibundle.bundle.configs import parse_settings
    from clinibundle.bundle.find import find_overlay
    from clinibundle.report.wording import value_text
    from clinibundle.workflows.at_hand import bundle_at_hand
    from clinibundle.workflows.read_input import DicomOptions
    from clinibundle.workflows.segment import SegmentOptions
    from clinibundle.workflows.segment import segment as run

    talk = Talk(quiet, verbose)
    if max_memory is not None and not 0 < max_memory < inf:
        raise UsageError(f"--max-memory {max_memory:g}: expected a number of GiB above 0, as in --max-memory 8")
    with bundle_at_hand(bundle) as (found, came_packed):
        options = SegmentOptions(
            dicom=DicomOptions(series, every_study, correct_tilt),
            seg_kind=seg.value,
            also=[kind.value for kind in dict.fromkeys(also or [])],
            overwrite=overwrite,
            resume=resume,
            identified=identified,
            device=device,
            overlays=[find_overlay(name, found.root) for name in overlay or []],
            settings=parse_settings(setting or []),
            max_memory_gib=max_memory,
            only_listed=came_packed and not trust,
        )
        outcomes, columns = run(found, source, output_dir, options, talk), found.report.columns
    if as_json:
        talk.json(
            [{"case": o.case, "findings": o.findings, "warnings": o.warnings, "refused": o.refusal} for o in outcomes]
        )
    else:
        rows = [
            [o.case, f["name"], *(value_text(f[c.key], c.format) if c.key in f else "–" for c in columns), o.warnings]
            for o in outcomes
            for f in o.findings
        ]
        headings = [f"{c.heading} ({c.unit})" if c.unit else c.heading for c in columns]
        talk.table(["Case", "Finding", *headings, "Warnings"], rows)
        talk.result(f"results in {output_dir}; open report.html to look at them. Not for diagnostic use.")
    if any(outcome.refusal for outcome in outcomes):
        raise typer.Exit(1)
