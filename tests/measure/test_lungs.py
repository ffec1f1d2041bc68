"""Lungs found without a network: on drawn chests whose volume is known, in every orientation."""

from __future__ import annotations

import numpy as np
import pytest

from clinibundle.measure.lungs import find_lungs
from clinibundle.phantoms.chest_ct import make_chest_ct

AIR, WATER, LUNG = -1000, 40, -850


def chest(shape: tuple[int, int, int] = (120, 90, 40)) -> np.ndarray:
    """Water in air, with two boxes of lung of 20 x 40 x 30 voxels each."""
    volume = np.full(shape, AIR, np.int16)
    volume[10:-10, 10:-10] = WATER
    volume[20:40, 25:65, 5:35] = LUNG
    volume[75:95, 25:65, 5:35] = LUNG
    return volume


def affine(*spacing: float) -> np.ndarray:
    return np.diag([*spacing, 1.0])


def test_air_inside_the_body_is_lung_and_air_around_it_is_not() -> None:
    lungs = find_lungs(chest(), affine(2.5, 2.5, 2.5))
    assert lungs.volume_ml == pytest.approx(2 * 20 * 40 * 30 * 2.5**3 / 1000)


def test_lungs_that_leave_the_volume_above_and_below_still_count() -> None:
    volume = chest()
    volume[20:40, 25:65] = LUNG
    lungs = find_lungs(volume, affine(2.5, 2.5, 2.5))
    assert lungs.volume_ml == pytest.approx(20 * 40 * (40 + 30) * 2.5**3 / 1000)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)], ids=["axial", "turned", "turned twice"])
def test_the_direction_from_foot_to_head_comes_from_the_affine(order: tuple[int, int, int]) -> None:
    volume = chest()
    volume[20:40, 25:65] = LUNG
    turned = affine(2.5, 2.5, 2.5)[:, [*order, 3]]
    lungs = find_lungs(np.transpose(volume, order), turned)
    assert lungs.volume_ml == pytest.approx(20 * 40 * (40 + 30) * 2.5**3 / 1000)


def test_fine_voxels_are_thinned_and_the_volume_stays_right() -> None:
    fine = np.repeat(np.repeat(chest(), 3, axis=0), 3, axis=1)
    lungs = find_lungs(fine, affine(2.5 / 3, 2.5 / 3, 2.5))
    assert lungs.volume_ml == pytest.approx(2 * 20 * 40 * 30 * 2.5**3 / 1000)


def test_in_a_cut_out_lung_may_reach_the_sides() -> None:
    lungs = find_lungs(np.full((40, 40, 20), LUNG, np.int16), affine(2, 2, 2))
    assert lungs.volume_ml == pytest.approx(40 * 40 * 20 * 8 / 1000)


def test_small_pockets_of_air_are_no_lungs() -> None:
    volume = np.full((120, 90, 40), WATER, np.int16)
    volume[50:55, 50:55, 10:15] = AIR
    lungs = find_lungs(volume, affine(2.5, 2.5, 2.5))
    assert lungs.volume_ml == 0
    assert lungs.distance_mm((0, 0, 0)) is None


def test_the_distance_is_that_to_the_nearest_voxel_of_lung() -> None:
    lungs = find_lungs(chest(), affine(2.5, 2.5, 2.5))
    assert lungs.distance_mm((30, 40, 20)) == 0
    # The lung ends with voxel 39, eleven voxels away.
    assert lungs.distance_mm((50, 40, 20)) == pytest.approx(11 * 2.5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lungs_of_a_chest_phantom_have_the_volume_that_is_true_of_them(seed: int) -> None:
    made = make_chest_ct(seed=seed)
    lungs = find_lungs(np.transpose(made.hounsfield, (2, 1, 0)), made.affine_lps)
    true_ml = made.lungs.sum() * abs(np.linalg.det(made.affine_lps[:3, :3])) / 1000
    # Vessels and tumours are no air, airways are.
    assert lungs.volume_ml == pytest.approx(true_ml, rel=0.15)
