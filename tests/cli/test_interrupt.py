"""Ctrl-C ends with 130 and leaves nothing half-written."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from clinibundle.errors import UnreadableInput
from command_line import Program, start_process, write_squares

CASES = 150
WHOLE_CASE = ["mask.png", "measurements.json", "report.html"]


def interrupt_once_there(process: subprocess.Popen[str], folder: Path, pattern: str, number: int) -> tuple[int, str]:
    """Presses Ctrl-C as soon as `folder` holds so many visible files; exit code and standard error."""
    give_up = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < give_up:
        if len([path for path in folder.glob(pattern) if ".partial-" not in str(path)]) >= number:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """More pictures than can be done before Ctrl-C is pressed."""
    data = write_squares(tmp_path / "data", "a")
    for number in range(CASES - 1):
        shutil.copy(data / "images" / "a.png", data / "images" / f"{number:03d}.png")
    return data / "images"


def test_segment_keeps_whole_cases_only_and_goes_on_from_there(
    squares: Path, toy_bundle: Path, tmp_path: Path, clinibundle: Program
) -> None:
    out = tmp_path / "out"
    process = start_process("segment", toy_bundle, squares, "-o", out, "--device", "cpu", cwd=tmp_path)
    code, told = interrupt_once_there(process, out, "*/report.html", 3)
    assert code == 130, told
    assert "Traceback" not in told
    done = sorted(out.iterdir())
    assert 3 <= len(done) < CASES
    assert {case.name: sorted(path.name for path in case.iterdir()) for case in done} == {
        case.name: WHOLE_CASE for case in done
    }
    for picture in squares.iterdir():
        if picture.stem > "006" and not (out / picture.stem).exists():
            picture.unlink()
    times = {case.name: (case / "mask.png").stat().st_mtime_ns for case in done}
    assert clinibundle("segment", toy_bundle, squares, "-o", out, "--device", "cpu", "--resume").code == 0
    assert (out / "summary.csv").is_file()
    assert {name: (out / name / "mask.png").stat().st_mtime_ns for name in times} == times


def test_train_keeps_whole_checkpoints_only(phantoms: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "lung_xray"
    process = start_process(
        "train", "lung_xray", "--dataset-dir", phantoms, "--overlay", "hardware/cpu",
        "--set", "batch_size=2", "--set", "spatial_size=[64,64]", "--epochs", 2000, "--set", "patience=2000",
        cwd=tmp_path,
    )  # fmt: skip
    code, told = interrupt_once_there(process, runs, "*/checkpoint_epoch=*.pt", 2)
    assert code == 130, told
    assert "Traceback" not in told and "terminating due to exception" not in told
    (run,) = runs.iterdir()
    files = [path for path in run.iterdir() if not path.name.startswith("events.out.tfevents.")]
    assert {path.name for path in files if path.suffix != ".pt"} == {"run.json", "overlay.yaml"}
    files = [path for path in files if path.suffix == ".pt"]
    assert files
    for path in files:
        saved = torch.load(path, weights_only=True)
        assert path.name == "model.pt" or "optimizer" in saved


@pytest.mark.parametrize("consequence", [RuntimeError("release unlocked lock"), UnreadableInput("'file 3' is damaged")])
def test_what_else_comes_of_an_interrupt_is_an_interrupt(
    clinibundle: Program, monkeypatch: pytest.MonkeyPatch, consequence: Exception
) -> None:
    def interrupted_within_a_lock() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            raise consequence

    monkeypatch.setattr("clinibundle.workflows.catalogue.describe_bundles", interrupted_within_a_lock)
    assert clinibundle("list") == (130, "", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_each_signal_has_its_exit_code_and_the_handlers_are_put_back(
    clinibundle: Program, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr("clinibundle.workflows.catalogue.describe_bundles", lambda: signal.raise_signal(number))
    assert clinibundle("list") == (code, "", "")
    assert signal.getsignal(number) is before
