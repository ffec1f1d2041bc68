from __future__ import annotations

import numpy as np
import pytest
from made_scans import FLESH_HU, LUNG_HU, draw_chest
from numpy.typing import NDArray

from clinibundle.phantoms.chest_ct import make_chest_ct
from scripts_lung_tumor_ct.zones import ELSEWHERE, LOOK_ALIKE, NEAR_LUNG, TUMOUR, find_lungs, find_zones

MM = (2.0, 2.0)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_lungs_of_a_drawn_chest_are_found_and_the_air_around_it_is_none() -> None:
    hu, _ = draw_chest(tumour_mm=None)
    lungs = find_lungs(hu[:, :, 2], MM)
    drawn = hu[:, :, 2] < -400
    drawn[:3] = drawn[-3:] = False
    x, y = np.indices(drawn.shape)
    drawn &= (((x - 69.5) * 2) / 125) ** 2 + (((y - 49.5) * 2) / 88) ** 2 < 1
    assert np.array_equal(lungs, drawn) and 2 * 38 * 60 * np.pi == pytest.approx(4 * lungs.sum(), rel=0.03)


def test_every_pixel_of_a_drawn_chest_is_in_the_zone_that_its_place_and_value_say() -> None:
    hu, label = draw_chest()
    slice_hu, tumour = hu[:, :, 2], label[:, :, 2] > 0
    # Bone at the lung's side.
    slice_hu[58:64, 49] = 900
    zones = find_zones(slice_hu, tumour, MM)
    lungs = np.argwhere(find_lungs(slice_hu, MM))
    for x, y in np.random.default_rng(0).integers(0, (140, 100), (300, 2)):
        near = np.hypot(*((lungs - (x, y)) * MM).T).min() <= 8
        flesh = -300 < slice_hu[x, y] < 300
        expected = TUMOUR if tumour[x, y] else LOOK_ALIKE if near and flesh else NEAR_LUNG if near else ELSEWHERE
        assert zones[x, y] == expected
    assert np.array_equal(zones == TUMOUR, tumour) and tumour.any()
    assert {ELSEWHERE, NEAR_LUNG, LOOK_ALIKE} <= set(np.unique(zones))
    assert set(zones[58:64, 49]) <= {NEAR_LUNG, ELSEWHERE}


def test_lungs_of_a_chest_phantom_are_found() -> None:
    ct = make_chest_ct(3, (6, 110, 110), (40.0, 3.6, 3.6), tumours=())
    for rows, lungs in zip(ct.hounsfield, ct.lungs, strict=True):
        if lungs.sum() * 3.6**2 > 10_000:
            found = find_lungs(rows.T, (3.6, 3.6)).T
            # Vessels belong to the phantom's lungs, airways to what is found.
            assert dice(found, lungs & (rows < -400)) > 0.97


def test_in_a_cut_out_all_air_counts_as_lung() -> None:
    patch = np.full((48, 48), LUNG_HU)
    patch[20:30, 20:30] = FLESH_HU
    assert np.array_equal(find_lungs(patch, MM), patch < -400)
    # A whole slice of that look has the patient's surroundings at its border.
    assert not find_lungs(patch, (4.0, 4.0)).any()


def test_gas_bubbles_are_no_lung() -> None:
    hu = np.full((100, 100), FLESH_HU)
    hu[40:46, 40:46] = -900
    assert not find_lungs(hu, MM).any()
    # 196 and 225 square millimetres.
    hu[60:67, 60:67] = -900
    assert not find_lungs(hu, MM).any()
    assert find_lungs(hu, (15 / 7, 15 / 7)).sum() == 49


def test_without_air_there_is_nothing_near_lung() -> None:
    tumour = np.zeros((100, 90), bool)
    tumour[4, 5] = True
    zones = find_zones(np.full((100, 90), FLESH_HU), tumour, MM)
    assert zones[4, 5] == TUMOUR and (zones == ELSEWHERE).sum() == zones.size - 1
