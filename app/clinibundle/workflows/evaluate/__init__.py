"""Evaluate: the bundle's own evaluation config on every labelled case, one table of metrics, intervals by patient."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError, DataFolderError
from clinibundle.files import (
    refuse_full_directory,
    refuse_input_in_output,
    refuse_output_in_input,
    whole_directory,
    write_json,
)
from clinibundle.report.evaluation import EvaluationReport, render_evaluation_report
from clinibundle.report.page import Figure
from clinibundle.workflows.evaluate.cases import case_names, facts_by_picture
from clinibundle.workflows.evaluate.measured import Evaluation, Measured, reason_of
from clinibundle.workflows.evaluate.summary import figures_of, further_figures
from clinibundle.workflows.evaluate.worst import WorstCases
from clinibundle.workflows.record import shown_overlay, shown_path

__all__ = ["evaluate"]


def evaluate(  # noqa: PLR0913 - what the command can be told
    bundle: Bundle,
    dataset_dir: Path,
    output_dir: Path,
    overlays: Sequence[Path],
    settings: Mapping[str, Any],
    device: str,
    overwrite: bool,
    talk: Talk,
    weights_by_fold: Mapping[int, Path] | None = None,
) -> dict[str, Any]:
    """Measures a bundle on labelled data; metrics.json, per_case.csv and report.html appear whole or not at all.

    Args:
        bundle: whose `configs/evaluate.yaml` says how a case is read, run and brought into two binary masks, `pred`
            and `label`, and of volumes perhaps the foreground's `probability`.
        dataset_dir: the data folder.
        output_dir: for the results.
        overlays: configs put on top, later ones win.
        settings: single ids put on top of those, such as `fold` or `weights`.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        overwrite: replace an output folder that is not empty.
        talk: told what happens.
        weights_by_fold: for figures out of fold: of each fold the weights that were learnt without it; only cases of
            these folds are measured.

    Returns:
        The content of metrics.json.

    Raises:
        DataFolderError: if there is no case that can be measured.
        BundleError: if the config or the weights cannot be used.
    """
    if not dataset_dir.is_dir():
        raise DataFolderError(f"'{dataset_dir}' is no folder; name one that holds images/ and labels/")
    refuse_output_in_input(output_dir, dataset_dir)
    refuse_input_in_output(output_dir, dataset_dir)
    refuse_full_directory(output_dir, overwrite)
    facts = facts_by_picture(dataset_dir)
    talk.stage(f"loading {bundle.name} {bundle.metadata.version}")
    run = Evaluation(bundle, dataset_dir, overlays, settings, device, weights_by_fold or {})
    measured: list[Measured] = []
    refused: list[tuple[str, str]] = []
    worst = WorstCases(bundle.metadata.main_metric, bundle.lower_is_better, bundle.report.window)
    with talk.progress("measuring", len(run.rows)) as advance:
        for case, files in zip(case_names(run.rows, dataset_dir), run.rows, strict=True):
            known = facts.get(str(Path(files["image"]).resolve()), {})
            if not run.knows(known):
                advance()
                continue
            try:
                numbers, masks = run.measure(case, files, known)
                measured.append(numbers)
                worst.consider(numbers, masks, files["image"])
            except (ClinibundleError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
                # Relative to the data folder: what lies above it may tell whose pictures these are.
                reason = reason_of(error).replace(f"{dataset_dir.resolve()}{os.sep}", "")
                refused.append((case, reason))
                talk.refusal(f"{case}: {reason}")
            advance()
    if not measured and not refused:
        raise DataFolderError(f"no case of '{dataset_dir}' is in the folds {sorted(weights_by_fold or {})}")
    if not measured:
        raise DataFolderError(f"none of the {len(refused)} cases could be measured; the first: {refused[0][1]}")
    content = {
        "bundle": bundle.name,
        "version": bundle.metadata.version,
        "weights_sha256": run.weights_sha256,
        "dataset": dataset_dir.resolve().name,
        "fold": run.fold
        if not weights_by_fold
        else f"each by its own weights ({', '.join(map(str, sorted(weights_by_fold)))})",
        "overlays": [shown_overlay(overlay, bundle.root) for overlay in overlays],
        "settings": {key: shown_path(value) if key == "weights" else value for key, value in settings.items()},
        "cases": len(measured),
        **figures_of(measured, bundle.measure, bundle.metadata.main_metric),
        "missed": sum(case.is_missed for case in measured),
        "refused": [{"case": case, "reason": reason} for case, reason in refused],
        "seconds_per_case": round(float(np.mean([case.seconds for case in measured])), 4),
    }
    with whole_directory(output_dir, overwrite) as folder:
        write_json(folder / "metrics.json", content)
        _write_table(folder / "per_case.csv", measured, list(content["summary"]))
        report = _report(bundle, content, measured, refused, worst.figures())
        (folder / "report.html").write_text(render_evaluation_report(report), encoding="utf-8")
    return content


def _write_table(path: Path, measured: Sequence[Measured], metrics: Sequence[str]) -> None:
    rows = [case.row for case in measured]
    of_lesions = dict.fromkeys(name for case in measured if case.lesions for name in case.lesions.metrics)
    first = measured[0]
    columns = [*first.facts, *metrics, *of_lesions, *first.counts._fields, "seconds"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns)
        table.writeheader()
        table.writerows(rows)


def _report(
    bundle: Bundle,
    content: Mapping[str, Any],
    measured: Sequence[Measured],
    refused: Sequence[tuple[str, str]],
    worst: Sequence[Figure],
) -> EvaluationReport:
    froc = content["lesions"]["froc"] if "lesions" in content else None
    # Pixel counts are for those who add them up.
    rows = [{name: value for name, value in case.row.items() if name not in case.counts._fields} for case in measured]
    return EvaluationReport(
        title=f"Evaluation of {bundle.name}",
        bundle_name=bundle.name,
        bundle_version=bundle.metadata.version,
        weights_sha256=content["weights_sha256"],
        dataset_name=content["dataset"],
        fold=content["fold"],
        made_at=datetime.now(timezone.utc).astimezone().isoformat(timespec="minutes"),
        cases=content["cases"],
        missed=content["missed"],
        summary=content["summary"],
        further=further_figures(content),
        froc=[] if froc is None else [_place(point) for point in froc["points"]],
        per_case=rows,
        refused=refused,
        worst=worst,
        notes=["Blue: found and true. Orange: found, not true. Red: true, not found."],
        lower_is_better=bundle.lower_is_better,
    )


def _place(point: Mapping[str, Any]) -> tuple[float, float]:
    """In the chart; nowhere where no scan has a lesion."""
    found, false_finds = (point[name]["mean"] for name in ("lesion_sensitivity", "false_finds_per_scan"))
    return float(false_finds), math.nan if found is None else float(found)
