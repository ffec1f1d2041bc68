"""What a volume's label map holds: findings, lesions one by one, and what makes them doubtful."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.bundle.description import MeasureDescription
from clinibundle.checks import Check
from clinibundle.measure.lesions import label_lesions, measure_lesions
from clinibundle.measure.quality import check_borders, check_learnt_ranges, check_organ
from clinibundle.measure.volumes import measure_volume
from clinibundle.volume import Volume


def measure_findings(
    volume: Volume,
    label_map: NDArray[np.integer[Any]],
    probability: Mapping[int, NDArray[np.floating[Any]]],
    described: MeasureDescription,
) -> tuple[list[dict[str, Any]], list[Check]]:
    """A row per finding, followed by its lesions, and the checks of volume and lesions that the bundle asks for.

    Without an affine there are no millimetres: lesions are not told apart, and nothing is checked.

    Args:
        volume: (x, y, z).
        label_map: on its grid.
        probability: of each label, on its grid; NaN where it is not known.
        described: the bundle's `configs/measure.yaml`.
    """
    values = volume.array if volume.meaning == "hounsfield" else None
    affine = volume.affine_lps
    findings = measure_volume(label_map, probability, values, affine, described.findings)
    if affine is None:
        return findings, []
    rows: list[dict[str, Any]] = []
    lesions: list[dict[str, Any]] = []
    for finding, row in zip(described.findings, findings, strict=True):
        rows.append(row)
        if finding.lesions is not None:
            numbered = label_lesions(label_map == finding.label, affine, finding.lesions.minimum_volume_ml)
            chances = probability[finding.label]
            own = measure_lesions(numbered, chances, values, affine, finding.label, finding.name)
            row["lesions"] = len(own)
            rows += own
            lesions += own
    checks = check_learnt_ranges(volume.spatial_shape, affine, described.learnt) + check_borders(lesions)
    if described.organ is not None and values is not None:
        checks += check_organ(values, affine, lesions, described.organ)
    return rows, checks
