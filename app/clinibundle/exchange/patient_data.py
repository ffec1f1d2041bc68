"""What must not leave a clinic inside a bundle: files and texts that could tell of a patient or of a machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from clinibundle.exchange.config_files import absolute_paths
from clinibundle.exchange.verdicts import Finding, Verdict

_NAMES = (
    (re.compile(r"(^|/)datalist[^/]*\.json$"), "a list of data"),
    (re.compile(r"(^|/)(log\.txt|[^/]*\.log)$"), "a log"),
    (re.compile(r"(^|/)events\.out\.tfevents"), "a log of TensorBoard"),
    (re.compile(r"(^|/)checkpoint[^/]*\.pt$"), "a checkpoint of a training"),
    (re.compile(r"\.(dcm|ima|dicom)$|(^|/)dicomdir$"), "a DICOM file"),
    (re.compile(r"\.(nii|nii\.gz|mha|mhd|nrrd|hdr|img|zarr)$"), "a volume"),
    (re.compile(r"(^|/)(runs|images|labels|imagestr|labelstr|imagests)/"), "a folder of data or runs"),
)
_TEXTS = (".json", ".yaml", ".yml", ".md", ".txt", ".csv", ".py", ".conf", ".svg", ".html", ".ipynb", ".toml", ".cfg")
_UID = re.compile(r"\b[12](?:\.(?:0|[1-9]\d*)){6,}\b")
# Roots that name standards and software, not studies.
_HARMLESS_UID = re.compile(r"1\.2\.840\.10008\.")
_PERSON = re.compile(r"\b[A-Z][A-Za-z'-]+\^[A-Z][A-Za-z'-]*")
_HEADER = re.compile(r"Patient(?:'s)?[ _]?(?:Name|ID|BirthDate)\W{1,4}\w", re.IGNORECASE)
_LARGEST_TEXT = 8 * 2**20


def patient_data_in(root: Path) -> list[Finding]:
    """Every file of a bundle that could tell of a patient or a machine: what it is, and where in it."""
    found: list[Finding] = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        why = next((why for pattern, why in _NAMES if pattern.search(name.lower())), None)
        if why is None and _is_dicom(path):
            why = "a DICOM file"
        if why is not None:
            found.append(Finding(Verdict.DANGEROUS, name, PurePosixPath(name).name, why))
        elif path.suffix.lower() in _TEXTS:
            found += _in_text(name, path.read_bytes()[:_LARGEST_TEXT].decode("utf-8", errors="replace"))
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _in_text(name: str, text: str) -> Iterator[Finding]:
    if name.endswith(".ipynb"):
        yield from _outputs_of(name, text)
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"{name}, line {number}"
        uids = [uid for uid in _UID.findall(line) if not _HARMLESS_UID.match(uid)]
        if uids:
            yield Finding(Verdict.DANGEROUS, place, uids[0], "an identifier of a study or another object")
        if person := _PERSON.search(line):
            yield Finding(Verdict.DANGEROUS, place, person.group(), "what looks like a person's name")
        if header := _HEADER.search(line):
            yield Finding(Verdict.DANGEROUS, place, header.group(), "a header of a patient's picture")
        paths = [] if name.endswith((".py", ".svg")) or "://" in line else absolute_paths(line)
        if paths:
            yield Finding(Verdict.DANGEROUS, place, paths[0], "a path of one machine")


def _outputs_of(name: str, text: str) -> Iterator[Finding]:
    try:
        cells = json.loads(text)["cells"]
    except (ValueError, KeyError, TypeError, RecursionError):
        yield Finding(Verdict.DANGEROUS, name, name, "a notebook that cannot be read")
        return
    for number, cell in enumerate(cells):
        if isinstance(cell, dict) and (cell.get("outputs") or cell.get("attachments")):
            yield Finding(
                Verdict.DANGEROUS, f"{name}, cell {number}", "outputs", "what a notebook showed when it was run"
            )
