"""A zip comes out as it went in, and nothing of it anywhere else, or later."""

import io
import shutil
import signal
import stat
import subprocess
import tempfile
import zipfile
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_films import film, save
from made_zips import PATIENT, SOUND, refusal, tree, unpacked_tree, zip_of

from clinibundle.dicom import archive
from clinibundle.dicom.archive import is_zip, unpacked
from clinibundle.errors import UnreadableInput

COLLECTION = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"


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


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_come_out_as_they_went_in(path, method):
    assert unpacked_tree(zip_of(path, SOUND.items(), compression=method)) == SOUND


@pytest.mark.skipif(shutil.which("zip") is None, reason="zip is not installed")
def test_a_zip_of_another_program_comes_out_as_it_went_in(tmp_path, path):
    for name, content in SOUND.items():
        (tmp_path / "study" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "study" / name).write_bytes(content)
    (tmp_path / "study" / "empty folder").mkdir()
    subprocess.run(["zip", "-q", "-r", str(path), "."], cwd=tmp_path / "study", check=True)
    assert unpacked_tree(path) == SOUND


@pytest.mark.skipif(not COLLECTION.is_dir(), reason="the shared collection is not beside the repository")
@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_a_real_study_comes_out_as_unzip_has_it(tmp_path, temporary):
    real = COLLECTION / "zip_mr_three_planes" / "abd1.zip"
    subprocess.run(["unzip", "-q", str(real), "-d", str(tmp_path / "unzip")], check=True)
    found = unpacked_tree(real)
    assert found == tree(tmp_path / "unzip")
    assert len(found) == 11


def test_a_zip_written_without_going_back_comes_out(path):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.content = b""

        def writable(self):
            return True

        def write(self, some):
            self.content += bytes(some)
            return len(some)

    pipe = Pipe()
    zip_of(pipe, SOUND.items())
    path.write_bytes(pipe.content)
    assert unpacked_tree(path) == SOUND


def test_a_zip_with_64_bit_sizes_comes_out(path):
    with ZipFile(path, "w") as made, made.open("IM1", "w", force_zip64=True) as member:
        member.write(b"image")
    assert unpacked_tree(path) == {"IM1": b"image"}


def test_a_zip_behind_other_bytes_and_with_a_comment_comes_out(path):
    zip_of(path, SOUND.items())
    with ZipFile(path, "a") as made:
        made.comment = b"Dear colleague" * 1000
    path.write_bytes(b"PK\x03\x04 and other bytes" + path.read_bytes())
    assert unpacked_tree(path) == SOUND


def test_an_empty_zip_is_an_empty_folder(path):
    assert unpacked_tree(zip_of(path, [])) == {}


def test_folders_are_made_for_their_files(path):
    assert unpacked_tree(zip_of(path, [("a/", b""), ("a/b/", b""), ("a/b/IM1", b"1"), ("c/", b"")])) == {
        "a/b/IM1": b"1"
    }


def test_a_folder_may_be_told_by_its_mode_alone(path):
    folder = ZipInfo("a")
    folder.external_attr = (stat.S_IFDIR | 0o755) << 16
    with ZipFile(path, "w") as made:
        made.writestr(folder, b"")
        made.writestr("a/IM1", b"1")
    assert unpacked_tree(path) == {"a/IM1": b"1"}


def test_utf8_names_come_out_though_the_zip_does_not_say_that_they_are(path):
    # As macOS packs them.
    zip_of(path, [("IM-xx/yy.dcm", b"1")])
    path.write_bytes(path.read_bytes().replace(b"xx", "é".encode()).replace(b"yy", "ü".encode()))
    assert unpacked_tree(path) == {"IM-é/ü.dcm": b"1"}


@pytest.mark.parametrize("encoding", ["cp437", "latin-1", "shift-jis"])
def test_files_whose_names_are_in_an_unknown_encoding_are_called_by_their_numbers(path, encoding):
    # Read in a wrong encoding, a patient's name would not be recognised.
    name = {"shift-jis": "能田"}.get(encoding, "Müße").encode(encoding)
    zip_of(path, [("x" * len(name), b"1"), ("y" * len(name), b"2"), ("IM3", b"3")])
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name).replace(b"y" * len(name), name))
    assert unpacked_tree(path) == {"member 1": b"1", "member 2": b"2", "IM3": b"3"}


@pytest.mark.parametrize(("name", "shown"), [("./a/IM1", "a/IM1"), ("a//IM1", "a/IM1"), ("a/./IM1", "a/IM1")])
def test_parts_of_names_that_mean_nothing_are_dropped(path, name, shown):
    assert unpacked_tree(zip_of(path, [(name, b"1")])) == {shown: b"1"}


@pytest.mark.parametrize(
    "name",
    ["x" * 300, "é" * 200, "x/" * 3000 + "x", "/".join("x" * 17), "a\0b", "", "."],
    ids=["long", "long in bytes", "very deep", "deep", "zero byte", "none", "a dot"],
)
def test_a_file_whose_name_cannot_be_had_is_called_by_its_number(path, name):
    found = unpacked_tree(zip_of(path, [("IM1", b"1"), (name, b"2"), ("IM3", b"3")]))
    assert found == {"IM1": b"1", "member 2": b"2", "IM3": b"3"}


def test_a_name_of_ordinary_depth_is_kept(path):
    name = "/".join("x" * 16)
    assert unpacked_tree(zip_of(path, [(name, b"1")])) == {name: b"1"}


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_file_with_the_name_of_a_folder_comes_out(path, names):
    found = unpacked_tree(zip_of(path, zip(names, [b"1", b"2"], strict=True)))
    assert found == {names[0]: b"1", "member 2": b"2"}


