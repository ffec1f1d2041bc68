import math
import time

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_surface_dice

from clinibundle.errors import DataFolderError
from clinibundle.metrics.binary import binary_metrics
from clinibundle.metrics.surface import surface_dice

# Exact in binary, so that a distance equals the tolerance or does not; few, as each makes its areas first.
SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (0.75, 0.75, 2.5), (0.125, 5.0, 0.625), (2.0, 0.875, 1.25)])
TOLERANCES = st.integers(0, 40).map(lambda k: k / 8)


@st.composite
def volumes(draw, empty=False):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6))
    prediction, truth = draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))
    assume(empty or (prediction.any() and truth.any()))
    return prediction, truth


def ball(radius_mm, spacing_mm, shift_mm=(0.0, 0.0, 0.0)):
    half = radius_mm + 8.0
    x, y, z = (np.arange(-half, half, step) - shift for step, shift in zip(spacing_mm, shift_mm, strict=True))
    return (x**2)[:, None, None] + (y**2)[:, None] + z**2 < radius_mm**2, z


def monai(prediction, truth, spacing, tolerance):
    """With `use_subvoxels`, the elements and areas of the authors' own code."""
    masks = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, truth)]
    found = compute_surface_dice(
        *masks, [tolerance], include_background=True, spacing=list(spacing), use_subvoxels=True
    )
    return found.item()


@settings(max_examples=150)
@given(volumes(), SPACINGS, TOLERANCES)
def test_surface_dice_of_any_masks_is_that_of_the_authors_as_monai_has_it(masks, spacing, tolerance):
    assert surface_dice(*masks, spacing, tolerance) == pytest.approx(monai(*masks, spacing, tolerance), abs=1e-5)


@pytest.mark.parametrize("tolerance", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("spacing", [(0.75, 0.75, 2.5), (1.0, 1.25, 1.5)])
def test_surface_dice_of_a_shifted_ball_is_that_of_monai(spacing, tolerance):
    (prediction, _), (truth, _) = ball(12, spacing, (1.6, -0.4, 1.1)), ball(12, spacing)
    assert surface_dice(prediction, truth, spacing, tolerance) == pytest.approx(
        monai(prediction, truth, spacing, tolerance), abs=1e-5
    )


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.7), (0.7, 0.9, 1.5)])
def test_a_ball_with_its_cap_cut_off_has_the_surface_dice_of_the_formula(spacing):
    truth, z = ball(20, spacing)
    prediction = truth & (z < 10)
    whole, cap, cut = 4 * math.pi * 20**2, 2 * math.pi * 20 * (20 - 10), math.pi * (20**2 - 10**2)
    # Cap and cut are not near each other but at the rim.
    expected = 1 - (cap + cut) / (whole + whole - cap + cut)
    assert surface_dice(prediction, truth, spacing, 0.5) == pytest.approx(expected, abs=0.03)


def test_balls_within_each_other_agree_from_the_tolerance_on_that_lies_between_them():
    spacing = (0.7, 0.7, 1.25)
    large, _ = ball(20, spacing)
    x, y, z = (np.arange(-28.0, 28.0, step) for step in spacing)
    small = (x**2)[:, None, None] + (y**2)[:, None] + z**2 < 16**2
    assert surface_dice(small, large, spacing, 4 - 1.5) == 0
    assert surface_dice(small, large, spacing, 4 + 1.5) == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_distance_of_just_the_tolerance_agrees_on_every_axis(axis):
    spacing = (0.7, 0.9, 1.1)
    truth = np.zeros((12, 12, 12), bool)
    truth[3:6, 3:6, 3:6] = True
    prediction = np.roll(truth, 3, axis)
    assert surface_dice(prediction, truth, spacing, 3 * spacing[axis]) == 1
    assert surface_dice(prediction, truth, spacing, 2.9 * spacing[axis]) < 1
    assert binary_metrics(prediction, truth, spacing)["hd95_mm"] == pytest.approx(3 * spacing[axis])


@given(volumes(), SPACINGS, TOLERANCES)
def test_surface_dice_is_symmetric_and_rises_with_the_tolerance(masks, spacing, tolerance):
    value = surface_dice(*masks, spacing, tolerance)
    assert value == pytest.approx(surface_dice(*masks[::-1], spacing, tolerance))
    assert -1e-12 <= value <= surface_dice(*masks, spacing, tolerance + 0.5) + 1e-12 <= 1 + 1e-9
    assert surface_dice(masks[0], masks[0], spacing, 0.0) == pytest.approx(1)


@given(volumes(), SPACINGS, TOLERANCES)
def test_with_its_axes_swapped_a_volume_has_the_same_surface_dice(masks, spacing, tolerance):
    turned = [np.ascontiguousarray(mask.transpose(2, 0, 1)) for mask in masks]
    there = surface_dice(*turned, (spacing[2], spacing[0], spacing[1]), tolerance)
    assert there == pytest.approx(surface_dice(*masks, spacing, tolerance), abs=1e-6)


@given(volumes(), SPACINGS, TOLERANCES, st.integers(1, 3))
def test_an_empty_margin_leaves_surface_dice_as_it_is(masks, spacing, tolerance, margin):
    padded = [np.pad(mask, margin) for mask in masks]
    assert surface_dice(*padded, spacing, tolerance) == surface_dice(*masks, spacing, tolerance)


@given(volumes(empty=True), SPACINGS, TOLERANCES)
def test_empty_masks_follow_the_rule_of_dice(masks, spacing, tolerance):
    empty = np.zeros_like(masks[0])
    assert surface_dice(empty, empty, spacing, tolerance) == 1
    for mask in masks:
        expected = binary_metrics(empty, mask)["dice"]
        assert (
            surface_dice(empty, mask, spacing, tolerance) == surface_dice(mask, empty, spacing, tolerance) == expected
        )


def test_masks_of_two_shapes_are_refused_with_both_named():
    with pytest.raises(DataFolderError, match=r"\(3, 4, 5\).*\(3, 4, 6\)"):
        surface_dice(np.zeros((3, 4, 5), bool), np.zeros((3, 4, 6), bool), (1, 1, 1), 1.0)


@pytest.mark.parametrize("mask", [np.zeros((4, 4), bool), np.zeros((4, 4, 4))], ids=["flat", "probability"])
def test_what_is_no_volume_of_a_mask_is_refused(mask):
    with pytest.raises(TypeError, match="boolean volumes"):
        surface_dice(mask, mask, (1, 1, 1), 1.0)


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_a_tolerance_that_cannot_be_is_refused(tolerance):
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(ValueError, match="0 mm or more"):
        surface_dice(mask, mask, (1, 1, 1), tolerance)


def test_a_ball_of_two_hundred_voxels_takes_less_than_four_seconds():
    spacing = (0.7, 0.7, 0.8)
    (prediction, _), (truth, _) = ball(70, spacing, (2.0, 0.0, 0.0)), ball(70, spacing)
    start = time.process_time()
    surface_dice(prediction, truth, spacing, 2.0)
    assert time.process_time() - start < 4
