"""Training as a whole: exact resume, all data, several processes, and the seed work's recipe."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Engine, Events
from made_scans import draw_chest, write_list, write_volume
from monai.bundle import ConfigParser, ConfigWorkflow

from repository import ROOT
from scripts_lung_tumor_ct.handlers import EpochSeed

BUNDLE = ROOT / "bundles" / "lung_tumor_ct"
RECIPES = ROOT / "configs" / "recipes"
SIZE, MM = (80, 56, 4), (3.5, 3.5, 3.0)
SMALL = {
    "batch_size": 2, "samples_per_epoch": 6, "val_interval": 1, "epochs": 2, "fold": 0, "crop_size": 32,
    "spacing_mm": 3.5, "validate#inferer#roi_size": [96, 64],
}  # fmt: skip


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: three patients with a tumour each, in folds of their own, four slices a patient."""
    folder = tmp_path_factory.mktemp("chests")
    rows = [
        write_volume(folder, f"patient-{fold}", *draw_chest(SIZE, MM, radius_mm=14, seed=fold), MM, "RAS", fold=fold)
        for fold in range(3)
    ]
    return write_list(folder, rows)


def train(data: Path, run_dir: Path, stop_after: int | None = None, **settings: Any) -> ConfigWorkflow:
    """A small training; with `stop_after` it is broken off after that epoch, as by Ctrl-C or a power cut."""
    overlays = settings.pop("overlays", [])
    workflow = ConfigWorkflow(
        config_file=[str(BUNDLE / "configs" / "train.yaml"), *map(str, overlays)],
        logging_file=False,
        workflow_type="train",
        bundle_root=str(BUNDLE),
        dataset_dir=str(data),
        run_dir=str(run_dir),
        store_dir=str(data / "store"),
        device="$torch.device('cpu')",
        run_id="training",
        **settings,
    )
    workflow.initialize()
    if stop_after is not None:
        workflow.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), Engine.terminate)
    workflow.run()
    return workflow


def weights_of(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run_dir / f"checkpoint_epoch={epoch}.pt", weights_only=True)["model"]
    return state


def test_a_resumed_run_ends_with_the_same_weights_as_an_unbroken_one(chests: Path, tmp_path: Path) -> None:
    # Everything that is drawn at random takes part.
    settings = {**SMALL, "paste_prob": 0.9, "deformation_prob": 0.9}
    train(chests, tmp_path / "unbroken", **settings)
    train(chests, tmp_path / "broken", stop_after=1, **settings)
    assert not (tmp_path / "broken" / "checkpoint_epoch=2.pt").exists()
    train(chests, tmp_path / "broken", **settings, resume_path=str(tmp_path / "broken" / "checkpoint_epoch=1.pt"))
    unbroken, broken = (weights_of(tmp_path / name, 2) for name in ("unbroken", "broken"))
    assert unbroken.keys() == broken.keys()
    assert all(torch.equal(unbroken[key], broken[key]) for key in unbroken)
    assert not all(torch.equal(weights_of(tmp_path / "unbroken", 1)[key], unbroken[key]) for key in unbroken)


def test_all_data_can_be_learnt_from(chests: Path, tmp_path: Path) -> None:
    workflow = train(chests, tmp_path, **{**SMALL, "epochs": 1, "fold": "$None"})
    assert len(workflow.train_dataset) == 12 and len(workflow.parser.get_parsed_content("validate#dataset")) == 12
    assert (tmp_path / "model.pt").is_file()


def parsed(*overlays: Path, **settings: Any) -> ConfigParser:
    parser = ConfigParser(ConfigParser.load_config_files([str(BUNDLE / "configs" / "train.yaml"), *map(str, overlays)]))
    parser.update({"bundle_root": str(BUNDLE), "device": "$torch.device('cpu')", **settings})
    return parser


