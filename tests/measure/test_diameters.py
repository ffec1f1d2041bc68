import math
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops

from clinibundle.measure.diameters import diameters_in_longest_slice, longest_diameter, perpendicular_diameter

SPACINGS = st.tuples(st.sampled_from([0.5, 0.7, 1.0, 2.5]), st.sampled_from([0.5, 0.7, 1.0, 2.5]))


def picture(*rows):
    """A mask (x, y) drawn as it is seen, a text a row."""
    return np.array([[pixel == "#" for pixel in row] for row in rows]).T


@st.composite
def masks(draw, side=7):
    mask = draw(arrays(bool, st.tuples(st.integers(1, side), st.integers(1, side))))
    mask[draw(st.integers(0, mask.shape[0] - 1)), draw(st.integers(0, mask.shape[1] - 1))] = True
    return mask


def ellipse(semi_axes_mm, turn_degrees, spacing_mm, centre=(0.0, 0.0)):
    """The pixels whose centres lie in it."""
    half = max(semi_axes_mm) + 3 * max(spacing_mm)
    x, y = (np.arange(-half, half, step) - shift for step, shift in zip(spacing_mm, centre, strict=True))
    x, y = np.meshgrid(x, y, indexing="ij")
    turn = math.radians(turn_degrees)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    return (along / semi_axes_mm[0]) ** 2 + (across / semi_axes_mm[1]) ** 2 < 1


def both(mask, spacing=(1.0, 1.0)):
    longest = longest_diameter(mask, spacing)
    return longest, perpendicular_diameter(mask, spacing, longest)


def lengths(mask, spacing=(1.0, 1.0)):
    return [diameter.length_mm for diameter in both(mask, spacing)]


def in_mm(diameter, spacing):
    return np.array(diameter.ends) * spacing


def longest_of_all_corner_pairs(mask, spacing):
    corners = [
        ((i + a) * spacing[0], (j + b) * spacing[1])
        for i, j in np.argwhere(mask)
        for a, b in product((-0.5, 0.5), repeat=2)
    ]
    return max(math.dist(one, other) for one in corners for other in corners)


def extents_across(mask, spacing, longest):
    """How far apart the outermost points of all pixels are on perpendicular lines, through corners and between them.

    Each pixel is clipped against each line by itself (slab method), as a rectangle and not by its edges.
    """
    start, end = in_mm(longest, spacing)
    along = (end - start) / longest.length_mm
    across = np.array([-along[1], along[0]])
    low = (np.argwhere(mask) - 0.5) * spacing - start
    high = low + spacing
    corners = np.concatenate([np.stack([x, y], 1) for x in (low[:, 0], high[:, 0]) for y in (low[:, 1], high[:, 1])])
    at_corners = np.unique(corners @ along)
    extents = []
    for at in [*at_corners, *((at_corners[1:] + at_corners[:-1]) / 2)]:
        enter, leave = np.full(len(low), -np.inf), np.full(len(low), np.inf)
        for axis in (0, 1):
            from_line = at * along[axis]
            if abs(across[axis]) < 1e-12:
                beside = (from_line < low[:, axis] - 1e-9) | (from_line > high[:, axis] + 1e-9)
                enter[beside] = np.inf
                continue
            hits = np.sort([(side[:, axis] - from_line) / across[axis] for side in (low, high)], axis=0)
            enter, leave = np.maximum(enter, hits[0]), np.minimum(leave, hits[1])
        met = enter <= leave + 1e-9
        extents.append(leave[met].max() - enter[met].min() if met.any() else 0.0)
    return extents


def test_a_single_pixel_has_its_diagonal():
    longest, perpendicular = both(picture("...", ".#.", "..."), (3.0, 4.0))
    assert longest.length_mm == 5.0
    assert longest.ends == ((0.5, 0.5), (1.5, 1.5))
    # Through the other corners of a rectangle: its diagonal times the short side over the long one.
    assert perpendicular.length_mm == pytest.approx(5 * 3 / 4)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 0.7), (0.5, 2.0)])
