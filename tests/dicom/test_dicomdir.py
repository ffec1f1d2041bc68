"""A DICOMDIR is taken at its word only as far as it is sound, and never further than its own folder."""

import re
import shutil
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_films import film, save
from pydicom.config import disable_value_validation
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from clinibundle.dicom import dicomdir
from clinibundle.dicom.dicomdir import files_of_dicomdir

COLLECTION = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
needs_collection = pytest.mark.skipif(
    not COLLECTION.is_dir(), reason="the shared collection is not beside the repository"
)
VARIANTS = ["DICOMDIR", "-bigEnd", "-implicit", "-nooffset", "-nopatient", "-reordered"]
CONTRADICTORY = "the offsets of its records contradict each other, so that their order tells their series"
PATIENT = "Kowalska^Jadwiga"
# As pydicom names files.
FIRST = ["PT000000", "ST000000", "SE000000", "IM000000"]
NEXT, LOWER = "OffsetOfTheNextDirectoryRecord", "OffsetOfReferencedLowerLevelDirectoryEntity"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sound disc: two patients with two studies each, two series a study, two films a series; not to be changed."""
    files = FileSet()
    for patient in (PATIENT, "Doe^J"):
        for _ in range(2):
            study = generate_uid()
            for _ in range(2):
                series = generate_uid()
                for number in range(2):
                    files.add(
                        film(
                            PatientName=patient,
                            PatientID=patient[:3],
                            StudyInstanceUID=study,
                            SeriesInstanceUID=series,
                            InstanceNumber=number,
                        )
                    )
    disc = tmp_path_factory.mktemp("made") / "disc"
    files.write(disc)
    return disc


@pytest.fixture
def disc(made, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "disc"))


def identities(folder):
    """SOP instance, series and study UID of each file below a folder, by its path; read by pydicom."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "DICOMDIR" not in path.name and path.suffix != ".txt":
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            uids = (header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID)
            found[str(path.relative_to(folder))] = uids
    return found


def missing_of(listing):
    return {
        file.referenced: (file.sop_instance_uid, file.series_instance_uid, file.study_instance_uid)
        for file in listing.missing
    }


def edited(path, edit):
    """Changes the records of a DICOMDIR; where they move, offsets follow, but for those that lead to no record."""
    with disable_value_validation():
        directory = pydicom.dcmread(path)
        records = list(directory.DirectoryRecordSequence)
        numbers = {record.seq_item_tell: number for number, record in enumerate(records)}
        edit(records)
        directory.save_as(path)
        directory = pydicom.dcmread(path)
        moved = list(directory.DirectoryRecordSequence)
        for record in moved:
            for keyword in (NEXT, LOWER):
                if record[keyword].value in numbers:
                    setattr(record, keyword, moved[numbers[record[keyword].value]].seq_item_tell)
        directory.save_as(path)
    return path


def alone(path, folder):
    """The DICOMDIR without any file."""
    return Path(shutil.copy(path, folder / "DICOMDIR"))


def of_type(records, kind):
    return [record for record in records if record.DirectoryRecordType == kind]


def image_with(records, **changes):
    """The first image with other values, of the same length where they fit."""
    record = of_type(records, "IMAGE")[0]
    for keyword, value in changes.items():
        setattr(record, keyword, value)
    return record


# --- sound


def test_all_files_of_a_sound_disc_are_found_in_the_order_of_its_records(disc):
    listing = files_of_dicomdir(disc / "DICOMDIR")
    records = pydicom.dcmread(disc / "DICOMDIR").DirectoryRecordSequence
    assert listing.files == tuple(disc.joinpath(*r.ReferencedFileID) for r in of_type(records, "IMAGE"))
    assert {str(file.relative_to(disc)) for file in listing.files} == set(identities(disc))
    assert (len(listing.files), listing.missing, listing.damaged) == (16, (), None)


def test_a_dicomdir_named_without_its_folder_is_found_from_there(disc, monkeypatch):
    monkeypatch.chdir(disc)
    listing = files_of_dicomdir(Path("DICOMDIR"))
    assert {str(file) for file in listing.files} == set(identities(disc))


def test_files_that_are_not_there_are_told_with_their_series_and_study(disc, tmp_path):
    listing = files_of_dicomdir(alone(disc / "DICOMDIR", tmp_path))
    assert missing_of(listing) == identities(disc)
    assert (listing.files, listing.damaged) == ((), None)


