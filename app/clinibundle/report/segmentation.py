"""The report that `segment` leaves beside a mask: what was found, in which picture, by which model, how checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clinibundle.checks import Check, Status
from clinibundle.report.figures import Colour, colour_of
from clinibundle.report.marks import diameters_of
from clinibundle.report.page import Figure, own_script, render
from clinibundle.report.slice_view import SliceView
from clinibundle.report.wording import Column, finding_sentences

_URGENCY: Sequence[Status] = ("warning", "fixed", "passed")


@dataclass(frozen=True)
class SeriesChoice:
    """A series that the study holds, and why it was, or was not, the one to segment."""

    description: str
    chosen: bool
    reason: str


@dataclass(frozen=True)
class SegmentationReport:
    """The facts of a segmentation report; nothing else finds its way into it.

    Attributes:
        title: what was done, such as `Lung fields on a chest radiograph`.
        bundle_name: of the bundle that was run.
        bundle_version: of the same.
        weights_sha256: hexadecimal fingerprint of its weights.
        intended_use: what the bundle is for, a sentence or two.
        case: name that does not identify the patient.
        made_at: ISO time.
        software_version: of clinibundle.
        source: facts of the picture by name: modality, size, spacing, SOP class.
        findings: as in measurements.json; a key is absent where it has no meaning, None where it is not known.
        finding_columns: what to show of the findings, in this order.
        checks: as in measurements.json.
        figures: pictures, the telling one first.
        series_choice: the series of the study; empty where there was nothing to choose.
        colours: of the labels in the figures, in the order of the labels; empty for no legend.
        unknown_because: finding key to the reason why its values are not known.
        notices: terms that the reader has to keep, such as those of the weights.
        limits: what the model is known not to do well.
        identified: who the patient is; only when the user asked for it.
        slice_view: slices of a volume to scroll through.
        overviews: projections of a volume.
    """

    title: str
    bundle_name: str
    bundle_version: str
    weights_sha256: str
    intended_use: str
    case: str
    made_at: str
    software_version: str
    source: Mapping[str, str]
    findings: Sequence[Mapping[str, Any]]
    finding_columns: Sequence[Column]
    checks: Sequence[Check]
    figures: Sequence[Figure]
    series_choice: Sequence[SeriesChoice] = ()
    colours: Sequence[Colour] = ()
    unknown_because: Mapping[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()
    limits: Sequence[str] = ()
    identified: Mapping[str, str] | None = None
    slice_view: SliceView | None = None
    overviews: Sequence[Figure] = ()


def render_segmentation_report(report: SegmentationReport) -> str:
    """The report as one HTML page that opens offline."""
    columns = [column for column in report.finding_columns if _anywhere(column.key, report.findings)]
    checks = sorted(report.checks, key=lambda check: _URGENCY.index(check.status))
    slice_numbers = [_slice_number(finding, report.slice_view) for finding in report.findings]
    return render(
        "segmentation.html",
        report=report,
        sentences=finding_sentences(report.findings, columns),
        columns=columns,
        checks=checks,
        counts={status: sum(check.status == status for check in checks) for status in _URGENCY},
        unknown_notes=_unknown_notes(report, columns),
        swatches=[_swatch(finding, report.colours) for finding in report.findings],
        has_confidence=_anywhere("confidence", report.findings),
        slice_numbers=slice_numbers,
        has_slices=any(number is not None for number in slice_numbers),
        script=own_script("slice_view.js") if report.slice_view else None,
    )


def _anywhere(key: str, findings: Sequence[Mapping[str, Any]]) -> bool:
    return any(key in finding for finding in findings)


def _slice_number(finding: Mapping[str, Any], view: SliceView | None) -> int | None:
    """The slice (from 0) of the view in which the finding's diameters are drawn."""
    diameters = diameters_of(finding)
    return diameters.slice_across(2) if view and diameters else None


def _unknown_notes(report: SegmentationReport, columns: Sequence[Column]) -> list[tuple[str, str]]:
    """(heading, reason) for each column in which something is not known and the reason is."""
    return [
        (column.heading, report.unknown_because[column.key])
        for column in columns
        if column.key in report.unknown_because
        and any(finding.get(column.key, "absent") is None for finding in report.findings)
    ]


def _swatch(finding: Mapping[str, Any], colours: Sequence[Colour]) -> str | None:
    """CSS colour of a finding's outline in the figures."""
    if not colours or "label" not in finding:
        return None
    red, green, blue = colour_of(int(finding["label"]), colours)
    return f"#{red:02x}{green:02x}{blue:02x}"