@pytest.mark.parametrize("sides", [(1, 9), (9, 1), (6, 6), (4, 7)])
def test_a_rectangle_has_the_diameters_of_the_formula(sides, spacing):
    a, b = (count * step for count, step in zip(sides, spacing, strict=True))
    found = lengths(np.pad(np.ones(sides, bool), 2), spacing)
    assert found == pytest.approx([math.hypot(a, b), math.hypot(a, b) * min(a, b) / max(a, b)])


def test_a_bump_on_a_bar_is_measured_down_to_the_far_side_of_the_bar():
    mask = picture("..........#..........", "..........#..........", "..........#..........", "#####################")
    longest, perpendicular = both(mask)
    assert longest.length_mm == pytest.approx(math.hypot(21, 1))
    # From a top corner of the bump across 3 + 1 pixels, slanted as the long diameter is.
    assert perpendicular.length_mm == pytest.approx(4 * math.hypot(21, 1) / 21)


def test_a_ring_is_as_long_and_as_wide_as_the_filled_disc():
    disc = ellipse((20, 20), 0, (1, 1))
    ring = disc & ~ellipse((20, 14), 0, (1, 1))
    assert lengths(ring) == lengths(disc)


def test_across_a_bay_the_diameter_ends_on_the_mask_and_not_on_a_string_around_it():
    bar_with_a_post_up_and_another_down = np.zeros((41, 13), bool)
    bar_with_a_post_up_and_another_down[:, 6] = True
    bar_with_a_post_up_and_another_down[13, 6:] = True
    bar_with_a_post_up_and_another_down[27, :6] = True
    longest, perpendicular = both(bar_with_a_post_up_and_another_down)
    assert longest.length_mm == pytest.approx(math.hypot(41, 1))
    # One post and the bar; a string around all would be some 3 pixels further down there.
    assert perpendicular.length_mm == pytest.approx(7 * math.hypot(41, 1) / 41)


def test_parts_that_belong_together_are_measured_together():
    longest, perpendicular = both(picture("#...#"))
    assert longest.length_mm == pytest.approx(math.hypot(5, 1))
    assert perpendicular.length_mm == pytest.approx(math.hypot(5, 1) / 5)


@settings(max_examples=150)
@given(masks(), SPACINGS)
def test_no_two_pixel_corners_are_further_apart_than_the_longest_diameter(mask, spacing):
    longest = longest_diameter(mask, spacing)
    assert longest.length_mm == pytest.approx(longest_of_all_corner_pairs(mask, spacing), rel=1e-12)
    assert math.dist(*in_mm(longest, spacing)) == pytest.approx(longest.length_mm, rel=1e-12)


@settings(max_examples=150)
@given(masks(), SPACINGS)
def test_no_line_across_is_longer_than_the_perpendicular_diameter(mask, spacing):
    longest, perpendicular = both(mask, spacing)
    assert perpendicular.length_mm == pytest.approx(max(extents_across(mask, spacing, longest)), rel=1e-6)


@settings(max_examples=100)
@given(masks(), SPACINGS)
def test_the_perpendicular_diameter_stands_upright_on_the_longest_and_ends_on_the_mask(mask, spacing):
    longest, perpendicular = both(mask, spacing)
    ends = in_mm(perpendicular, spacing)
    assert math.dist(*ends) == pytest.approx(perpendicular.length_mm)
    assert 0 < perpendicular.length_mm <= longest.length_mm * (1 + 1e-12)
    along = np.subtract(*in_mm(longest, spacing))
    assert abs(along @ (ends[1] - ends[0])) < 1e-6 * longest.length_mm * perpendicular.length_mm
    for end in np.array([*longest.ends, *perpendicular.ends]):
        assert (np.abs(np.argwhere(mask) - end).max(axis=1) <= 0.5 + 1e-6).any()


