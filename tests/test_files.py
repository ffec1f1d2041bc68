"""What must be whole is whole, also when somebody presses Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from clinibundle import files
from clinibundle.errors import OutputError
from clinibundle.files import delayed_interrupts, whole_directory


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), delayed_interrupts():
        interrupt()
        done.append("all of it")
    assert done == ["all of it"]
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_blocks_within_blocks_delay_to_the_outermost() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), delayed_interrupts():
        with delayed_interrupts():
            interrupt()
        done.append("all of it")
    assert done == ["all of it"]


def test_an_error_in_the_block_is_not_hidden_by_an_interrupt() -> None:
    with pytest.raises(ZeroDivisionError), delayed_interrupts():
        interrupt()
        raise ZeroDivisionError


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_a_folder_that_breaks_off_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), whole_directory(tmp_path / "out") as folder:
        (folder / "half").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_between_old_and_new_leaves_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    rename = Path.rename

    def interrupted_rename(self: Path, target: Path) -> Path:
        interrupt()
        return rename(self, target)

    monkeypatch.setattr(files.Path, "rename", interrupted_rename)
    with pytest.raises(KeyboardInterrupt), whole_directory(tmp_path / "out", overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


def test_a_full_folder_is_only_replaced_when_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with pytest.raises(OutputError, match="not empty"), whole_directory(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "old").read_text() == "old"
