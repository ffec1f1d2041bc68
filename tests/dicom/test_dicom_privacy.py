"""Nothing that the dicom room says, in refusals, checks, warnings or log, tells who the patient is."""

import json
import logging
import re
import warnings

import numpy as np
import pytest
from made_films import chest, film, save, with_pixels
from made_segments import ALGORITHM, LUNG
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from clinibundle.dicom.index import index_study
from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.dicom.rules import DicomWishes, Rule
from clinibundle.dicom.seg import write_seg
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.dicom.select import choose
from clinibundle.errors import ClinibundleError

PATIENT = {"PatientName": "Kowalska^Jadwiga", "PatientID": "PID-98765", "PatientBirthDate": "19440215"}
SECRETS = ["kowalska", "jadwiga", "98765", "19440215"]
# As people name files by hand.
FILE = "Kowalska_Jadwiga_PID-98765_19440215.dcm"
RULES = [
    Rule(name="modality", keywords=["Modality"], accept=["DX"], missing="refused"),
    Rule(
        name="description",
        keywords=["SeriesDescription", "StudyDescription", "PatientComments"],
        refuse_words=["lateral"],
        missing="fits",
    ),
    Rule(name="wording", keywords=["StudyDescription"], accept=["chest"], otherwise="doubtful"),
]


def patients_film(**changes):
    return film(**PATIENT, StudyDescription="Thorax Kowalska", PatientComments="Jadwiga", **changes)


def names(root):
    return [instance.name for instance in index_study(root).instances]


def said_while_segmenting(root, caplog, capfd):
    """All that is said of an input on its way to a SEG."""
    said = []
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            index = index_study(root)
            said += [skipped.name + skipped.reason for skipped in index.skipped]
            choice = choose(index, DicomWishes(object="radiograph", rules=RULES))
            said += [json.dumps([check.as_dict() for check in choice.chosen.checks()], default=str)]
            said += [c.instance.name + c.series + str(c.reasons) for c in choice.candidates]
            volume = read_radiograph(choice.chosen.instance)
            said += [json.dumps([check.as_dict() for check in volume.checks], default=str)]
            said += [json.dumps(dict(volume.facts)), volume.source.case]
            mask = (volume.array.T > 2000).astype(np.uint8)
            write_seg(root.parent / "seg.dcm", mask[np.newaxis], SourceGrid(volume.source.datasets), [LUNG], ALGORITHM)
        except ClinibundleError as refusal:
            said.append(str(refusal))
    out = capfd.readouterr()
    said += [str(warning.message) for warning in caught]
    return " | ".join([*said, caplog.text, out.out, out.err])


def truncated(folder):
    path = save(patients_film(), folder / FILE)
    path.write_bytes(path.read_bytes()[:-1000])


def in_one_series(folder):
    series = generate_uid()
    for name in (FILE, "2-" + FILE):
        save(patients_film(SeriesInstanceUID=series), folder / name)


def twice(folder):
    made = patients_film()
    for name in (FILE, "2-" + FILE):
        save(made, folder / name)


def broken_lut(folder):
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [9, 0, 16], "US", b"\0\0"
    save(patients_film(ModalityLUTSequence=[item]), folder / FILE)


def beside_a_text_file(folder):
    save(patients_film(Modality="CT"), folder / FILE)
    (folder / "letter about Jadwiga Kowalska.txt").write_text("Dear colleague")


def several(*films):
    def write(folder):
        for number, made in enumerate(films):
            save(made, folder / f"{number}-{FILE}")

    return write


def constant():
    return with_pixels(patients_film(), np.full(chest().shape, 9, np.uint16), 12)


INPUTS = {
    "sound": several(patients_film()),
    "monochrome1": several(patients_film(PhotometricInterpretation="MONOCHROME1", LossyImageCompression="01")),
    "truncated": truncated,
    "no pixels": several(patients_film(PixelData=None)),
    "several frames": several(patients_film(NumberOfFrames=2)),
    "colour": several(patients_film(PhotometricInterpretation="RGB")),
    "huge": several(patients_film(Rows=65535, Columns=65535)),
    "small": several(patients_film(Rows=10)),
    "no rows": several(patients_film(Rows=None)),
    "no depth": several(patients_film(BitsAllocated=None)),
    "constant": several(constant()),
    "wrong modality": several(patients_film(Modality="CT"), patients_film(Modality="MR")),
    "wrong words": several(patients_film(SeriesDescription="Kowalska, Jadwiga, lateral")),
    "two series": several(patients_film(SeriesInstanceUID="1.2.3"), patients_film(SeriesInstanceUID="1.2.4")),
    "two films of a series": in_one_series,
    "a film twice": twice,
    "broken lut": broken_lut,
    "a text file": beside_a_text_file,
    "no caret in the name": several(film(**PATIENT | {"PatientName": "Kowalska Jadwiga"})),
    "odd birth date": several(film(**PATIENT | {"PatientBirthDate": "19440299"})),
    "unknown kind of object": several(patients_film(SOPClassUID="1.2.3.4.5")),
    "no study": several(patients_film(StudyInstanceUID=None)),
}


