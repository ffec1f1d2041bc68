"""A bundle's table of measurements, findings of it, reports on slices and on a film, and a walk over their content."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_ct import COLUMNS, ROWS, SLICES, ct_headers
from made_films import chest, film
from made_segments import ALGORITHM, HEART, LUNG

from clinibundle.dicom.codes import Code, FindingCodes, Measurement, MeasurementTable
from clinibundle.dicom.seg import write_seg
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.dicom.sr import write_sr

COLLECTION = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
in_the_collection = pytest.mark.skipif(
    not COLLECTION.is_dir(), reason="the shared collection is not beside the repository"
)


def sct(value, meaning):
    return Code(value=value, scheme="SCT", meaning=meaning)


def ucum(value, meaning):
    return Code(value=value, scheme="UCUM", meaning=meaning)


AREA = Measurement(key="area_mm2", concept=sct("42798000", "Area"), unit=ucum("mm2", "square millimeter"))
VOLUME = Measurement(key="volume_ml", concept=sct("118565006", "Volume"), unit=ucum("cm3", "cubic centimeter"))
MEAN_HU = Measurement(
    key="mean_hu",
    concept=Code(value="112031", scheme="DCM", meaning="Attenuation Coefficient"),
    unit=ucum("[hnsf'U]", "Hounsfield unit"),
    derivation=sct("373098007", "Mean"),
)
CERTAINTY = Measurement(
    key="confidence",
    concept=Code(value="111012", scheme="DCM", meaning="Certainty of Finding"),
    unit=ucum("%", "Percent"),
    factor=100,
)
LEFT, RIGHT = sct("7771000", "Left"), sct("24028007", "Right")
TABLE = MeasurementTable(
    measurements=[AREA, VOLUME, MEAN_HU, CERTAINTY],
    findings=[
        FindingCodes(name="left lung", type=LUNG.type, site=LUNG.type, laterality=LEFT),
        FindingCodes(name="right lung", type=LUNG.type, site=LUNG.type, laterality=RIGHT),
    ],
)


WHOLE_LUNG = {"label": 1, "name": "lung", "segment_number": 1, "area_mm2": 1234.5, "confidence": 0.5, "volume_ml": None}
LEFT_LUNG = {"label": 1, "name": "left lung", "segment_number": 1, "volume_ml": 12.25, "mean_hu": -801.5}
RIGHT_LUNG = {"label": 1, "name": "right lung", "segment_number": 1, "volume_ml": 14.75}
A_HEART = {"label": 2, "name": "heart", "segment_number": 2, "volume_ml": 0.5}


def film_headers(**changes):
    made = film(**changes)
    del made.PixelData
    return [made]


def on_film():
    return (chest() > 2000).astype(np.uint8)[np.newaxis]


def in_slices():
    """Lung in slices 1 to 3, heart in slice 3."""
    label_map = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    label_map[1:4, 4:20, 6:12] = 1
    label_map[3, 22:30, 6:12] = 2
    return label_map


def written(folder, findings, sources=None, label_map=None, table=TABLE, kind="binary", segments=(LUNG, HEART)):
    """A report and the SEG under it, as pydicom reads them; on a CT series if nothing else is said."""
    sources = ct_headers() if sources is None else sources
    label_map = in_slices() if label_map is None else label_map
    write_seg(folder / "segmentation.dcm", label_map, SourceGrid(sources), segments, ALGORITHM, kind)
    write_sr(folder / "report.dcm", sources, folder / "segmentation.dcm", findings, table, ALGORITHM)
    return pydicom.dcmread(folder / "report.dcm"), pydicom.dcmread(folder / "segmentation.dcm")


@cache
def a_film_with_its_seg():
    with tempfile.TemporaryDirectory() as folder:
        sources = film_headers()
        return sources, written(Path(folder), [], sources, on_film())[1]


def meaning(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning


def children(item, name):
    return [child for child in item.get("ContentSequence", []) if meaning(child) == name]


def child(item, name):
    (only,) = children(item, name)
    return only


def groups(report):
    return [group for part in children(report, "Imaging Measurements") for group in part.ContentSequence]


def code_of(item):
    return item.ConceptCodeSequence[0].CodeMeaning


def numbers(group):
    """Exact number, text and unit of each measurement of a group, by its name."""
    found = {}
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            (value,) = item.MeasuredValueSequence
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            assert meaning(item) not in found
            found[meaning(item)] = (value.FloatingPointValue, str(value.NumericValue), unit)
    return found


def references(group, name):
    return [item.ReferencedSOPSequence[0] for item in children(group, name)]


def uids(references_):
    return [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in references_]
