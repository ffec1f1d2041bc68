"""Zips that could do harm, and damaged ones, are refused in a sentence before anything is written of them."""

import io
import resource
import shutil
import stat
import struct
import subprocess
import tempfile
import tracemalloc
import unicodedata
import zipfile
from zipfile import ZipFile, ZipInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_zips import PATIENT, SOUND, refusal, refused_before_writing, unpacked_tree, with_directory, zip_of

from clinibundle.dicom import archive
from clinibundle.dicom.archive import unpacked
from clinibundle.errors import UnreadableInput

MIB = 1 << 20


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder that temporary folders are made in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def path(tmp_path, temporary):
    """Where a test puts its zip."""
    (tmp_path / "input").mkdir()
    return tmp_path / "input" / f"{PATIENT}.zip"


@pytest.mark.parametrize(
    "name",
    [
        "../",
        "..",
        "a/../../",
        "a/..",
        "/",
        "//host/",
        "C:",
        "C:/",
        "c:",
        "a/C:/",
        "..\\",
        "a\\b",
        "\\\\host\\",
        "C:\\",
        "\\",
    ],
)
def test_a_path_that_may_lead_out_is_refused(path, monkeypatch, name):
    zip_of(path, [("IM1", b"1"), (f"{name}{PATIENT}" if name[-1] in "/\\:" else f"{name}/{PATIENT}", b"2")])
    assert "member 2 of the zip has a path that may lead out" in refused_before_writing(path, monkeypatch)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(path, monkeypatch, kind):
    info = ZipInfo(PATIENT)
    info.external_attr = (kind | 0o777) << 16
    with ZipFile(path, "w") as made:
        made.writestr("IM1", b"1")
        made.writestr(info, b"/etc/passwd")
    assert "member 2 of the zip is a link or device" in refused_before_writing(path, monkeypatch)


@pytest.mark.skipif(shutil.which("zip") is None, reason="zip is not installed")
def test_a_link_that_zip_has_packed_is_refused(tmp_path, path, monkeypatch):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "link").symlink_to("/etc")
    subprocess.run(["zip", "-q", "-r", "-y", str(path), "."], cwd=tmp_path / "study", check=True)
    assert "is a link or device" in refused_before_writing(path, monkeypatch)


def test_a_link_of_windows_is_refused(path, monkeypatch):
    def edit(members):
        members[0].external_attr = 0x400

    with_directory(path, [(PATIENT, b"C:/Windows")], edit)
    assert "is a link or device" in refused_before_writing(path, monkeypatch)


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_members_said_to_be_encrypted_are_refused(path, monkeypatch, flag):
    def edit(members):
        members[0].flag_bits |= flag

    with_directory(path, [(PATIENT, b"1")], edit)
    assert "is encrypted" in refused_before_writing(path, monkeypatch)


@pytest.mark.skipif(shutil.which("zip") is None, reason="zip is not installed")
def test_an_encrypted_zip_is_refused(tmp_path, path, monkeypatch):
    (tmp_path / PATIENT).write_bytes(b"1")
    subprocess.run(["zip", "-q", "-P", "secret", str(path), PATIENT], cwd=tmp_path, check=True)
    assert refused_before_writing(path, monkeypatch) == (
        "member 1 of the zip is encrypted; unpack it with its password and name the folder"
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_zipfile_inflates_without_a_limit_are_refused(path, monkeypatch, method):
    zip_of(path, [(PATIENT, b"1")], compression=method)
    assert f"is compressed by method {method}, expected 0" in refused_before_writing(path, monkeypatch)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("IM1", "IM1"),
        ("a/IM1", "A/im1"),
        ("a/IM1", "a//IM1"),
        ("IM1", "./IM1"),
        (unicodedata.normalize("NFC", "Übersicht"), unicodedata.normalize("NFD", "Übersicht")),
        ("Straße", "STRASSE"),
        ("Ω", "ω"),
    ],
)
def test_names_that_a_file_system_may_take_for_one_are_refused(path, monkeypatch, one, other):
    zip_of(path, [("first", b"0"), (f"{PATIENT}/{one}", b"1"), (f"{PATIENT}/{other}", b"2")])
    assert "members 2 and 3 of the zip have one name" in refused_before_writing(path, monkeypatch)


