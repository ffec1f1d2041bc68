from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clinibundle.measure.quality import LearntRange, Organ, check_borders, check_learnt_ranges, check_organ

LUNGS = Organ(kind="lungs", minimum_ml=500, lesions_within_mm=20)


def slices(maximum: float | None = 5, minimum: float | None = 0.6) -> LearntRange:
    return LearntRange(name="slices", fact="slice_spacing_mm", min=minimum, max=maximum, detail="unusual slices")


def lesion(*centre: float, touches_border: bool = False) -> dict[str, Any]:
    return {"name": "tumour 1", "centroid_lps_mm": list(centre), "touches_border": touches_border}


def chest() -> np.ndarray:
    volume = np.full((120, 90, 40), -1000, np.int16)
    volume[10:-10, 10:-10] = 40
    volume[20:40, 25:65, 5:35] = -850
    volume[75:95, 25:65, 5:35] = -850
    return volume


@pytest.mark.parametrize(("spacing", "status"), [(5.0, "passed"), (0.6, "passed"), (5.1, "warning"), (0.5, "warning")])
def test_a_volume_unlike_the_training_data_is_told(spacing: float, status: str) -> None:
    (check,) = check_learnt_ranges((10, 10, 10), np.diag([1.0, 1.0, spacing, 1.0]), [slices()])
    assert (check.name, check.status, check.value) == ("slices", status, spacing)
    assert (check.detail == "unusual slices") == (status == "warning")


def test_slices_are_counted_from_foot_to_head_whatever_axis_that_is() -> None:
    sagittal = np.diag([3.0, 1.0, 2.0, 1.0])[:, [2, 0, 1, 3]]
    ranges = [
        LearntRange(name="a", fact="slice_spacing_mm", detail=""),
        LearntRange(name="b", fact="pixel_spacing_mm", detail=""),
        LearntRange(name="c", fact="coverage_mm", detail=""),
    ]
    assert [check.value for check in check_learnt_ranges((7, 5, 4), sagittal, ranges)] == [2.0, 3.0, 14.0]


def test_an_organ_that_is_there_passes_and_a_lesion_in_it_too() -> None:
    inside = (30 * 2.5, 40 * 2.5, 20 * 2.5)
    (check,) = check_organ(chest(), np.diag([2.5, 2.5, 2.5, 1.0]), [lesion(*inside)], LUNGS)
    assert (check.name, check.status, check.value) == ("lungs_found", "passed", 750)


def test_a_lesion_far_from_the_organ_is_doubtful() -> None:
    # Between the lungs, 17 voxels from either.
    between = (57 * 2.5, 45 * 2.5, 20 * 2.5)
    found = check_organ(chest(), np.diag([2.5, 2.5, 2.5, 1.0]), [lesion(*between)], LUNGS)
    assert [(check.name, check.status) for check in found] == [("lungs_found", "passed"), ("far_from_lungs", "warning")]
    assert found[1].value == 45 and "45 mm from the lungs" in found[1].detail
    anywhere = LUNGS.model_copy(update={"lesions_within_mm": None})
    assert len(check_organ(chest(), np.diag([2.5, 2.5, 2.5, 1.0]), [lesion(*between)], anywhere)) == 1


def test_a_volume_without_the_organ_is_doubtful_and_its_lesions_are_not_judged_by_it() -> None:
    water = np.full((120, 90, 40), 40, np.int16)
    (check,) = check_organ(water, np.diag([2.5, 2.5, 2.5, 1.0]), [lesion(0, 0, 0)], LUNGS)
    assert (check.name, check.status, check.value, check.limit) == ("lungs_found", "warning", 0, 500)


def test_a_lesion_that_reaches_the_border_is_told_by_name() -> None:
    (check,) = check_borders([lesion(0, 0, 0), {**lesion(1, 1, 1, touches_border=True), "name": "tumour 2"}])
    assert (check.name, check.status, check.value) == ("lesion_at_border", "warning", "tumour 2")
