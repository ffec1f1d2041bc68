from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_scans import write_pictures, write_volume
from scipy import ndimage

from scripts_lung_tumor_ct.crops import (
    LoadSlicesd,
    RandCropDeformd,
    RandScannerd,
    WholeSliced,
    bicubic_weights,
    slice_weights,
)
from scripts_lung_tumor_ct.slice_store import store_slices
from scripts_lung_tumor_ct.zones import LOOK_ALIKE, NEAR_LUNG, TUMOUR

SIZE = 33


def crop(prob: float = 1.0, seed: int = 0, **changes: Any) -> RandCropDeformd:
    """Deforms nothing, but for the changes."""
    still = {
        "size": SIZE, "tumour_prob": 0.0, "look_alike_prob": 0.0, "near_lung_prob": 0.0, "rotate_degrees": 0,
        "scale_range": (1, 1), "aspect_range": 1.0, "flip_prob": 0.0, "elastic_sigma": 0.0,
    }  # fmt: skip
    transform = RandCropDeformd(prob=prob, **{**still, **changes})
    transform.set_random_state(seed)
    return transform


def ramps(width: int = 90, height: int = 70) -> torch.Tensor:
    """Two channels whose values are ten times the pixel's x and y, and one of noise."""
    x, y = np.meshgrid(np.arange(width), np.arange(height), indexing="ij")
    noise = np.random.default_rng(0).normal(0, 300, x.shape)
    return torch.from_numpy(np.stack([10 * x, 10 * y, noise]).astype(np.float32))


def no_zones(image: torch.Tensor) -> torch.Tensor:
    return torch.zeros((1, *image.shape[1:]), dtype=torch.uint8)


