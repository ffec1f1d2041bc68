import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from clinibundle.measure.regions import Finding, Limit, Sides, check_limits, measure_flat, split_sides

LUNG = Finding(label=1, name="lung", sides=Sides(patient_right="right lung", patient_left="left lung"))
HEART = Finding(label=2, name="heart")


def picture(*rows):
    """A label map (x, y) drawn as it is seen, a text a row: digits are labels."""
    return np.array([[int(pixel) if pixel.isdigit() else 0 for pixel in row] for row in rows]).T


TWO_LUNGS = picture(
    "..........",
    ".111..11..",
    ".111..11..",
    ".111..11..",
    "....22....",
)


def measured(label_map, spacing=None, findings=(LUNG,), probability=None, **how):
    probability = probability or {f.label: np.full(label_map.shape, 0.75) for f in findings}
    return {row["name"]: row for row in measure_flat(label_map, probability, spacing, findings, **how)}


def test_areas_and_shares_are_those_counted_by_hand():
    rows = measured(TWO_LUNGS, (0.5, 0.2), [LUNG, HEART])
    assert list(rows) == ["lung", "right lung", "left lung", "heart"]
    assert [row["voxels"] for row in rows.values()] == [15, 9, 6, 2]
    assert [row["area_mm2"] for row in rows.values()] == [1.5, 0.9, 0.6, 0.2]
    assert [row["fraction"] for row in rows.values()] == [0.3, 0.18, 0.12, 0.04]
    assert [row["label"] for row in rows.values()] == [1, 1, 1, 2]


def test_without_spacing_areas_are_unknown():
    assert {row["area_mm2"] for row in measured(TWO_LUNGS, None).values()} == {None}


def test_confidence_is_the_mean_probability_inside_the_finding():
    probability = np.where(np.arange(10)[:, np.newaxis] < 5, 0.9, 0.6) * np.ones((10, 5))
    rows = measured(TWO_LUNGS, probability={1: probability})
    assert rows["right lung"]["confidence"] == 0.9
    assert rows["left lung"]["confidence"] == 0.6
    assert rows["lung"]["confidence"] == pytest.approx((9 * 0.9 + 6 * 0.6) / 15)


def test_an_empty_finding_has_no_confidence_and_no_sides():
    rows = measured(np.zeros((4, 5), int), (1, 1))
    assert rows == {"lung": {"label": 1, "name": "lung", "voxels": 0, "area_mm2": 0, "fraction": 0, "confidence": None}}


def test_a_probability_that_is_not_known_gives_no_confidence():
    rows = measured(TWO_LUNGS, probability={1: np.full(TWO_LUNGS.shape, np.nan)})
    assert {row["confidence"] for row in rows.values()} == {None}
    json.dumps(rows, allow_nan=False)


def test_the_patients_right_is_on_the_left_of_the_picture():
    rows = measured(TWO_LUNGS)
    assert (rows["right lung"]["voxels"], rows["left lung"]["voxels"]) == (9, 6)


def test_in_a_mirrored_picture_the_sides_change_their_names():
    rows = measured(TWO_LUNGS, patient_right_is="picture right")
    assert (rows["right lung"]["voxels"], rows["left lung"]["voxels"]) == (6, 9)
    mirrored = measured(TWO_LUNGS[::-1], patient_right_is="picture right")
    assert (mirrored["right lung"]["voxels"], mirrored["left lung"]["voxels"]) == (9, 6)


def test_a_finding_without_sides_is_measured_whole():
    assert list(measured(TWO_LUNGS, findings=[Finding(label=1, name="lung")])) == ["lung"]


def sides_of(label_map):
    sides = split_sides(label_map == 1)
    return None if sides is None else [int(side.sum()) for side in sides]


