import math

import pytest
from made_reports import AREA, LEFT
from made_segments import LUNG
from pydantic import ValidationError

from clinibundle.dicom.codes import FindingCodes, Measurement, MeasurementTable


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("nodule", True),
        ("nodule 1", True),
        ("nodule 12", True),
        ("nodules", False),
        ("left nodule", False),
        ("nodule x", False),
    ],
)
def test_codes_are_given_by_name_with_or_without_a_number(name, fits):
    row = FindingCodes(name="nodule", type=LUNG.type)
    assert (MeasurementTable(measurements=[], findings=[row]).codes_of(name) is row) == fits


def test_a_side_of_nowhere_is_no_code():
    with pytest.raises(ValidationError, match="'left lung' has a laterality and no site"):
        FindingCodes(name="left lung", type=LUNG.type, laterality=LEFT)


@pytest.mark.parametrize("factor", [math.inf, math.nan])
def test_a_factor_is_a_finite_number(factor):
    with pytest.raises(ValidationError, match="finite"):
        Measurement(key="area_mm2", concept=AREA.concept, unit=AREA.unit, factor=factor)
