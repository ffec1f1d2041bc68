"""The header cache gives the answer that reading would give, heals itself, and is no second place with patient data."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from made_ct import ct_headers

from clinibundle.console import Talk
from clinibundle.dicom import header_cache, index
from clinibundle.dicom.header_cache import HeaderCache
from clinibundle.dicom.index import index_study
from clinibundle.workflows.studies import describe_studies

COLLECTION = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
QUIET = Talk(quiet=True)
PATIENT = {
    "PatientName": "Quixote^Älonso",
    "PatientID": "LM-1605",
    "PatientBirthDate": "15470929",
    "StudyDate": "16050116",
    "SeriesDate": "16050117",
    "AccessionNumber": "ACC-1615",
    "SpecificCharacterSet": "ISO_IR 192",
    "ReferringPhysicianName": "Cervantes^Miguel",
    "InstitutionName": "Argamasilla",
    "PatientAddress": "La Mancha",
    "OtherPatientIDs": "DULCINEA",
    "AdmissionID": "ADM-1612",
    "FillerOrderNumberImagingServiceRequest": "ORD-1617",
    "RequestedProcedureID": "REQ-1613",
    "ImageComments": "rides Rocinante",
    "ProtocolName": "windmills",
    "StudyID": "S-1614",
}
SECRETS = ("quixote", "lonso", "lm-1605", "15470929", "16050116", "16050117", "acc-1615", "cervantes")
SECRETS += ("argamasilla", "mancha", "dulcinea", "adm-1612", "ord-1617", "req-1613", "rocinante", "windmill", "s-1614")


@pytest.fixture
def cache(tmp_path):
    return HeaderCache(tmp_path / "cache" / "headers.sqlite")


def save_series(folder, name="IM", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    made = ct_headers(**{**PATIENT, **changes})
    for number, dataset in enumerate(made):
        dataset.save_as(folder / f"{name}{number}", enforce_file_format=True)
    return made


def told(found):
    """All of an index that an overview shows."""
    headers = [
        (i.name, *(i.header.get(k) for k in ("SOPInstanceUID", "PatientID", "SeriesDescription", "PixelSpacing")))
        for i in found.instances
    ]
    return headers, [(i.transfer_syntax, i.pixel_offset, i.pixel_bytes) for i in found.instances], found.skipped


@pytest.fixture
def reads(monkeypatch):
    """The names of the files whose headers are read, by whom."""
    seen = {"index": [], "cache": []}
    for key, module in (("index", index), ("cache", header_cache)):
        walk = module.walk_header
        monkeypatch.setattr(module, "walk_header", lambda p, w=walk, k=key: seen[k].append(p.name) or w(p))
    return seen


def test_what_was_read_before_is_not_read_again_but_for_one_file_of_each_patient(tmp_path, cache, reads):
    save_series(tmp_path / "study" / "a")
    save_series(tmp_path / "study" / "b", PatientName="Panza^Sancho", PatientID="SP-1")
    first = told(index_study(tmp_path / "study", cache=cache))
    assert len(reads["index"]) == 12 and reads["cache"] == []
    reads["index"].clear()
    assert told(index_study(tmp_path / "study", cache=cache)) == first
    assert (len(reads["index"]), len(reads["cache"])) == (0, 2)


def a_file_without_preamble(folder):
    whole = (folder / "IM0").read_bytes()
    (folder / "old").write_bytes(whole[132:])
    (folder / "IM0").unlink()


def a_letter_named_after_the_patient(folder):
    (folder / "letter to Quixote.txt").write_text("Dear colleague")


def the_patient_in_a_description_of_a_file_that_does_not_know_him(folder):
    save_series(folder, "X", PatientName="", PatientID="", PatientBirthDate="", SeriesDescription="Quixote, liver")


def the_patient_in_a_path(folder):
    save_series(folder / "Quixote")


def another_patient_of_that_id(folder):
    save_series(folder, "X", PatientName="Panza^Sancho", SeriesDescription="Sancho's thorax")


ODD = [
    a_file_without_preamble,
    a_letter_named_after_the_patient,
    the_patient_in_a_description_of_a_file_that_does_not_know_him,
    the_patient_in_a_path,
    another_patient_of_that_id,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda make: make.__name__)
def test_studies_says_the_same_with_and_without_the_cache_and_with_half_of_it(tmp_path, monkeypatch, odd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "study"
    save_series(folder)
    describe_studies(folder, QUIET)
    odd(folder)
    expected = describe_studies(folder, QUIET, use_cache=False)
    # Half of it is known, then all that is fit to be.
    assert describe_studies(folder, QUIET) == expected
    assert describe_studies(folder, QUIET) == expected
    assert list((tmp_path / "cache").rglob("*.sqlite"))


@pytest.mark.skipif(not COLLECTION.is_dir(), reason="the shared collection is not beside the repository")
def test_studies_says_the_same_of_the_whole_shared_collection(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = describe_studies(COLLECTION, QUIET, use_cache=False)
    assert describe_studies(COLLECTION, QUIET) == expected
    assert describe_studies(COLLECTION, QUIET) == expected


def test_a_changed_file_is_read_again(tmp_path, cache):
    folder = tmp_path / "study"
    (first, *_) = save_series(folder)
    index_study(folder, cache=cache)
    first.SeriesDescription = "Thorax 9.9 mm"
    status = (folder / "IM0").stat()
    first.save_as(folder / "IM0", enforce_file_format=True)
    assert (folder / "IM0").stat().st_size == status.st_size
    os.utime(folder / "IM0", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    found = index_study(folder, cache=cache)
    assert found.instances[0].header.SeriesDescription == "Thorax 9.9 mm"
    # Of one size more, with its old time.
    first.SeriesDescription = "Thorax 10.5 mm again"
    first.save_as(folder / "IM0", enforce_file_format=True)
    os.utime(folder / "IM0", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert index_study(folder, cache=cache).instances[0].header.SeriesDescription == "Thorax 10.5 mm again"


def test_a_file_that_is_gone_is_not_there(tmp_path, cache):
    save_series(tmp_path / "study")
    index_study(tmp_path / "study", cache=cache)
    (tmp_path / "study" / "IM0").unlink()
    assert len(index_study(tmp_path / "study", cache=cache).instances) == 5


def test_a_file_that_was_put_in_anothers_place_is_itself(tmp_path, cache):
    save_series(tmp_path / "study")
    save_series(tmp_path / "other", PatientID="SP-1")
    index_study(tmp_path, cache=cache)
    (tmp_path / "other" / "IM0").replace(tmp_path / "study" / "IM0")
    found = {i.name: i.header.PatientID for i in index_study(tmp_path, cache=cache).instances}
    assert found["study/IM0"] == "SP-1"


def content(cache):
    with sqlite3.connect(cache.path) as database:
        return database.execute("SELECT * FROM headers").fetchall()


DAMAGE = {
    "no database": lambda path: path.write_bytes(b"Dear colleague, " * 100),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "overwritten": lambda path: path.write_bytes(path.read_bytes()[:200] + b"\xff" * 9000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_database_is_as_good_as_none_and_is_made_anew(tmp_path, cache, damage):
    save_series(tmp_path / "study")
    expected = told(index_study(tmp_path / "study", cache=cache))
    damage(cache.path)
    for _ in range(2):
        assert told(index_study(tmp_path / "study", cache=cache)) == expected
    assert len(content(cache)) == 6


@pytest.mark.parametrize("row", ["[", "[]", '[["1.2", null, null], true, []]', '["g", ["1", 2, 3], false, [[1]]]'])
def test_rows_of_another_version_are_read_anew_and_replaced(tmp_path, cache, row):
    save_series(tmp_path / "study")
    expected = told(index_study(tmp_path / "study", cache=cache))
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE headers SET header = ?", (row,))
    assert told(index_study(tmp_path / "study", cache=cache)) == expected
    assert row not in [header for *_, header in content(cache)]


def test_a_cache_folder_that_cannot_be_made_does_no_harm(tmp_path):
    save_series(tmp_path / "study")
    (tmp_path / "file").write_text("in the way")
    cache = HeaderCache(tmp_path / "file" / "headers.sqlite")
    assert len(index_study(tmp_path / "study", cache=cache).instances) == 6
    (tmp_path / "folder.sqlite").mkdir()
    assert len(index_study(tmp_path / "study", cache=HeaderCache(tmp_path / "folder.sqlite")).instances) == 6
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_database_that_somebody_else_writes_is_not_waited_for_long_nor_removed(tmp_path, cache):
    save_series(tmp_path / "study")
    index_study(tmp_path / "study", cache=cache)
    with sqlite3.connect(cache.path) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert len(index_study(tmp_path / "study", cache=cache).instances) == 6
    assert len(content(cache)) == 6


def kept_bytes(cache):
    """All that the cache's folder holds, in the forms in which a text could hide there."""
    stored = b"".join(file.read_bytes() for file in cache.path.parent.iterdir())
    return stored.decode("latin-1").casefold(), stored.decode("utf-8", "ignore").casefold()