@pytest.mark.parametrize(
    ("rows", "sides"),
    [
        (["...", "...", "..."], None),
        ([".11.", ".11.", "...."], None),
        (["1111111111", "1........1", "1........1"], None),
        (["111....111", "111....111"], [6, 6]),
        (["11......11", "11..1...11", "11......11"], [7, 6]),
        (["11......11", "11....1.11", "11......11"], [6, 7]),
        (["1111....1.", "1111......", "1111......"], None),
        (["11111...1.", "11111...1.", "1........."], [11, 2]),
        (["11........", "..11......"], [2, 2]),
    ],
    ids=[
        "nothing",
        "one part",
        "two that are joined",
        "two parts",
        "a speck nearer the left",
        "a speck nearer the right",
        "a speck is no second side",
        "a tenth is a second side",
        "touching at a corner is not joined",
    ],
)
def test_a_mask_falls_into_a_left_and_a_right_part(rows, sides):
    assert sides_of(picture(*rows)) == sides


def test_parts_above_each_other_are_no_sides():
    assert sides_of(picture("..111.", "..111.", "......", ".111..", ".111..")) is None


def test_all_specks_go_to_the_side_that_they_are_nearer_to():
    label_map = picture("1..........1", "............", "1111....1111", "1111....1111", "............", ".1........1.")
    assert sides_of(label_map) == [10, 10]


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_sides_share_out_the_mask_between_them(mask):
    sides = split_sides(mask)
    if sides is not None:
        left, right = sides
        np.testing.assert_array_equal(left ^ right, mask)
        assert left.any()
        assert right.any()


# The smallest side drawn is a sixth of the largest: more uneven parts are no two sides (the tests above).
@given(st.integers(3, 14), st.integers(3, 14), st.integers(0, 2), st.integers(0, 2))
def test_sides_change_places_in_a_mirror(one, other, upper, lower):
    mask = np.zeros((40, 12), bool)
    mask[2 : 2 + one, upper:10] = True
    mask[38 - other : 38, lower:10] = True
    left, right = split_sides(mask)
    mirrored_left, mirrored_right = split_sides(mask[::-1])
    np.testing.assert_array_equal(mirrored_left[::-1], right)
    np.testing.assert_array_equal(mirrored_right[::-1], left)


LIMIT = Limit(name="share", finding="lung", key="fraction", min=0.1, max=0.4, detail="an unusual share")


@pytest.mark.parametrize(
    ("value", "status"),
    [(0.1, "passed"), (0.25, "passed"), (0.4, "passed"), (0.0999, "warning"), (0.4001, "warning"), (0.0, "warning")],
)
def test_a_measurement_is_held_against_both_of_its_limits(value, status):
    (check,) = check_limits([{"name": "lung", "fraction": value}], [LIMIT])
    assert (check.name, check.status, check.value, check.limit) == ("share", status, value, [0.1, 0.4])
    assert check.detail == ("fraction of lung as usual" if status == "passed" else "an unusual share")


@pytest.mark.parametrize(("low", "high", "value"), [(None, 5, -1e9), (5, None, 1e9), (None, None, 3)])
def test_a_limit_may_be_open(low, high, value):
    limit = LIMIT.model_copy(update={"min": low, "max": high})
    assert check_limits([{"name": "lung", "fraction": value}], [limit])[0].status == "passed"


@pytest.mark.parametrize("findings", [[], [{"name": "heart", "fraction": 0.2}], [{"name": "lung", "fraction": None}]])
def test_what_could_not_be_measured_is_a_warning(findings):
    (check,) = check_limits(findings, [LIMIT])
    assert (check.status, check.value, check.detail) == ("warning", None, "an unusual share")


def test_a_value_that_is_no_number_is_a_warning_that_can_be_written_as_json():
    (check,) = check_limits([{"name": "lung", "fraction": math.nan}], [LIMIT])
    assert check.status == "warning"
    json.dumps(check.as_dict(), allow_nan=False)


def test_checks_come_in_the_order_of_the_limits():
    limits = [LIMIT.model_copy(update={"name": name}) for name in "cab"]
    assert [check.name for check in check_limits([], limits)] == ["c", "a", "b"]


def test_a_limit_on_an_unknown_key_is_refused():
    with pytest.raises(ValidationError, match="circumference"):
        Limit(name="a", finding="lung", key="circumference", detail="")
