"""One case: the outline on its own grid, measurements, objects, a report, written into a folder and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import clinibundle
from clinibundle.bundle.description import Bundle
from clinibundle.checks import Check
from clinibundle.dicom.read_volume import AIR_HU
from clinibundle.dicom.straighten import is_sheared, straighten
from clinibundle.files import write_json
from clinibundle.measure.regions import check_limits, measure_flat
from clinibundle.pictures.write import write_label_map
from clinibundle.report.case_figures import KeyPicture, key_pictures
from clinibundle.report.moving_picture import moving_picture_gif
from clinibundle.report.overview import overviews
from clinibundle.report.segmentation import SegmentationReport, SeriesChoice, render_segmentation_report
from clinibundle.report.slice_view import slice_view
from clinibundle.report.wording import Column
from clinibundle.volume import Volume
from clinibundle.workflows.measure_findings import measure_findings
from clinibundle.workflows.write_objects import AlsoKind, Objects, write_objects

if TYPE_CHECKING:
    from clinibundle.bundle.predict import Prediction, Predictor
    from clinibundle.dicom.seg import SegKind
    from clinibundle.dicom.select import Choice


@dataclass(frozen=True)
class Segmented:
    """What became of a case: its findings, and all checks of its input and its answer."""

    findings: list[dict[str, Any]]
    checks: tuple[Check, ...]


def segment_case(
    bundle: Bundle,
    predictor: Predictor,
    volume: Volume,
    choice: Choice | None,
    folder: Path,
    identified: bool = False,
    seg_kind: SegKind = "binary",
    also: Sequence[AlsoKind] = (),
) -> Segmented:
    """Does everything that is done for one case, into a folder that nobody sees before it is whole.

    Args:
        bundle: whose descriptions say what is measured and shown.
        predictor: the bundle made ready.
        volume: the case.
        choice: why this picture of a DICOM study; None for other sources.
        folder: that the results are written into.
        identified: show in the report who the patient is.
        seg_kind: how the DICOM SEG holds the outline.
        also: further objects that hold the outline, and a moving picture of it.

    Raises:
        OutputError: if what was written reads back differently.
        BundleError: if the bundle's answer does not lie on the volume's grid.
    """
    volume, prediction = predict_on_source_grid(predictor, volume)
    findings, checks = _measured(bundle, volume, prediction)
    volume = volume.with_checks(*checks, *check_limits(findings, bundle.measure.limits))
    write_label_map(folder, prediction.label_map, volume)
    shown = (volume, prediction.label_map, bundle.report.colours, bundle.report.window, findings)
    pictures = key_pictures(*shown)
    if volume.source.datasets and bundle.dicom is not None:
        case = Objects(volume, prediction, findings, pictures)
        write_objects(folder, bundle, bundle.dicom, case, seg_kind, also)
    if "gif" in also:
        gif = moving_picture_gif(volume, prediction.label_map, bundle.report.colours, bundle.report.window)
        (folder / "slices.gif").write_bytes(gif)
    write_json(folder / "measurements.json", measurements(bundle, volume, findings, prediction.weights_sha256))
    report = _report(bundle, volume, choice, pictures, findings, identified, prediction.weights_sha256)
    report = replace(report, slice_view=slice_view(*shown), overviews=overviews(*shown))
    (folder / "report.html").write_text(render_segmentation_report(report), encoding="utf-8")
    return Segmented(findings, volume.checks)


def predict_on_source_grid(predictor: Predictor, volume: Volume) -> tuple[Volume, Prediction]:
    """The bundle's answer on the volume's own grid; a sheared volume is shown to the bundle straightened."""
    if not is_sheared(volume):
        found = predictor(volume)
        return volume.with_checks(*found.checks), found
    outside = AIR_HU if volume.meaning == "hounsfield" else float(volume.array.min())
    straight, plan = straighten(volume, outside)
    found = predictor(straight)
    back = {label: plan.back(values) for label, values in found.probability.items()}
    return replace(volume, checks=(*straight.checks, *found.checks)), replace(
        found, label_map=plan.back(found.label_map), probability=back
    )


def _measured(bundle: Bundle, volume: Volume, prediction: Prediction) -> tuple[list[dict[str, Any]], list[Check]]:
    probability = _probability_or_nan(bundle, prediction)
    if prediction.label_map.ndim == 3:
        return measure_findings(volume, prediction.label_map, probability, bundle.measure)
    right, checks = patient_right_side(volume)
    return measure_flat(prediction.label_map, probability, volume.spacing_mm, bundle.measure.findings, right), checks


def measurements(bundle: Bundle, volume: Volume, findings: list[dict[str, Any]], weights_sha256: str) -> dict[str, Any]:
    """The content of measurements.json."""
    return {
        "bundle": bundle.name,
        "version": bundle.metadata.version,
        "weights_sha256": weights_sha256,
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
    # One value for all voxels, without room for each of them.
    nothing = np.broadcast_to(np.float32(np.nan), prediction.label_map.shape)
    return {f.label: prediction.probability.get(f.label, nothing) for f in bundle.measure.findings}


def _report(
    bundle: Bundle,
    volume: Volume,
    choice: Choice | None,
    pictures: Sequence[KeyPicture],
    findings: list[dict[str, Any]],
    identified: bool,
    weights_sha256: str,
) -> SegmentationReport:
    licence = bundle.metadata.weights_licence
    described = bundle.report
    candidates = () if choice is None else choice.candidates
    return SegmentationReport(
        title=described.title,
        bundle_name=bundle.name,
        bundle_version=bundle.metadata.version,
        weights_sha256=weights_sha256,
        intended_use=bundle.metadata.intended_use,
        case=volume.source.case,
        made_at=datetime.now(timezone.utc).astimezone().isoformat(timespec="minutes"),
        software_version=clinibundle.__version__,
        source=volume.facts,
        findings=findings,
        finding_columns=[Column(c.key, c.heading, c.unit, c.format) for c in described.columns],
        checks=volume.checks,
        figures=[picture.figure for picture in pictures],
        series_choice=[SeriesChoice(c.series, c is choice.chosen, c.why) for c in candidates] if choice else [],
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
