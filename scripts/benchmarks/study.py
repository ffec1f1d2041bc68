"""A whole CT study, from file to result: ours, the bundle through MONAI, and the network with MONAI's usual steps."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from benchmarks.lanes import Effort, Measured, Ratio, Section, per_turn, take_turns
from benchmarks.processes import run_once
from clinibundle.bundle.configs import config_file, read_config
from clinibundle.phantoms.chest_ct import make_chest_ct

OURS, MONAI, USUAL = "clinibundle segment", "monai.bundle run", "monai.bundle run, MONAI's usual steps"
# Of the chest that a study of 300 slices of 512 x 512 shows.
_EXTENT_MM = (330.0, 400.0, 400.0)


def measure_study(bundle: Path, device: str, effort: Effort, work: Path) -> Section:
    """Lets the ways take turns, each a process of its own; the Dice of their masks says that they do the same work."""
    study = _make_study(effort.study, work / "study")
    commands = _commands(bundle, device, study, work)
    peaks: dict[str, list[float]] = {name: [] for name in commands}
    samples = take_turns(
        {name: partial(run_once, command, peaks[name]) for name, command in commands.items()}, effort.study_turns
    )
    memory = {name: values[-len(samples[name]) :] for name, values in peaks.items()}
    measured = [Measured(name, values, "s") for name, values in samples.items()]
    measured += [Measured(f"{name}: peak memory", values, "MiB") for name, values in memory.items()]
    masks = {OURS: work / "study_ours", MONAI: work / "study_monai", USUAL: work / "study_usual"}
    ours = _mask(masks[OURS])
    measured += [
        Measured(f"Dice of the masks of clinibundle segment and {name}", [_dice(ours, _mask(masks[name]))], "Dice")
        for name in (MONAI, USUAL)
    ]
    ratios = [
        Ratio(f"{USUAL} / {OURS}", per_turn(samples, USUAL, OURS), 1),
        Ratio("the same, peak memory", per_turn(memory, USUAL, OURS), 1),
        Ratio(f"{MONAI} / {OURS}", per_turn(samples, MONAI, OURS)),
        Ratio(f"300 s / {OURS}", [300 / seconds for seconds in samples[OURS]], 1),
        Ratio(f"8 GiB / peak memory of {OURS}", [8192 / mib for mib in memory[OURS]], 1),
    ]
    size = " x ".join(map(str, reversed(effort.study)))
    how = (
        "A made-up chest as NIfTI, each way a process of its own from its start to its end, reading and writing "
        "included; `clinibundle segment` also checks, measures and writes a report. MONAI's usual steps are those of "
        "its model zoo: the same network and resampling, sliding window with its default settings, logits of all "
        "classes inverted onto the source grid, argmax there."
    )
    return Section(f"A CT study of {size}, {bundle.name}", how, measured, ratios)


def _make_study(shape: tuple[int, int, int], folder: Path) -> Path:
    folder.mkdir()
    spacing_mm = tuple(extent / n for extent, n in zip(_EXTENT_MM, shape, strict=True))
    chest = make_chest_ct(7, shape, spacing_mm)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ chest.affine_lps
    image = nibabel.Nifti1Image(chest.hounsfield.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    path = folder / "chest.nii.gz"
    nibabel.save(image, path)
    return path


def _commands(bundle: Path, device: str, study: Path, work: Path) -> dict[str, list[str]]:
    python = [sys.executable, "-W", "ignore"]
    overlay = work / "usual_steps.json"
    overlay.write_text(json.dumps(_usual_steps(read_config(bundle, "inference"))))
    config = str(config_file(bundle, "inference"))
    shared = {"bundle_root": bundle, "dataset_dir": study.parent, "device": f"$torch.device('{device}')"}
    monai = [*python, "-m", "monai.bundle", "run", *(f"--{key}={value}" for key, value in shared.items())]
    ours = [*python, "-m", "clinibundle", "segment", str(bundle), str(study), "--output-dir", str(work / "study_ours")]
    return {
        OURS: [*ours, "--overwrite", "--quiet", "--device", device],
        MONAI: [*monai, "--config_file", config, f"--output_dir={work / 'study_monai'}"],
        USUAL: [
            *monai,
            "--config_file",
            json.dumps([config, str(overlay)]),
            f"--output_dir={work / 'study_usual'}",
        ],
    }


def _usual_steps(inference: dict[str, Any]) -> dict[str, Any]:
    """An overlay: default settings of the inferer, and the postprocessing of MONAI's model zoo."""
    defaults = {"_target_": "SliceInferer", "roi_size": inference["inferer"]["roi_size"], "spatial_dim": 2}
    inverted = {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": False,
        "to_tensor": True,
    }
    saved = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}
    steps = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        inverted,
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {**saved, "output_postfix": "mask", "separate_folder": False},
    ]
    return {"inferer": defaults, "postprocessing::transforms": steps}


def _mask(folder: Path) -> Any:
    (path,) = folder.rglob("*mask*.nii.gz")
    return np.asarray(nibabel.load(path).dataobj) > 0


def _dice(one: Any, other: Any) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
