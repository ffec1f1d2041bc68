"""Evaluate: the bundle's own evaluation config on every labelled case, one table of metrics, intervals by patient."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import Bundle, without_unit
from clinibundle.console import Talk
from clinibundle.errors import BundleError, DataFolderError
from clinibundle.files import (
    refuse_full_directory,
    refuse_input_in_output,
    refuse_output_in_input,
    sha256_of,
    whole_directory,
    write_json,
)
from clinibundle.metrics.binary import binary_metrics, is_missed
from clinibundle.metrics.summary import summarise
from clinibundle.pictures.read import case_name
from clinibundle.report.evaluation import EvaluationReport, goodness, render_evaluation_report
from clinibundle.report.figures import overlay_png
from clinibundle.report.page import Figure
from clinibundle.workflows.check.listing import LIST_NAME, find_cases
from clinibundle.workflows.record import shown_overlay, shown_path

if TYPE_CHECKING:
    import torch

_WORST_SHOWN = 6
_FACTS = ("case", "group", "fold")
# Agreement, false finds, misses.
_COMPARISON_COLOURS = [(0, 160, 220), (240, 160, 0), (220, 40, 60)]


@dataclass(frozen=True, eq=False)
class Measured:
    """One case: its row of the table, whether its object was missed, and what the picture of it needs."""

    row: dict[str, Any]
    missed: bool
    files: Mapping[str, str]
    prediction: NDArray[np.bool_]
    truth: NDArray[np.bool_]


def evaluate(
    bundle: Bundle,
    dataset_dir: Path,
    output_dir: Path,
    overlays: Sequence[Path],
    settings: Mapping[str, Any],
    device: str,
    overwrite: bool,
    talk: Talk,
) -> dict[str, Any]:
    """Measures a bundle on labelled data; metrics.json, per_case.csv and report.html appear whole or not at all.

    Args:
        bundle: whose `configs/evaluate.yaml` says how a case is read, run and brought into two binary masks, `pred`
            and `label`.
        dataset_dir: the data folder.
        output_dir: for the results.
        overlays: configs put on top, later ones win.
        settings: single ids put on top of those, such as `fold` or `weights`.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        overwrite: replace an output folder that is not empty.
        talk: told what happens.

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
    facts = _facts_by_picture(dataset_dir)
    talk.stage(f"loading {bundle.name} {bundle.metadata.version}")
    run = _Evaluation(bundle, dataset_dir, overlays, settings, device)
    measured: list[Measured] = []
    refused: list[tuple[str, str]] = []
    with talk.progress("measuring", len(run.rows)) as advance:
        for case, files in zip(_case_names(run.rows, dataset_dir), run.rows, strict=True):
            known = facts.get(str(Path(files["image"]).resolve()), {})
            try:
                measured.append(run.measure(case, files, known))
            except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
                # Relative to the data folder: what lies above it may tell whose pictures these are.
                reason = _reason(error).replace(f"{dataset_dir.resolve()}{os.sep}", "")
                refused.append((case, reason))
                talk.refusal(f"{case}: {reason}")
            advance()
    if not measured:
        raise DataFolderError(f"none of the {len(refused)} cases could be measured; the first: {refused[0][1]}")
    rows = [case.row for case in measured]
    # Cases with and without known spacing have distances of different names.
    named = dict.fromkeys(name for row in rows for name in row if name not in (*_FACTS, "seconds"))
    # The main one comes first, and the report is about it.
    metrics = sorted(named, key=lambda name: without_unit(name) != bundle.metadata.main_metric)
    summary = summarise(rows, metrics, [str(row["group"]) for row in rows])
    content = {
        "bundle": bundle.name,
        "version": bundle.metadata.version,
        "weights_sha256": run.weights_sha256,
        "dataset": dataset_dir.resolve().name,
        "fold": run.fold,
        "overlays": [shown_overlay(overlay, bundle.root) for overlay in overlays],
        "settings": {key: shown_path(value) if key == "weights" else value for key, value in settings.items()},
        "cases": len(measured),
        "summary": summary,
        "missed": sum(case.missed for case in measured),
        "refused": [{"case": case, "reason": reason} for case, reason in refused],
        "seconds_per_case": round(float(np.mean([row["seconds"] for row in rows])), 4),
    }
    with whole_directory(output_dir, overwrite) as folder:
        write_json(folder / "metrics.json", content)
        _write_table(folder / "per_case.csv", rows, metrics)
        report = _report(bundle, content, measured, refused)
        (folder / "report.html").write_text(render_evaluation_report(report), encoding="utf-8")
    return content


