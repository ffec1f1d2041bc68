from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark"
RATIOS = {
    "bundle as shipped / bare network step",
    "bundle as shipped / plain MONAI settings",
    "channels_last / contiguous_format, bare step",
    "bare, bfloat16 autocast / as configured",
    "loader alone / bare network step",
    "bundle with our deformation / with Rand2DElasticd, all else alike",
    "one deformation: Rand2DElasticd's time / ours",
    "sliding window / ours, array to mask",
    "the bundle through monai.bundle / ours, file to file",
    "sliding window / ours, file to file",
    "0.5 s / clinibundle --help",
    "monai.bundle run, MONAI's usual steps / clinibundle segment",
    "the same, peak memory",
}
MEASURED = {
    "bare network step",
    "bundle as shipped",
    "plain MONAI settings",
    "ours, array to mask",
    "sliding window, array to mask",
    "clinibundle --help",
    "predictor ready",
    "predictor ready: peak memory",
}
FACTS = {"Processor", "Instruction sets", "Cores", "Torch threads", "Versions", "Device", "Load average before"}


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Beside other tests, threads that spin while they wait would make it several times slower.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=280)


def rows_of(document: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in document.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in lines}


@pytest.mark.slow
def test_a_quick_run_says_all_ratios_and_on_which_machine(tmp_path: Path) -> None:
    done = benchmark("--quick", "--markdown", str(tmp_path / "docs" / "benchmarks.md"))
    assert done.returncode == 0, done.stderr
    rows = rows_of((tmp_path / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
    assert rows.keys() >= RATIOS | MEASURED | FACTS
    for name in RATIOS | MEASURED:
        median, least, most = (float(cell) for cell in rows[name][:3])
        assert 0 < least <= median <= most, name
    # Both run the same transforms on the same network.
    assert float(rows["Dice of ours less that of: the bundle through monai.bundle"][0]) == pytest.approx(0, abs=0.001)
    assert float(rows["ours, array to mask: Dice"][0]) > 0.95
    assert float(rows["Dice of the masks of clinibundle segment and monai.bundle run"][0]) > 0.999
    # The console folds long names.
    assert "bundle as shipped" in done.stdout


@pytest.mark.slow
def test_an_unknown_bundle_is_refused_without_a_traceback() -> None:
    done = benchmark("--bundle", "lung_xrays")
    assert done.returncode == 2
    assert "refused: no bundle 'lung_xrays'" in done.stderr
    assert "Traceback" not in done.stderr