def listing(count, name=b"%d"):
    """A zip that lists so many members, all of them empty and none of them there."""
    entries = []
    for number in range(count):
        entry = (b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name % number), 0, 0, 0, 0, 0, 30 * number)
        entries.append(struct.pack("<4s6H3I5H2I", *entry) + name % number)
    directory = b"".join(entries)
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(directory), 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return directory + end64 + locator + end


def test_too_many_members_are_refused(path, monkeypatch):
    path.write_bytes(listing(archive.MAX_MEMBERS + 1))
    assert "lists more than 100000 files" in refused_before_writing(path, monkeypatch)


def test_a_list_of_members_that_would_fill_the_memory_is_not_read(path):
    path.write_bytes(listing(500_000, b"%07d" + b"x" * 40))
    assert path.stat().st_size > archive._MAX_DIRECTORY_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInput, match="lists more than 100000 files"), unpacked(path):
            pytest.fail("it was unpacked")
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_as_many_members_as_a_study_may_have_are_unpacked(path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 50)
    names = [(f"IM{number}", b"") for number in range(51)]
    assert len(unpacked_tree(zip_of(path, names[:50]))) == 50
    assert "lists more than 50 files" in refused_before_writing(zip_of(path, names), monkeypatch)


def test_too_many_folders_are_refused(path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FOLDERS", 100)
    names = [(f"{number}/" * 10 + "IM1", b"") for number in range(11)]
    assert len(unpacked_tree(zip_of(path, names[:10]))) == 10
    assert "holds more than 100 folders" in refused_before_writing(zip_of(path, names), monkeypatch)


def test_a_bomb_is_refused(path, monkeypatch):
    with ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for number in range(30):
            made.writestr(str(number), bytes(10 * MIB))
    assert "times its size, expected at most 200 times" in refused_before_writing(path, monkeypatch)


def test_empty_masks_beside_pictures_are_no_bomb(path, monkeypatch):
    monkeypatch.setattr(archive, "UNSUSPECTED_BYTES", MIB)
    noise = np.random.default_rng(1).bytes(MIB // 5)
    members = {"CT": noise, "SEG": bytes(20 * MIB)}
    assert unpacked_tree(zip_of(path, members.items())) == members
    assert "times its size" in refused_before_writing(zip_of(path, [("SEG", bytes(20 * MIB))]), monkeypatch)


def test_an_empty_mask_alone_is_no_bomb(path):
    assert unpacked_tree(zip_of(path, [("SEG", bytes(20 * MIB))])) == {"SEG": bytes(20 * MIB)}
    assert path.stat().st_size * archive.MAX_RATIO < 20 * MIB


def test_more_bytes_than_a_study_has_are_refused(path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 3000)
    noise = [(str(number), b"x" * 1000) for number in range(4)]
    assert len(unpacked_tree(zip_of(path, noise[:3]))) == 3
    assert "GiB, expected at most" in refused_before_writing(zip_of(path, noise), monkeypatch)


def test_stated_sizes_beyond_all_disks_are_refused(path, monkeypatch):
    def lie(members):
        members[1].file_size = 1 << 40

    with_directory(path, [("IM1", b"1"), (PATIENT, b"2")], lie)
    assert "unpacks to 1024.0 GiB, expected at most 64 GiB" in refused_before_writing(path, monkeypatch)


def test_what_the_disk_has_no_room_for_is_refused(path, monkeypatch):
    zip_of(path, [(PATIENT, b"x" * 1001)])
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9999, 0, 1001))
    assert len(unpacked_tree(path)) == 1
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9999, 0, 1000))
    assert "the temporary folder has room for 0.0 GiB" in refused_before_writing(path, monkeypatch)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("content", [b"x" * 5000, bytes(8 * MIB)], ids=["small", "large"])
@pytest.mark.parametrize("checksum", ["of what is there", "of what is stated"])
@pytest.mark.parametrize("stated", [0, 1, 10, 4999])
def test_a_member_that_holds_more_than_it_states_is_refused(
    tmp_path, path, monkeypatch, method, content, checksum, stated
):
    def lie(members):
        members[0].file_size = stated
        if checksum == "of what is stated":
            members[0].CRC = zipfile.crc32(content[:stated])

    with_directory(path, [(PATIENT, content)], lie, compression=method)
    target = tmp_path / "written"
    monkeypatch.setattr(archive, "_new_file", lambda *_: target.open("xb"))
    assert refusal(path).startswith("member 1 of the zip ")
    assert target.stat().st_size <= stated + 1


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_holds_less_than_it_states_is_refused(path, method):
    def lie(members):
        members[0].file_size += 1

    with_directory(path, [(PATIENT, b"x" * 5000)], lie, compression=method)
    assert refusal(path).startswith("member 1 of the zip unpacks to another size than the 5001 bytes")