def test_one_file_that_is_not_there_is_told(disc):
    expected = identities(disc)
    name = sorted(expected)[5]
    (disc / name).unlink()
    listing = files_of_dicomdir(disc / "DICOMDIR")
    assert missing_of(listing) == {name: expected[name]}
    assert len(listing.files) == 15


@needs_collection
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_variants_of_a_dicomdir_list_the_same_files(variant):
    folder = COLLECTION / "cd_dicomdir_complete"
    listing = files_of_dicomdir(folder / (variant if variant == "DICOMDIR" else f"DICOMDIR{variant}"))
    assert {str(file.relative_to(folder)) for file in listing.files} == set(identities(folder))
    assert (len(listing.files), listing.missing, listing.damaged) == (31, (), None)


@needs_collection
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_variants_of_a_dicomdir_tell_the_series_of_all_files(variant, tmp_path):
    folder = COLLECTION / "cd_dicomdir_complete"
    name = variant if variant == "DICOMDIR" else f"DICOMDIR{variant}"
    listing = files_of_dicomdir(alone(folder / name, tmp_path))
    assert missing_of(listing) == identities(folder)


@needs_collection
def test_a_clinics_disc_is_listed(tmp_path):
    folder = COLLECTION / "cd_phantom_tilt"
    listing = files_of_dicomdir(folder / "DICOMDIR")
    assert (len(listing.files), listing.missing, listing.damaged) == (6, (), None)
    assert missing_of(files_of_dicomdir(alone(folder / "DICOMDIR", tmp_path))) == identities(folder)


@needs_collection
def test_an_empty_dicomdir_lists_nothing_and_is_sound():
    listing = files_of_dicomdir(COLLECTION / "cd_dicomdir_complete" / "DICOMDIR-empty.dcm")
    assert (listing.files, listing.missing, listing.damaged) == ((), (), None)


# --- names as discs change them


@pytest.mark.parametrize(
    "change",
    [
        str.lower,
        lambda name: f"{name};1",
        lambda name: f"{name}.;1",
        lambda name: f"{name}.",
        lambda name: f"{name.lower()}.;12",
    ],
    ids=["small letters", "version", "dot and version", "dot", "all of it"],
)
@pytest.mark.parametrize("folders", [False, True])
def test_files_are_found_by_the_names_that_discs_give_them(disc, change, folders):
    for path in sorted(disc.rglob("*"), reverse=True):
        if path.name != "DICOMDIR" and (path.is_file() or folders):
            path.rename(path.with_name(change(path.name) if path.is_file() else path.name.lower()))
    listing = files_of_dicomdir(disc / "DICOMDIR")
    assert (len(listing.files), listing.missing, listing.damaged) == (16, (), None)
    assert all(file.is_file() for file in listing.files)


def test_names_in_a_dicomdir_may_be_changed_as_well(disc, tmp_path):
    def edit(records):
        image_with(records, ReferencedFileID=["pt000000", *FIRST[1:-1], "IM000000.;1"])

    listing = files_of_dicomdir(edited(disc / "DICOMDIR", edit))
    assert (len(listing.files), listing.missing) == (16, ())


@pytest.mark.parametrize("name", ["IM000000", "im000000", "IM000000.", "Im000000;1"])
def test_the_exact_name_counts_before_one_that_differs_in_case(disc, name):
    first = files_of_dicomdir(disc / "DICOMDIR").files[0]
    edited(disc / "DICOMDIR", lambda records: image_with(records, ReferencedFileID=[*FIRST[:-1], name]))
    for other in ("IM000000", "im000000", "IM000000.", "Im000000;1", "AIM000000"):
        first.with_name(other).write_bytes(b"another")
    assert files_of_dicomdir(disc / "DICOMDIR").files[0] == first.with_name(name)


@pytest.mark.parametrize("name", ["IM000000.dcm", "IM00000", "IM0000000", "IM000000;x", "IM000000..", "IM.000000"])
def test_other_names_are_other_files(disc, name):
    first = files_of_dicomdir(disc / "DICOMDIR").files[0]
    first.rename(first.with_name(name))
    assert len(files_of_dicomdir(disc / "DICOMDIR").missing) == 1


def test_a_folder_of_the_name_of_a_file_is_no_file(disc):
    first = files_of_dicomdir(disc / "DICOMDIR").files[0]
    first.unlink()
    first.mkdir()
    assert len(files_of_dicomdir(disc / "DICOMDIR").missing) == 1


# --- never outside


