import pytest

from clinibundle.errors import BundleError
from clinibundle.report.wording import Column, count_text, finding_sentences, metric_text, value_text

AREA = Column("area_mm2", "Area", "mm²", ",.0f")
DENSITY = Column("mean_hu", "HU mean", "", ".0f")


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (None, ".1f", "not known"),
        (float("nan"), "", "not known"),
        (0.123456, "", "0.1235"),
        (18473.6, "", "18,474"),
        (18473.6, ",.0f", "18,474"),
        (0.1257, ".1%", "12.6%"),
        (3.0, ",d", "3"),
        (603221, "", "603,221"),
        (True, "", "yes"),
        ("PA", ".1f", "PA"),
        ([1.25, None], ".1f", "1.2, not known"),
        ({"rows": 3}, "", "rows: 3"),
    ],
)
def test_values_read_as_people_write_them(value, number_format, text):
    assert value_text(value, number_format) == text


def test_metrics_keep_their_zeros():
    assert [metric_text(value) for value in (0.9, 0.000353, 12345.6, 7, None)] == [
        "0.9000",
        "0.0003530",
        "12,346",
        "7",
        "not known",
    ]


@pytest.mark.parametrize("number_format", ["999999999.1f", ".99999f", "x", "{}", " "])
def test_a_format_that_could_do_harm_is_refused(number_format):
    with pytest.raises(BundleError, match=r"'area_mm2'.*not understood"):
        Column("area_mm2", "Area", format=number_format)


def test_counts_agree_with_their_noun():
    assert [count_text(count, "case") for count in (0, 1, 2)] == ["no cases", "1 case", "2 cases"]


def test_a_sentence_per_finding():
    findings = [
        {"name": "left lung", "area_mm2": 12345.6, "mean_hu": -800.2},
        {"name": "right lung", "area_mm2": None},
        {"name": "nodule", "voxels": 0, "area_mm2": 0.0},
        {"name": "lesion"},
    ]
    assert finding_sentences(findings, [AREA, DENSITY]) == [
        "Left lung: area 12,346 mm², HU mean -800.",
        "Right lung: area not known.",
        "Nodule: not found.",
        "Lesion: found.",
    ]


def test_many_findings_are_counted_and_none_is_said():
    many = [{"name": "nucleus"}] * 1200 + [{"name": "debris"}]
    assert finding_sentences(many, []) == ["Nucleus: 1,200 found.", "Debris: 1 found."]
    assert finding_sentences([], [AREA]) == ["Nothing was found: the model marked no part of the picture."]


def test_lesions_are_counted_with_all_their_volume_and_the_three_largest_told():
    volume, longest = Column("volume_ml", "Volume", "ml", ".2f"), Column("d_mm", "Longest diameter", "mm", ".1f")
    lesions = [
        {"name": f"tumour {n}", "lesion": n, "voxels": 9, "volume_ml": 1 / n, "d_mm": 30 / n} for n in range(1, 6)
    ]
    whole = {"name": "tumour", "voxels": 45, "volume_ml": 2.2833, "lesions": 5}
    assert finding_sentences([whole, *lesions], [volume, longest]) == [
        "Tumour: 5 found, volume 2.28 ml in all; the 3 largest follow, all are in the table below.",
        "Tumour 1: volume 1.00 ml, longest diameter 30.0 mm.",
        "Tumour 2: volume 0.50 ml, longest diameter 15.0 mm.",
        "Tumour 3: volume 0.33 ml, longest diameter 10.0 mm.",
    ]
    alone = {**whole, "lesions": 1, "volume_ml": 1.0}
    assert finding_sentences([alone, lesions[0]], [volume])[0] == "Tumour: 1 found, volume 1.00 ml in all."
    nothing = {"name": "tumour", "voxels": 0, "volume_ml": 0.0, "lesions": 0}
    assert finding_sentences([nothing], [volume]) == ["Tumour: not found."]
