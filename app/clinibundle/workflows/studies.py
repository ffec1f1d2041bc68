"""Studies: what a folder, DICOMDIR, zip or file holds, which series are volumes, what was left out and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinibundle.console import Talk
from clinibundle.dicom.gate import place
from clinibundle.dicom.index import Index, Instance
from clinibundle.dicom.stacks import Stack, is_picture, plane_name, split_series
from clinibundle.dicom.values import number, numbers, text, whole
from clinibundle.errors import GeometryError, UnreadableInput
from clinibundle.files import short_hash
from clinibundle.workflows.read_input import opened, read_index

_IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyDescription", "AccessionNumber")


def describe_studies(path: Path, talk: Talk, identified: bool = False, use_cache: bool = True) -> dict[str, Any]:
    """All studies of an input, with their series, the volumes in them, and the files that were left out.

    Args:
        path: folder, file, DICOMDIR or zip.
        talk: progress goes there.
        identified: who the patients are is said as well; otherwise studies are named by a short hash.
        use_cache: headers that were read before are not read again.

    Returns:
        `{"studies": [{"study", "series": [{"series_uid", "modality", "description", "objects", "volumes": [...]}]}],
        "skipped": [{"name", "reason"}], "files", "patients"}`.

    Raises:
        UnreadableInput: if there is nothing at the path, or nothing of it is DICOM.
    """
    with opened(path, talk) as place_:
        index = read_index(place_, talk, use_cache and not identified and place_ == path)
        found = _described(index, identified)
    skipped = found["skipped"]
    if not found["studies"]:
        raise UnreadableInput(
            f"none of the {len(skipped)} files is a DICOM object; the first, '{skipped[0]['name']}': "
            f"{skipped[0]['reason']}"
            if skipped
            else "the folder is empty: expected DICOM files"
        )
    return found


def _described(index: Index, identified: bool) -> dict[str, Any]:
    studies: dict[str, dict[str, list[Instance]]] = defaultdict(lambda: defaultdict(list))
    for instance in index.instances:
        header = instance.header
        studies[text(header, "StudyInstanceUID")][text(header, "SeriesInstanceUID")].append(instance)
    skipped = [{"name": item.name, "reason": item.reason} for item in index.skipped]
    rows = []
    for uid, series in studies.items():
        row: dict[str, Any] = {"study": short_hash(uid)}
        if identified:
            header = next(iter(series.values()))[0].header
            row |= {keyword: text(header, keyword) for keyword in _IDENTITY}
        row["series"] = []
        for members in series.values():
            described, unusable = _series(index, members, identified)
            row["series"].append(described)
            skipped += unusable
        rows.append(row)
    patients = {text(instance.header, "PatientID") for instance in index.instances}
    count = len(index.instances) + len(index.skipped)
    return {"studies": rows, "skipped": skipped, "files": count, "patients": len(patients)}


def _series(index: Index, members: Sequence[Instance], identified: bool) -> tuple[dict[str, Any], list[dict[str, str]]]:
    header = members[0].header
    description = text(header, "SeriesDescription")
    stacks, skipped = split_series(members)
    others = Counter(text(m.header, "Modality") or "unknown" for m in members if not is_picture(m))
    uid = text(header, "SeriesInstanceUID")
    row = {
        "series_uid": uid,
        "modality": text(header, "Modality"),
        "description": description if identified else index.shown(description),
        "objects": len(members),
        "volumes": [_volume(stack) for stack in stacks],
    }
    if others:
        row["other_objects"] = dict(others)
    missing = sum(file.series_instance_uid == uid for file in index.missing)
    if missing:
        row["missing"] = missing
    return row, [{"name": item.name, "reason": item.reason} for item in skipped]


def _volume(stack: Stack) -> dict[str, Any]:
    """A stack as a row: its size, and either its spacing or why it is no sound volume."""
    header = stack.header
    row: dict[str, Any] = {
        "key": stack.key,
        "slices": len(stack.slices),
        "shape": [whole(header, "Rows"), whole(header, "Columns")],
        "plane": plane_name(header),
        "apart_by": stack.apart_by,
        "spacing_mm": None,
        "tilt_degrees": None,
        "problem": None,
    }
    if len(stack.slices) == 1:
        sides = (number(header, "SliceThickness"), *(numbers(header, "PixelSpacing", 2) or (None, None)))
        return row | {"spacing_mm": [None if side is None else round(side, 4) for side in sides]}
    try:
        placed = place(stack.slices, f"series …{stack.key[-8:]}", tilt_allowed=True)
    except GeometryError as error:
        return row | {"problem": str(error)}
    row |= {"slices": len(placed.slices), "spacing_mm": [round(side, 4) for side in placed.spacing_mm[::-1]]}
    problems = []
    if placed.tilt_degrees:
        problems.append(f"the gantry was tilted by {placed.tilt_degrees:.1f} degrees; --correct-tilt straightens it")
    if placed.repeated:
        problems.append(f"{len(placed.repeated)} more pictures lie at the position of one of its slices")
    return row | {"tilt_degrees": round(placed.tilt_degrees, 2), "problem": "; ".join(problems) or None}
