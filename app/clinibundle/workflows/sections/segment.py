"""Segment sections of a microscope: one file, one section or a stack, of any size and in bounded memory."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.tiles import TilePredictor
from clinibundle.checks import Check
from clinibundle.console import Talk
from clinibundle.files import refuse_full_directory, short_hash, whole_directory, write_json
from clinibundle.pictures.sections import Stack, open_sections
from clinibundle.pictures.tiles import TileStore
from clinibundle.pictures.write_sections import smallest_type, write_sections
from clinibundle.workflows.sections.cells import PASSES, CellFacts, fill_cells
from clinibundle.workflows.sections.probability import fill_probability, grid_of
from clinibundle.workflows.sections.report import section_figures, section_report

# Finished tiles of larger files are kept when a run is killed; smaller ones are done again in no time.
_KEPT_FROM_PIXELS = 2**24
_MM2_PER_UM2 = 1e-6


@dataclass(frozen=True)
class SectionsOutcome:
    """Findings of a file, a row for each section, and all checks."""

    case: str
    findings: list[dict[str, Any]]
    checks: tuple[Check, ...]


def segment_sections(
    bundle: Bundle, predictor: TilePredictor, path: Path, output_dir: Path, overwrite: bool, talk: Talk
) -> SectionsOutcome:
    """Segments one file into `output_dir`.

    A run that was killed is gone on with if file, weights and settings are the same: finished tiles of large pictures
    lie beside `output_dir` meanwhile, in a folder of its name with `.unfinished` behind it.

    Raises:
        ClinibundleError: if the file cannot be read, or results cannot be written.
    """
    refuse_full_directory(output_dir, overwrite)
    with open_sections(path) as stack, whole_directory(output_dir, overwrite) as folder:
        pixels = sum(section.shape[0] * section.shape[1] for section in stack.sections)
        kept = output_dir.absolute().with_name(f"{output_dir.name}.unfinished") if pixels >= _KEPT_FROM_PIXELS else None
        with _work_folder(folder, kept, _fingerprint(path, stack, predictor), talk) as work:
            outcome = _segment(bundle, predictor, stack, folder, work, talk)
        if kept is not None:
            shutil.rmtree(kept)
    return outcome


@contextmanager
def _work_folder(folder: Path, kept: Path | None, fingerprint: dict[str, Any], talk: Talk) -> Iterator[Path]:
    """Where tiles lie meanwhile: inside the partial output, or beside it where they are to outlive this run."""
    if kept is None:
        work = folder / "tiles"
        yield work
        shutil.rmtree(work)
        return
    note = kept / "run.json"
    if kept.is_dir():
        if note.is_file() and json.loads(note.read_text(encoding="utf-8")) == fingerprint:
            talk.stage(f"going on with an unfinished run in {kept.name}")
        else:
            talk.stage(f"{kept.name} is of another picture, weights or settings; it is made anew")
            shutil.rmtree(kept)
    kept.mkdir(parents=True, exist_ok=True)
    write_json(note, fingerprint)
    yield kept


def _fingerprint(path: Path, stack: Stack, predictor: TilePredictor) -> dict[str, Any]:
    status = path.stat()
    return {
        "file": short_hash(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"),
        "sections": len(stack.sections),
        "shape": list(stack.sections[0].shape),
        "weights_sha256": predictor.weights_sha256,
        "settings_sha256": predictor.settings_sha256,
    }


def _segment(
    bundle: Bundle, predictor: TilePredictor, stack: Stack, folder: Path, work: Path, talk: Talk
) -> SectionsOutcome:
    probabilities, cells = [], []
    for number, section in enumerate(stack.sections):
        grid = grid_of(section, predictor)
        probabilities.append(TileStore(work / f"probability-{number}", grid, np.uint16))
        cells.append(TileStore(work / f"cells-{number}", grid, np.int32))
    with talk.progress("outlining, tile by tile", sum(len(store.grid) for store in probabilities)) as advance:
        for section, store in zip(stack.sections, probabilities, strict=True):
            fill_probability(section, stack.case, predictor, store, advance)
    facts = []
    with talk.progress("telling cells apart", PASSES * sum(len(store.grid) for store in cells)) as advance:
        for number, (probability, own) in enumerate(zip(probabilities, cells, strict=True)):
            facts.append(fill_cells(probability, predictor.rule, own, work / f"parts-{number}", advance))
    talk.stage("measuring and writing")
    labels = smallest_type(max(len(known.areas_px) for known in facts))
    shared = (stack.family, stack.is_stack, stack.spacing_mm)
    write_sections(folder / "mask", cells, labels, *shared)
    in_a_stack = stack.is_stack and stack.family == "tif"
    write_sections(folder / ("prediction" if in_a_stack else "probability"), probabilities, np.uint16, *shared)
    findings = _findings(bundle, stack, facts)
    _write_cells(folder / "cells.csv", stack, facts)
    checks = (*stack.checks, *predictor.checks)
    write_json(folder / "measurements.json", _measurements(bundle, predictor, stack, findings, checks))
    figures = section_figures(stack, cells, bundle.report.colours)
    report = section_report(bundle, predictor.weights_sha256, stack, findings, checks, figures)
    (folder / "report.html").write_text(report, encoding="utf-8")
    return SectionsOutcome(stack.case, findings, checks)


def _findings(bundle: Bundle, stack: Stack, facts: Sequence[CellFacts]) -> list[dict[str, Any]]:
    """A row for each section."""
    finding = bundle.measure.findings[0]
    pixel_um2 = None if stack.spacing_mm is None else stack.spacing_mm[0] * stack.spacing_mm[1] / _MM2_PER_UM2
    rows = []
    for number, (section, known) in enumerate(zip(stack.sections, facts, strict=True)):
        median = float(np.median(known.areas_px)) if len(known.areas_px) else None
        rows.append(
            {
                "label": finding.label,
                "name": f"{finding.name}, section {number + 1}" if len(facts) > 1 else finding.name,
                "cells": len(known.areas_px),
                "voxels": known.interior_px,
                "fraction": known.interior_px / (section.shape[0] * section.shape[1]),
                "median_area_px": median,
                "median_area_um2": None if pixel_um2 is None or median is None else median * pixel_um2,
                "confidence": known.certainty if known.interior_px else None,
            }
        )
    return rows


def _write_cells(path: Path, stack: Stack, facts: Sequence[CellFacts]) -> None:
    pixel_um2 = None if stack.spacing_mm is None else stack.spacing_mm[0] * stack.spacing_mm[1] / _MM2_PER_UM2
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["section", "cell", "area_px", "area_um2"])
        for number, known in enumerate(facts, start=1):
            for cell, area in enumerate(known.areas_px.tolist(), start=1):
                table.writerow([number, cell, area, "" if pixel_um2 is None else f"{area * pixel_um2:.6g}"])


def _measurements(
    bundle: Bundle,
    predictor: TilePredictor,
    stack: Stack,
    findings: Sequence[Mapping[str, Any]],
    checks: Sequence[Check],
) -> dict[str, Any]:
    sections = (len(stack.sections),) if stack.is_stack else ()
    return {
        "bundle": bundle.name,
        "version": bundle.metadata.version,
        "weights_sha256": predictor.weights_sha256,
        "case": stack.case,
        "source": {
            "kind": "picture",
            "shape": [*sections, *stack.sections[0].shape],
            "spacing_mm": None if stack.spacing_mm is None else list(stack.spacing_mm[::-1]),
            "sop_instance_uids": [],
        },
        "findings": list(findings),
        "checks": [check.as_dict() for check in checks],
        "not_for_diagnostic_use": True,
    }
