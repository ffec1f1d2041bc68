"""Findings of a flat picture: area, share of the picture, confidence, and the two sides of a paired organ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from clinibundle.checks import Check

# The smaller of two sides has at least this share of the larger one; a speck beside a merged pair is no second side.
_MIN_SIDE_SHARE = 0.1


class Sides(BaseModel):
    """Names for the parts of a paired organ."""

    model_config = ConfigDict(extra="forbid")

    patient_right: str
    patient_left: str


class Lesions(BaseModel):
    """That a label of a volume consists of lesions, which are measured one by one.

    Attributes:
        minimum_volume_ml: what is smaller is no lesion.
    """

    model_config = ConfigDict(extra="forbid")

    minimum_volume_ml: float = 0.0


class Finding(BaseModel):
    """What is measured of a label: an entry of a bundle's `configs/measure.yaml`."""

    model_config = ConfigDict(extra="forbid")

    label: int
    name: str
    sides: Sides | None = None
    lesions: Lesions | None = None


class Limit(BaseModel):
    """A range outside of which a measurement is marked for a person to look at."""

    model_config = ConfigDict(extra="forbid")

    name: str
    finding: str
    key: Literal["fraction", "confidence", "voxels", "area_mm2", "volume_ml", "mean_hu"]
    min: float | None = None
    max: float | None = None
    detail: str


def measure_flat(
    label_map: NDArray[np.integer[Any]],
    probability: Mapping[int, NDArray[np.floating[Any]]],
    spacing_mm: Sequence[float] | None,
    findings: Sequence[Finding],
    patient_right_is: Literal["picture left", "picture right"] = "picture left",
) -> list[dict[str, Any]]:
    """One entry per finding, followed by its two sides where the label falls into two parts.

    Args:
        label_map: (x, y).
        probability: of each label, (x, y), 0 to 1; NaN where it is not known, and the confidence is then None.
        spacing_mm: (x, y); None if unknown, and areas are then None.
        findings: of the bundle.
        patient_right_is: the side of the picture on which the patient's right side lies.
    """
    rows: list[dict[str, Any]] = []
    for finding in findings:
        mask = label_map == finding.label
        rows.append(_measured(mask, finding.label, finding.name, probability[finding.label], spacing_mm))
        sides = None if finding.sides is None else split_sides(mask)
        if finding.sides is None or sides is None:
            continue
        names = [finding.sides.patient_right, finding.sides.patient_left]
        if patient_right_is == "picture right":
            names.reverse()
        for name, side in zip(names, sides, strict=True):
            rows.append(_measured(side, finding.label, name, probability[finding.label], spacing_mm))
    return rows


def split_sides(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """The parts of a mask (x, y) on the left and on the right of the picture; None unless it falls into two.

    The two largest parts (4-connected) decide where left ends and right begins; every smaller part goes to the nearer.
    They have to lie beside each other: of a lung that something cuts across, the halves are no sides.
    """
    parts, count = ndimage.label(mask)
    if count < 2:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    large = np.argsort(sizes)[::-1][:2] + 1
    if sizes[large[1] - 1] < _MIN_SIDE_SHARE * sizes[large[0] - 1]:
        return None
    centres = np.array(ndimage.center_of_mass(mask, parts, range(1, count + 1)))
    apart_x, apart_y = np.abs(centres[large[0] - 1] - centres[large[1] - 1])
    if apart_x <= apart_y:
        return None
    across = centres[:, 0]
    left, right = sorted(large, key=lambda part: across[part - 1])
    nearer_left = np.abs(across - across[left - 1]) <= np.abs(across - across[right - 1])
    in_left = np.concatenate([[False], nearer_left])[parts]
    return mask & in_left, mask & ~in_left


def check_limits(findings: Sequence[Mapping[str, Any]], limits: Sequence[Limit]) -> list[Check]:
    """A check per limit: passed, or a warning where the measurement lies outside or could not be taken."""
    checks = []
    by_name = {finding["name"]: finding for finding in findings}
    for limit in limits:
        value = by_name.get(limit.finding, {}).get(limit.key)
        if value is not None and not math.isfinite(value):
            value = None
        low_enough = limit.max is None or (value is not None and value <= limit.max)
        high_enough = limit.min is None or (value is not None and value >= limit.min)
        inside = value is not None and low_enough and high_enough
        shown = None if value is None else round(float(value), 4)
        detail = f"{limit.key} of {limit.finding} as usual" if inside else limit.detail
        checks.append(Check(limit.name, "passed" if inside else "warning", shown, [limit.min, limit.max], detail))
    return checks


def _measured(
    mask: NDArray[np.bool_],
    label: int,
    name: str,
    probability: NDArray[np.floating[Any]],
    spacing_mm: Sequence[float] | None,
) -> dict[str, Any]:
    voxels = int(mask.sum())
    confidence = float(probability[mask].mean()) if voxels else math.nan
    return {
        "label": label,
        "name": name,
        "voxels": voxels,
        "area_mm2": None if spacing_mm is None else round(voxels * float(np.prod(spacing_mm)), 2),
        "fraction": round(voxels / mask.size, 6),
        "confidence": round(confidence, 4) if math.isfinite(confidence) else None,
    }