@pytest.mark.parametrize(
    "parts",
    [
        ["..", "secret"],
        ["PT000000", "..", "..", "secret"],
        ["../secret"],
        ["{outside}/secret"],
        ["", "secret"],
        [".", "secret"],
        ["C:", "secret"],
        ["PT000000/ST000000/SE000000/IM000001"],
    ],
)
def test_a_file_outside_the_folder_is_missing_and_flagged(disc, parts):
    save(film(), disc.parent / "secret")

    def edit(records):
        image_with(records, ReferencedFileID=[part.format(outside=disc.parent) for part in parts])

    listing = files_of_dicomdir(edited(disc / "DICOMDIR", edit))
    assert len(listing.files) == 15
    assert all(file.resolve().is_relative_to(disc.resolve()) for file in listing.files)
    assert len(listing.missing) == 1
    assert "record 4 names a file that cannot lie in its folder" in listing.damaged


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_leads_out_of_the_folder_is_not_followed(disc, what):
    first = files_of_dicomdir(disc / "DICOMDIR").files[0]
    linked = first if what == "file" else first.parent
    linked.rename(disc.parent / "elsewhere")
    linked.symlink_to(disc.parent / "elsewhere")
    assert len(files_of_dicomdir(disc / "DICOMDIR").missing) == (1 if what == "file" else 2)


def test_a_link_within_the_folder_is_followed(disc):
    first = files_of_dicomdir(disc / "DICOMDIR").files[0]
    first.rename(disc / "elsewhere")
    first.symlink_to(disc / "elsewhere")
    assert files_of_dicomdir(disc / "DICOMDIR").missing == ()


# --- records


@pytest.mark.parametrize("kind", ["SR DOCUMENT", "PRESENTATION", "RT DOSE", "KEY OBJECT DOC", "ENCAP DOC", "WAVEFORM"])
def test_files_of_other_kinds_are_listed_in_their_series(disc, tmp_path, kind):
    expected = identities(disc)
    edited(disc / "DICOMDIR", lambda records: image_with(records, DirectoryRecordType=kind))
    listing = files_of_dicomdir(disc / "DICOMDIR")
    assert (len(listing.files), listing.damaged) == (16, None)
    assert missing_of(files_of_dicomdir(alone(disc / "DICOMDIR", tmp_path))) == expected


def test_private_records_with_files_are_listed_wherever_they_lie(disc, tmp_path):
    def edit(records):
        for record in records:
            setattr(record, NEXT, 0)
            setattr(record, LOWER, 0)
            if record.DirectoryRecordType == "IMAGE":
                record.DirectoryRecordType = "PRIVATE"

    listing = files_of_dicomdir(edited(disc / "DICOMDIR", edit))
    assert (len(listing.files), listing.damaged) == (16, None)
    missing = files_of_dicomdir(alone(disc / "DICOMDIR", tmp_path)).missing
    assert {file.series_instance_uid for file in missing} == {""}


def test_a_hanging_protocol_belongs_to_no_series(disc, tmp_path):
    def edit(records):
        series, image = of_type(records, "SERIES")[0], of_type(records, "IMAGE")[0]
        series.OffsetOfReferencedLowerLevelDirectoryEntity = image.OffsetOfTheNextDirectoryRecord
        image.OffsetOfTheNextDirectoryRecord = 0
        image.DirectoryRecordType = "HANGING PROTOCOL"

    listing = files_of_dicomdir(alone(edited(disc / "DICOMDIR", edit), tmp_path))
    assert listing.damaged is None
    assert listing.missing[0].sop_instance_uid
    assert (listing.missing[0].series_instance_uid, listing.missing[0].study_instance_uid) == ("", "")
    assert all(file.series_instance_uid for file in listing.missing[1:])


def test_a_record_that_is_not_in_use_lists_no_file(disc):
    edited(disc / "DICOMDIR", lambda records: image_with(records, RecordInUseFlag=0))
    listing = files_of_dicomdir(disc / "DICOMDIR")
    assert (len(listing.files), listing.missing, listing.damaged) == (15, (), None)


def test_a_record_that_does_not_say_whether_it_is_in_use_is(disc):
    edited(disc / "DICOMDIR", lambda records: [record.pop("RecordInUseFlag") for record in records])
    assert len(files_of_dicomdir(disc / "DICOMDIR").files) == 16


def test_a_file_that_is_listed_twice_is_there_once(disc):
    def edit(records):
        of_type(records, "IMAGE")[1].ReferencedFileID = of_type(records, "IMAGE")[0].ReferencedFileID

    assert len(files_of_dicomdir(edited(disc / "DICOMDIR", edit)).files) == 15