def test_a_number_never_hides_a_file(path):
    found = unpacked_tree(zip_of(path, [("x" * 300, b"1"), ("member 1", b"2")]))
    assert found == {"member 1": b"1", "member 2": b"2"}
    assert "cannot be unpacked" in refusal(zip_of(path, [("member 2", b"1"), ("x" * 300, b"2")]))


def test_modes_of_a_strangers_zip_are_not_taken_over(path):
    info = ZipInfo("IM1")
    info.external_attr = (stat.S_IFREG | 0o4777) << 16
    with ZipFile(path, "w") as made:
        made.writestr(info, b"1")
    with unpacked(path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not (folder / "IM1").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


def test_the_folder_is_there_while_it_is_used_and_then_removed(path, temporary):
    with unpacked(zip_of(path, SOUND.items())) as folder:
        assert folder.parent == temporary
        (folder / "more").mkdir()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, OSError, zipfile.BadZipFile, KeyboardInterrupt, SystemExit])
def test_an_error_while_it_is_used_stays_that_error_and_leaves_nothing(path, temporary, error):
    with pytest.raises(error), unpacked(zip_of(path, SOUND.items())):
        raise error
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [0, 3])
def test_ctrl_c_while_unpacking_leaves_nothing(path, temporary, monkeypatch, number):
    written = []
    write = archive._write

    def interrupted(*some):
        if len(written) == number:
            signal.raise_signal(signal.SIGINT)
        written.append(some)
        write(*some)

    monkeypatch.setattr(archive, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt), unpacked(zip_of(path, SOUND.items())):
        pytest.fail("it was unpacked")
    assert len(written) == number
    assert list(temporary.iterdir()) == []


def test_ctrl_c_while_the_folder_is_made_leaves_nothing(path, temporary, monkeypatch):
    make = tempfile.mkdtemp

    def interrupted(**how):
        folder = make(**how)
        signal.raise_signal(signal.SIGINT)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", interrupted)
    with pytest.raises(KeyboardInterrupt), unpacked(zip_of(path, SOUND.items())):
        pytest.fail("it was unpacked")
    assert list(temporary.iterdir()) == []


def test_the_input_is_never_written_to(path):
    zip_of(path, SOUND.items())
    path.parent.chmod(0o500)
    before = path.stat().st_mtime_ns, path.parent.stat().st_mtime_ns, path.read_bytes()
    with unpacked(path) as folder:
        assert not folder.is_relative_to(path.parent)
    assert (path.stat().st_mtime_ns, path.parent.stat().st_mtime_ns, path.read_bytes()) == before


@pytest.mark.parametrize("name", ["..IM1", "IM1..", "...", "a..b/IM1", "~/IM1", "-rf", "$HOME", "AB:1"])
def test_a_path_that_only_looks_odd_is_not(path, name):
    assert unpacked_tree(zip_of(path, [(name, b"1")])) == {name: b"1"}


def test_a_folder_may_be_listed_twice(path):
    assert unpacked_tree(zip_of(path, [("a/", b""), ("A/", b""), ("a/", b""), ("a/IM1", b"1")])) == {"a/IM1": b"1"}


PART = st.sampled_from(["..", ".", "", "a", "A", "etc", "C:", "é", "\0", "..\\", "CON", " "]) | st.text(max_size=8)
NAME = st.lists(PART, min_size=1, max_size=6).map("/".join)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAME, max_size=5))
def test_whatever_the_names_nothing_is_written_outside(tmp_path, path, temporary, names):
    zip_of(path, [(name, str(number).encode()) for number, name in enumerate(names)])
    before = tree(tmp_path)
    try:
        with unpacked(path) as folder:
            assert folder.parent == temporary
            inside = {file: content for file, content in tree(tmp_path).items() if file not in before}
            prefix = str(folder.relative_to(tmp_path))
            assert all(file.startswith(prefix + "/") for file in inside)
            assert not any(p.is_symlink() for p in folder.rglob("*"))
            files = [str(number).encode() for number, name in enumerate(names) if not name.endswith("/")]
            assert sorted(inside.values()) == sorted(files)
    except UnreadableInput as refused:
        assert "one name" in str(refused) or "may lead out" in str(refused)
    assert tree(tmp_path) == before


def test_a_zip_is_told_by_its_content(path):
    assert is_zip(zip_of(path, SOUND.items()))
    assert is_zip(zip_of(path, []))
    assert is_zip(path.rename(path.with_suffix(".dcm")))


def test_a_zip_that_breaks_off_is_a_zip(path):
    zip_of(path, SOUND.items())
    path.write_bytes(path.read_bytes()[:500])
    assert is_zip(path)


def test_dicom_whose_preamble_looks_like_a_zip_is_dicom(path):
    made = film()
    made.preamble = b"PK\x03\x04" + bytes(124)
    save(made, path)
    assert path.read_bytes().startswith(b"PK\x03\x04")
    assert not is_zip(path)


@pytest.mark.parametrize("content", [b"", b"P", b"PK", b"PK is a text", b"\x1f\x8b", bytes(200), b"PK\x01\x02"])
def test_other_files_are_no_zips(path, content):
    path.write_bytes(content)
    assert not is_zip(path)


def test_what_cannot_be_read_is_no_zip(path):
    assert not is_zip(path)
    assert not is_zip(path.parent)
