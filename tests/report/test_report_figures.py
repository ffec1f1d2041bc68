import io
import time
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from clinibundle.report.figures import (
    PALETTE,
    colour_of,
    histogram_svg,
    line_chart_svg,
    overlay_png,
    plain_png,
    svg_file,
)

RED, GREEN = (255, 0, 0), (0, 255, 0)


def read_svg(svg):
    return ElementTree.fromstring(svg)  # noqa: S314 - of our own making


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


@pytest.fixture
def square():
    """A grey picture of value 100 and a square label on rows and columns 10 to 29."""
    label_map = np.zeros((40, 50), np.uint8)
    label_map[10:30, 10:30] = 1
    return np.full((40, 50), 100, np.uint8), label_map


def test_overlay_fills_inside_lines_the_border_and_leaves_the_rest(square):
    shown = pixels(overlay_png(*square, [RED], limits=(0, 255)))
    assert shown.shape == (40, 50, 3)
    red, green, blue = shown[20, 20]  # 100 with 22 % of red
    assert (red, green, blue) == (134, 78, 78)
    assert all((shown[20, column] == RED).all() for column in (9, 10, 29, 30))  # 2 px: one on either side
    assert (shown[20, 11] == (134, 78, 78)).all()
    away = np.ones((40, 50), bool)
    away[9:31, 9:31] = False
    assert (shown[away] == 100).all()


def test_touching_labels_keep_their_own_lines():
    label_map = np.ones((20, 20), np.int32)
    label_map[:, 10:] = 2
    shown = pixels(overlay_png(np.zeros((20, 20)), label_map, [RED, GREEN]))
    assert (shown[:, 9] == RED).all()
    assert (shown[:, 10] == GREEN).all()


def test_labels_beyond_the_colours_begin_again():
    assert colour_of(1) == PALETTE[0]
    assert colour_of(len(PALETTE) + 2) == PALETTE[1]
    label_map = np.full((9, 9), 70_003, np.int32)
    label_map[0] = 0
    assert (pixels(overlay_png(np.zeros((9, 9)), label_map, [RED, GREEN]))[1, 4] == RED).all()


def test_a_colour_picture_stays_as_it_is():
    picture = np.random.default_rng(0).integers(0, 255, (12, 13, 3), dtype=np.uint8)
    assert (pixels(plain_png(picture)) == picture).all()
    assert (pixels(overlay_png(picture, np.zeros((12, 13), bool))) == picture).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float64])
def test_grey_is_scaled_by_percentiles_or_by_the_limits(dtype):
    picture = np.tile(np.arange(101, dtype=dtype), (5, 1))
    shown = pixels(plain_png(picture))
    assert (shown[0, 1], shown[0, 50], shown[0, 99]) == (0, 128, 255)
    assert (pixels(plain_png(picture, limits=(50, 60)))[0, [50, 55, 60]] == [0, 128, 255]).all()


def test_a_mask_and_float_labels_are_labels_too(square):
    picture, label_map = square
    shown = overlay_png(picture, label_map)
    assert overlay_png(picture, label_map > 0) == overlay_png(picture, label_map.astype(np.float32)) == shown


def test_an_even_picture_and_values_that_are_not_numbers_are_shown():
    picture = np.full((5, 5), 7.0)
    picture[0, 0] = np.nan
    assert pixels(plain_png(picture)).shape == (5, 5)


def test_a_large_picture_is_shrunk_by_area_and_no_label_vanishes():
    picture = np.zeros((1000, 500))
    picture[:, ::2] = 100
    label_map = np.zeros((1000, 500), np.uint16)
    label_map[703, 411] = 300
    shown = pixels(overlay_png(picture, label_map, [RED], max_side=100, limits=(0, 100)))
    assert shown.shape == (100, 50, 3)
    assert (shown[0, 0] == 128).all()
    assert (shown[70, 41] == RED).all()


def test_four_thousand_squared_is_fast():
    picture = np.add.outer(np.arange(4000, dtype=np.uint16), np.arange(4000, dtype=np.uint16))
    label_map = (picture // 500).astype(np.int32)
    start = time.process_time()
    overlay_png(picture, label_map)
    assert time.process_time() - start < 2  # 0.6 s on an idle core


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"shape \(3, 4\).*shape \(4, 3\)"):
        overlay_png(np.zeros((4, 3)), np.zeros((3, 4), int))
    with pytest.raises(ValueError, match=r"\(4, 4, 3\) float64"):
        plain_png(np.zeros((4, 4, 3)))


def paths(svg):
    return [element.get("d") for element in read_svg(svg).find("svg").iter("path")]


def test_a_line_chart_has_a_curve_per_series_and_breaks_at_nan():
    svg = line_chart_svg({"loss": [(0, 2), (1, 1)], "dice": [(0, 0), (1, float("nan")), (2, 1)]}, "epoch", "value")
    loss, dice = paths(svg)
    assert (loss.count("M"), loss.count("L")) == (1, 2)
    assert dice.count("M") == 2
    assert "nan" not in svg
    assert "value over epoch: loss, dice" in svg


def test_a_line_chart_puts_points_where_they_belong():
    (curve,) = paths(line_chart_svg({"a": [(0, 0), (10, 1)]}, "x", "y", y_limits=(0, 2), width=680, height=278))
    # The plot is 600 px wide from 64 and 200 px high down to 230.
    assert curve == "M64.0 230.0L64.0 230.0L664.0 130.0"


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(3, 0.5)]}, {"a": [(0, 0.7), (1, 0.7)]}])
def test_a_line_chart_of_little_data_is_still_a_chart(series):
    read_svg(line_chart_svg(series, "epoch", "dice"))


def test_chart_words_are_escaped():
    svg = line_chart_svg({"<b>&": [(0, 1)]}, "<x>", '"y"')
    assert "<b>" not in svg
    read_svg(svg)


def test_a_histogram_counts():
    svg = histogram_svg([0.0, 0.02, 0.98, 1.0, float("nan")], "dice", parts=10)
    bars = list(read_svg(svg).iter("rect"))
    assert len(bars) == 2
    assert bars[0].get("height") == bars[1].get("height")
    assert "4 values from 0 to 1" in svg
    read_svg(histogram_svg([], "dice"))
    assert len(list(read_svg(histogram_svg([0.9], "dice")).iter("rect"))) == 1


def test_only_a_chart_file_names_the_svg_namespace():
    inline = line_chart_svg({"a": [(0, 1)]}, "x", "y")
    assert "http" not in inline
    assert read_svg(svg_file(inline)).tag == "{http://www.w3.org/2000/svg}svg"