def test_a_file_whose_name_cannot_be_read_is_missing_and_flagged(disc):
    content = (disc / "DICOMDIR").read_bytes()
    # 36 letters are no whole number of doubles.
    (disc / "DICOMDIR").write_bytes(content.replace(b"\x04\x00\x00\x15CS", b"\x04\x00\x00\x15FD", 1))
    listing = files_of_dicomdir(disc / "DICOMDIR")
    assert (len(listing.files), len(listing.missing)) == (15, 1)
    assert listing.damaged == "record 4 names a file that cannot lie in its folder"
    assert listing.missing[0].series_instance_uid


def test_a_name_in_place_of_a_uid_is_not_handed_on(disc, tmp_path):
    edited(disc / "DICOMDIR", lambda records: image_with(records, ReferencedSOPInstanceUIDInFile="Kowalska"))
    assert files_of_dicomdir(alone(disc / "DICOMDIR", tmp_path)).missing[0].sop_instance_uid == ""


# --- damage


def set_offset(kind, number, keyword, value):
    def edit(records):
        setattr(of_type(records, kind)[number], keyword, value(records) if callable(value) else value)

    return edit


def own_place(kind, number):
    return lambda records: of_type(records, kind)[number].seq_item_tell


@pytest.mark.parametrize(
    "edit",
    [
        set_offset("IMAGE", 0, NEXT, own_place("IMAGE", 0)),
        set_offset("IMAGE", 1, NEXT, own_place("IMAGE", 0)),
        set_offset("STUDY", 1, NEXT, own_place("STUDY", 0)),
        set_offset("SERIES", 0, LOWER, own_place("SERIES", 0)),
        set_offset("IMAGE", 1, LOWER, own_place("PATIENT", 0)),
        set_offset("SERIES", 1, LOWER, own_place("IMAGE", 0)),
        set_offset("SERIES", 1, LOWER, 7),
        set_offset("SERIES", 1, LOWER, 0xFFFFFFFF),
        set_offset("SERIES", 1, LOWER, 0),
        set_offset("IMAGE", 0, NEXT, 0),
        lambda records: [setattr(record, LOWER, 0) for record in records],
    ],
    ids=[
        "next is itself",
        "next goes back",
        "studies in a circle",
        "below itself",
        "patient below its image",
        "below two series",
        "to no record",
        "beyond the end",
        "series without images",
        "image left out",
        "no tree",
    ],
)
@pytest.mark.timeout(10)
def test_contradictory_offsets_are_told_and_the_order_of_the_records_tells_the_series(disc, tmp_path, edit):
    expected = identities(disc)
    edited(disc / "DICOMDIR", edit)
    listing = files_of_dicomdir(disc / "DICOMDIR")
    assert (len(listing.files), listing.missing, listing.damaged) == (16, (), CONTRADICTORY)
    assert missing_of(files_of_dicomdir(alone(disc / "DICOMDIR", tmp_path))) == expected


@pytest.mark.parametrize(
    ("kind", "number", "uid", "type_is_lost"),
    [
        ("SERIES", 1, "SeriesInstanceUID", False),
        ("SERIES", 2, "SeriesInstanceUID", True),
        ("SERIES", 1, None, True),
        ("STUDY", 1, "StudyInstanceUID", False),
        ("STUDY", 1, None, True),
    ],
)
def test_without_a_tree_no_file_is_taken_into_the_series_of_another(disc, tmp_path, kind, number, uid, type_is_lost):
    def edit(records):
        setattr(records[0], LOWER, 7)
        lost = of_type(records, kind)[number]
        if uid:
            setattr(lost, uid, "")
        if type_is_lost:
            lost.DirectoryRecordType = "UNKNOWN"

    expected = [uids for _, uids in sorted(identities(disc).items())]
    found = missing_of(files_of_dicomdir(alone(edited(disc / "DICOMDIR", edit), tmp_path)))
    if uid == "SeriesInstanceUID":
        files = slice(2 * number, 2 * number + 2)
        expected[files] = [(sop, "", study) for sop, _, study in expected[files]]
    elif uid == "StudyInstanceUID":
        expected[4:8] = [(sop, series, "") for sop, series, _ in expected[4:8]]
    assert [uids for _, uids in sorted(found.items())] == expected


