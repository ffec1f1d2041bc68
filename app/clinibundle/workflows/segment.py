"""Segment: checks of the input, the outline on its own grid, measurements, objects, a report; all of it or nothing."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.memory import plan_run
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError, UnsuitableInput, UsageError
from clinibundle.exchange.allow_list import refuse_what_is_not_listed
from clinibundle.files import (
    refuse_full_directory,
    refuse_input_in_output,
    refuse_output_in_input,
    whole_directory,
)
from clinibundle.pictures.sections import case_of, section_files
from clinibundle.volume import Volume
from clinibundle.workflows.read_input import Case, DicomOptions, find_cases, opened, say_choice, whole_input
from clinibundle.workflows.segment_case import Segmented, segment_case
from clinibundle.workflows.write_objects import AlsoKind, refuse_impossible

if TYPE_CHECKING:
    from clinibundle.bundle.predict import Predictor
    from clinibundle.dicom.seg import SegKind
    from clinibundle.dicom.select import Choice
    from clinibundle.workflows.sections.segment import SectionsOutcome


@dataclass(frozen=True)
class SegmentOptions:
    """What a user may turn.

    Attributes:
        dicom: how studies are read.
        seg_kind: how the DICOM SEG holds the outline.
        also: further DICOM objects that hold the outline.
        overwrite: replace an output folder that is not empty.
        resume: keep cases that are finished in the output folder; only for several cases.
        identified: show in the report who the patient is.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        overlays, settings: put on top of the bundle's inference config.
        max_memory_gib: that the program may hold; None for what the machine has free.
        only_listed: nobody vouches for the bundle, so that nothing of it is run that is not on the allow-list.
    """

    dicom: DicomOptions = field(default_factory=DicomOptions)
    seg_kind: SegKind = "binary"
    also: Sequence[AlsoKind] = ()
    overwrite: bool = False
    resume: bool = False
    identified: bool = False
    device: str = "auto"
    overlays: Sequence[Path] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_memory_gib: float | None = None
    only_listed: bool = False


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
        NeedsTrust: if nobody vouches for the bundle and it needs more than what is listed.
    """
    if options.resume and options.overwrite:
        raise UsageError("--resume keeps finished cases and --overwrite replaces them; use one of the two")
    refuse_output_in_input(output_dir, whole_input(path))
    refuse_input_in_output(output_dir, path)
    if not options.resume:
        refuse_full_directory(output_dir, options.overwrite)
    if options.only_listed:
        refuse_what_is_not_listed(bundle.root, bundle.name, options.overlays, options.settings)
    if bundle.is_tiled:
        return _segment_sections(bundle, path, output_dir, options, talk)
    talk.stage(f"reading {'the folder' if path.is_dir() else 'the file'}")
    with opened(path, talk) as place:
        cases = find_cases(place, bundle, options.dicom, talk)
        several = len(cases) > 1 or options.dicom.every_study or (place.is_dir() and cases[0].name != "study")
        if several:
            return _segment_several(bundle, cases, output_dir, options, talk)
        # Read before torch is imported: a refusal should not take seconds.
        volume, choice = cases[0].read()
        say_choice(choice, talk)
        refuse_impossible(bundle, volume, options.also)
        plan_run(bundle, volume, options.max_memory_gib)
        return [_segment_alone(bundle, volume, choice, output_dir, options, talk)]


def _segment_sections(
    bundle: Bundle, path: Path, output_dir: Path, options: SegmentOptions, talk: Talk
) -> list[Outcome]:
    """Of a bundle that is asked tile by tile: a file of sections, or a folder of such files."""
    files = section_files(path)
    if options.also:
        raise UnsuitableInput(f"--also {options.also[0]} is for DICOM pictures and volumes; leave it out")
    from clinibundle.bundle.tiles import TilePredictor
    from clinibundle.workflows.sections.segment import segment_sections

    talk.stage(f"loading {bundle.name} {bundle.metadata.version}")
    predictor = TilePredictor(bundle, options.device, options.overlays, options.settings, options.max_memory_gib)
    _tell_terms(bundle, talk)
    if files == [path]:
        done = segment_sections(bundle, predictor, path, output_dir, options.overwrite, talk)
        return [_of_sections(done, output_dir, talk)]
    if options.overwrite and output_dir.is_dir():
        shutil.rmtree(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for name, file in zip(_distinct([case_of(file) for file in files]), files, strict=True):
        folder = output_dir / name
        if options.resume and (folder / "measurements.json").is_file():
            outcomes.append(_kept(name, folder))
            continue
        try:
            outcomes.append(_of_sections(segment_sections(bundle, predictor, file, folder, True, talk), folder, talk))
        except ClinibundleError as error:
            talk.refusal(f"{name}: {error}")
            outcomes.append(Outcome(name, None, [], 0, str(error)))
    _write_summary(output_dir / "summary.csv", outcomes)
    return outcomes


def _of_sections(done: SectionsOutcome, folder: Path, talk: Talk) -> Outcome:
    return _outcome(done.case, folder, Segmented(done.findings, done.checks), talk)


def _segment_alone(
    bundle: Bundle, volume: Volume, choice: Choice | None, output_dir: Path, options: SegmentOptions, talk: Talk
) -> Outcome:
    predictor = _ready(bundle, options, talk)
    talk.stage("outlining, measuring and writing")
    with whole_directory(output_dir, options.overwrite) as folder:
        done = segment_case(
            bundle, predictor, volume, choice, folder, options.identified, options.seg_kind, options.also
        )
    return _outcome(volume.source.case, output_dir, done, talk)


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


def _outcome(case: str, folder: Path, done: Segmented, talk: Talk) -> Outcome:
    warnings = [check for check in done.checks if check.status == "warning"]
    for check in warnings:
        talk.detail(f"{check.name}: {check.detail}")
    return Outcome(case, folder, done.findings, len(warnings))


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
        refuse_impossible(bundle, volume, options.also)
        with whole_directory(folder, overwrite=True) as partial:
            done = segment_case(
                bundle, predictor, volume, choice, partial, options.identified, options.seg_kind, options.also
            )
    except ClinibundleError as error:
        talk.refusal(f"{name}: {error}")
        return Outcome(name, None, [], 0, str(error))
    return _outcome(name, folder, done, talk)


def _ready(bundle: Bundle, options: SegmentOptions, talk: Talk) -> Predictor:
    talk.stage(f"loading {bundle.name} {bundle.metadata.version}")
    from clinibundle.bundle.predict import Predictor

    predictor = Predictor(bundle, options.device, options.overlays, options.settings, options.max_memory_gib)
    _tell_terms(bundle, talk)
    return predictor


def _tell_terms(bundle: Bundle, talk: Talk) -> None:
    licence = bundle.metadata.weights_licence
    if licence is not None and not licence.commercial_use:
        talk.warning(f"the weights of {bundle.name} are for non-commercial use only ({licence.name})")


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
