import base64
import io
import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clinibundle.geometry import spacing_of
from clinibundle.measure.lesions import label_lesions, measure_lesions
from clinibundle.report.case_figures import key_pictures, key_slices
from clinibundle.report.figures import PALETTE
from clinibundle.report.marks import diameters_of
from clinibundle.report.overview import overviews
from clinibundle.report.page import own_script
from clinibundle.report.segmentation import render_segmentation_report
from clinibundle.report.slice_view import shown_slices, slice_view
from clinibundle.volume import Source, Volume

WINDOW = (-1000.0, 400.0)
ANISOTROPIC = np.diag([1.0, 2.0, 4.0, 1.0])
TURNED = np.array([[0.9, -0.4, 0, 5], [0.4, 0.9, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])
BOXES = ((slice(5, 15), slice(8, 12), slice(3, 6)), (slice(25, 28), slice(15, 17), slice(9, 10)))


def ct(affine=ANISOTROPIC, shape=(40, 30, 12), boxes=BOXES):
    """A volume of air with bright blocks, their label map, and rows as measurements.json has them."""
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    values = np.where(mask, 50, -900).astype(np.int16)
    volume = Volume(values, affine, spacing_of(affine), "hounsfield", Source("volume", "case", "nii.gz"))
    lesions = label_lesions(mask, affine)
    rows = measure_lesions(lesions, mask.astype(np.float32), values, affine, 1, "tumour")
    return volume, mask.astype(np.uint8), [{"label": 1, "name": "tumours", "voxels": int(mask.sum())}, *rows]


def read_marks(svg):
    return ElementTree.fromstring(svg)  # noqa: S314 - of our own making


def diameter_ends(svg):
    """Per lesion drawn: the places (x, y) in mm of both ends of both diameters."""
    halos = [path.get("d") for path in read_marks(svg).iter("path") if path.get("class") == "halo"]
    numbers = [[float(number) for number in re.findall(r"-?[\d.]+", path)] for path in halos]
    return [np.array(four).reshape(2, 2, 2) for four in numbers]


def report_of(segmentation, affine=ANISOTROPIC, **given):
    volume, label_map, findings = ct(affine, **given)
    pictures = key_pictures(volume, label_map, PALETTE, WINDOW, findings)
    return replace(
        segmentation,
        findings=findings,
        figures=[picture.figure for picture in pictures],
        slice_view=slice_view(volume, label_map, PALETTE, WINDOW, findings),
        overviews=overviews(volume, label_map, PALETTE, WINDOW, findings),
    )


# Diameters


@given(
    first=st.tuples(st.integers(1, 20), st.integers(1, 15), st.integers(0, 11)),
    size=st.tuples(st.integers(1, 15), st.integers(1, 10)),
    steps=st.tuples(st.floats(0.4, 3), st.floats(0.4, 3)),
    signs=st.tuples(st.sampled_from((1, -1)), st.sampled_from((1, -1))),
)
@settings(max_examples=25, deadline=None)
def test_diameters_run_from_corner_to_corner_of_the_outline_and_are_as_long_as_written(first, size, steps, signs):
    affine = np.diag([steps[0] * signs[0], steps[1] * signs[1], 4.0, 1.0])
    box = (slice(first[0], first[0] + size[0]), slice(first[1], first[1] + size[1]), slice(first[2], first[2] + 1))
    volume, label_map, findings = ct(affine, boxes=[box])
    shown = slice_view(volume, label_map, PALETTE, WINDOW, findings).slices[first[2]]
    ((longest, perpendicular),) = diameter_ends(shown.marks)
    lengths = [np.linalg.norm(ends[0] - ends[1]) for ends in (longest, perpendicular)]
    row = findings[1]
    assert lengths == pytest.approx([row["longest_axial_diameter_mm"], row["perpendicular_diameter_mm"]], abs=0.01)
    assert f"{row['longest_axial_diameter_mm']:.1f} × {row['perpendicular_diameter_mm']:.1f} mm" in shown.caption
    # The longest diameter of a block is its diagonal. In the picture, left is the patient's right and up his front.
    width, height = 40 * steps[0], 30 * steps[1]
    xs = np.array([first[0], first[0] + size[0]]) * steps[0]
    ys = np.array([first[1], first[1] + size[1]]) * steps[1]
    xs, ys = (width - xs if signs[0] < 0 else xs), (height - ys if signs[1] < 0 else ys)
    assert sorted(longest[:, 0]) == pytest.approx(sorted(xs), abs=0.01)
    assert sorted(longest[:, 1]) == pytest.approx(sorted(ys), abs=0.01)
    between = (longest[1] - longest[0]) @ (perpendicular[1] - perpendicular[0])
    assert abs(between) < 0.02 * lengths[0] * max(lengths[1], 1)


@pytest.mark.parametrize("affine", [ANISOTROPIC, TURNED], ids=["anisotropic", "oblique"])
def test_each_lesion_is_drawn_in_its_slice_and_in_no_other(affine):
    volume, label_map, findings = ct(affine)
    view = slice_view(volume, label_map, PALETTE, WINDOW, findings)
    drawn = {s.number: len(diameter_ends(s.marks)) for s in view.slices if diameter_ends(s.marks)}
    assert drawn == {row["axial_slice"]: 1 for row in findings[1:]}
    words = " ".join(read_marks(view.slices[view.first].marks).itertext())
    assert f"#1  {findings[1]['longest_axial_diameter_mm']:.1f} × " in words
    assert view.slices[view.first].number == findings[1]["axial_slice"]


def test_lengths_are_written_on_key_pictures_and_lesions_come_before_large_outlines():
    volume, label_map, findings = ct()
    pictures = key_pictures(volume, label_map, PALETTE, WINDOW, findings)
    assert [p.slice_number for p in pictures[:2]] == [findings[1]["axial_slice"], findings[2]["axial_slice"]]
    for picture, row in zip(pictures, findings[1:], strict=False):
        words = f"{row['longest_axial_diameter_mm']:.1f} × {row['perpendicular_diameter_mm']:.1f} mm"
        assert words in picture.marks
        assert f"{row['name']}: {words}" in picture.figure.caption
        assert row["name"] not in picture.caption  # a key image has no diameters drawn in


def test_lengths_of_neighbours_are_not_written_over_each_other():
    boxes = [(slice(x, x + 3), slice(10, 12), slice(4, 5)) for x in range(0, 40, 5)]
    volume, label_map, findings = ct(boxes=boxes)
    marks = read_marks(slice_view(volume, label_map, PALETTE, WINDOW, findings).slices[4].marks)
    group = marks.find(".//g[@class='diameters']/g")
    size, taken = float(group.get("font-size")), []
    for text in group:
        width = len(text.text) * size * 0.5
        left = float(text.get("x")) - (width if text.get("text-anchor") == "end" else 0)
        taken.append((left, left + width, float(text.get("y"))))
    assert len(taken) == 8
    for one, other in combinations(taken, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or abs(one[2] - other[2]) >= size


def test_diameters_of_other_planes_are_not_drawn_on_slices():
    sagittal = ANISOTROPIC[:, [1, 2, 0, 3]]
    volume, label_map, findings = ct(sagittal)
    assert diameters_of(findings[1]).slice_across(2) is None
    view = slice_view(volume, label_map, PALETTE, WINDOW, findings)
    assert not any(diameter_ends(s.marks) for s in view.slices)


@pytest.mark.parametrize("row", [{}, {"name": "x"}, {"name": "x", "longest_axial_diameter_mm": None}])
def test_rows_without_diameters_have_none(row):
    assert diameters_of(row) is None


# Slices


def test_all_slices_are_shown_with_true_numbers_and_proportions():
    volume, label_map, findings = ct()
    view = slice_view(volume, label_map, PALETTE, WINDOW, findings)
    assert view.note == "All 12 slices."
    assert [s.caption.split(";")[0] for s in view.slices] == [f"slice {k} of 12" for k in range(1, 13)]
    assert Image.open(io.BytesIO(view.slices[0].picture)).size == (40, 60)  # 40 × 1 mm, 30 × 2 mm
    assert read_marks(view.slices[0].marks).get("viewBox") == "0 0 40 60"
    (picture, *_) = key_pictures(volume, label_map, PALETTE, WINDOW)
    assert Image.open(io.BytesIO(picture.outlined)).size == Image.open(io.BytesIO(picture.plain)).size == (40, 60)


def test_slices_beyond_the_limit_are_left_out_away_from_outlines():
    outlined = np.zeros(300, bool)
    outlined[100:130] = True
    shown, note = shown_slices(outlined, 100, always=[7])
    assert set(range(98, 132)) | {0, 7, 299} <= set(shown)
    assert 100 <= len(shown) <= 101
    assert note.startswith(f"{len(shown)} of 300 slices") and "all near outlines" in note
    assert max(np.diff(shown)) <= 5


def test_where_all_is_outlined_an_even_choice_keeps_what_was_measured():
    shown, note = shown_slices(np.ones(500, bool), 50, always=[123, 321])
    assert {0, 123, 321, 499} <= set(shown)
    assert len(shown) <= 52
    assert f"{len(shown)} of 500 slices" in note


def test_a_limit_of_bytes_is_kept():
    noise = np.random.default_rng(0).integers(-1000, 400, (256, 256, 60), np.int16)
    volume, _, _ = ct()
    volume = replace(volume, array=noise)
    label_map = np.zeros(noise.shape, np.uint8)
    label_map[100:120, 100:120, 30:33] = 1
    view = slice_view(volume, label_map, PALETTE, WINDOW, most_characters=500_000)
    size = sum(len(s.picture) * 4 / 3 + len(s.marks) for s in view.slices)
    assert 350_000 < size < 550_000
    assert {28, 29, 30, 31, 32, 33, 34} <= {s.number for s in view.slices}
    assert view.slices[view.first].number in (30, 31, 32)


def test_one_slice_and_nothing_found_and_no_window_and_no_affine_are_shown():
    volume, _, _ = ct(shape=(40, 30, 1), boxes=[])
    volume = replace(volume, affine_lps=None, spacing_mm=None)
    view = slice_view(volume, np.zeros((40, 30, 1), np.uint8), PALETTE)
    assert (len(view.slices), view.first, view.note) == (1, 0, "The only slice.")
    assert "letters" not in view.slices[0].marks
    assert slice_view(replace(volume, array=volume.array[:, :, 0]), np.zeros((40, 30), np.uint8), PALETTE) is None
    assert overviews(volume, np.zeros((40, 30, 1), np.uint8), PALETTE) == []


def test_values_that_are_not_numbers_do_no_harm():
    volume, label_map, findings = ct()
    holed = volume.array.astype(np.float32)
    holed[:20] = np.nan
    assert slice_view(replace(volume, array=holed), label_map, PALETTE).slices
    assert len(overviews(replace(volume, array=holed), label_map, PALETTE, None, findings)) == 2


def test_key_slices_fall_back_to_areas_and_to_the_middle():
    label_map = np.zeros((4, 4, 40), np.uint8)
    assert key_slices(label_map) == [20]
    label_map[:3, :3, 5], label_map[:2, :2, 30] = 1, 1
    assert key_slices(label_map) == [5, 30]
    assert key_slices(label_map, [12]) == [12, 5, 30]


# Overview


def test_an_overview_shows_the_findings_slab_and_every_silhouette_in_its_place():
    volume, label_map, findings = ct()
    volume.array[:, 29, :] = 3000  # "bones" behind all findings
    coronal, sagittal = overviews(volume, label_map, PALETTE, WINDOW, findings)
    grey = np.asarray(Image.open(io.BytesIO(coronal.png)).convert("L"))
    assert grey.shape == (48, 40)  # 12 × 4 mm, 40 × 1 mm
    assert grey[:, 35].max() < 50
    assert grey[48 - 18, 10] > 180  # the first lesion: slices 3 to 5 from the feet, columns 5 to 14
    marks = read_marks(coronal.marks)
    assert [p.get("d") for p in marks.iter("path")] == ["M25 2h3v1h-3zM5 6h10v3h-10z"]
    assert marks.find(".//g[@class='edges']").get("transform") == "scale(1 4)"
    assert {"R", "L", "H", "F", "#1", "#2"} <= set(marks.itertext())
    assert "coronal" in coronal.caption and "that hold the findings" in coronal.caption
    assert {"A", "P"} <= set(read_marks(sagittal.marks).itertext())


def test_a_thick_slab_is_cut_to_what_holds_most_and_said():
    boxes = [(slice(2, 4), slice(1, 2), slice(1, 2)), (slice(5, 15), slice(20, 28), slice(5, 8))]
    volume, label_map, findings = ct(boxes=boxes)
    coronal, sagittal = overviews(volume, label_map, PALETTE, WINDOW, findings)
    assert "of the 40 mm that hold most of what is outlined" in coronal.caption
    assert read_marks(coronal.marks).find(".//g[@class='edges']/path").get("d").count("z") == 2
    assert "that hold the findings" in sagittal.caption


def test_an_oblique_overview_says_how_far_it_leans():
    volume, label_map, _ = ct(TURNED)
    assert "lean up to 24° from the patient's" in overviews(volume, label_map, PALETTE, WINDOW)[0].caption


# The page


@pytest.mark.parametrize("affine", [ANISOTROPIC, TURNED], ids=["anisotropic", "oblique"])
def test_a_page_with_slices_fetches_nothing_and_runs_its_own_script_alone(segmentation, read_page, affine):
    html = render_segmentation_report(report_of(segmentation, affine))
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|https?:|url\(|@import""", html)
    page = read_page(html)
    assert len(page.all("script")) == 1
    (policy,) = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    script = own_script("slice_view.js")
    assert f"<script>{script.text}</script>" in html
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{script.fingerprint}'"
    ids = [tag["id"] for _, tag in page.tags if "id" in tag]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'getElementById\("([^"]+)"\)', script.text)) <= set(ids)


def test_rows_of_lesions_lead_to_their_slices_and_others_do_not(segmentation, read_page):
    report = report_of(segmentation)
    page = read_page(render_segmentation_report(report))
    links = [(link["href"], int(link["data-slice"])) for link in page.all("a")]
    assert links == [("#slices", row["axial_slice"]) for row in report.findings[1:]]
    offered = {int(tag["data-number"]) for tag in page.all("div") if "data-number" in tag}
    assert {number for _, number in links} <= offered


def test_without_javascript_the_key_pictures_with_lengths_are_seen_and_the_viewer_is_not(segmentation, read_page):
    report = report_of(segmentation)
    html = render_segmentation_report(report)
    (told,) = [tag for tag in read_page(html).all("p") if tag.get("id") == "no-slices"]
    assert "hidden" not in told
    (viewer,) = [tag for tag in read_page(html).all("div") if tag.get("id") == "viewer"]
    assert "hidden" in viewer
    seen = re.sub(r"<template.*?</template>|<script.*?</script>", "", html, flags=re.DOTALL)
    for figure in (*report.figures, *report.overviews):
        assert base64.b64encode(figure.png).decode() in seen
        assert figure.marks in seen
    assert f"{report.findings[1]['longest_axial_diameter_mm']:.1f} × " in seen
    assert "image/webp" not in seen


def test_hostile_names_of_lesions_stay_words(segmentation, read_page):
    volume, label_map, findings = ct()
    hostile = "</template></svg><script>alert(1)</script>"
    findings = [{**row, "name": hostile} for row in findings]
    view = slice_view(volume, label_map, PALETTE, WINDOW, findings)
    html = render_segmentation_report(replace(segmentation, findings=findings, slice_view=view))
    assert "alert(1)</script>" not in html
    assert len(read_page(html).all("script")) == 1


def test_a_report_without_slices_has_no_script(segmentation):
    html = render_segmentation_report(segmentation)
    assert "<script" not in html
    assert "script-src" not in html