def test_without_a_tree_a_hanging_protocol_belongs_to_no_series(disc, tmp_path):
    def edit(records):
        setattr(records[0], LOWER, 7)
        image_with(records, DirectoryRecordType="HANGING PROTOCOL")

    first, second, *_ = files_of_dicomdir(alone(edited(disc / "DICOMDIR", edit), tmp_path)).missing
    assert (first.series_instance_uid, first.study_instance_uid) == ("", "")
    assert second.series_instance_uid


@pytest.mark.timeout(10)
def test_records_in_a_circle_without_an_end_are_told(disc):
    def edit(records):
        # Each record is below one other, and none is at the top.
        for record, below in zip(records, [*records[1:], records[0]], strict=True):
            setattr(record, NEXT, 0)
            setattr(record, LOWER, below.seq_item_tell)

    listing = files_of_dicomdir(edited(disc / "DICOMDIR", edit))
    assert (len(listing.files), listing.missing, listing.damaged) == (16, (), CONTRADICTORY)


@pytest.mark.parametrize("undefined_length", [False, True])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True))
@pytest.mark.filterwarnings("ignore")
def test_a_dicomdir_that_breaks_off_is_told(made, tmp_path, undefined_length, cut):
    directory = pydicom.dcmread(made / "DICOMDIR")
    directory["DirectoryRecordSequence"].is_undefined_length = undefined_length
    path = tmp_path / "DICOMDIR"
    directory.save_as(path)
    content = path.read_bytes()
    # With the delimiter gone, and nothing else, nothing is lost.
    path.write_bytes(content[: int(cut * (len(content) - 8))])
    assert files_of_dicomdir(path).damaged


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.binary(min_size=1, max_size=4) | st.sampled_from([b"SQ", b"UN", b"\xff\xff\xff\xff", b"..\\", b"/"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_however_it_is_damaged_the_answer_is_a_list_of_files_in_the_folder(made, tmp_path, caplog, edits):
    disc = tmp_path / "disc"
    if not disc.exists():
        shutil.copytree(made, disc)
    content = bytearray((made / "DICOMDIR").read_bytes())
    for at, some in edits:
        place = int(at * len(content))
        content[place : place + len(some)] = some
    (disc / "DICOMDIR").write_bytes(content)
    listing = files_of_dicomdir(disc / "DICOMDIR")
    assert all(file.is_file() and file.is_relative_to(disc) for file in listing.files)
    assert len(set(listing.files)) == len(listing.files)
    said = f"{listing.damaged} {caplog.text}".casefold()
    assert not any(part in said for part in ("kowalska", "jadwiga", "pt000000"))
    uids = [uid for file in listing.missing for uid in missing_of(listing)[file.referenced]]
    assert all(re.fullmatch("[0-9.]*", uid) for uid in uids)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is no DICOMDIR, or a damaged one: it has no directory records"),
        (b"Dear colleague" * 50, "DICOMDIR"),
        (bytes(1000), "DICOMDIR"),
    ],
)
def test_what_is_no_dicomdir_is_told(tmp_path, content, words):
    (tmp_path / "DICOMDIR").write_bytes(content)
    listing = files_of_dicomdir(tmp_path / "DICOMDIR")
    assert words in listing.damaged
    assert (listing.files, listing.missing) == ((), ())


def test_what_cannot_be_read_is_told(tmp_path):
    assert files_of_dicomdir(tmp_path / "DICOMDIR").damaged == "the DICOMDIR is damaged (FileNotFoundError)"
    assert files_of_dicomdir(tmp_path).damaged == "the DICOMDIR is damaged (IsADirectoryError)"


def test_an_image_is_no_dicomdir(tmp_path):
    assert "has no directory records" in files_of_dicomdir(save(film(), tmp_path / "DICOMDIR")).damaged


def test_a_deflated_dicomdir_is_not_inflated(disc):
    directory = pydicom.dcmread(disc / "DICOMDIR")
    directory.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    directory.save_as(disc / "DICOMDIR", implicit_vr=False, little_endian=True, enforce_file_format=True)
    assert "is deflated, which none may be" in files_of_dicomdir(disc / "DICOMDIR").damaged


def test_a_dicomdir_of_no_disc_is_not_read(disc, monkeypatch):
    monkeypatch.setattr(dicomdir, "_MAX_BYTES", (disc / "DICOMDIR").stat().st_size)
    assert files_of_dicomdir(disc / "DICOMDIR").damaged is None
    monkeypatch.setattr(dicomdir, "_MAX_BYTES", (disc / "DICOMDIR").stat().st_size - 1)
    assert "is larger than" in files_of_dicomdir(disc / "DICOMDIR").damaged
