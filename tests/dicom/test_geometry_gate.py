"""What passes the gate lies where plain arithmetic on each slice's own header says; all else is refused by name."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_volumes import ORIGIN, check_of, ct_series, decimals, enhanced, lps_grid, noise, read, save

from clinibundle.dicom.frames import Slice
from clinibundle.dicom.gate import place
from clinibundle.dicom.index import Instance
from clinibundle.errors import GeometryError

ROWS, COLUMNS = 3, 4
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
SPACINGS = st.tuples(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(0.3, 20))
ORIGINS = st.tuples(*[st.floats(-900, 900)] * 3)


def series(count=5, grid=None, **changes):
    return ct_series(noise((count, ROWS, COLUMNS)), grid, **changes)


def gated(made, **how):
    """The series past the gate; slices are called by their place in the list."""
    slices = [Slice(Instance(Path(), f"IM{at}", header), 0, header) for at, header in enumerate(made)]
    return place(slices, "series …1", **how)


def moved(header, *by):
    position = np.array(header.ImagePositionPatient, float) + by
    header.ImagePositionPatient = decimals(*position)


def place_of(header, column, row):
    """Equation C.7.6.2.1-1 of PS3.3, on a header alone."""
    orientation = np.array(header.ImageOrientationPatient, float)
    down, along = (float(value) for value in header.PixelSpacing)
    start = np.array(header.ImagePositionPatient, float)
    return start + column * along * orientation[:3] + row * down * orientation[3:]


def lies_where_its_headers_say(placed, within_mm=1e-5):
    for k, one in enumerate(placed.slices):
        for i, j in ((0, 0), (COLUMNS - 1, 0), (0, ROWS - 1), (2.5, 1.5)):
            found = (placed.affine_lps @ [i, j, k, 1])[:3]
            np.testing.assert_allclose(found, place_of(one.header, i, j), atol=within_mm)


@settings(max_examples=40)
@given(
    count=st.integers(2, 7),
    turn=ANGLES,
    spacing=SPACINGS,
    origin=ORIGINS,
    numbers=st.randoms(use_true_random=False),
)
def test_any_even_stack_lies_where_its_headers_say(count, turn, spacing, origin, numbers):
    made = series(count, lps_grid(spacing, origin, turn), InstanceNumber=lambda k: numbers.randrange(1000))
    upright = [header.SOPInstanceUID for header in made]
    numbers.shuffle(made)
    placed = gated(made)
    lies_where_its_headers_say(placed)
    assert placed.spacing_mm == pytest.approx(spacing, abs=1e-5)
    assert [one.header.SOPInstanceUID for one in placed.slices] == upright
    assert np.linalg.det(placed.affine_lps[:3, :3]) > 0
    assert placed.tilt_degrees == 0
    assert placed.coverage_mm == pytest.approx(spacing[2] * count, abs=1e-5)


@settings(max_examples=40)
@given(
    count=st.integers(2, 6),
    turn=ANGLES,
    spacing=SPACINGS,
    shear=st.tuples(*[st.floats(-8, 8)] * 2),
    order=st.randoms(use_true_random=False),
)
def test_a_tilted_stack_is_refused_or_lies_where_its_headers_say(count, turn, spacing, shear, order):
    aside = np.hypot(*shear)
    angle = np.degrees(np.arctan2(aside, spacing[2]))
    assume(aside * (count - 1) > 0.11 and 0.11 < angle < 44)
    made = series(count, lps_grid(spacing, turn=turn, shear=shear))
    order.shuffle(made)
    with pytest.raises(GeometryError, match=r"the gantry was tilted.*add --correct-tilt"):
        gated(made)
    placed = gated(made, tilt_allowed=True)
    lies_where_its_headers_say(placed)
    assert placed.tilt_degrees == pytest.approx(angle, abs=1e-3)
    assert placed.spacing_mm == pytest.approx(spacing, abs=1e-5)
    assert check_of(placed, "gantry_tilt").status == "fixed"


@pytest.mark.parametrize("angle", [46, 80, 89.9])
def test_what_is_shifted_more_than_a_gantry_tilts_is_no_volume_even_if_tilt_is_allowed(angle):
    made = series(4, lps_grid(shear=(2.5 * np.tan(np.radians(angle)), 0)))
    with pytest.raises(GeometryError, match=f"by {angle:.1f} degrees .limit 45., more than any gantry tilts"):
        gated(made, tilt_allowed=True)


def test_positions_rounded_to_hundredths_are_no_tilt():
    made = series(3, lps_grid(spacing=(0.5, 0.5, 0.6)))
    moved(made[2], 0.01, 0, 0)
    assert gated(made).tilt_degrees == 0


@settings(max_examples=40)
@given(st.data())
def test_a_missing_slice_is_refused_between_its_neighbours(data):
    count = data.draw(st.integers(4, 9))
    at = data.draw(st.integers(1, count - 2))
    lost = data.draw(st.integers(1, min(3, count - 1 - at)))
    turn, spacing = data.draw(ANGLES), data.draw(SPACINGS)
    made = series(count, lps_grid(spacing, turn=turn))
    # Gaps of one width alone are an even stack.
    assume(count - lost > 2)
    with pytest.raises(GeometryError) as refusal:
        gated(random.Random(at).sample(made[:at] + made[at + lost :], count - lost))
    assert f"worst between instance {at} and instance {at + lost + 1}; at least {lost} slice" in str(refusal.value)
    assert f"series …1: slice spacing varies from {spacing[2]:.4g}" in str(refusal.value)
    assert "(limit " in str(refusal.value)


def test_missing_slices_in_several_places_are_counted():
    made = series(12)
    with pytest.raises(GeometryError, match="between instance 7 and instance 10; at least 3 slices are missing"):
        gated(made[:3] + made[4:7] + made[9:])


def test_slices_that_grow_thicker_are_refused():
    made = series(6)
    for k, height in enumerate((0, 1.14, 5.36, 12.74, 20, 30)):
        made[k].ImagePositionPatient = decimals(0, 0, height)
    with pytest.raises(GeometryError, match=r"varies from 1.14 to 10 mm \(limit 0.1 mm\).*its slices are uneven"):
        gated(made)


def test_in_a_multi_frame_file_the_frames_are_named(tmp_path):
    made = enhanced(noise((4, ROWS, COLUMNS)))
    moved(made.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0], 0, 0, 2.5)
    save(made, tmp_path / "file")
    with pytest.raises(GeometryError, match="worst between file, frame 3 and file, frame 4; at least 1 slice"):
        read(tmp_path)


@settings(max_examples=40)
@given(
    count=st.integers(3, 7),
    turn=ANGLES,
    spacing=SPACINGS,
    beside=st.floats(1.05, 30),
    direction=st.tuples(*[st.floats(-1, 1)] * 3),
    at=st.integers(1, 5),
)
def test_a_shifted_slice_is_refused(count, turn, spacing, beside, direction, at):
    at = min(at, count - 2)
    # A direction along or across the slices, so that the shift is that of the rule.
    grid = lps_grid(spacing, turn=turn)
    across = grid[:3, :2] / np.linalg.norm(grid[:3, :2], axis=0) @ direction[:2]
    assume(np.linalg.norm(across) > 0.1)
    by = beside * min(0.1, spacing[2] / 10) * across / np.linalg.norm(across)
    made = series(count, grid)
    moved(made[at], *by)
    with pytest.raises(GeometryError, match=rf"IM{at} lies .* mm beside its place on an even grid \(limit "):
        gated(made, tilt_allowed=True)


@settings(max_examples=40)
@given(count=st.integers(3, 7), turn=ANGLES, spacing=SPACINGS, beside=st.floats(1.05, 4), at=st.integers(1, 5))
def test_a_slice_that_is_too_high_or_too_low_is_refused(count, turn, spacing, beside, at):
    made, grid = series(count, lps_grid(spacing, turn=turn)), lps_grid(spacing, turn=turn)
    moved(made[min(at, count - 2)], *beside * min(0.1, spacing[2] / 10) * grid[:3, 2] / spacing[2])
    with pytest.raises(GeometryError, match=r"beside its place|varies from"):
        gated(made)


@settings(max_examples=40)
@given(
    count=st.integers(3, 7),
    turn=ANGLES,
    spacing=SPACINGS,
    noises=st.lists(st.tuples(*[st.floats(-1, 1)] * 3), min_size=7, max_size=7),
)
def test_rounding_within_the_tolerance_passes(count, turn, spacing, noises):
    made = series(count, lps_grid(spacing, turn=turn))
    limit = min(0.1, spacing[2] / 10)
    for header, direction in zip(made, noises, strict=False):
        moved(header, *0.28 * limit * np.array(direction))
    lies_where_its_headers_say(gated(made), within_mm=1.01 * limit)


@settings(max_examples=40)
@given(order=st.permutations(range(5)))
def test_the_order_of_the_files_makes_no_difference(order):
    made = series(5, lps_grid(turn=(20, 10, 5)))
    for k, header in enumerate(made):
        header.ImageOrientationPatient[k] = f"{float(header.ImageOrientationPatient[k]) + 1e-4 * k:.7f}"
        moved(header, 0.01 * (-1) ** k, 0, 0)
    np.testing.assert_array_equal(gated([made[k] for k in order]).affine_lps, gated(made).affine_lps)


@pytest.mark.parametrize("keyword", ["ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"])
@pytest.mark.parametrize("value", [None, "", ["1"], ["nan"] * 6])
def test_a_slice_without_its_geometry_is_refused_by_name(keyword, value):
    made = series()
    damaged = series(**{keyword: lambda k: value if k == 3 else getattr(made[k], keyword)})
    with pytest.raises(GeometryError, match=f"IM3 is without (a usable )?{keyword}"):
        gated(damaged)


def test_of_many_slices_without_a_position_a_few_are_named():
    made = series(9, ImagePositionPatient=None)
    with pytest.raises(GeometryError, match="IM0, IM1, IM2 and 6 more are without a usable ImagePositionPatient"):
        gated(made)


@pytest.mark.parametrize("far", ["1e5", "-1e300", "1.7e308"])
def test_a_position_that_no_scanner_has_is_as_good_as_none(far):
    made = series()
    made[2].ImagePositionPatient = ["0", "0", far]
    words = "without a usable ImagePositionPatient" if far != "1e5" else "varies from 2.5"
    with pytest.raises(GeometryError, match=words):
        gated(made)


@pytest.mark.parametrize(
    ("orientation", "words"),
    [
        (["1", "0", "0", "0.002", "1", "0"], "not at a right angle"),
        (["1.002", "0", "0", "0", "1", "0"], "not of unit length"),
        (["0"] * 6, "not of unit length"),
        (["1e200", "0", "0", "0", "1e200", "0"], "not of unit length"),
        (["1", "0", "0", "0", "0.99999", "0.00447"], r"the planes of IM0 and IM3 differ by 0.26 degrees \(limit 0.1\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_slice_that_is_turned_or_bent_is_refused(orientation, words):
    made = series()
    made[3].ImageOrientationPatient = orientation
    with pytest.raises(GeometryError, match=words):
        gated(made)


@pytest.mark.parametrize("spacing", [["0", "0"], ["-1", "1"], ["0.5", "2000"], ["1e-5", "1"]])
def test_a_pixel_spacing_that_no_scanner_has_is_refused(spacing):
    with pytest.raises(GeometryError, match=r"without a usable PixelSpacing \(expected two values between 0.001"):
        gated(series(PixelSpacing=spacing))


def test_a_changing_pixel_spacing_is_refused():
    with pytest.raises(GeometryError, match=r"pixel spacing differs between slices by 0.40% \(limit 0.1%\)"):
        gated(series(PixelSpacing=lambda k: [f"{1 + k / 1000}", "1"]))


@pytest.mark.parametrize(("between", "shown"), [(0, "0"), (5000, "5000"), (1e-4, "0.0001")])
def test_slices_a_height_apart_that_no_scan_has_are_refused(between, shown):
    made = series()
    for k, header in enumerate(made):
        header.ImagePositionPatient = decimals(50 * k, 0, between * k)
    with pytest.raises(GeometryError, match=f"slices lie {shown} mm apart, expected 0.001 to 1000 mm"):
        gated(made, tilt_allowed=True)


def test_two_slices_of_one_height_in_different_places_are_refused():
    made = series()
    moved(made[1], 50, 0, -2.5)
    with pytest.raises(GeometryError, match=r"varies from 0 to 5 mm .*between instance 1 and instance 2.*are uneven"):
        gated(made)


def test_slices_that_are_there_twice_are_set_aside():
    one_place = {"FrameOfReferenceUID": "1.2.3"}
    made = series(**one_place)
    again = [series(**one_place)[k] for k in (2, 4, 2)]
    moved(again[0], 0.004, 0, -0.004)
    placed = gated([*made, *again])
    assert len(placed.slices) == 5
    assert sorted(at for at, _ in placed.repeated) == [2, 2, 4]
    names = {one.name for one in placed.slices} | {one.name for _, one in placed.repeated}
    assert names == {f"IM{at}" for at in range(8)}
    lies_where_its_headers_say(placed, within_mm=0.01)


def test_several_frames_of_reference_are_refused():
    with pytest.raises(GeometryError, match="refer to 2 frames of reference"):
        gated(series(FrameOfReferenceUID=lambda k: "1.2.3" if k else "1.2.4"))


@pytest.mark.parametrize(
    ("changes", "check", "status", "words"),
    [
        ({}, "slice_spacing", "passed", "5 slices, evenly 2.5 mm apart"),
        ({}, "slice_order", "passed", "instance numbers agree"),
        ({"InstanceNumber": lambda k: 9 - k}, "slice_order", "passed", "instance numbers agree"),
        ({"InstanceNumber": lambda k: (3, 1, 5, 2, 4)[k]}, "slice_order", "passed", "do not follow them"),
        ({"InstanceNumber": None}, "slice_order", "passed", "were not used"),
        (
            {"InstanceNumber": lambda k: 1 + 2 * k},
            "slice_order",
            "warning",
            "go up by 2: what lies between may be missing",
        ),
        ({}, "gantry_tilt", "passed", "straight behind each other"),
        ({}, "pixel_spacing", "warning", "pixels are not square"),
        ({"PixelSpacing": ["0.7", "0.7"]}, "pixel_spacing", "passed", "square pixels"),
        ({}, "slice_thickness", "passed", "slices of 2.5 mm every 2.5 mm"),
        ({"SliceThickness": "5"}, "slice_thickness", "passed", "slices of 5 mm every 2.5 mm"),
        ({"SliceThickness": "1"}, "slice_thickness", "warning", "what lies between them was not seen"),
        ({"SliceThickness": None}, "slice_thickness", "warning", "is not given"),
        ({"SliceThickness": lambda k: 1 + k}, "slice_thickness", "warning", "changes from 1 to 5 mm"),
        ({}, "frame_of_reference", "passed", "one frame of reference"),
        ({"FrameOfReferenceUID": None}, "frame_of_reference", "warning", "no frame of reference"),
    ],
)
def test_what_was_looked_at_is_told(changes, check, status, words):
    found = check_of(gated(series(**changes)), check)
    assert found.status == status
    assert words in found.detail


@pytest.mark.parametrize(
    ("changes", "spacing", "words"),
    [
        ({"SliceThickness": "5"}, 5, "its thickness of 5 mm is taken"),
        ({"SliceThickness": None, "SpacingBetweenSlices": "3"}, 3, "its thickness of 3 mm is taken"),
        ({"SliceThickness": "0", "SpacingBetweenSlices": "3"}, 3, "its thickness of 3 mm is taken"),
        ({"SliceThickness": None}, 1, "of unknown thickness; 1 mm is assumed"),
        ({"SliceThickness": "-2"}, 1, "of unknown thickness"),
        ({"SliceThickness": "1e30"}, 1, "of unknown thickness"),
    ],
)
def test_a_single_slice_has_its_thickness_and_a_warning(changes, spacing, words):
    placed = gated(series(1, lps_grid(turn=(30, 0, 0)), **changes))
    assert placed.spacing_mm == pytest.approx((0.75, 0.5, spacing))
    assert placed.affine_lps[:3, 3] == pytest.approx(ORIGIN)
    check = check_of(placed, "slice_spacing")
    assert (check.status, words in check.detail) == ("warning", True)
    lies_where_its_headers_say(placed)
