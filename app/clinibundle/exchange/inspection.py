"""Looks through a bundle that somebody else made, and says what it would run; nothing of it is run.

It reads what is there as data. What it calls clean uses nothing but components and expressions that are known to be
harmless; that says nothing of how well the network does, nor who made it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from clinibundle.errors import BundleError
from clinibundle.exchange.config_files import (
    LARGEST_CONFIG,
    Unreadable,
    judge_config,
    judge_logging,
    read_plain,
    texts_in,
)
from clinibundle.exchange.contents import Contents, open_contents
from clinibundle.exchange.own_python import OwnPython
from clinibundle.exchange.stored_objects import judge_binary
from clinibundle.exchange.verdicts import Finding, Verdict, worst

WORKFLOWS = ("inference", "evaluate", "train")
_METADATA = "configs/metadata.json"
_SCRIPT_IN_PICTURE = re.compile(
    r"<\s*script|javascript:|\bon\w+\s*=|<\s*(?:iframe|object|embed|foreignObject)", re.IGNORECASE
)
# What a file in the bundle's root, which is first on Python's path, must not take the place of, beside Python's own.
_LIBRARIES = frozenset(
    {
        "clinibundle",
        "ignite",
        "itk",
        "monai",
        "nibabel",
        "numpy",
        "PIL",
        "pydicom",
        "scipy",
        "skimage",
        "torch",
        "torchvision",
        "yaml",
    }
)
# Data of ours that every workflow reads.
_SHARED_CONFIGS = frozenset({"metadata", "data", "dicom", "measure", "report"})
_LARGEST_TEXT = 4 * 2**20
_ENDINGS_OF_TEXT = (".md", ".txt", ".csv", ".ipynb", ".rst", ".cfg", ".toml", ".gitignore", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Inspection:
    """What was seen.

    Attributes:
        name, version: as metadata.json says.
        licence: of the weights, as metadata.json says.
        packages: that it says to need, with versions.
        files, size: how many, and bytes.
        findings: all, the worst first.
        verdicts: of each workflow.
    """

    name: str
    version: str
    licence: str
    packages: Mapping[str, str]
    files: int
    size: int
    findings: tuple[Finding, ...]
    verdicts: Mapping[str, Verdict]

    @property
    def verdict(self) -> Verdict:
        """On the bundle: what is dangerous anywhere, or needs trust for inference or evaluation."""
        if any(finding.verdict is Verdict.DANGEROUS for finding in self.findings):
            return Verdict.DANGEROUS
        return max(self.verdicts["inference"], self.verdicts["evaluate"])


def inspect_bundle(path: Path) -> Inspection:
    """Looks through a folder or a zip.

    Raises:
        BundleError: if it holds no bundle.
    """
    with open_contents(path) as contents:
        findings = list(contents.findings)
        python = _python_of(contents)
        own = OwnPython(python)
        metadata = _metadata_of(contents, findings)
        findings += own.findings()
        findings += _shadowing(own)
        for name, size in sorted(contents.sizes.items()):
            if name not in python:
                findings += _judge_file(contents, name, size, own)
    reached = {workflow: own.reached_from(_targets_of(findings, workflow)) for workflow in WORKFLOWS}
    by_workflow = {
        workflow: worst([finding.verdict for finding in findings if _concerns(finding, workflow, reached)])
        for workflow in WORKFLOWS
    }
    licence = metadata.get("weights_licence") or {}
    return Inspection(
        name=str(metadata.get("name") or path.stem)[:80],
        version=str(metadata.get("version", "not stated"))[:40],
        licence=str(licence.get("name", "not stated") if isinstance(licence, dict) else licence)[:200],
        packages=_packages(metadata),
        files=len(contents.sizes),
        size=sum(contents.sizes.values()),
        findings=tuple(sorted(findings, key=lambda finding: (-finding.verdict, finding.place))),
        verdicts=by_workflow,
    )


def _python_of(contents: Contents) -> dict[str, str]:
    return {
        name: contents.read(name, _LARGEST_TEXT).decode("utf-8", errors="replace")
        for name in contents.sizes
        if name.lower().endswith((".py", ".pyw", ".pyi"))
    }


def _metadata_of(contents: Contents, findings: list[Finding]) -> dict[str, Any]:
    try:
        metadata = json.loads(contents.read(_METADATA, LARGEST_CONFIG))
    except (KeyError, ValueError, RecursionError, BundleError):
        metadata = None
    if isinstance(metadata, dict):
        return metadata
    findings.append(Finding(Verdict.NEEDS_TRUST, _METADATA, _METADATA, "is not there, or cannot be read"))
    return {}


def _packages(metadata: Mapping[str, Any]) -> dict[str, str]:
    required = metadata.get("required_packages_version")
    named = {"monai": metadata.get("monai_version"), "torch": metadata.get("pytorch_version")}
    named |= {"numpy": metadata.get("numpy_version")} | (required if isinstance(required, dict) else {})
    return {str(name)[:80]: str(version)[:40] for name, version in named.items() if version}


def _shadowing(own: OwnPython) -> list[Finding]:
    """Files in the root, which configs put first on Python's path, that take the place of a library."""
    taken = sorted(own.roots() & (sys.stdlib_module_names | _LIBRARIES))
    return [Finding(Verdict.DANGEROUS, f"{name}.py or {name}/", name, "takes the place of a library") for name in taken]


