from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import OneOf, RandGaussianNoised, RandShiftIntensityd

from clinibundle.errors import BundleError
from clinibundle.transforms.noise import RandUniformNoised


def test_noise_is_spread_evenly_between_minus_and_plus_the_amplitude():
    added = RandUniformNoised("image", 0.2, prob=1).set_random_state(0)({"image": torch.ones(1, 200, 200)})["image"] - 1
    assert added.abs().max() <= 0.2 + 1e-6
    parts = torch.histc(added, bins=10, min=-0.2, max=0.2) / added.numel()
    assert torch.allclose(parts, torch.full((10,), 0.1), atol=0.01)


def test_one_of_several_amplitudes_is_drawn_for_each_sample():
    add = RandUniformNoised("image", [10, 50, 100], prob=1).set_random_state(0)
    largest = [float(add({"image": torch.zeros(1, 64, 64)})["image"].abs().max()) for _ in range(60)]
    counts = [sum(0.97 * amplitude < found <= amplitude for found in largest) for amplitude in (10, 50, 100)]
    assert sum(counts) == 60 and min(counts) > 8


def test_every_key_has_noise_of_its_own_and_every_seed_too():
    picture = torch.zeros(2, 8, 8)

    def noisy(seed):
        return RandUniformNoised(["a", "b"], 1.0, prob=1).set_random_state(seed)({"a": picture, "b": picture})

    assert not torch.equal(noisy(1)["a"], noisy(1)["b"])
    assert torch.equal(noisy(1)["a"], noisy(1)["a"]) and not torch.equal(noisy(1)["a"], noisy(2)["a"])


def test_the_chance_of_noise_is_as_stated_and_the_type_the_same_without():
    add = RandUniformNoised("image", 5, prob=0.3).set_random_state(0)
    picture = MetaTensor(torch.full((1, 4, 4), 7, dtype=torch.uint8))
    found = [add({"image": picture})["image"] for _ in range(200)]
    assert all(type(one) is torch.Tensor and one.dtype == torch.float32 for one in found)
    assert 40 < sum(not torch.equal(one, torch.full((1, 4, 4), 7.0)) for one in found) < 80
    assert picture.unique().tolist() == [7]


@pytest.mark.parametrize("amplitude", [-1, [], [1, -2]])
def test_amplitudes_that_make_no_sense_are_refused(amplitude):
    with pytest.raises(BundleError, match="0 or more"):
        RandUniformNoised("image", amplitude)


def test_monai_has_the_other_grey_value_changes_of_the_keras_u_nets():
    """Why this room has neither steps of brightness nor several sigmas of Gaussian noise."""
    steps, sigmas = (10, 20, 30), (10, 50, 100)
    brighter = OneOf([RandShiftIntensityd("image", (step, step), prob=1) for step in steps]).set_random_state(0)
    found = {float(brighter({"image": torch.zeros(1, 2, 2)})["image"].mean()) for _ in range(40)}
    assert found == {10, 20, 30}
    noisier = OneOf([RandGaussianNoised("image", 1, std=sigma, sample_std=False) for sigma in sigmas])
    noisier.set_random_state(0)
    spreads = [float(noisier({"image": torch.zeros(1, 64, 64)})["image"].std()) for _ in range(40)]
    near = [sum(abs(spread / sigma - 1) < 0.05 for spread in spreads) for sigma in sigmas]
    assert sum(near) == 40 and min(near) > 5
