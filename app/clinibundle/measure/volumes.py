"""Findings of a volume: how many voxels and millilitres, how dense, how sure, and where in the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.geometry import to_patient_mm
from clinibundle.measure.regions import Finding

_MM3_PER_ML = 1000.0


def measure_volume(
    label_map: NDArray[np.integer[Any]],
    probability: Mapping[int, NDArray[np.floating[Any]]],
    values: NDArray[Any] | None,
    affine_lps: NDArray[np.float64] | None,
    findings: Sequence[Finding],
) -> list[dict[str, Any]]:
    """One entry per finding.

    Args:
        label_map: (x, y, z).
        probability: of each label, (x, y, z), 0 to 1; NaN where it is not known, and the confidence is then None.
        values: Hounsfield units (x, y, z); None if the values are no such units, and there is no `mean_hu` then.
        affine_lps: (4, 4), voxel index to millimetres; None if unknown, and volumes and places are then None. The
            volume of a voxel is its determinant, so a sheared grid counts rightly.
        findings: of the bundle.
    """
    voxel_ml = None if affine_lps is None else abs(float(np.linalg.det(affine_lps[:3, :3]))) / _MM3_PER_ML
    rows = []
    for finding in findings:
        mask = label_map == finding.label
        places = np.nonzero(mask)
        voxels = len(places[0])
        row: dict[str, Any] = {"label": finding.label, "name": finding.name, "voxels": voxels}
        row["volume_ml"] = None if voxel_ml is None else voxels * voxel_ml
        row["confidence"] = _mean_or_none(probability[finding.label][places])
        centre = None if not voxels else tuple(float(axis.mean()) for axis in places)
        known = affine_lps is not None and centre is not None
        row["centroid_lps_mm"] = [round(v, 3) for v in to_patient_mm(affine_lps, centre)] if known else None  # type: ignore[arg-type]
        if values is not None:
            row["mean_hu"] = _mean_or_none(values[places])
        rows.append(row)
    return rows


def _mean_or_none(values: NDArray[Any]) -> float | None:
    mean = float(values.mean(dtype=np.float64)) if values.size else float("nan")
    return None if np.isnan(mean) else mean
