"""The report that `evaluate` leaves: how well a bundle does on labelled data, and where it does worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from clinibundle.report.figures import histogram_svg, line_chart_svg
from clinibundle.report.page import Figure, render

_ABOUT_A_CASE = ("case", "group", "fold")


@dataclass(frozen=True)
class FurtherFigure:
    """A figure over many cases that is no mean of a metric over all of them.

    Attributes:
        name: what it is, for people.
        value: None if not known.
        ci95: low, high; None if there is no interval.
        n: over how many.
        of: what those are, such as `lesion`.
    """

    name: str
    value: float | None
    ci95: Sequence[float | None] | None
    n: int
    of: str


@dataclass(frozen=True)
class EvaluationReport:
    """The facts of an evaluation report.

    Attributes:
        title: such as `lung_xray on Montgomery and Shenzhen`.
        bundle_name: of the bundle.
        bundle_version: of the same.
        weights_sha256: hexadecimal fingerprint of the weights.
        dataset_name: of the labelled data.
        fold: that was held out, or None for all cases.
        made_at: ISO time.
        cases: how many were evaluated.
        missed: how many of these have something to find in which nothing was found.
        summary: metric to its mean, std, ci95 (low, high), median and n, as in metrics.json; the main metric first.
        further: figures beside it.
        froc: (false finds per scan, lesion sensitivity) at falling or rising thresholds; empty if not known.
        per_case: rows as in per_case.csv: case, group, fold, every metric, seconds.
        refused: (case, reason) of those that could not be evaluated.
        worst: pictures of the worst cases.
        notes: what a reader must know to judge the numbers.
        lower_is_better: whether the main metric is a distance or an error.
    """

    title: str
    bundle_name: str
    bundle_version: str
    weights_sha256: str
    dataset_name: str
    fold: int | str | None
    made_at: str
    cases: int
    missed: int
    summary: Mapping[str, Mapping[str, Any]]
    per_case: Sequence[Mapping[str, Any]]
    further: Sequence[FurtherFigure] = ()
    froc: Sequence[tuple[float, float]] = ()
    refused: Sequence[tuple[str, str]] = ()
    worst: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    lower_is_better: bool = False


def render_evaluation_report(report: EvaluationReport) -> str:
    """The report as one HTML page that opens offline."""
    main = next(iter(report.summary), None)
    values = [row[main] for row in report.per_case if main and _known(row.get(main))]
    return render(
        "evaluation.html",
        report=report,
        main=main,
        rows=worst_first(report.per_case, main, report.lower_is_better),
        columns=list(dict.fromkeys(key for row in report.per_case for key in row)),
        text_columns=_ABOUT_A_CASE,
        histogram=histogram_svg(values, main) if main and values else None,
        froc=_froc_svg(report.froc) if report.froc else None,
    )


def worst_first(
    rows: Sequence[Mapping[str, Any]], metric: str | None, lower_is_better: bool = False
) -> list[Mapping[str, Any]]:
    """Rows by a metric, cases without a value of it before all others."""
    if metric is None:
        return list(rows)
    return sorted(rows, key=lambda row: goodness(row, metric, lower_is_better))


def goodness(row: Mapping[str, Any], metric: str, lower_is_better: bool = False) -> float:
    """What cases are sorted by, the worst first: more is better, and a case without a value comes before all others."""
    value = row.get(metric)
    if not _known(value):
        return -math.inf
    return -float(value) if lower_is_better else float(value)


def _froc_svg(points: Sequence[tuple[float, float]]) -> str:
    return line_chart_svg({"FROC": points}, "false finds per scan", "lesion sensitivity", (0.0, 1.0))


def _known(value: Any) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
