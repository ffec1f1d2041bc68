import hashlib
import json
import os
import signal
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinibundle import files
from clinibundle.errors import OutputError
from clinibundle.files import refuse_full_directory, sha256_of, short_hash, whole_directory, write_json


def tree(folder):
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def full(tmp_path):
    """A folder with results of an earlier run."""
    folder = tmp_path / "out"
    (folder / "case").mkdir(parents=True)
    (folder / "case" / "old.txt").write_text("old")
    return folder


def test_what_is_written_appears_under_its_name_at_the_end(tmp_path):
    with whole_directory(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("a")
        assert folder.parent == tmp_path
        assert not (tmp_path / "out").exists()
    assert tree(tmp_path) == {"out": None, "out/sub": None, "out/sub/a.txt": "a"}


def test_folders_above_are_made(tmp_path):
    with whole_directory(tmp_path / "deep" / "er" / "out"):
        pass
    assert (tmp_path / "deep" / "er" / "out").is_dir()


def test_a_relative_name_is_taken_from_where_the_work_began(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with whole_directory(Path("out")):
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "out"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_error_leaves_nothing_behind(tmp_path, error, overwrite):
    with pytest.raises(error), whole_directory(tmp_path / "out", overwrite) as folder:
        (folder / "half").write_text("half")
        raise error
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_overwriting_leaves_the_old_results(tmp_path, full, error):
    before = tree(tmp_path)
    with pytest.raises(error), whole_directory(full, overwrite=True) as folder:
        (folder / "half").write_text("half")
        raise error
    assert tree(tmp_path) == before


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with whole_directory(tmp_path / "out") as folder:
        (folder / "a").write_text("a")
    assert tree(tmp_path) == {"out": None, "out/a": "a"}


def test_a_full_folder_is_refused_before_any_work(tmp_path, full):
    before = tree(tmp_path)
    with (
        pytest.raises(OutputError, match=r"'.*out' is not empty; name another folder or add --overwrite"),
        whole_directory(full),
    ):
        pytest.fail("the work began")
    assert tree(tmp_path) == before


def test_overwriting_replaces_all_that_was_there(tmp_path, full):
    with whole_directory(full, overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
        assert (full / "case" / "old.txt").exists()
    assert tree(tmp_path) == {"out": None, "out/new.txt": "new"}


def test_a_folder_that_is_filled_during_the_work_is_not_replaced(tmp_path):
    with pytest.raises(OutputError, match="is not empty"), whole_directory(tmp_path / "out") as folder:
        (folder / "mine").write_text("mine")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "anothers").write_text("another's")
    assert tree(tmp_path) == {"out": None, "out/anothers": "another's"}


@pytest.mark.parametrize("failing", [".out.partial-", "out"], ids=["new ones", "old ones"])
def test_the_old_results_come_back_if_folders_cannot_change_places(tmp_path, full, monkeypatch, failing):
    before = tree(tmp_path)
    rename = Path.rename

    def fail(self, target):
        if self.name.startswith(failing):
            raise OSError
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError), whole_directory(full, overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert tree(tmp_path) == before


def test_an_interrupt_while_folders_change_places_waits_until_they_have(tmp_path, full, monkeypatch):
    rename = Path.rename

    def interrupt(self, target):
        signal.raise_signal(signal.SIGINT)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt), whole_directory(full, overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert tree(tmp_path) == {"out": None, "out/new.txt": "new"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_never_replaced_by_a_folder(tmp_path, overwrite):
    (tmp_path / "out").write_text("a file")
    with (
        pytest.raises(OutputError, match="is a file; name a folder for the results"),
        whole_directory(tmp_path / "out", overwrite),
    ):
        pytest.fail("the work began")
    assert tree(tmp_path) == {"out": "a file"}


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("a file")
    with (
        pytest.raises(OutputError, match=r"cannot write into '.*file': .*; choose another folder"),
        whole_directory(tmp_path / "file" / "out"),
    ):
        pytest.fail("the work began")


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_folder_may_be_read_by_those_whom_the_umask_lets(tmp_path, mask):
    before = os.umask(mask)
    try:
        with whole_directory(tmp_path / "out"):
            pass
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~mask
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


def test_a_folder_that_is_not_there_or_empty_is_not_full(tmp_path):
    refuse_full_directory(tmp_path / "nowhere")
    refuse_full_directory(tmp_path)


def test_json_is_written_as_people_and_programs_read_it(tmp_path):
    write_json(tmp_path / "a.json", {"Größe": "5 mm²", "list": [1, None, 2.5]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Größe" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"Größe": "5 mm²", "list": [1, None, 2.5]}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_of_what_is_no_number_is_refused_and_nothing_written(tmp_path, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": number})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_files_fingerprint_is_its_sha256(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content[:size]).hexdigest()


def test_a_case_is_named_by_the_same_twelve_digits_on_every_machine():
    assert short_hash("1.2.840.113619.2.5") == hashlib.sha256(b"1.2.840.113619.2.5").hexdigest()[:12]


@given(st.text(), st.text())
def test_short_hashes_are_hexadecimal_and_differ_where_texts_differ(one, other):
    assert len(short_hash(one)) == 12
    assert set(short_hash(one)) <= set("0123456789abcdef")
    assert (short_hash(one) == short_hash(other)) == (one == other)


def test_the_module_leaves_the_umask_alone():
    before = os.umask(0o027)
    try:
        assert files._umask() == 0o027
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
