from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceCELoss

from scripts_lung_xray.conventions import (
    EncodeConventiond,
    FollowConventiond,
    MarginalDiceCELoss,
    foreground_probability,
    split_encoded,
)


def random_logits_and_mask(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 9, 7, generator=generator)
    mask = (torch.rand(2, 1, 9, 7, generator=generator) > 0.4).float()
    return logits, mask


def grouped_logits(logits: torch.Tensor, foreground: list[int]) -> torch.Tensor:
    """Two-class logits whose softmax is that of the grouped classes, as a referee for the marginal loss."""
    background = [c for c in range(3) if c not in foreground]
    return torch.stack([logits[:, background].logsumexp(1), logits[:, foreground].logsumexp(1)], dim=1)


@pytest.mark.parametrize(("convention", "foreground"), [(0, [1]), (1, [1, 2])])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_marginal_loss_equals_monais_dice_ce_on_the_grouped_classes(
    convention: int, foreground: list[int], seed: int
) -> None:
    logits, mask = random_logits_and_mask(seed)
    ours = MarginalDiceCELoss()(logits, mask + 2 * convention)
    referee = DiceCELoss(softmax=True, include_background=False, to_onehot_y=True)
    assert torch.allclose(ours, referee(grouped_logits(logits, foreground), mask), atol=1e-4)


def test_pictures_of_both_conventions_mix_in_one_batch() -> None:
    logits, mask = random_logits_and_mask(3)
    loss = MarginalDiceCELoss()
    mixed = loss(logits, mask + 2 * torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))
    apart = (loss(logits[:1], mask[:1]) + loss(logits[1:], mask[1:] + 2)) / 2
    assert torch.allclose(mixed, apart, atol=1e-6)


def test_a_heart_excluding_outline_says_nothing_about_what_lies_behind_the_heart() -> None:
    # Class 2 for sure, or background for sure: both are "no lung" by this convention.
    for winner in (0, 2):
        sure = torch.full((1, 3, 4, 4), -8.0)
        sure[:, winner] = 8.0
        assert MarginalDiceCELoss(lambda_dice=0.0)(sure, torch.zeros(1, 1, 4, 4)) < 1e-4


def test_loss_is_finite_for_an_empty_and_for_a_full_mask() -> None:
    logits, _ = random_logits_and_mask(5)
    for value in (0.0, 1.0, 2.0, 3.0):
        loss = MarginalDiceCELoss()(100 * logits, torch.full((2, 1, 9, 7), value))
        assert torch.isfinite(loss)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1), st.integers(0, 2**16))
def test_encoding_and_splitting_give_the_mask_back(convention: int, seed: int) -> None:
    mask = torch.from_numpy((np.random.default_rng(seed).random((1, 5, 4)) > 0.5).astype(np.float32))
    name = ("heart_excluded", "heart_included")[convention]
    row = EncodeConventiond("label")({"label": mask, "convention": name})
    assert "convention" not in row
    found, index = split_encoded(row["label"])
    assert torch.equal(found.float(), mask) and (index == convention).all()


def test_an_unknown_convention_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'heart_only' is unknown: expected one of heart_excluded, heart_included"):
        EncodeConventiond("label")({"label": torch.zeros(1, 2, 2), "convention": "heart_only"})


def test_following_a_convention_adds_the_hidden_part_only_where_the_outline_has_it() -> None:
    probability = torch.tensor([[0.1, 0.2, 0.9], [0.8, 0.1, 0.05], [0.1, 0.7, 0.05]]).reshape(3, 3, 1)
    for convention, expected in ((0, [1, 0, 0]), (1, [1, 1, 0])):
        row = FollowConventiond(also_key="all")({"pred": probability, "label": torch.full((1, 3, 1), 2.0 * convention)})
        assert row["pred"].flatten().tolist() == expected
        assert row["all"].flatten().tolist() == [1, 1, 0]
        assert row["label"].sum() == 0


def test_foreground_probability_of_everything_sums_to_one() -> None:
    logits, _ = random_logits_and_mask(6)
    probability = torch.softmax(logits, 1)
    included = foreground_probability(probability, torch.ones(2, 1, 9, 7, dtype=torch.long))
    assert torch.allclose(included[:, 0] + probability[:, 0], torch.ones(2, 9, 7), atol=1e-6)
