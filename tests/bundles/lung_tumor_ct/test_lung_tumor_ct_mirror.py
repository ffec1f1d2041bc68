from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts_lung_tumor_ct.mirror import RandMirrorHealthyHalfd
from scripts_lung_tumor_ct.zones import ELSEWHERE, NEAR_LUNG, TUMOUR

WIDTH, HEIGHT, CHANNELS = 120, 80, 5


def chest(tumour_at: tuple[int, int] | None, shift: int = 0) -> dict[str, torch.Tensor]:
    """A body from column 10 to 110 (plus `shift`) with a lung on each side, every value of it another."""
    image = torch.full((CHANNELS, WIDTH, HEIGHT), -1024.0)
    body = slice(10 + shift, 110 + shift)
    image[:, body, 10:70] = torch.arange(CHANNELS * 100 * 60, dtype=torch.float32).reshape(CHANNELS, 100, 60) / 100
    zones = torch.full((1, WIDTH, HEIGHT), ELSEWHERE, dtype=torch.uint8)
    for lung in (slice(20 + shift, 50 + shift), slice(70 + shift, 100 + shift)):
        zones[0, lung, 20:60] = NEAR_LUNG
    if tumour_at is not None:
        zones[0, slice(*tumour_at), 30:40] = TUMOUR
    return {"image": image, "zones": zones}


@pytest.mark.parametrize("shift", [-6, 0, 6])
@pytest.mark.parametrize("tumour_at", [(25, 35), (80, 95)])
def test_the_half_with_the_tumour_becomes_the_mirror_image_of_the_other(tumour_at: tuple[int, int], shift: int) -> None:
    data = chest((tumour_at[0] + shift, tumour_at[1] + shift), shift)
    made = RandMirrorHealthyHalfd(1.0)(data)
    middle = 60 + shift
    healthy = slice(middle, WIDTH) if tumour_at[0] < 60 else slice(0, middle)
    assert not (made["zones"] == TUMOUR).any()
    for key in ("image", "zones"):
        assert torch.equal(made[key][:, healthy], data[key][:, healthy])
    mirrored = min(middle, WIDTH - middle)
    left, right = made["image"][:, middle - mirrored : middle], made["image"][:, middle : middle + mirrored]
    assert torch.equal(left.flip(1), right)
    beyond = made["image"][:, : middle - mirrored], made["image"][:, middle + mirrored :]
    assert all((part == -1024).all() for part in beyond)


def test_what_comes_in_is_left_as_it_was() -> None:
    data = chest((25, 35))
    before = {key: value.clone() for key, value in data.items()}
    RandMirrorHealthyHalfd(1.0)(data)
    assert all(torch.equal(data[key], before[key]) for key in data)


@pytest.mark.parametrize("tumour_at", [None, (45, 55), (55, 75), (25, 95)])
def test_nothing_is_done_without_a_tumour_or_where_it_lies_near_the_middle(tumour_at: tuple[int, int] | None) -> None:
    data = chest(tumour_at)
    made = RandMirrorHealthyHalfd(1.0)(data)
    assert all(torch.equal(made[key], data[key]) for key in data)


def test_nothing_is_done_where_the_other_half_shows_no_lung() -> None:
    data = chest((25, 35))
    data["zones"][0, 60:] = ELSEWHERE
    assert (RandMirrorHealthyHalfd(1.0)(data)["zones"] == TUMOUR).any()


def test_it_happens_as_often_as_asked_for() -> None:
    transform = RandMirrorHealthyHalfd(0.4)
    transform.set_random_state(0)
    happened = [not (transform(chest((25, 35)))["zones"] == TUMOUR).any() for _ in range(300)]
    assert np.mean(happened) == pytest.approx(0.4, abs=0.08)
