"""segment keeps within --max-memory: it says how, refuses what cannot fit before it starts, and is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from clinibundle.phantoms.dicom_ct import write_ct_series
from command_line import Program
from toy_slices import MEMORY, make_toy_slice_bundle

GIB = 2**30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_toy_slice_bundle(tmp_path / "toy_slices")


def study(folder: Path, slices: int, side: int) -> Path:
    """A CT with soft blobs."""
    noise = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((slices, side, side), np.float32), 2)
    write_ct_series(folder, (noise / noise.std() * 300 - 400).astype(np.int16), np.diag([0.7, 0.7, 1.5, 1.0]), 1)
    return folder


def slabs_check(out: Path) -> dict[str, object]:
    (check,) = [c for c in json.loads((out / "measurements.json").read_text())["checks"] if c["name"] == "slabs"]
    return check


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_amount_is_refused(clinibundle: Program, tmp_path: Path, root: Path, limit: str) -> None:
    ran = clinibundle("segment", root, tmp_path, "-o", tmp_path / "out", f"--max-memory={limit}")
    assert ran.code == 2 and "expected a number of GiB above 0, as in --max-memory 8" in ran.err


def test_a_run_that_cannot_fit_is_refused_before_the_network_is_loaded(
    clinibundle: Program, tmp_path: Path, root: Path
) -> None:
    ct = study(tmp_path / "ct", 6, 48)
    # Would be told first if it was loaded.
    (root / "models" / "model.pt").unlink()
    ran = clinibundle("segment", root, ct, "-o", tmp_path / "out", "--max-memory", "0.1")
    assert ran.code == 1 and "even slice by slice, and 0.1 GiB are allowed (--max-memory)" in ran.err
    assert not (tmp_path / "out").exists()


def test_without_the_option_what_is_free_is_kept_to_and_the_report_says_so(
    clinibundle: Program, tmp_path: Path, root: Path
) -> None:
    ran = clinibundle("segment", root, study(tmp_path / "ct", 6, 48), "-o", tmp_path / "out", "--device", "cpu")
    assert ran.code == 0, ran.err
    check = slabs_check(tmp_path / "out")
    assert (check["status"], check["value"]) == ("passed", 1)
    assert "may be used of what is free" in str(check["detail"])
    assert "may be used of what is free" in (tmp_path / "out" / "report.html").read_text()


NAMES = ("whole", "usual", "thin")
MEASURED = """
import resource, runpy, sys
sys.argv[0] = "clinibundle"
try:
    runpy.run_module("clinibundle", run_name="__main__")
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak_of(*arguments: object) -> int:
    """The most bytes that a run of its own held."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_the_memory_that_a_run_holds_stays_below_the_limit(tmp_path: Path, root: Path) -> None:
    ct = study(tmp_path / "ct", 72, 512)
    limit_gib = 1.05
    uncut = make_toy_slice_bundle(tmp_path / "uncut" / "toy_slices", {**MEMORY, "slabs": None})
    rest = (ct, "--device", "cpu", "--quiet", "-o")
    whole = peak_of("segment", uncut, *rest, tmp_path / "whole")
    usual = peak_of("segment", root, *rest, tmp_path / "usual")
    thin = peak_of("segment", root, *rest, tmp_path / "thin", "--max-memory", limit_gib)
    assert [slabs_check(tmp_path / name)["value"] for name in NAMES] == [1, 3, 6]
    assert thin <= limit_gib * GIB < whole and thin < usual < whole
    one, other, third = (np.asarray(nibabel.load(tmp_path / name / "mask.nii.gz").dataobj) for name in NAMES)
    # Steep noise without any anatomy: what rounds to the other side of the threshold is a millionth.
    assert one.any() and max((one != other).mean(), (one != third).mean()) < 5e-6