def middle_and_slopes(cropped: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of cropped ramps: where in the slice the crop's middle lies, and (2, 2) how it moves with the crop's x and y."""
    half, places = SIZE // 2, cropped[:2].numpy() / 10
    middle = places[:, half, half]
    slopes = np.stack([places[:, half + 1, half] - middle, places[:, half, half + 1] - middle], axis=1)
    return middle, slopes


def test_a_slice_comes_with_its_neighbours_from_the_feet_upwards(tmp_path: Path) -> None:
    # Slice z holds 10 z.
    hu = np.broadcast_to(10 * np.arange(6, dtype=np.int16), (8, 9, 6))
    label = np.zeros((8, 9, 6), np.uint8)
    label[2, 3, 4] = 1
    rows = store_slices([write_volume(tmp_path, "a", hu, label, (1.0, 1.0, 1.5), "RAS")], tmp_path / "store")

    def values(place: int, *step_probabilities: float, turn_prob: float = 0.0) -> list[float]:
        row = LoadSlicesd(2, step_probabilities, turn_prob)(rows[place])
        assert row["image"].shape == (5, 8, 9) and row["zones"].shape == (1, 8, 9)
        assert row["copies"] == (len(set(row["image"][:, 0, 0].tolist())) == 1)
        assert int((row["zones"] == TUMOUR).sum()) == (place == 4)
        return row["image"][:, 0, 0].tolist()

    # The slice itself, two below, two above.
    assert values(2, 0, 1) == [20, 0, 10, 30, 40]
    assert values(0, 0, 1) == [0, 0, 0, 10, 20]
    assert values(4, 0, 1) == [40, 20, 30, 50, 50]
    assert values(2, 0, 1, turn_prob=1.0) == [20, 40, 30, 10, 0]
    assert values(2, 1, 0) == [20, 20, 20, 20, 20]
    # 3 mm apart; 4.5 mm are too far.
    assert values(2, 0, 0, 1) == [20, 0, 0, 40, 50]
    assert values(2, 0, 0, 0, 1) == [20, 0, 10, 30, 40]


def test_pictures_know_their_neighbours_by_their_numbers(tmp_path: Path) -> None:
    hu = np.broadcast_to(10 * np.arange(4, dtype=np.int16), (8, 9, 4))
    rows = store_slices(
        write_pictures(tmp_path, "p", hu, np.zeros(hu.shape, np.uint8), [5, 6, 8, 9]), tmp_path / "store"
    )
    load = LoadSlicesd(reach=1)
    assert [load(row)["image"][:, 0, 0].tolist() for row in rows] == [
        [0, 0, 10],
        [10, 0, 10],
        [20, 20, 30],
        [30, 20, 30],
    ]


def test_a_whole_slice_has_its_tumour_as_label() -> None:
    zones = torch.tensor([[[0, NEAR_LUNG], [LOOK_ALIKE, TUMOUR]]], dtype=torch.uint8)
    row = WholeSliced()({"zones": zones})
    assert row["label"].tolist() == [[[0, 0], [0, 1]]] and "zones" not in row


@pytest.mark.parametrize("seed", range(4))
def test_without_deformation_a_crop_is_a_plain_piece_of_the_slice(seed: int) -> None:
    image = ramps()
    row = crop(prob=0.0, seed=seed)({"image": image, "zones": no_zones(image)})
    middle, slopes = middle_and_slopes(row["image"])
    assert np.allclose(slopes, np.eye(2), atol=1e-4)
    offset = np.arange(SIZE) - SIZE // 2
    places = np.meshgrid(middle[0] + offset, middle[1] + offset, indexing="ij")
    expected = ndimage.map_coordinates(image[2].numpy() + 1024, places, order=1, mode="grid-constant") - 1024
    assert np.abs(row["image"][2].numpy() - expected).max() < 0.2


def test_what_comes_in_from_outside_is_air_without_label() -> None:
    image = torch.full((2, 16, 16), 40.0)
    row = crop(size=64)({"image": image, "zones": torch.full((1, 16, 16), TUMOUR, dtype=torch.uint8)})
    inside = row["image"][0] > -1024
    assert torch.equal(row["image"][0], row["image"][1])
    # The slice may lie half a pixel beside the crop's own pixels.
    assert (row["image"][0, inside] == 40).float().mean() > 0.7 and 16 * 16 <= inside.sum() <= 18 * 18
    assert 15 * 15 <= row["label"].sum() <= 17 * 17 and not row["label"][0, ~inside].any()


RECIPE = {
    "rotate_degrees": 20, "scale_range": (0.75, 1.33), "aspect_range": 1.15, "flip_prob": 0.5, "elastic_sigma": 3,
}  # fmt: skip


@given(st.integers(0, 2**31))
def test_image_and_label_move_together(seed: int) -> None:
    tumour = torch.zeros((1, 90, 70), dtype=torch.bool)
    tumour[0, 30:48, 22:31] = True
    # Half way between is 0 HU.
    image = torch.where(tumour, 1024.0, -1024.0)
    zones = torch.where(tumour, TUMOUR, 0).to(torch.uint8)
    row = crop(seed=seed, size=64, tumour_prob=1.0, **RECIPE)({"image": image, "zones": zones})
    clear = row["image"].abs() > 1
    assert torch.equal((row["image"] > 0)[clear], (row["label"] > 0)[clear])
    assert set(row["label"].unique().tolist()) <= {0.0, 1.0} and "zones" not in row


@given(st.integers(0, 2**31))
def test_crops_that_ask_for_tumour_hold_it_wherever_in_the_slice_it_lies(seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, (90, 70))
    image, zones = ramps(), no_zones(ramps())
    zones[0, max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2] = TUMOUR
    row = crop(prob=0.0, seed=seed, tumour_prob=1.0)({"image": image, "zones": zones})
    assert row["label"].any()
    # Also deformed as in train.yaml, where it is not at the slice's very border.
    if 30 < x < 60 and 30 < y < 40:
        assert crop(seed=seed, size=64, tumour_prob=1.0, **RECIPE)({"image": image, "zones": zones})["label"].any()


@pytest.mark.parametrize(
    ("zone", "ask"), [(TUMOUR, "tumour_prob"), (LOOK_ALIKE, "look_alike_prob"), (NEAR_LUNG, "near_lung_prob")]
)
def test_the_middle_lies_within_a_quarter_of_the_crop_from_the_zone_that_was_asked_for(zone: int, ask: str) -> None:
    image, zones = ramps(), no_zones(ramps())
    zones[0, 41, 33] = zone
    middles = []
    for seed in range(40):
        row = crop(prob=0.0, seed=seed, **{ask: 1.0})({"image": image, "zones": zones})
        middles.append(middle_and_slopes(row["image"])[0] - (41, 33))
    distance = np.abs(middles)
    assert distance.max() <= SIZE / 4 + 1e-3
    # All of the square, not a part of it.
    assert np.ptp(middles, axis=0).min() > 0.8 * SIZE / 2


def test_zones_are_asked_for_as_often_as_their_probabilities_say() -> None:
    # Each zone in a corner of its own, air elsewhere, and some body far away.
    image, zones = torch.full((3, 300, 300), -1000.0), torch.zeros((1, 300, 300), dtype=torch.uint8)
    x, y = np.meshgrid(np.arange(300), np.arange(300), indexing="ij")
    image[1:] = torch.from_numpy(np.stack([x, y]))
    corners = {TUMOUR: (50, 50), LOOK_ALIKE: (50, 250), NEAR_LUNG: (250, 50), 0: (250, 250)}
    for zone, place in corners.items():
        zones[(0, *place)] = zone
    image[0, 250, 250] = 40
    transform = crop(prob=0.0, tumour_prob=0.5, look_alike_prob=0.25, near_lung_prob=0.15)
    counts = dict.fromkeys(corners, 0)
    for _ in range(600):
        cropped = transform({"image": image, "zones": zones.clone()})["image"]
        middle = cropped[1:, SIZE // 2, SIZE // 2].numpy()
        counts[min(corners, key=lambda zone: np.abs(middle - corners[zone]).sum())] += 1
    shares = np.array([counts[zone] for zone in (TUMOUR, LOOK_ALIKE, NEAR_LUNG, 0)]) / 600
    assert np.abs(shares - (0.5, 0.25, 0.15, 0.1)).max() < 0.06


def test_a_flip_is_left_right() -> None:
    image = ramps()
    _, slopes = middle_and_slopes(crop(flip_prob=1.0)({"image": image, "zones": no_zones(image)})["image"])
    assert np.allclose(slopes, np.diag([-1, 1]), atol=1e-4)


@given(st.integers(0, 2**31))
def test_rotation_zoom_and_aspect_stay_within_their_ranges(seed: int) -> None:
    image = ramps()
    changes = {"rotate_degrees": 20, "scale_range": (0.8, 1.25), "aspect_range": 1.2}
    row = crop(seed=seed, **changes)({"image": image, "zones": no_zones(image)})
    _, slopes = middle_and_slopes(row["image"])
    # Slopes are how far the slice's pixel moves for one of the crop: the inverse of the zoom.
    zooms = 1 / np.linalg.norm(slopes, axis=0)
    assert 0.8 - 1e-3 <= np.sqrt(zooms.prod()) <= 1.25 + 1e-3 and 1 / 1.2 <= zooms[0] / zooms[1] <= 1.2
    assert abs(np.degrees(np.arctan2(slopes[1, 0], slopes[0, 0]))) <= 20 + 1e-2
    assert abs(slopes[:, 0] @ slopes[:, 1]) < 1e-3


def test_equal_seeds_give_equal_crops_and_others_others() -> None:
    image = ramps()
    first, again, other = (
        crop(seed=seed, prob=0.9, **RECIPE)({"image": image, "zones": no_zones(image)})["image"] for seed in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("points", [3, 4])
def test_control_points_lie_on_the_corners_and_weights_sum_to_one(points: int) -> None:
    weights = bicubic_weights(points, 50)
    assert torch.allclose(weights.sum(1), torch.ones(50), atol=1e-5)
    assert weights[0, 0] == pytest.approx(1, abs=1e-5) and weights[-1, -1] == pytest.approx(1, abs=1e-5)


def test_the_scanner_that_changes_nothing_leaves_the_slice_as_it_is() -> None:
    image = ramps()
    assert RandScannerd(prob=0.0)({"image": image})["image"] is image


@given(st.integers(0, 2**31))
def test_the_scanners_changes_stay_in_range_and_repeat(seed: int) -> None:
    # From air to metal, each channel of one value, which smoothing leaves alone.
    image = torch.tensor([-1024.0, -824, 0, 60, 3000])[:, None, None].expand(5, 6, 6)
    before, results = image.clone(), []
    for _ in range(2):
        scanner = RandScannerd(prob=0.5, noise_hu=0.0)
        scanner.set_random_state(seed)
        results.append(scanner({"image": image})["image"])
    assert torch.equal(*results) and torch.equal(image, before)
    air, lung, *others, metal = results[0][:, 3, 3].tolist()
    # Another scale of HU + 1024 by 4 % at most, a shift by 25 HU at most, and cut off between 90 and 400 HU or not.
    scale, shift = (lung - air) / 200, air + 1024
    assert 0.96 - 1e-5 <= scale <= 1.04 + 1e-5 and abs(shift) <= 25 + 1e-3
    unclipped = [scale * (value + 1024) - 1024 + shift for value in (0, 60, 3000)]
    assert metal == pytest.approx(unclipped[2], abs=0.1) or 90 - 1e-3 <= metal <= 400 + 1e-3
    assert others == pytest.approx([min(value, metal) for value in unclipped[:2]], abs=0.1)


def test_scanner_smoothing_takes_the_mean_of_nine_pixels() -> None:
    image, smoothed = ramps(), 0
    for seed in range(20):
        scanner = RandScannerd(prob=0.3, scale=0.0, shift_hu=0.0, clip_hu=(1e6, 1e6), noise_hu=0.0)
        scanner.set_random_state(seed)
        found = scanner({"image": image})["image"][2, 1:-1, 1:-1].numpy()
        mean = ndimage.uniform_filter(image[2].numpy(), 3)[1:-1, 1:-1]
        smoothed += np.allclose(found, mean, atol=1e-2)
        assert np.allclose(found, mean, atol=1e-2) or np.allclose(found, image[2, 1:-1, 1:-1], atol=1e-2)
    assert 1 <= smoothed <= 15


def test_scanner_noise_is_as_strong_as_was_asked_for_at_most() -> None:
    flat, seen = torch.zeros(1, 100, 100), []
    for seed in range(30):
        scanner = RandScannerd(prob=1.0, scale=0.0, shift_hu=0.0, clip_hu=(1e6, 1e6), noise_hu=50.0)
        scanner.set_random_state(seed)
        noisy = scanner({"image": flat})["image"]
        seen.append(float(noisy.std()))
        assert abs(float(noisy.mean())) < 2
    assert max(seen) < 52 and max(seen) > 40 and min(seen) < 10


@given(st.lists(st.tuples(st.sampled_from("pqrs"), st.booleans()), min_size=1, max_size=30), st.floats(0.05, 0.95))
def test_slices_with_tumour_are_drawn_in_their_share_patients_alike_and_the_others_each_alike(
    slices: list[tuple[str, bool]], tumour_share: float
) -> None:
    rows = [{"group": group, "tumour": tumour} for group, tumour in slices]
    weights = slice_weights(rows, tumour_share)
    by_patient: dict[str, list[float]] = defaultdict(list)
    for row, weight in zip(rows, weights, strict=True):
        if row["tumour"]:
            by_patient[row["group"]].append(weight)
    for of_patient in by_patient.values():
        assert sum(of_patient) == pytest.approx(tumour_share / len(by_patient)) and len(set(of_patient)) == 1
    without = [weight for row, weight in zip(rows, weights, strict=True) if not row["tumour"]]
    # Each slice alike, whatever volume it is of.
    assert not without or (sum(without) == pytest.approx(1 - tumour_share) and len(set(without)) == 1)