@given(masks(), SPACINGS)
def test_turned_mirrored_or_moved_a_mask_is_as_long_as_before(mask, spacing):
    length = longest_diameter(mask, spacing).length_mm
    for same, its_spacing in [
        (mask[::-1], spacing),
        (mask[:, ::-1], spacing),
        (mask.T, spacing[::-1]),
        (np.rot90(mask), spacing[::-1]),
        (np.asfortranarray(mask), spacing),
        (np.pad(mask, ((1, 5), (3, 0))), spacing),
    ]:
        assert longest_diameter(same, its_spacing).length_mm == pytest.approx(length, rel=1e-12)


@given(masks(), SPACINGS)
def test_twice_the_spacing_is_twice_as_long(mask, spacing):
    twice = lengths(mask, (2 * spacing[0], 2 * spacing[1]))
    assert twice == pytest.approx([2 * length for length in lengths(mask, spacing)])


# Lengths of the ellipse that has the pixels' centres in it; their outer edges reach up to half a pixel further.
@pytest.mark.parametrize("spacing", [(0.7, 0.7), (0.5, 0.9)])
@pytest.mark.parametrize("turn", [0, 17, 45, 90, 130])
@pytest.mark.parametrize("semi_axes", [(20, 12), (9, 5), (30, 6)])
def test_an_ellipse_has_its_axes_to_within_a_pixel(semi_axes, turn, spacing):
    pixel = math.hypot(*spacing)
    found = lengths(ellipse(semi_axes, turn, spacing, centre=(0.13, -0.21)), spacing)
    assert found == pytest.approx([2 * axis for axis in semi_axes], abs=pixel)


@settings(max_examples=50)
@given(masks(), SPACINGS)
def test_the_diameter_is_longer_than_that_of_scikit_image_by_up_to_half_a_pixel_at_each_end(mask, spacing):
    # That runs between the middles of pixel sides; of a pixel's corner the nearest is half its longer side away.
    between_middles = regionprops(mask.astype(np.uint8), spacing=spacing)[0].feret_diameter_max
    assert between_middles - 1e-9 <= longest_diameter(mask, spacing).length_mm <= between_middles + max(spacing) + 1e-9


def test_the_slice_is_the_one_with_the_longest_diameter_and_not_the_one_with_the_largest_area():
    lesion = np.zeros((9, 9, 4), bool)
    lesion[2:6, 2:6, 1] = True
    lesion[1:8, 4, 2] = True
    found = diameters_in_longest_slice(lesion, (1.0, 1.0))
    assert found.slice_index == 2
    assert found.longest.length_mm == pytest.approx(math.hypot(7, 1))
    assert found.perpendicular.length_mm == pytest.approx(math.hypot(7, 1) / 7)


def test_of_equal_slices_the_lower_one_is_taken():
    outline = picture("##..", ".##.", "..##", "...#")
    lesion = np.stack([np.zeros_like(outline), outline, outline[::-1], outline.T], axis=-1)
    assert diameters_in_longest_slice(lesion, (0.7, 0.7)).slice_index == 1


def test_of_equal_diameters_the_one_with_the_lowest_index_is_taken():
    assert longest_diameter(np.ones((3, 3), bool), (0.7, 0.7)).ends == ((-0.5, -0.5), (2.5, 2.5))


@pytest.mark.parametrize("shape", [(4, 5), (0, 3)])
def test_an_empty_mask_has_no_diameter(shape):
    with pytest.raises(ValueError, match="has no diameter"):
        longest_diameter(np.zeros(shape, bool), (1.0, 1.0))
    with pytest.raises(ValueError, match="has no diameter"):
        diameters_in_longest_slice(np.zeros((*shape, 2), bool), (1.0, 1.0))


@pytest.mark.parametrize("kind", ["disc", "noise"])
def test_a_slice_of_512_pixels_takes_less_than_two_seconds(kind):
    noise = np.random.default_rng(0).random((512, 512)) < 0.1
    mask = noise if kind == "noise" else ellipse((240, 240), 0, (1, 1))
    start = time.process_time()
    both(mask, (0.7, 0.7))
    assert time.process_time() - start < 2
