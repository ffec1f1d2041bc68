"""What all cases of an evaluation say together: the figures of metrics.json, and those that people are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clinibundle.bundle.description import MEMBRANE_METRICS, MeasureDescription, without_unit
from clinibundle.metrics.pooled import count_where_empty, pool, summarise_groups, summarise_where_truth
from clinibundle.metrics.summary import summarise
from clinibundle.report.evaluation import FurtherFigure
from clinibundle.workflows.evaluate.lesions import summarise_scans
from clinibundle.workflows.evaluate.measured import Measured
from clinibundle.workflows.evaluate.membranes import summarise_sections

_POOLED_SHOWN = ("dice", "sensitivity", "ppv")


def figures_of(measured: Sequence[Measured], described: MeasureDescription, main_metric: str) -> dict[str, Any]:
    """`summary`, `pooled`, `per_group`, `where_truth`, `where_empty` of metrics.json; `lesions` of volumes with them.

    Args:
        measured: every case.
        described: by which they were measured.
        main_metric: comes first, without its unit.
    """
    # As the table has them, so that both say the same.
    rows = [case.row for case in measured]
    groups = [case.group for case in measured]
    counts = [case.counts for case in measured]
    # Cases with and without known spacing have distances of different names.
    named = dict.fromkeys(name for case in measured for name in case.metrics)
    metrics = sorted(named, key=lambda name: without_unit(name) != main_metric)
    figures = {
        "summary": summarise(rows, metrics, groups),
        "pooled": pool(counts, groups),
        "per_group": summarise_groups(counts, groups),
        "where_truth": summarise_where_truth(rows, metrics, counts, groups),
        "where_empty": count_where_empty(counts, groups),
    }
    scans = [(case.lesions, case.group) for case in measured if case.lesions is not None]
    if scans:
        of_scans, groups_of_scans = zip(*scans, strict=True)
        figures["lesions"] = summarise_scans(of_scans, groups_of_scans, described)
    sections = [case.section for case in measured if case.section is not None]
    if sections:
        figures["membranes"] = summarise_sections(sections)
    return figures


def further_figures(content: Mapping[str, Any]) -> list[FurtherFigure]:
    """What people are shown beside the means over cases; figures that would only repeat those are left out.

    Args:
        content: of metrics.json.
    """
    cases = content["cases"]
    shown = [_pooled(f"{name}, all pixels together", content["pooled"][name], "case") for name in _POOLED_SHOWN]
    by_group = content["per_group"]["dice"]
    if by_group["n"] < cases:
        shown.append(_mean("dice, mean over groups", by_group, "group"))
    empty = content["where_empty"]
    if empty["cases"]:
        main = next(iter(content["summary"]))
        shown.append(_mean(f"{main}, where there is something to find", content["where_truth"][main], "case"))
        found = FurtherFigure(
            "nothing found, where there is nothing", empty["share"], empty["ci95"], empty["cases"], "case"
        )
        shown.append(found)
    if "membranes" in content:
        shown += _of_membranes(content["membranes"], cases)
    return shown + _of_lesions(content["lesions"]) if "lesions" in content else shown


def _of_membranes(membranes: Mapping[str, Any], cases: int) -> list[FurtherFigure]:
    fixed, best = membranes["at_fixed_threshold"], membranes["best_over_thresholds"]
    shown = []
    for name in MEMBRANE_METRICS:
        threshold = membranes["fixed_threshold"]
        text = f"{name} of the probability cut at {threshold:g}"
        shown.append(FurtherFigure(text, fixed[name], None, cases, "section"))
        if best[name]["value"] is not None:
            text = f"{name} at its best threshold, {best[name]['threshold']:g}"
            shown.append(FurtherFigure(text, best[name]["value"], None, cases, "section"))
    return shown


def _of_lesions(lesions: Mapping[str, Any]) -> list[FurtherFigure]:
    rule, per_scan = lesions["hit_rule"], lesions["per_scan"]
    surface = next(name for name in per_scan if name.startswith("surface_dice"))
    shown = [
        _mean(f"lesions found ({rule})", lesions["lesion_sensitivity"], "lesion"),
        _mean("false finds per scan", lesions["false_finds_per_scan"], "scan"),
        _mean("volume error, ml", per_scan["volume_error_ml"], "scan"),
        _mean("absolute volume error, ml", per_scan["absolute_volume_error_ml"], "scan"),
        _mean(surface, per_scan[surface], "scan"),
    ]
    if lesions["froc"] is not None:
        score = lesions["froc"]["score"]
        shown.append(FurtherFigure("FROC score, 1/8 to 8 false finds per scan", score, None, lesions["scans"], "scan"))
    return shown


def _mean(name: str, summary: Mapping[str, Any], of: str) -> FurtherFigure:
    return FurtherFigure(name, summary["mean"], summary["ci95"], summary["n"], of)


def _pooled(name: str, pooled: Mapping[str, Any], of: str) -> FurtherFigure:
    return FurtherFigure(name, pooled["value"], pooled["ci95"], pooled["n"], of)