def test_an_epochs_seed_settles_which_slices_are_drawn_and_what_becomes_of_them(
    chests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = parsed(dataset_dir=str(chests), store_dir=str(chests / "store"), **SMALL)
    sampler, dataset = parser.get_parsed_content("train#sampler"), parser.get_parsed_content("train#dataset")
    seed, engine = EpochSeed(9, dataset), Engine(lambda *_: None)

    def epoch(number: int) -> tuple[list[int], list[torch.Tensor]]:
        engine.state.epoch = number
        seed(engine)
        drawn = list(sampler)
        return drawn, [dataset[index]["image"] for index in drawn]

    (drawn, images), (_, _), (again, same_images) = epoch(1), epoch(2), epoch(1)
    assert len(drawn) == 6 and drawn == again
    assert all(map(torch.equal, images, same_images))
    # Another epoch, and another process, draw other slices and change them in other ways.
    others = [epoch(2)]
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    others.append(epoch(1))
    for other_drawn, other_images in others:
        assert other_drawn != drawn and not any(map(torch.equal, images, other_images))


def test_two_processes_train_together_and_save_keys_without_a_prefix(chests: Path, tmp_path: Path) -> None:
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
    # A store that is not there yet, which both make at once.
    settings = {**SMALL, "batch_size": 1, "crop_size": 64, "dataset_dir": chests, "run_dir": tmp_path / "run"}
    settings |= {"store_dir": tmp_path / "store", "device": "$torch.device('cpu')"}
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    run = subprocess.run(
        command, cwd=BUNDLE, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert run.returncode == 0, run.stderr[-3000:]
    # One process speaks, and both have learnt.
    assert run.stderr.count("epoch 2/2") == 1
    weights = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert not [key for key in weights if key.startswith("module.")]
    checkpoint = torch.load(tmp_path / "run" / "checkpoint_epoch=2.pt", weights_only=True)
    # Three of the six crops of an epoch fall to each process.
    assert checkpoint["trainer"]["iteration"] == 2 * 3
    assert len(list((tmp_path / "store").iterdir())) == 3 * 3


def test_several_processes_draw_by_the_same_weights_as_one() -> None:
    one, several = parsed(), parsed(BUNDLE / "configs" / "multi_gpu_train.yaml")
    changed = several["train"]["sampler"].pop("num_samples"), one["train"]["sampler"].pop("num_samples")
    assert changed == ("$@samples_per_epoch // dist.get_world_size()", "@samples_per_epoch")
    assert several["train"] == one["train"]


def test_the_seed_works_recipe_trains_and_is_evaluated(chests: Path, tmp_path: Path) -> None:
    small = {"slice_size": [32, 32], "leave_out_lowest": 1, "batch_size": 3, "samples_per_epoch": 6, "epochs": 2}
    workflow = train(chests, tmp_path / "run", overlays=[RECIPES / "slices_2d.yaml"], val_interval=1, fold=0, **small)
    assert len(workflow.train_dataset) == 6
    row = workflow.train_dataset[0]
    assert row["image"].shape == row["label"].shape == (1, 32, 32)
    evaluation = ConfigWorkflow(
        config_file=[str(BUNDLE / "configs" / "evaluate.yaml"), str(RECIPES / "slices_2d_evaluate.yaml")],
        logging_file=False,
        workflow_type="train",
        bundle_root=str(BUNDLE),
        dataset_dir=str(chests),
        output_dir=str(tmp_path / "figures"),
        weights=str(tmp_path / "run" / "model.pt"),
        device="$torch.device('cpu')",
        fold=0,
        run_id="evaluating",
    )
    evaluation.initialize()
    evaluation.run()
    with (tmp_path / "figures" / "metrics.csv").open() as stream:
        figures = {name: float(value) for name, value in csv.reader(stream)}
    assert 0 <= figures["val_pooled_dice"] <= 1 and 0 <= figures["val_mean_dice"] <= 1


@pytest.mark.parametrize("loss_name", ["bce", "dice", "dice_ce"])
def test_each_loss_of_the_recipe_is_finite_and_falls_with_a_better_answer(loss_name: str) -> None:
    loss = parsed(RECIPES / "slices_2d.yaml", loss_name=loss_name).get_parsed_content("loss")
    check_loss(loss, lambda answer: answer)


def test_the_default_loss_is_finite_and_falls_with_a_better_answer() -> None:
    check_loss(parsed().get_parsed_content("loss"), lambda answer: torch.cat([-answer, answer], 1))


def check_loss(loss: Any, channels: Any) -> None:
    label = (torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    # One picture of the batch without tumour.
    label[1] = 0
    right = 4 * (2 * label - 1)
    good, bad, middling = (float(loss(channels(answer), label)) for answer in (right, -right, 0 * right))
    assert good < middling < bad and torch.isfinite(torch.tensor([good, middling, bad])).all()
    assert torch.isfinite(loss(channels(right), 0 * label))


def test_the_three_dimensional_shape_trains_with_the_settings_for_the_whole_archive_made_small(
    chests: Path, tmp_path: Path
) -> None:
    small = {
        "batch_size": 1, "samples_per_epoch": 2, "val_interval": 1, "epochs": 1, "fold": 0, "crop_size": 64,
        "slab_slices": 32, "spacing_mm": 3.5, "slice_distance_mm": 3.0, "num_workers": 0, "warmup_epochs": 0,
        "network_def#filters": [4, 4, 4, 4, 4, 4],
    }  # fmt: skip
    overlays = [RECIPES / "volumes_3d.yaml", RECIPES.parent / "experiment" / "lung_msd.yaml"]
    train(chests, tmp_path, overlays=overlays, **small)
    assert all(torch.isfinite(tensor).all() for tensor in weights_of(tmp_path, 1).values())