class _Evaluation:
    """The bundle's evaluation config made ready."""

    def __init__(
        self, bundle: Bundle, dataset_dir: Path, overlays: Sequence[Path], settings: Mapping[str, Any], device: str
    ) -> None:
        from clinibundle.bundle.predict import load_weights, pick_device

        self._measure = bundle.measure
        self.device = pick_device(device)
        # Only evaluation and training may need the bundle's own package; it bears the bundle's name.
        sys.path.insert(0, str(bundle.root))
        parser = read_config(bundle.root, "evaluate", overlays, {**settings, "dataset_dir": str(dataset_dir.resolve())})
        parser["device"] = f"$torch.device('{self.device}')"
        try:
            parser.parse()
            dataset = parser.get_parsed_content("dataset")
            self.rows: list[dict[str, Any]] = list(dataset.data)
            self._transform = dataset.transform
            self._inferer = parser.get_parsed_content("inferer")
            self._postprocessing = parser.get_parsed_content("postprocessing")
            self._network: torch.nn.Module = parser.get_parsed_content("network").eval()
            weights = Path(parser.get_parsed_content("weights"))
            self.fold: Any = parser.get_parsed_content("fold") if "fold" in parser else None
        except (ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
            raise BundleError(f"the evaluation of '{bundle.name}' cannot start: {_reason(error)}") from error
        if not weights.is_file():
            raise BundleError(f"there are no weights at '{weights}'; train the bundle, or name them with --weights")
        load_weights(self._network, weights, bundle.name)
        self.weights_sha256 = sha256_of(weights)

    def measure(self, case: str, files: Mapping[str, Any], known: Mapping[str, Any]) -> Measured:
        """Runs one case and compares; seconds are those of reading, network and postprocessing."""
        import torch
        from monai.data import MetaTensor

        started = time.perf_counter()
        with torch.inference_mode():
            data = self._transform(dict(files))
            image = data["image"]
            logits = self._inferer(inputs=image.as_tensor()[None].to(self.device), network=self._network)
            pred = MetaTensor(logits[0].cpu(), meta=image.meta, applied_operations=image.applied_operations)
            data = self._postprocessing({**data, "pred": pred})
        seconds = time.perf_counter() - started
        prediction, truth = (np.asarray(data[key])[0] > 0.5 for key in ("pred", "label"))
        rows_and_columns_mm = known.get("spacing_mm")
        spacing = None if not rows_and_columns_mm else tuple(float(value) for value in rows_and_columns_mm)[::-1]
        found = binary_metrics(prediction, truth, spacing)
        values = {name: value for name, value in found.items() if without_unit(name) in self._measure.metrics}
        for name, key in self._measure.also_compare.items():
            values[name] = binary_metrics(np.asarray(data[key])[0] > 0.5, truth)["dice"]
        row = {
            "case": case,
            "group": str(known.get("group", case)),
            "fold": known.get("fold"),
            **{key: None if value is None else round(value, 6) for key, value in values.items()},
            "seconds": round(seconds, 4),
        }
        return Measured(row, is_missed(prediction, truth), {"image": files["image"]}, prediction, truth)


def _case_names(rows: Sequence[Mapping[str, Any]], dataset_dir: Path) -> list[str]:
    """The name of each row's picture without its ending; where several share it, their place in the data folder."""
    paths, root = [Path(row["image"]) for row in rows], dataset_dir.resolve()
    sharing = Counter(case_name(path) for path in paths)
    return [
        path.relative_to(root).as_posix()
        if sharing[case_name(path)] > 1 and path.is_relative_to(root)
        else case_name(path)
        for path in paths
    ]


def _facts_by_picture(dataset_dir: Path) -> dict[str, dict[str, Any]]:
    """Rows of datalist.json, or group and fold that a folder without one gives, by the resolved path of the picture.

    Raises:
        DataFolderError: if there is a list that cannot be read.
    """
    listing = dataset_dir / LIST_NAME
    if not listing.is_file():
        cases, _ = find_cases(dataset_dir.resolve())
        return {str(case.image.resolve()): {"group": case.group, "fold": case.fold} for case in cases if case.image}
    try:
        sections = json.loads(listing.read_text(encoding="utf-8"))
        rows = [row for name in ("testing", "training") for row in sections.get(name, [])]
        return {str((dataset_dir / row["image"]).resolve()): row for row in reversed(rows) if "image" in row}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataFolderError(
            "datalist.json is no list of cases that can be read; clinibundle check says what is wrong with it"
        ) from error


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, [*_FACTS, *metrics, "seconds"])
        table.writeheader()
        table.writerows(rows)


def _report(
    bundle: Bundle, content: Mapping[str, Any], measured: Sequence[Measured], refused: Sequence[tuple[str, str]]
) -> EvaluationReport:
    main, lower_is_better = next(iter(content["summary"])), bundle.lower_is_better
    worst = sorted(measured, key=lambda case: goodness(case.row, main, lower_is_better))[:_WORST_SHOWN]
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
        per_case=[case.row for case in measured],
        refused=refused,
        worst=[Figure(f"{case.row['case']}: {_value(case.row, main)}", _comparison(case)) for case in worst],
        notes=["Blue: found and true. Orange: found, not true. Red: true, not found."],
        lower_is_better=lower_is_better,
    )


def _value(row: Mapping[str, Any], metric: str) -> str:
    value = row.get(metric)
    return f"no {metric}" if value is None else f"{metric} {value:.3f}"


def _comparison(case: Measured) -> bytes:
    """The picture with agreement, false finds and misses in three colours."""
    from monai.transforms import LoadImage

    picture = np.asarray(LoadImage(image_only=True)(case.files["image"]))
    labels = np.where(case.prediction & case.truth, 1, np.where(case.prediction, 2, np.where(case.truth, 3, 0)))
    return overlay_png(np.swapaxes(picture, 0, 1), labels.T, _COMPARISON_COLOURS, max_side=480)


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
