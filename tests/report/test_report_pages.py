import base64
import re
from dataclasses import replace

import pytest

from clinibundle.checks import Check
from clinibundle.report.evaluation import render_evaluation_report, worst_first
from clinibundle.report.page import Figure
from clinibundle.report.segmentation import SegmentationReport, SeriesChoice, render_segmentation_report
from clinibundle.report.wording import Column

HOSTILE = "<script>alert('x')</script><img src=x>\"'"


@pytest.fixture(params=["segmentation", "evaluation"])
def html(request):
    if request.param == "segmentation":
        return render_segmentation_report(request.getfixturevalue("segmentation"))
    return render_evaluation_report(request.getfixturevalue("evaluation"))


def without_pictures(html):
    return re.sub(r"data:image/png;base64,[\w+/=]+", "data:", html)


def test_a_page_is_whole_and_fetches_nothing(html, read_page):
    page = read_page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "a"}
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    for reference in ("http:", "https:", 'src="/', "url(", "@import"):
        assert reference not in without_pictures(html)


def test_a_page_is_accessible(html, read_page):
    page = read_page(html)
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))
    assert all("scope" in heading for heading in page.all("th"))
    assert len(page.all("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [attributes.get("for") or attributes.get("aria-labelledby") for _, attributes in page.tags]
    assert set(filter(None, references)) <= set(ids)


def test_the_same_facts_give_the_same_page(segmentation, evaluation, facts):
    assert render_segmentation_report(segmentation) == render_segmentation_report(SegmentationReport(**facts))
    assert render_evaluation_report(evaluation) == render_evaluation_report(replace(evaluation))


def test_every_fact_of_a_segmentation_appears(segmentation, read_page):
    text = read_page(render_segmentation_report(segmentation)).text
    for fact in (
        "Lung fields on a chest radiograph",
        "lung_xray",
        "0.3.0",
        segmentation.weights_sha256,
        "Outlines lungs on frontal films.",
        "3fa9c1d20b7e",
        "2026-11-21 11:45:19",
        "clinibundle 0.1.9",
        "Not for diagnostic use.",
        "Modality DX",
        "Pixel spacing 0.175 mm",
        "Right lung: area 18,474 mm², share of picture 12.6%, confidence 0.97.",
        "Area (mm²)",
        "right lung label 1 18,474 12.6% 0.97",
        "not calibrated",
        "▲ Warning pixel spacing The spacing is that of the detector. 0.175",
        "◆ Put right photometric interpretation The film was turned. MONOCHROME1 MONOCHROME2",
        "✓ Passed body part The header says chest. CHEST CHEST",
        "1 warning, 1 put right on the way, 1 passed.",
        "Lungs on the film",
        "PA chest ✓ yes a frontal view LAT chest no a lateral view",
        "The weights may not be used commercially.",
        "Children were not among the training pictures.",
    ):
        assert fact in text


def test_warnings_come_first_and_in_the_headline(segmentation, read_page):
    text = read_page(render_segmentation_report(segmentation)).text
    assert text.index("▲ Warning") < text.index("◆ Put right") < text.index("✓ Passed")
    assert text.index("1 warning: look before relying on this") < text.index("Measurements")
    calm = replace(segmentation, checks=[Check("body_part", "passed")])
    assert "1 check made, no warnings." in read_page(render_segmentation_report(calm)).text


def test_what_is_not_known_is_said_with_its_reason(segmentation, read_page):
    text = read_page(render_segmentation_report(segmentation)).text
    assert "left lung label 2 not known 10.6% 0.87" in text
    assert "Area, where not known: the film states no spacing." in text
    known = replace(segmentation, findings=segmentation.findings[:1])
    assert "not known" not in read_page(render_segmentation_report(known)).text


def test_a_column_that_no_finding_has_is_left_out_and_a_gap_is_a_dash(segmentation, read_page):
    findings = [{"label": 1, "name": "lung", "area_mm2": 5.0}, {"label": 2, "name": "heart", "fraction": 0.5}]
    text = read_page(render_segmentation_report(replace(segmentation, findings=findings))).text
    assert "Volume" not in text
    assert "Confidence is" not in text
    assert "lung label 1 5 –" in text


def test_who_the_patient_is_appears_only_when_given(segmentation, read_page):
    assert "Patient" not in read_page(render_segmentation_report(segmentation)).text
    identified = replace(segmentation, identified={"Patient's name": "Doe^Jane"})
    assert "Patient's name Doe^Jane" in read_page(render_segmentation_report(identified)).text


def test_outlines_can_be_switched_where_there_is_a_plain_picture(segmentation, figure, read_page):
    page = read_page(render_segmentation_report(replace(segmentation, figures=[figure, Figure("alone", figure.png)])))
    assert [box["type"] for box in page.all("input")] == ["checkbox"]
    pictures = [base64.b64decode(image["src"].partition(",")[2]) for image in page.all("img")]
    assert pictures == [figure.plain_png, figure.png, figure.png]


def test_legend_colours_are_those_of_the_figures(segmentation):
    html = render_segmentation_report(segmentation)
    assert html.count("#00beff") == html.count("#ffb000") == 2  # headline and table
    assert 'class="swatch"' not in render_segmentation_report(replace(segmentation, colours=()))


def test_hostile_words_stay_words(facts, figure, read_page):
    hostile = Figure(HOSTILE, figure.png, figure.plain_png)
    words = ("title", "bundle_name", "bundle_version", "weights_sha256", "intended_use", "case", "made_at")
    report = SegmentationReport(
        **{
            **facts,
            **dict.fromkeys(words, HOSTILE),
            "source": {HOSTILE: HOSTILE},
            "findings": [{"label": 1, "name": HOSTILE, "area_mm2": HOSTILE}],
            "finding_columns": [Column("area_mm2", HOSTILE, HOSTILE)],
            "checks": [Check(HOSTILE, "warning", HOSTILE, HOSTILE, HOSTILE)],
            "figures": [hostile],
            "series_choice": [SeriesChoice(HOSTILE, True, HOSTILE)],
            "notices": [HOSTILE],
            "limits": [HOSTILE],
            "identified": {HOSTILE: HOSTILE},
        }
    )
    html = render_segmentation_report(report)
    assert "<script" not in html
    page = read_page(html)
    assert len(page.all("img")) == 2
    assert HOSTILE in page.text


def test_hostile_words_stay_words_in_an_evaluation(evaluation, figure, read_page):
    report = replace(
        evaluation,
        title=HOSTILE,
        dataset_name=HOSTILE,
        fold=HOSTILE,
        summary={HOSTILE: {"mean": 0.5, "std": 0.1, "ci95": [0.4, 0.6]}},
        per_case=[{"case": HOSTILE, "group": HOSTILE, HOSTILE: 0.5}],
        refused=[(HOSTILE, HOSTILE)],
        worst=[Figure(HOSTILE, figure.png)],
        notes=[HOSTILE],
    )
    html = render_evaluation_report(report)
    assert "<script" not in html
    assert len(read_page(html).all("img")) == 1


def test_a_report_of_nothing_is_a_report(facts, evaluation, read_page):
    empty = {key: [] for key in ("findings", "finding_columns", "checks", "figures", "series_choice")}
    text = read_page(render_segmentation_report(SegmentationReport(**{**facts, **empty}))).text
    assert "Nothing was found" in text
    assert "No checks were made." in text
    none = replace(evaluation, cases=0, missed=0, summary={}, per_case=[], refused=[], worst=[], fold=None)
    assert "No cases missed, no cases refused." in read_page(render_evaluation_report(none)).text


def test_every_fact_of_an_evaluation_appears(evaluation, read_page):
    page = read_page(render_evaluation_report(evaluation))
    for fact in (
        "lung_xray 0.3.0 · montgomery · fold 3 · 2026-11-21 11:45:19",
        evaluation.weights_sha256,
        "dice 0.6312 on average (95 % interval 0.4100 to 0.9700) over 3 cases.",
        "1 case missed, 1 case refused.",
        "dice 0.6312 0.4100 to 0.9700 0.5000 0.9300 3",
        "hd95_px 6.200 not known not known 6.200 2",
        "broken the label is 512 × 512",
        "Intervals are bootstrapped by patient.",
        "missed g2 3 0.000 not known",
        "Lungs on the film",
    ):
        assert fact in page.text
    assert page.text.index("missed g2") < page.text.index("fair g3") < page.text.index("good g1")
    assert any("Histogram of dice" in svg.get("aria-label", "") for svg in page.all("svg"))


def test_worst_first_puts_what_is_not_known_before_all():
    rows = [{"d": 2.0}, {"d": None}, {"d": 9.0}, {"d": float("nan")}, {}]
    assert [row.get("d") for row in worst_first(rows, "d", lower_is_better=True)][3:] == [9.0, 2.0]
    assert [row.get("d") for row in worst_first(rows, "d")][3:] == [2.0, 9.0]
    assert worst_first(rows, None) == rows
