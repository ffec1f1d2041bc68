"""What of a patient is looked for in texts, and in how many spellings it is found."""

import pytest
from made_films import film, save
from pydicom.dataset import Dataset

from clinibundle.dicom.patient import PATIENT_KEYWORDS, holds_part, patient_parts
from clinibundle.dicom.walk import walk_header


def parts_of(**values):
    return patient_parts([film(**{**dict.fromkeys(PATIENT_KEYWORDS, ""), **values})])


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"PatientName": "Quixote^Alonso"}, {"quixotealonso", "quixote", "alonso"}),
        ({"PatientName": "de la Mancha^Don^^Sir"}, {"delamanchadonsir", "mancha", "don", "sir"}),
        ({"PatientName": "O'Neill-Smith^X"}, {"oneillsmithx", "neill", "smith"}),
        ({"PatientName": "Li^Na"}, {"lina"}),
        ({"PatientName": "Yamada^Tarou=山田太郎", "SpecificCharacterSet": "ISO_IR 192"},
         {"yamadatarou", "yamada", "tarou", "山田太郎"}),
        ({"PatientID": "LM-1605/7"}, {"lm16057"}),
        ({"PatientID": "7"}, set()),
        ({"PatientBirthDate": "15470929"}, {"15470929", "29091547", "09291547"}),
        ({"StudyDate": "16050116"}, {"16050116", "16011605", "01161605"}),
        ({"AccessionNumber": "ACC 1615"}, {"acc1615"}),
        ({}, set()),
    ],
)  # fmt: skip
def test_names_as_a_whole_and_in_parts_numbers_and_dates_in_every_order(values, parts):
    assert parts_of(**values) == parts


def test_those_of_all_headers_count():
    nothing = dict.fromkeys(PATIENT_KEYWORDS, "")
    headers = [film(**nothing | {"PatientName": name}) for name in ("Quixote", "Panza", "Quixote")]
    assert patient_parts(headers) == {"quixote", "panza"}


def test_a_header_that_knows_no_patient_has_none():
    assert patient_parts([Dataset()]) == frozenset()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("thorax QUIXOTE", True),
        ("QuixoteThorax2", True),
        ("qui-xo_te", True),
        ("Quíxoté", True),
        ("born 1547-09-29", True),
        ("1547.09.29", True),
        ("id lm 1605", True),
        ("quixot", False),
        ("thorax", False),
        ("29.09.1547", True),
        ("9/29/1547", False),
        ("accession ACC-1615", True),
        ("CT of 1605-01-16", True),
        ("", False),
    ],
)
def test_a_part_is_found_in_any_usual_spelling(text, found):
    parts = parts_of(
        PatientName="Quixote^Alonso",
        PatientID="LM-1605",
        PatientBirthDate="15470929",
        StudyDate="16050116",
        AccessionNumber="ACC1615",
    )
    assert holds_part(text, parts) == found


def test_the_headers_stay_as_they_stand_in_the_file(tmp_path):
    walked = walk_header(save(film(PatientName="Quixote^Alonso"), tmp_path / "film"))
    assert patient_parts([walked.header]) >= {"quixote"}
    assert type(walked.header.get_item("PatientName")).__name__ == "RawDataElement"
