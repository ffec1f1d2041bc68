"""Segment: checks of the input, the outline on its own grid, measurements, objects, a report; all of it or nothing."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import clinibundle
from clinibundle.bundle.description import Bundle
from clinibundle.checks import Check
from clinibundle.console import Talk
from clinibundle.dicom.seg import Algorithm, write_seg
from clinibundle.errors import ClinibundleError, UsageError
from clinibundle.files import (
    refuse_full_directory,
    refuse_input_in_output,
    refuse_output_in_input,
    whole_directory,
    write_json,
)
from clinibundle.measure.regions import check_limits, measure_flat
from clinibundle.pictures.write import write_label_map
from clinibundle.report.figures import overlay_png, plain_png
from clinibundle.report.page import Figure
from clinibundle.report.segmentation import SegmentationReport, SeriesChoice, render_segmentation_report
from clinibundle.report.wording import Column
from clinibundle.volume import Volume
from clinibundle.workflows.read_input import Case, find_cases

if TYPE_CHECKING:
    from clinibundle.bundle.predict import Prediction, Predictor
    from clinibundle.dicom.select import Choice


@dataclass(frozen=True)
class SegmentOptions:
    """What a user may turn.

    Attributes:
        series_uid: the DICOM series to take, where the choice is not clear.
        every_study: each study of the input is a case of its own.
        overwrite: replace an output folder that is not empty.
        resume: keep cases that are finished in the output folder; only for several cases.
        identified: show in the report who the patient is.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        overlays, settings: put on top of the bundle's inference config.
    """

    series_uid: str | None = None
    every_study: bool = False
    overwrite: bool = False
    resume: bool = False
    identified: bool = False
    device: str = "auto"
    overlays: Sequence[Path] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a case: its findings, or why it was refused."""

    case: str
    folder: Path | None
    findings: list[dict[str, Any]]
    warnings: int
    refusal: str | None = None


def segment(bundle: Bundle, path: Path, output_dir: Path, options: SegmentOptions, talk: Talk) -> list[Outcome]:
    """Segments one case into `output_dir`, or each of several into a folder of its own below it.

    Raises:
        ClinibundleError: if a single case is refused, or nothing could be tried at all. Of several cases, refused ones
            are in the list that is returned.
    """
    if options.resume and options.overwrite:
        raise UsageError("--resume keeps finished cases and --overwrite replaces them; use one of the two")
    refuse_output_in_input(output_dir, path)
    refuse_input_in_output(output_dir, path)
    if not options.resume:
        refuse_full_directory(output_dir, options.overwrite)
    talk.stage(f"reading {'the folder' if path.is_dir() else 'the file'}")
    cases = find_cases(path, bundle, options.series_uid, options.every_study)
    several = len(cases) > 1 or options.every_study or (path.is_dir() and cases[0].name != "study")
    if not several:
        # Read before torch is imported: a refusal should not take seconds.
        volume, choice = cases[0].read()
        return [_segment_alone(bundle, volume, choice, output_dir, options, talk)]
    return _segment_several(bundle, cases, output_dir, options, talk)


def _segment_alone(
    bundle: Bundle, volume: Volume, choice: Choice | None, output_dir: Path, options: SegmentOptions, talk: Talk
) -> Outcome:
    predictor = _ready(bundle, options, talk)
    talk.stage("outlining, measuring and writing")
    with whole_directory(output_dir, options.overwrite) as folder:
        outcome = _segment_case(bundle, predictor, volume, choice, folder, options, talk)
    return Outcome(outcome.case, output_dir, outcome.findings, outcome.warnings)