def test_members_of_the_same_bytes_are_refused(path, monkeypatch):
    def lie(members):
        members[2].header_offset = members[1].header_offset

    with_directory(path, [("IM1", b"1"), (PATIENT, b"2"), (f"{PATIENT}3", b"3")], lie)
    assert "members 2 and 3 of the zip share the same bytes" in refused_before_writing(path, monkeypatch)


def test_members_within_the_bytes_of_others_are_refused(path, monkeypatch):
    # As in Fifield's bomb: the header of the second member is part of the first one's content.
    inner = zip_of(io.BytesIO(), [(PATIENT, bytes(MIB))]).getvalue()

    def quote(members):
        info = ZipFile(io.BytesIO(inner)).infolist()[0]
        info.header_offset = 30 + len("outer")
        members.append(info)

    with_directory(path, [("outer", inner)], quote, compression=zipfile.ZIP_STORED)
    assert ZipFile(path).read(PATIENT) == bytes(MIB)
    assert "members 1 and 2 of the zip share the same bytes" in refused_before_writing(path, monkeypatch)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_wrong_checksum_is_refused(path, method):
    def lie(members):
        members[1].CRC ^= 1

    with_directory(path, [("IM1", b"1"), (PATIENT, b"x" * 5000), ("IM3", b"")], lie, compression=method)
    assert refusal(path) == "member 2 of the zip is damaged (BadZipFile); ask for a new export of the study"


def test_a_wrong_checksum_of_an_empty_file_is_refused(path):
    def lie(members):
        members[0].CRC = 1

    assert "member 1 of the zip is damaged" in refusal(with_directory(path, [(PATIENT, b"")], lie))


def test_a_changed_byte_is_refused(path):
    zip_of(path, [(PATIENT, b"x" * 5000)], compression=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert "member 1 of the zip is damaged (BadZipFile)" in refusal(path)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_zip_that_breaks_off_is_refused(path, cut):
    content = zip_of(io.BytesIO(), SOUND.items()).getvalue()
    path.write_bytes(content[: int(cut * len(content))])
    assert "damaged or cut off" in refusal(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), min_size=1),
    in_directory=st.booleans(),
)
def test_what_comes_out_of_a_damaged_zip_is_what_went_in(path, temporary, edits, in_directory):
    content = bytearray(zip_of(io.BytesIO(), [(name, some[:3000]) for name, some in SOUND.items()]).getvalue())
    start = content.index(b"PK\x01\x02") if in_directory else 0
    for place, some in edits:
        at = start + int(place * (len(content) - start))
        content[at : at + len(some)] = some
    path.write_bytes(content)
    try:
        found = unpacked_tree(path)
    except UnreadableInput as error:
        assert "zip" in str(error)
    else:
        # Names have no checksum.
        assert set(found.values()) <= {some[:3000] for some in SOUND.values()}
    assert list(temporary.iterdir()) == []


def test_a_utf8_name_that_is_none_is_refused(path):
    zip_of(path, [("é.dcm", b"1")])
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    assert "its list of members cannot be read (UnicodeDecodeError)" in refusal(path)


def test_a_disk_that_fills_meanwhile_is_told(path):
    zip_of(path, [("IM1", b"1"), (PATIENT, np.random.default_rng(1).bytes(2 * MIB))])
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, former[1]))
    try:
        told = refusal(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert told.startswith("member 2 of the zip cannot be unpacked (File too large); make room, or set TMPDIR")


def test_a_temporary_folder_that_cannot_be_made_is_told(path, monkeypatch):
    zip_of(path, SOUND.items())
    monkeypatch.setattr(tempfile, "tempdir", str(path.parent / "absent"))
    with (
        pytest.raises(UnreadableInput, match=r"cannot be unpacked \(No such file or directory\); set TMPDIR"),
        unpacked(path),
    ):
        pytest.fail("it was unpacked")
