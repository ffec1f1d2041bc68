"""Runs the program as a user does, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from clinibundle.cli.app import main

SIDE = 48


class Ran(NamedTuple):
    """What became of a run."""

    code: int
    out: str
    err: str


class Program:
    """`clinibundle` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Ran:
        self._monkeypatch.setattr(sys, "argv", ["clinibundle", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(ended.value.code or 0, *self._capsys.readouterr())


def start_process(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`python -m clinibundle` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "clinibundle", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def files_in(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below a folder, with the files' content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def write_squares(folder: Path, names: str) -> Path:
    """A data folder that the toy bundle finds easy: a bright square on a dark ground for each letter of `names`.

    By the hash of their names b, j, m, c and a are in folds 0 to 4.
    """
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for place, name in enumerate(names):
        square = np.zeros((SIDE, SIDE), np.uint8)
        square[10 : 20 + place % 20, 12:30] = 255
        Image.fromarray(square).save(folder / "labels" / f"{name}.png")
        Image.fromarray(square // 2 + 20).save(folder / "images" / f"{name}.png")
    return folder
