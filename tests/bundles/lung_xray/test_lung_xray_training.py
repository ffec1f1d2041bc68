"""Training as a whole: exact resume, several processes, figures that agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from repository import ROOT

BUNDLE = ROOT / "bundles" / "lung_xray"
SMALL = {"spatial_size": [64, 64], "batch_size": 2, "val_interval": 1, "epochs": 4, "fold": 0}


def run_training(phantoms: Path, run_dir: Path, stop_after: int | None = None, **settings: object) -> ConfigWorkflow:
    """A small training; with `stop_after` it is broken off after that epoch, as by Ctrl-C or a power cut."""
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.yaml"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(BUNDLE),
        dataset_dir=str(phantoms),
        run_dir=str(run_dir),
        run_id="training",
        **{**SMALL, **settings},
    )
    workflow.initialize()
    if stop_after is not None:
        workflow.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), Engine.terminate)
    workflow.run()
    return workflow


def last_weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "checkpoint_epoch=4.pt", weights_only=True)["model"]


def test_a_resumed_run_ends_with_the_same_weights_as_an_unbroken_one(phantoms: Path, tmp_path: Path) -> None:
    run_training(phantoms, tmp_path / "unbroken")
    run_training(phantoms, tmp_path / "broken", stop_after=2)
    assert not (tmp_path / "broken" / "checkpoint_epoch=3.pt").exists()
    run_training(phantoms, tmp_path / "broken", resume_path=str(tmp_path / "broken" / "checkpoint_epoch=2.pt"))
    unbroken, broken = last_weights(tmp_path / "unbroken"), last_weights(tmp_path / "broken")
    assert unbroken.keys() == broken.keys()
    assert all(torch.equal(unbroken[key], broken[key]) for key in unbroken)


def test_a_resumed_run_keeps_better_weights_of_before(phantoms: Path, tmp_path: Path) -> None:
    run_training(phantoms, tmp_path, stop_after=2)
    # As if the best epoch had been perfect: nothing that follows may replace it.
    checkpoint = torch.load(tmp_path / "checkpoint_epoch=2.pt", weights_only=True)
    checkpoint["best"]["saved"] = [(1.0, "model.pt")]
    torch.save(checkpoint, tmp_path / "checkpoint_epoch=2.pt")
    (tmp_path / "model.pt").write_bytes(b"best of before")
    run_training(phantoms, tmp_path, resume_path=str(tmp_path / "checkpoint_epoch=2.pt"))
    assert (tmp_path / "model.pt").read_bytes() == b"best of before"


def test_the_progress_line_of_a_resumed_run_tells_the_best_of_before(
    phantoms: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_training(phantoms, tmp_path, stop_after=2)
    checkpoint = torch.load(tmp_path / "checkpoint_epoch=2.pt", weights_only=True)
    checkpoint["best"]["saved"] = [(0.9999, "model.pt")]
    torch.save(checkpoint, tmp_path / "checkpoint_epoch=2.pt")
    with caplog.at_level("INFO", logger="training"):
        run_training(phantoms, tmp_path / "new", val_interval=2)
        run_training(phantoms, tmp_path, val_interval=2, resume_path=str(tmp_path / "checkpoint_epoch=2.pt"))
    told = [record.message.partition("validation Dice ")[2] for record in caplog.records if record.name == "training"]
    assert len(told) == 6 and told[0].startswith("not measured yet  ")
    first = float(told[1].split()[0])
    assert told[1].startswith(f"{first:.4f} (best {first:.4f})  ")
    # The third epoch is not validated, the fourth is.
    assert told[4].startswith("not measured yet (best 0.9999)  ")
    assert re.match(r"0\.\d{4} \(best 0\.9999\)  ", told[5])


def test_early_stopping_ends_a_run_that_no_longer_improves(phantoms: Path, tmp_path: Path) -> None:
    workflow = run_training(phantoms, tmp_path, epochs=30, patience=1, learning_rate=0.0, warmup_epochs=0)
    assert workflow.trainer.state.epoch < 30


def test_all_data_can_be_learnt_from(phantoms: Path, tmp_path: Path) -> None:
    workflow = run_training(phantoms, tmp_path, epochs=1, fold="$None")
    assert len(workflow.train_dataset) == 6


def test_tensorboard_gets_loss_and_validation_dice(phantoms: Path, tmp_path: Path) -> None:
    run_training(phantoms, tmp_path, epochs=1)
    tags = set()
    for file in tmp_path.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        tags |= set(events.Tags()["scalars"])
    assert {"train_loss", "val_mean_dice"} <= tags


def test_two_processes_train_together_and_save_keys_without_a_prefix(phantoms: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "monai.bundle",
    ]
    command += ["run", "training", "--config_file", "['configs/train.yaml','configs/multi_gpu_train.yaml']"]
    command += [
        "--dataset_dir",
        str(phantoms),
        "--run_dir",
        str(tmp_path / "run"),
        "--epochs",
        "2",
        "--batch_size",
        "1",
    ]
    command += ["--spatial_size", "[64,64]", "--val_interval", "1", "--device", "$torch.device('cpu')"]
    run = subprocess.run(
        command, cwd=BUNDLE, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert run.returncode == 0, run.stderr[-3000:]
    # One process speaks, and both have learnt.
    assert run.stderr.count("epoch 2/2") == 1
    weights = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert not [key for key in weights if key.startswith("module.")]
    assert (tmp_path / "run" / "checkpoint_epoch=2.pt").is_file()