def _segment_several(
    bundle: Bundle, cases: Sequence[Case], output_dir: Path, options: SegmentOptions, talk: Talk
) -> list[Outcome]:
    predictor = _ready(bundle, options, talk)
    if options.overwrite and output_dir.is_dir():
        shutil.rmtree(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    outcomes = []
    names = _distinct([case.name for case in cases])
    with talk.progress("segmenting", len(cases)) as advance:
        for name, case in zip(names, cases, strict=True):
            folder = output_dir / name
            if options.resume and (folder / "measurements.json").is_file():
                outcomes.append(_kept(name, folder))
            else:
                outcomes.append(_tried(bundle, predictor, name, case, folder, options, talk))
            advance()
    _write_summary(output_dir / "summary.csv", outcomes)
    return outcomes


def _kept(name: str, folder: Path) -> Outcome:
    """A case that an earlier run finished; its folder is whole, or it would not be there."""
    known = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
    warnings = sum(check["status"] == "warning" for check in known["checks"])
    return Outcome(name, folder, known["findings"], warnings)


def _tried(
    bundle: Bundle, predictor: Predictor, name: str, case: Case, folder: Path, options: SegmentOptions, talk: Talk
) -> Outcome:
    try:
        volume, choice = case.read()
        with whole_directory(folder, overwrite=True) as partial:
            outcome = _segment_case(bundle, predictor, volume, choice, partial, options, talk)
    except ClinibundleError as error:
        talk.refusal(f"{name}: {error}")
        return Outcome(name, None, [], 0, str(error))
    return Outcome(name, folder, outcome.findings, outcome.warnings)


def _ready(bundle: Bundle, options: SegmentOptions, talk: Talk) -> Predictor:
    talk.stage(f"loading {bundle.name} {bundle.metadata.version}")
    from clinibundle.bundle.predict import Predictor

    predictor = Predictor(bundle, options.device, options.overlays, options.settings)
    licence = bundle.metadata.weights_licence
    if licence is not None and not licence.commercial_use:
        talk.warning(f"the weights of {bundle.name} are for non-commercial use only ({licence.name})")
    return predictor


def _segment_case(
    bundle: Bundle,
    predictor: Predictor,
    volume: Volume,
    choice: Choice | None,
    folder: Path,
    options: SegmentOptions,
    talk: Talk,
) -> Outcome:
    """Everything that is done for one case, into a folder that nobody sees before it is whole."""
    prediction = predictor(volume)
    right, side_checks = patient_right_side(volume)
    findings = measure_flat(
        prediction.label_map, _probability_or_nan(bundle, prediction), volume.spacing_mm, bundle.measure.findings, right
    )
    volume = volume.with_checks(*side_checks, *check_limits(findings, bundle.measure.limits))
    write_label_map(folder, prediction.label_map, volume)
    if volume.source.datasets and bundle.dicom is not None:
        frames = prediction.label_map.T if prediction.label_map.ndim == 3 else prediction.label_map.T[None]
        write_seg(
            folder / "segmentation.dcm", frames, volume.source.datasets, bundle.dicom.segments, _algorithm(bundle)
        )
    write_json(folder / "measurements.json", measurements(bundle, volume, findings))
    report = _report(bundle, volume, choice, prediction, findings, options.identified)
    (folder / "report.html").write_text(render_segmentation_report(report), encoding="utf-8")
    warnings = [check for check in volume.checks if check.status == "warning"]
    for check in warnings:
        talk.detail(f"{check.name}: {check.detail}")
    return Outcome(volume.source.case, folder, findings, len(warnings))


def measurements(bundle: Bundle, volume: Volume, findings: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of measurements.json."""
    return {
        "bundle": bundle.name,
        "version": bundle.metadata.version,
        "weights_sha256": bundle.weights_sha256,
        "case": volume.source.case,
        "source": {
            "kind": volume.source.kind,
            "shape": list(volume.spatial_shape[::-1]),
            "spacing_mm": None if volume.spacing_mm is None else list(volume.spacing_mm[::-1]),
            "sop_instance_uids": volume.source.sop_instance_uids,
        },
        "findings": findings,
        "checks": [check.as_dict() for check in volume.checks],
        "not_for_diagnostic_use": True,
    }


def patient_right_side(volume: Volume) -> tuple[Literal["picture left", "picture right"], list[Check]]:
    """On which side of a flat picture the patient's right lies (PS3.3 C.7.6.1.1.1, PatientOrientation).

    Without a statement, as a frontal radiograph is hung: the patient faces the viewer.
    """
    if len(volume.spatial_shape) != 2:
        return "picture left", []
    orientation = volume.source.datasets[0].get("PatientOrientation") if volume.source.datasets else None
    along_rows = str(orientation[0]).upper() if orientation else ""
    if along_rows.startswith("L"):
        return "picture left", [
            Check("laterality", "passed", along_rows, None, "PatientOrientation says which side is which")
        ]
    if along_rows.startswith("R"):
        text = "the film is stored mirrored (PatientOrientation); sides are named accordingly"
        return "picture right", [Check("laterality", "warning", along_rows, "L", text)]
    if along_rows:
        text = f"PatientOrientation says that rows run towards '{along_rows}': a turned film? Sides are doubtful"
        return "picture left", [Check("laterality", "warning", along_rows, "L", text)]
    text = "the source does not say which side is which; the patient's right is assumed on the left of the picture"
    return "picture left", [Check("laterality", "warning", None, "L", text)]


def _probability_or_nan(bundle: Bundle, prediction: Prediction) -> dict[int, Any]:
    nothing = np.full(prediction.label_map.shape, np.nan, dtype=np.float32)
    return {f.label: prediction.probability.get(f.label, nothing) for f in bundle.measure.findings}


def _algorithm(bundle: Bundle) -> Algorithm:
    return Algorithm(
        name=bundle.name,
        version=bundle.metadata.version,
        weights_sha256=bundle.weights_sha256,
        software_version=clinibundle.__version__,
    )


def _report(
    bundle: Bundle,
    volume: Volume,
    choice: Choice | None,
    prediction: Prediction,
    findings: list[dict[str, Any]],
    identified: bool,
) -> SegmentationReport:
    licence = bundle.metadata.weights_licence
    described = bundle.report
    picture = np.swapaxes(volume.array, 0, 1)
    outlined = overlay_png(picture, prediction.label_map.T, described.colours)
    candidates = () if choice is None else choice.candidates
    return SegmentationReport(
        title=described.title,
        bundle_name=bundle.name,
        bundle_version=bundle.metadata.version,
        weights_sha256=bundle.weights_sha256,
        intended_use=bundle.metadata.intended_use,
        case=volume.source.case,
        made_at=datetime.now(timezone.utc).astimezone().isoformat(timespec="minutes"),
        software_version=clinibundle.__version__,
        source=volume.facts,
        findings=findings,
        finding_columns=[Column(c.key, c.heading, c.unit, c.format) for c in described.columns],
        checks=volume.checks,
        figures=[Figure("the picture with the outline that was found", outlined, plain_png(picture))],
        series_choice=[SeriesChoice(c.series, c is choice.chosen, _why(c)) for c in candidates] if choice else [],
        colours=described.colours,
        unknown_because=described.unknown_because,
        notices=[] if licence is None else [f"Terms of the weights: {licence.name}, {licence.reason}."],
        limits=described.limits,
        identified=_identity(volume) if identified else None,
    )


def _identity(volume: Volume) -> dict[str, str]:
    """Who the patient is, for a report that was asked to say so."""
    header = volume.source.datasets[0] if volume.source.datasets else {}
    keywords = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")
    return {keyword: str(header.get(keyword) or "not given") for keyword in keywords}


def _why(candidate: Any) -> str:
    if candidate.refusals:
        return str(candidate.refusals[0].text)
    return f"score {candidate.score}: " + "; ".join(
        r.text for r in candidate.reasons if r.verdict in ("preferred", "doubtful", "unknown")
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """The names with a number added where one comes twice, as `a.png` and `a.jpg` in one folder do."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result


def _write_summary(path: Path, outcomes: Sequence[Outcome]) -> None:
    keys = list(dict.fromkeys(f"{f['name']} {k}" for o in outcomes for f in o.findings for k in _numbers(f)))
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["case", "status", "warnings", *keys, "reason"])
        for outcome in outcomes:
            values = {f"{f['name']} {k}": v for f in outcome.findings for k, v in _numbers(f).items()}
            status = "refused" if outcome.refusal else "done"
            table.writerow(
                [outcome.case, status, outcome.warnings, *(values.get(k, "") for k in keys), outcome.refusal or ""]
            )


def _numbers(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in finding.items() if key not in ("label", "name")}
