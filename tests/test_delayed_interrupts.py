"""What must not stop half way waits with Ctrl-C, and Ctrl-C is not lost."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from clinibundle.files import delayed_interrupts, whole_directory


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


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


def test_other_threads_which_are_never_interrupted_may_use_it() -> None:
    done = []

    def work() -> None:
        with delayed_interrupts():
            done.append("all of it")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["all of it"]


def test_an_interrupt_between_old_and_new_results_leaves_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    rename = Path.rename

    def interrupted_rename(self: Path, target: Path) -> Path:
        interrupt()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted_rename)
    with pytest.raises(KeyboardInterrupt), whole_directory(tmp_path / "out", overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
