"""What a look through a bundle found, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from clinibundle.exchange.inspection import WORKFLOWS, Inspection
from clinibundle.exchange.verdicts import Finding, Verdict


def as_data(found: Inspection) -> dict[str, Any]:
    """All of it, plain."""
    return {
        "name": found.name,
        "version": found.version,
        "verdict": found.verdict.words,
        "workflows": {workflow: found.verdicts[workflow].words for workflow in WORKFLOWS},
        "weights_licence": found.licence,
        "packages": dict(found.packages),
        "files": found.files,
        "size_bytes": found.size,
        "findings": [{**asdict(finding), "verdict": finding.verdict.words} for finding in found.findings],
    }


def facts_of(found: Inspection) -> list[list[str]]:
    """Name and value of what is to be known beside the findings."""
    return [
        ["version", found.version],
        ["files", f"{found.files}, {found.size / 1e6:.1f} MB"],
        ["terms of the weights", found.licence],
        ["packages", ", ".join(f"{name} {version}" for name, version in found.packages.items()) or "not stated"],
        *([workflow, found.verdicts[workflow].words] for workflow in WORKFLOWS),
    ]


def rows_of(found: Inspection, everything: bool) -> list[list[str]]:
    """A row for each thing that was found, the worst first; the same thing in several places is one row.

    Args:
        found: by `inspect_bundle`.
        everything: what is clean as well.
    """
    same: dict[tuple[Verdict, str, str], list[Finding]] = {}
    for finding in found.findings:
        if everything or finding.verdict is not Verdict.CLEAN:
            same.setdefault((finding.verdict, finding.what, finding.why), []).append(finding)
    return [
        [verdict.words, _plain(what), why, _plain(places[0].place) + _more(len(places) - 1)]
        for (verdict, what, why), places in same.items()
    ]


def _more(count: int) -> str:
    return f" and {count} more" if count else ""


def _plain(text: str) -> str:
    """Without characters that a terminal would obey."""
    return text if text.isprintable() else ascii(text)[1:-1]