def _judge_file(contents: Contents, name: str, size: int, own: OwnPython) -> list[Finding]:
    """What a file that is no Python holds."""
    lower = name.lower()
    try:
        if lower.endswith((".json", ".yaml", ".yml")):
            return _judge_data(contents, name, size, own)
        if lower.endswith((".conf", ".ini")):
            return judge_logging(name, contents.read(name, LARGEST_CONFIG).decode("utf-8", errors="replace"))
        if lower.endswith((".svg", ".html", ".htm", ".xml")):
            text = contents.read(name, _LARGEST_TEXT).decode("utf-8", errors="replace")
            script = _SCRIPT_IN_PICTURE.search(text)
            return (
                [Finding(Verdict.DANGEROUS, name, script.group()[:40], "a picture that runs a script")]
                if script
                else []
            )
        judged = judge_binary(name, size, lambda limit: contents.read(name, limit))
    except BundleError as error:
        return [Finding(Verdict.DANGEROUS, name, name, str(error))]
    if judged is None:
        known = lower.endswith(_ENDINGS_OF_TEXT) or "." not in PurePosixPath(name).name
        return [] if known else [Finding(Verdict.NEEDS_TRUST, name, name, "a kind of file that bundles do not need")]
    verdict, why = judged
    return [Finding(verdict, name, f"{size} bytes", why or "weights")]


def _judge_data(contents: Contents, name: str, size: int, own: OwnPython) -> list[Finding]:
    if size > LARGEST_CONFIG:
        # Tables of figures and lists of data grow; configs do not.
        verdict = Verdict.DANGEROUS if name.startswith("configs/") else Verdict.NEEDS_TRUST
        return [Finding(verdict, name, f"{size} bytes", "far longer than configs are")]
    text = contents.read(name, LARGEST_CONFIG).decode("utf-8", errors="replace")
    try:
        value = read_plain(text, is_json=name.lower().endswith(".json"))
    except Unreadable as error:
        return [Finding(Verdict.DANGEROUS, name, name, str(error))]
    if name == _METADATA:
        # Descriptions, which nothing runs; but MONAI reads it together with the configs.
        run = [(place, each) for place, each in texts_in(value) if each.startswith(("$", "%"))]
        return [Finding(Verdict.DANGEROUS, f"{name}, {place}", each[:100], "is run") for place, each in run]
    return judge_config(name, value, own)


def _targets_of(findings: list[Finding], workflow: str) -> list[str]:
    """Whatever text a workflow's config names, components among them."""
    nothing: dict[str, frozenset[str]] = {each: frozenset() for each in WORKFLOWS}
    return [finding.what for finding in findings if _concerns(finding, workflow, nothing)]


def _concerns(finding: Finding, workflow: str, reached: Mapping[str, frozenset[str]]) -> bool:
    """Whether what was found is part of a workflow: its config, the Python it reaches, or what all share."""
    file = finding.place.partition(",")[0]
    path = PurePosixPath(file)
    if path.suffix == ".py":
        return file in reached[workflow]
    if len(path.parts) == 2 and path.parts[0] == "configs" and path.suffix in (".json", ".yaml", ".yml"):
        return path.stem in _SHARED_CONFIGS or workflow == (path.stem if path.stem in WORKFLOWS else "train")
    return True
