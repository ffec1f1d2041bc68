"""Whole processes from the outside: seconds until they end, and the most memory they held."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.lanes import Measured, Ratio, Section, per_turn, take_turns

HELP, READY = "clinibundle --help", "predictor ready"
SEGMENT, MONAI_RUN = "clinibundle segment, one film", "monai.bundle run, one film"
SLIDING_RUN = "monai.bundle run with a sliding window, one film"
_ONCE = Path(__file__).with_name("once.py")
_READY = """
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_bundle
from clinibundle.bundle.predict import Predictor
import sys
Predictor(Bundle(find_bundle(sys.argv[1])), sys.argv[2])
"""


def measure_processes(bundle: Path, device: str, film: Path | None, turns: int, work: Path) -> Section:
    """Start-up, step by step; with a film also a whole run on it, ours and MONAI's."""
    python = [sys.executable, "-W", "ignore"]
    clinibundle = [*python, "-m", "clinibundle"]
    commands = {HELP: [*clinibundle, "--help"]}
    if film is not None:
        commands |= {
            "python, nothing imported": [*python, "-c", "pass"],
            "import torch": [*python, "-c", "import torch"],
            "import monai.bundle": [*python, "-c", "import monai.bundle"],
        }
    commands |= {
        READY: [*python, "-c", _READY, str(bundle), device],
    }
    if film is not None:
        commands |= _on_a_film(python, clinibundle, bundle, device, film, work)
    peaks: dict[str, list[float]] = {name: [] for name in commands}
    samples = take_turns({name: partial(run_once, commands[name], peaks[name]) for name in commands}, turns)
    # What warming up took is not among the samples, so not among the peaks either.
    memory = {name: values[-len(samples[name]) :] for name, values in peaks.items()}
    measured = [Measured(name, values, "s") for name, values in samples.items()]
    measured += [Measured(f"{name}: peak memory", values, "MiB") for name, values in memory.items()]
    ratios = [Ratio("0.5 s / clinibundle --help", [0.5 / seconds for seconds in samples[HELP]], 1)]
    if film is not None:
        ratios.append(Ratio("monai.bundle run / clinibundle segment", per_turn(samples, MONAI_RUN, SEGMENT)))
        ratios.append(
            Ratio(
                "monai.bundle run with a sliding window / clinibundle segment", per_turn(samples, SLIDING_RUN, SEGMENT)
            )
        )
        ratios.append(Ratio("peak memory of the same two", per_turn(memory, SLIDING_RUN, SEGMENT)))
    how = (
        "Each a process of its own, files in the system's cache. `clinibundle segment` also checks, measures and "
        "writes a report, which monai.bundle does not."
    )
    return Section("Start-up and memory", how, measured, ratios)


def _on_a_film(
    python: list[str], clinibundle: list[str], bundle: Path, device: str, film: Path, work: Path
) -> Mapping[str, list[str]]:
    from benchmarks.inference import without_resizing
    from clinibundle.bundle.configs import config_file, read_config

    ours = [
        *clinibundle,
        "segment",
        str(bundle),
        str(film),
        "--output-dir",
        str(work / "ours"),
        "--overwrite",
        "--quiet",
    ]
    overlay = work / "own_size.json"
    overlay.write_text(json.dumps({"preprocessing::transforms": without_resizing(read_config(bundle, "inference"))}))
    configs = [str(config_file(bundle, "inference")), str(overlay)]
    settings = {
        "bundle_root": bundle,
        "dataset_dir": film.parent,
        "output_dir": work / "theirs",
        "device": f"$torch.device('{device}')",
    }
    monai = [*python, "-m", "monai.bundle", "run", *(f"--{key}={value}" for key, value in settings.items())]
    return {
        SEGMENT: [*ours, "--device", device],
        MONAI_RUN: [*monai, "--config_file", configs[0]],
        SLIDING_RUN: [*monai, "--config_file", json.dumps(configs)],
    }


def run_once(command: Sequence[str], peaks: list[float], _turn: int) -> float:
    """Seconds of one process; its peak memory in MiB is added to `peaks`."""
    done = subprocess.run([sys.executable, "-S", str(_ONCE), *command], capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    if facts["status"] != 0:
        raise RuntimeError(f"'{' '.join(command)[:200]}' ended with {facts['status']}:\n{done.stderr[-2000:]}")
    peaks.append(facts["peak_mib"])
    return float(facts["seconds"])
