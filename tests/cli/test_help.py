"""Help says what a command does, by an example, and at once."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from clinibundle.cli.app import app, main
from command_line import Program

COMMANDS = [command.name for command in app.registered_commands]
MAX_CPU_SECONDS = 0.5


@pytest.fixture(scope="module")
def no_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which importing torch or MONAI fails."""
    folder = tmp_path_factory.mktemp("no_torch")
    for name in ("torch", "monai"):
        (folder / f"{name}.py").write_text("raise ImportError('imported for a help text')")
    return {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "100"}


def run_help(command: list[str], env: dict[str, str]) -> tuple[str, float]:
    """The help text, and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, "-m", "clinibundle", *command, "--help"], env=env, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["program", *COMMANDS])
def test_help_has_an_example_and_comes_at_once_without_torch(command: list[str], no_torch: dict[str, str]) -> None:
    seconds = []
    for _ in range(3):
        text, took = run_help(command, no_torch)
        seconds.append(took)
        if took < MAX_CPU_SECONDS:
            break
    assert f"Example: clinibundle {' '.join(command)}" in text
    assert min(seconds) < MAX_CPU_SECONDS


def test_the_poisoned_torch_would_be_noticed(no_torch: dict[str, str], tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", "import torch"], env=no_torch, capture_output=True, check=False)
    assert b"imported for a help text" in run.stderr


def test_the_module_and_the_installed_command_are_one_program(
    clinibundle: Program, no_torch: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (script,) = entry_points(group="console_scripts", name="clinibundle")
    assert script.load() is main
    monkeypatch.setenv("COLUMNS", "100")
    assert run_help([], no_torch)[0] == clinibundle("--help").out


@pytest.mark.parametrize("command", COMMANDS)
def test_quiet_and_verbose_work_everywhere(command: str, clinibundle: Program) -> None:
    text = clinibundle(command, "--help").out
    assert "--quiet" in text and "--verbose" in text


def test_without_a_command_help_is_shown(clinibundle: Program) -> None:
    assert "segment" in clinibundle().out


def test_help_tells_of_debug(clinibundle: Program) -> None:
    assert "--debug" in clinibundle("--help").out
