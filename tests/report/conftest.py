from html.parser import HTMLParser

import numpy as np
import pytest

from clinibundle.checks import Check
from clinibundle.report.evaluation import EvaluationReport
from clinibundle.report.figures import PALETTE, overlay_png, plain_png
from clinibundle.report.page import Figure
from clinibundle.report.segmentation import SegmentationReport, SeriesChoice
from clinibundle.report.wording import Column

VOID = {"meta", "img", "input", "br", "path", "rect"}
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class Page(HTMLParser):
    """Reads a page, refuses tags that are not closed in order, keeps what the tests ask about."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def read_page():
    return Page


@pytest.fixture
def figure():
    picture = np.arange(600, dtype=np.uint16).reshape(20, 30)
    label_map = np.zeros((20, 30), np.uint8)
    label_map[5:15, 5:12] = 1
    return Figure("Lungs on the film", overlay_png(picture, label_map), plain_png(picture))


@pytest.fixture
def facts(figure):
    return {
        "title": "Lung fields on a chest radiograph",
        "bundle_name": "lung_xray",
        "bundle_version": "0.3.0",
        "weights_sha256": SHA,
        "intended_use": "Outlines lungs on frontal films.",
        "case": "3fa9c1d20b7e",
        "made_at": "2026-11-21T11:45:19",
        "software_version": "0.1.9",
        "source": {"Modality": "DX", "Pixel spacing": "0.175 mm"},
        "findings": [
            {"label": 1, "name": "right lung", "area_mm2": 18473.6, "fraction": 0.1257, "confidence": 0.971},
            {"label": 2, "name": "left lung", "area_mm2": None, "fraction": 0.1057, "confidence": 0.874},
        ],
        "finding_columns": [
            Column("area_mm2", "Area", "mm²", ",.0f"),
            Column("fraction", "Share of picture", "", ".1%"),
            Column("confidence", "Confidence", "", ".2f"),
            Column("volume_ml", "Volume", "ml"),
        ],
        "checks": [
            Check("body_part", "passed", "CHEST", "CHEST", "The header says chest."),
            Check("photometric_interpretation", "fixed", "MONOCHROME1", "MONOCHROME2", "The film was turned."),
            Check("pixel_spacing", "warning", 0.175, None, "The spacing is that of the detector."),
        ],
        "figures": [figure],
        "series_choice": [
            SeriesChoice("LAT chest", False, "a lateral view"),
            SeriesChoice("PA chest", True, "a frontal view"),
        ],
        "colours": PALETTE,
        "unknown_because": {"area_mm2": "the film states no spacing."},
        "notices": ["The weights may not be used commercially."],
        "limits": ["Children were not among the training pictures."],
    }


@pytest.fixture
def segmentation(facts):
    return SegmentationReport(**facts)


@pytest.fixture
def evaluation(figure):
    return EvaluationReport(
        title="lung_xray on Montgomery",
        bundle_name="lung_xray",
        bundle_version="0.3.0",
        weights_sha256=SHA,
        dataset_name="montgomery",
        fold=3,
        made_at="2026-11-21T11:45:19",
        cases=3,
        missed=1,
        summary={
            "dice": {"mean": 0.6312, "std": 0.5, "ci95": [0.41, 0.97], "median": 0.93, "n": 3},
            "hd95_px": {"mean": 6.2, "std": None, "ci95": None, "median": 6.2, "n": 2},
        },
        per_case=[
            {"case": "good", "group": "g1", "fold": 3, "dice": 0.9712, "hd95_px": 4.5, "seconds": 0.2},
            {"case": "missed", "group": "g2", "fold": 3, "dice": 0.0, "hd95_px": None, "seconds": 0.2},
            {"case": "fair", "group": "g3", "fold": 3, "dice": 0.9224, "hd95_px": 7.9, "seconds": 0.2},
        ],
        refused=[("broken", "the label is 512 × 512, the image 256 × 256")],
        worst=[figure],
        notes=["Intervals are bootstrapped by patient."],
    )
