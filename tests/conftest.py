"""What several tests stand on: made-up cases, the program, and a toy bundle that nothing in app/ knows."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from clinibundle.phantoms.write import write_phantom_cases
from command_line import Program
from toy_bundle import make_toy_bundle

# Started in the background of a shell, Python ignores Ctrl-C, and so do the programs that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The same examples every time, so that a change is judged by itself; HYPOTHESIS_PROFILE=wander tries new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("wander", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
# Workers of pytest-xdist share the cores; torch's own threads would only fight.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_uids(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """New UIDs are the same in every run of a test, so that what it damages and compresses is the same, too."""
    monkeypatch.setattr("secrets.randbelow", random.Random(request.node.nodeid).randrange)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six made-up chest radiographs, a data folder and DICOM studies; made once for all workers; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "phantoms"
    if not shared.is_dir():
        own = tmp_path_factory.mktemp("made") / "phantoms"
        write_phantom_cases("chest_radiograph", own, cases=6, seed=7, dicom=True)
        try:
            own.rename(shared)
        except OSError:
            # Another worker was first; what it made is the same, byte for byte.
            assert shared.is_dir()
    return shared


@pytest.fixture
def clinibundle(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """The program, run in this process."""
    return Program(monkeypatch, capsys)


@pytest.fixture
def toy_bundle(tmp_path: Path) -> Path:
    """A bundle that finds bright pixels, made of nothing that the application has seen before."""
    return make_toy_bundle(tmp_path / "toy_bright")
