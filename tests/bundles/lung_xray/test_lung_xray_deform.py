from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import affine_grid, interpolate

from scripts_lung_xray.deform import RandAffineElastic2Dd, bicubic_weights


def picture(width: int = 40, height: int = 56) -> torch.Tensor:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height), indexing="ij")
    return torch.from_numpy((np.sin(7 * x) * np.cos(5 * y) + 1).astype(np.float32))[None]


def transform(**changes: object) -> RandAffineElastic2Dd:
    still = {
        "prob": 1.0,
        "rotate_degrees": 0,
        "shift_fraction": 0,
        "scale_range": (1, 1),
        "aspect_range": 1.0,
        "elastic_fraction": 0.0,
    }
    return RandAffineElastic2Dd(["image", "label"], ["label"], **{**still, **changes})


def test_nothing_to_do_leaves_the_picture_as_it_is() -> None:
    image = picture()
    row = transform()({"image": image, "label": (image > 1).float()})
    assert torch.allclose(row["image"], image, atol=1e-5)
    assert torch.equal(row["label"], (image > 1).float())


def test_flip_is_left_right() -> None:
    image = picture()
    row = transform(flip_prob=1.0)({"image": image, "label": (image > 1).float()})
    # (channel, x, y): left-right runs along the first spatial axis.
    assert torch.allclose(row["image"], image.flip(1), atol=1e-5)


def test_grid_agrees_with_torchs_own_affine_and_bicubic_interpolation() -> None:
    deform = RandAffineElastic2Dd("image", prob=1.0, flip_prob=0.5)
    for seed in range(5):
        deform.set_random_state(seed)
        deform.randomize()
        ours = deform._sampling_grid(33, 48)
        affine = affine_grid(torch.from_numpy(deform._affine)[None], [1, 1, 33, 48], align_corners=False)
        elastic = interpolate(
            torch.from_numpy(deform._displacements), size=(33, 48), mode="bicubic", align_corners=True
        )
        assert torch.allclose(ours, affine + elastic.permute(0, 2, 3, 1), atol=1e-5)


def test_rotation_agrees_with_scipy() -> None:
    image = torch.zeros(1, 41, 41)
    image[0, 10:20, 12:30] = 1
    deform = transform(rotate_degrees=20)
    deform.set_random_state(1)
    row = deform({"image": image, "label": image})
    angle = np.degrees(np.arctan2(deform._affine[1, 0], deform._affine[0, 0]))
    candidates = [ndimage.rotate(image[0].numpy(), sign * angle, reshape=False, order=1) for sign in (-1, 1)]
    assert abs(angle) > 5
    assert min(np.abs(row["image"][0].numpy() - c).max() for c in candidates) < 1e-3


def test_picture_and_mask_move_together() -> None:
    image = picture(64, 64)
    mask = (image > 1.3).float()
    deform = transform(rotate_degrees=15, shift_fraction=0.1, scale_range=(0.8, 1.2), elastic_fraction=0.02)
    deform.set_random_state(3)
    row = deform({"image": image, "label": mask})
    inside = row["image"] > 0
    agreement = ((row["image"] > 1.3) == (row["label"] > 0.5))[inside].float().mean()
    assert agreement > 0.97 and set(row["label"].unique().tolist()) <= {0.0, 1.0}


def test_the_same_seed_gives_the_same_deformation_and_another_a_different_one() -> None:
    image = picture()
    results = []
    for seed in (5, 5, 6):
        deform = RandAffineElastic2Dd("image", prob=1.0)
        deform.set_random_state(seed)
        results.append(deform({"image": image})["image"])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_probability_zero_never_deforms() -> None:
    image = picture()
    deform = RandAffineElastic2Dd("image", prob=0.0)
    assert all(deform({"image": image})["image"] is image for _ in range(10))


@pytest.mark.parametrize("points", [3, 4])
def test_control_points_lie_on_the_corners_and_weights_sum_to_one(points: int) -> None:
    weights = bicubic_weights(points, 50)
    assert torch.allclose(weights.sum(1), torch.ones(50), atol=1e-5)
    assert weights[0, 0] == pytest.approx(1, abs=1e-5) and weights[-1, -1] == pytest.approx(1, abs=1e-5)
