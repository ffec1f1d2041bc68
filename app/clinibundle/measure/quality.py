"""What makes an answer doubtful: a volume unlike those that were learnt from, an organ not found, a lesion cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from clinibundle.checks import Check
from clinibundle.geometry import spacing_of
from clinibundle.measure.lungs import find_lungs


class LearntRange(BaseModel):
    """What volumes the network has seen: an entry of a bundle's `configs/measure.yaml`.

    Attributes:
        name: of the check.
        fact: `slice_spacing_mm` (from foot to head), `pixel_spacing_mm` (the larger of the other two) or `coverage_mm`
            (from foot to head).
        min, max: range in the training data; one may be left out.
        detail: the sentence that a person reads where the volume lies outside.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    fact: Literal["slice_spacing_mm", "pixel_spacing_mm", "coverage_mm"]
    min: float | None = None
    max: float | None = None
    detail: str


class Organ(BaseModel):
    """What has to be in the volume: an entry of a bundle's `configs/measure.yaml`.

    Attributes:
        kind: how it is found: `lungs`, as air inside the body.
        minimum_ml: less than this is not the organ.
        lesions_within_mm: lesions whose middle lies farther from it are doubtful; None to not look.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["lungs"]
    minimum_ml: float
    lesions_within_mm: float | None = None


def check_learnt_ranges(
    shape: Sequence[int], affine_lps: NDArray[np.float64], ranges: Sequence[LearntRange]
) -> list[Check]:
    """A check per range: passed, or a warning.

    Args:
        shape: of the volume (x, y, z).
        affine_lps: (4, 4), voxel index to millimetres in the patient.
        ranges: of the bundle.
    """
    spacing = spacing_of(affine_lps)
    foot_to_head = int(np.argmax(np.abs(affine_lps[2, :3]) / spacing))
    facts = {
        "slice_spacing_mm": spacing[foot_to_head],
        "pixel_spacing_mm": max(mm for axis, mm in enumerate(spacing) if axis != foot_to_head),
        "coverage_mm": shape[foot_to_head] * spacing[foot_to_head],
    }
    checks = []
    for learnt in ranges:
        value = facts[learnt.fact]
        below = learnt.min is not None and value < learnt.min * (1 - 1e-6)
        above = learnt.max is not None and value > learnt.max * (1 + 1e-6)
        detail = learnt.detail if below or above else f"{learnt.fact} as in the training data"
        status: Literal["warning", "passed"] = "warning" if below or above else "passed"
        checks.append(Check(learnt.name, status, round(value, 3), [learnt.min, learnt.max], detail))
    return checks


def check_organ(
    values_hu: NDArray[Any], affine_lps: NDArray[np.float64], lesions: Sequence[Mapping[str, Any]], organ: Organ
) -> list[Check]:
    """Whether the organ is in the volume, and every lesion near it.

    Args:
        values_hu: (x, y, z).
        affine_lps: (4, 4), voxel index to millimetres in the patient.
        lesions: rows of `measure_lesions`.
        organ: what is expected.
    """
    found = find_lungs(values_hu, affine_lps)
    name, volume_ml = f"{organ.kind}_found", round(found.volume_ml)
    if found.volume_ml < organ.minimum_ml:
        detail = f"hardly any {organ.kind} in this volume: is it the right part of the body, and in Hounsfield units?"
        return [Check(name, "warning", volume_ml, organ.minimum_ml, detail)]
    checks = [Check(name, "passed", volume_ml, organ.minimum_ml, f"{volume_ml} ml of {organ.kind}")]
    if organ.lesions_within_mm is None:
        return checks
    to_voxel = np.linalg.inv(affine_lps)
    for lesion in lesions:
        x, y, z, _ = to_voxel @ np.array([*lesion["centroid_lps_mm"], 1.0])
        distance = found.distance_mm((float(x), float(y), float(z)))
        if distance is not None and distance > organ.lesions_within_mm:
            detail = f"the middle of {lesion['name']} lies {distance:.0f} mm from the {organ.kind}: a false find?"
            checks.append(Check(f"far_from_{organ.kind}", "warning", round(distance), organ.lesions_within_mm, detail))
    return checks


def check_borders(lesions: Sequence[Mapping[str, Any]]) -> list[Check]:
    """A warning per lesion that the volume's border may have cut.

    Args:
        lesions: rows of `measure_lesions`.
    """
    return [
        Check(
            "lesion_at_border",
            "warning",
            lesion["name"],
            None,
            f"{lesion['name']} reaches the border of the volume: it may go on beyond, and its size is a lower bound",
        )
        for lesion in lesions
        if lesion["touches_border"]
    ]
