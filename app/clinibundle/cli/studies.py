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
    columns = ["Study", "Series", "Modality", "Description", "Slices", "Size", "Spacing (mm)", "Plane", "Remark"]
    talk.table(
        columns, [row for study in found["studies"] for series in study["series"] for row in _rows(study, series)]
    )
    if identified:
        for study in found["studies"]:
            known = {key: value for key, value in study.items() if key not in ("study", "series") and value}
            talk.result(f"study {study['study']}: {', '.join(f'{key} {value}' for key, value in known.items())}")
    for item in found["skipped"]:
        talk.detail(f"left out {item['name']}: {item['reason']}")
    left_out = f", {len(found['skipped'])} left out (--verbose says why)" if found["skipped"] else ""
    talk.result(f"{found['files']} files{left_out}, {len(found['studies'])} studies of {found['patients']} patients")


def _rows(study: dict[str, Any], series: dict[str, Any]) -> list[list[object]]:
    """A row per volume of a series, or one for a series without pictures."""
    start = [study["study"], series["series_uid"], series["modality"], series["description"]]
    missing = f"{series['missing']} files are missing" if "missing" in series else ""
    if not series["volumes"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in series.get("other_objects", {}).items())
        return [[*start, None, None, None, "", "; ".join(part for part in (kinds, missing) if part)]]
    rows: list[list[object]] = []
    for volume in series["volumes"]:
        spacing = volume["spacing_mm"]
        shown = (
            None if spacing is None else " × ".join("?" if side is None else f"{side:.4g}" for side in spacing[::-1])
        )
        size = f"{volume['shape'][1]} × {volume['shape'][0]}"
        remark = "; ".join(part for part in (volume["problem"], volume["apart_by"], missing) if part)
        rows.append([start[0], volume["key"], *start[2:], volume["slices"], size, shown, volume["plane"], remark])
    return rows