@pytest.mark.parametrize("write", INPUTS.values(), ids=INPUTS)
def test_nothing_that_is_said_tells_who_the_patient_is(tmp_path, caplog, capfd, write):
    (tmp_path / "input").mkdir()
    write(tmp_path / "input")
    said = said_while_segmenting(tmp_path / "input", caplog, capfd)
    assert said
    assert [secret for secret in SECRETS if secret in said.casefold()] == []
    # As a word of its own: digits of UIDs are random.
    assert not re.search(r"\b1944\b", said)


def test_a_rule_on_free_text_judges_it_and_does_not_repeat_it_where_it_holds_a_part_of_the_patient(tmp_path):
    save(patients_film(), tmp_path / "IM1")
    for accepted, verdict in (("thorax", "fits"), ("abdomen", "doubtful")):
        rule = Rule(name="wording", keywords=["StudyDescription"], accept=[accepted], otherwise="doubtful")
        (reason,) = choose(index_study(tmp_path), DicomWishes(object="radiograph", rules=[rule])).chosen.reasons
        assert (reason.verdict, reason.value) == (verdict, "(hidden)")
        assert reason.text.startswith("StudyDescription is (hidden)")


def test_the_inputs_above_would_tell_it_if_names_were_shown(tmp_path):
    several(patients_film())(tmp_path)
    (found,) = index_study(tmp_path).instances
    assert all(secret in str(found.path).casefold() for secret in SECRETS)


@pytest.mark.parametrize(
    "path",
    [
        "Kowalska.dcm",
        "kowalska/IM1",
        "deep/er/KOWALSKA_J/IM1",
        "jadwiga-2.dcm",
        "JKOWALSKA1",
        "Kowalskà.dcm",
        "PID-98765/IM1",
        "pid_98765.dcm",
        "PID98765",
        "19440215.dcm",
        "1944-02-15/IM1",
        "kowalskajadwiga",
    ],
)
def test_a_path_that_holds_a_part_of_the_patient_is_shown_as_a_number(tmp_path, path):
    save(film(), tmp_path / "0")
    save(film(**PATIENT), tmp_path / path)
    assert names(tmp_path) == ["0", "file 2"]


@pytest.mark.parametrize("path", ["IM1", "chest/PA.dcm", "kow.dcm", "98.dcm", "1944.dcm", "series 8/1.2.840.1"])
def test_a_path_without_one_is_shown_as_it_is(tmp_path, path):
    save(film(**PATIENT), tmp_path / path)
    assert names(tmp_path) == [path]


def test_a_single_file_named_after_its_patient_is_shown_as_a_number(tmp_path):
    assert names(save(film(**PATIENT), tmp_path / "Kowalska.dcm")) == ["file 1"]


def test_folders_above_the_input_are_never_shown(tmp_path):
    save(film(**PATIENT), tmp_path / "Kowalska" / "IM1")
    assert names(tmp_path / "Kowalska") == ["IM1"]


@pytest.mark.parametrize("name", ["Li^Na", "An", "X^Y^Z", ""])
def test_parts_of_less_than_three_letters_hide_no_path(tmp_path, name):
    save(film(PatientName=name, PatientID="7", PatientBirthDate=""), tmp_path / "Lineal/Anatomy-7-xy.dcm")
    assert names(tmp_path) == ["Lineal/Anatomy-7-xy.dcm"]


def test_a_short_name_is_found_as_a_whole(tmp_path):
    save(film(PatientName="Li^Na"), tmp_path / "li_na.dcm")
    assert names(tmp_path) == ["file 1"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Müller^Zoë", "MULLER.dcm"),
        ("Groß^Ida", "GROSS.dcm"),
        ("Yamada^Tarou=山田^太郎", "山田太郎.dcm"),
        ("Ерёмин^Ян", "ерёмин"),
    ],
)
def test_names_of_all_alphabets_are_found(tmp_path, name, path):
    save(film(PatientName=name, SpecificCharacterSet="ISO_IR 192"), tmp_path / path)
    assert names(tmp_path) == ["file 1"]


def test_another_files_patient_is_not_told_either(tmp_path):
    save(film(**PATIENT), tmp_path / "a")
    save(film(PatientName="Doe^J"), tmp_path / "not Kowalska")
    (tmp_path / "letter to Kowalska.txt").write_text("Dear colleague")
    index = index_study(tmp_path)
    assert [instance.name for instance in index.instances] == ["a", "file 3"]
    assert [skipped.name for skipped in index.skipped] == ["file 2"]