def test_nothing_in_the_database_tells_who_the_patient_is(tmp_path, cache):
    save_series(tmp_path / "study" / "1")
    save_series(tmp_path / "study" / "Quixote 2")
    save_series(tmp_path / "study" / "3", SeriesDescription="Thorax älonso")
    save_series(tmp_path / "study" / "4", PatientName="Doe", PatientID="1", SeriesDescription="15470929 Quixote")
    assert len(index_study(tmp_path / "study", cache=cache).instances) == 24
    assert len(content(cache)) == 6
    for text in kept_bytes(cache):
        assert "thorax 2.5 mm" in text
        assert [secret for secret in (*SECRETS, str(tmp_path).casefold()) if secret in text] == []


def test_the_inputs_above_would_tell_it_if_headers_were_kept_whole(tmp_path):
    save_series(tmp_path)
    whole = (tmp_path / "IM0").read_bytes().decode("utf-8", "ignore").casefold()
    assert [secret for secret in SECRETS if secret not in whole] == []


def test_the_same_patient_cannot_be_recognised_in_two_databases(tmp_path, cache):
    save_series(tmp_path / "study")
    index_study(tmp_path / "study", cache=cache)
    other = HeaderCache(tmp_path / "other.sqlite")
    index_study(tmp_path / "study", cache=other)
    groups = [{header.split('"')[1] for *_, header in content(one)} for one in (cache, other)]
    assert [len(group) for group in groups] == [1, 1] and not groups[0] & groups[1]


def test_the_database_is_for_the_user_alone(tmp_path, cache):
    save_series(tmp_path / "study")
    index_study(tmp_path / "study", cache=cache)
    assert cache.path.stat().st_mode & 0o077 == 0 and cache.path.parent.stat().st_mode & 0o077 == 0


def test_the_database_does_not_grow_for_ever(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(header_cache, "_MOST_ROWS", 10)
    for number in range(4):
        save_series(tmp_path / f"{number}")
        index_study(tmp_path / f"{number}", cache=cache)
        shutil.rmtree(tmp_path / f"{number}")
    assert len(content(cache)) == 6
