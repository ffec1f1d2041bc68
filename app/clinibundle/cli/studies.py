"""`clinibundle studies`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clinibundle.cli.options import Identified, Json, NoCache, Quiet, Verbose
from clinibundle.console import Talk


def studies(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="DICOM folder, file, DICOMDIR or zip.")],
    as_json: Json = False,
    identified: Identified = False,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """What is in a study: every series, the volumes in it, and what was left out and why. Headers only.

    Example: clinibundle studies /media/cd
    """
    from clinibundle.workflows.studies import describe_studies

    talk = Talk(quiet, verbose)
    found = describe_studies(source, talk, identified, not no_cache)
    if as_json:
        talk.json(found)
        return
    for study in found["studies"]:
        _tell_study(study, talk)
    for item in found["skipped"]:
        talk.detail(f"left out {item['name']}: {item['reason']}")
    left_out = f" ({len(found['skipped'])} left out, --verbose says why)" if found["skipped"] else ""
    talk.result(f"patients: {found['patients']}, studies: {len(found['studies'])}, files: {found['files']}{left_out}")


def _tell_study(study: dict[str, Any], talk: Talk) -> None:
    """A line per volume and one for its UID, which is too long for a column and will be copied as a whole."""
    who = [f"{key} {value}" for key, value in study.items() if key not in ("study", "series") and value]
    talk.result(": ".join([f"study {study['study']}", *([", ".join(who)] if who else [])]))
    for series in study["series"]:
        for volume in series["volumes"]:
            talk.result(f"  {volume['key']}")
            talk.result(f"    {_volume(series, volume)}")
            for remark in filter(None, (volume["apart_by"], volume["problem"])):
                talk.result(f"    {remark}")
        if "other_objects" in series:
            talk.result(f"  {series['series_uid']}")
            kinds = (f"{count} {kind}" for kind, count in series["other_objects"].items())
            talk.result("    " + ", ".join(filter(None, (*kinds, series["description"]))))
        if "missing" in series:
            talk.result(f"    {series['missing']} files that the DICOMDIR lists are not there")


def _volume(series: dict[str, Any], volume: dict[str, Any]) -> str:
    slices = volume["slices"]
    size = f"{slices} {'slice' if slices == 1 else 'slices'} of {volume['shape'][1]} × {volume['shape'][0]}"
    spacing = volume["spacing_mm"] or [None]
    shown = " × ".join("?" if side is None else f"{side:.4g}" for side in spacing[::-1])
    parts = (
        series["modality"], series["description"], size, f"{shown} mm" if any(spacing) else "", volume["plane"]
    )  # fmt: skip
    return ", ".join(part for part in parts if part)
