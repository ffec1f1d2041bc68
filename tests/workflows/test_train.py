"""Training through the program: where it writes, what it refuses, what it takes up again."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import monai
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow

from clinibundle import __version__ as clinibundle_version
from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError, DataFolderError, OutputError, UsageError
from clinibundle.workflows.train import newest_checkpoint, train
from command_line import Program, Ran, files_in, write_squares

LUNGS = Path(__file__).resolve().parents[2] / "bundles" / "lung_xray"
CPU = LUNGS.parent.parent / "configs" / "hardware" / "cpu.yaml"
SMALL = ("--overlay", "hardware/cpu", "--set", "batch_size=2", "--set", "spatial_size=[64,64]")
QUIET = Talk(quiet=True)


@pytest.fixture(autouse=True)
def process_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A training sets up logging and import paths as if the process were its own."""
    monkeypatch.chdir(tmp_path)
    path, handlers, level = list(sys.path), list(logging.root.handlers), logging.root.level
    yield
    sys.path[:], logging.root.handlers[:] = path, handlers
    logging.root.setLevel(level)


@pytest.fixture
def lungs(clinibundle: Program, phantoms: Path) -> object:
    """`clinibundle train lung_xray` on phantoms, in small."""

    def run(*arguments: object) -> Ran:
        return clinibundle("train", "lung_xray", "--dataset-dir", phantoms, *SMALL, *arguments)

    return run


def weights_of(run_dir: Path, name: str = "model.pt") -> dict[str, torch.Tensor]:
    saved = torch.load(run_dir / name, weights_only=True)
    return saved.get("model", saved)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def only_run(place: Path) -> Path:
    (folder,) = (place / "runs" / "lung_xray").iterdir()
    return folder


def test_null_reaches_monai(clinibundle: Program, phantoms: Path, tmp_path: Path) -> None:
    where = ("--dataset-dir", phantoms, "-o", tmp_path / "runs")
    told = clinibundle("train", "lung_xray", *where, *SMALL, "--epochs", "1", "--set", "fold=null")
    assert told.code == 0, told
    checkpoint = next((tmp_path / "runs" / "lung_xray").glob("*/checkpoint_epoch=1.pt"))
    # All six phantoms in batches of two; without those of fold 0 there would be two batches.
    assert torch.load(checkpoint, weights_only=True)["trainer"]["epoch_length"] == 3


def test_a_run_has_a_folder_of_its_own_and_the_bundle_stays_as_it_is(lungs, phantoms: Path, tmp_path: Path) -> None:
    before = files_in(LUNGS / "models")
    data = files_in(phantoms)
    run = lungs("--epochs", 2)
    assert run.code == 0, run.err
    folder = only_run(tmp_path)
    assert re.fullmatch(r"\d{8}-\d{6}", folder.name)
    assert run.out == f"best weights: {folder / 'model.pt'}\n"
    assert {path.name for path in folder.glob("*.pt")} == {
        "model.pt", "checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt",
    }  # fmt: skip
    shipped = torch.load(LUNGS / "models" / "model.pt", weights_only=True)
    assert weights_of(folder).keys() == shipped.keys()
    assert files_in(LUNGS / "models") == before and files_in(phantoms) == data
    # The stages, and one line an epoch with what, how far, how fast and time left.
    told = run.err.splitlines()
    assert told[:2] == ["checking the data folder", "Looking at pictures and labels (6)"]
    assert told[2] == f"training lung_xray in {folder}"
    assert [re.search(r"training: epoch (\d/2) .* s per epoch .* left", line)[1] for line in told[3:]] == ["1/2", "2/2"]


def test_verbose_tells_what_the_libraries_say_on_standard_error(lungs) -> None:
    run = lungs("--epochs", 1, "--verbose")
    assert "ignite.engine" in run.err and run.out.count("\n") == 1


def test_quiet_leaves_out_even_the_epochs(lungs) -> None:
    run = lungs("--epochs", 1, "--quiet")
    assert (run.code, run.err) == (0, "") and run.out.startswith("best weights: ")


def test_fewer_epochs_than_between_validations_still_leave_best_weights(lungs, tmp_path: Path) -> None:
    run = lungs("--epochs", 1, "--set", "val_interval=5")
    assert "warning: val_interval is 5, but 1 epochs are asked for; validating after the last of them" in run.err
    assert (only_run(tmp_path) / "model.pt").is_file()


def test_resume_goes_on_with_the_newest_run(lungs, tmp_path: Path) -> None:
    assert lungs("--epochs", 1).code == 0
    newest = only_run(tmp_path)
    older = newest.with_name("20200101-000000")
    shutil.copytree(newest, older)
    run = lungs("--epochs", 2, "--resume")
    assert run.code == 0 and f"going on from checkpoint_epoch=1.pt of {newest.name}" in run.err
    # The second epoch only, though two are asked for.
    assert "training: epoch 2/2" in run.err and "training: epoch 1/2" not in run.err
    assert (newest / "checkpoint_epoch=2.pt").is_file() and not (older / "checkpoint_epoch=2.pt").exists()
    assert run.out == f"best weights: {newest / 'model.pt'}\n"


def test_resume_goes_on_with_the_run_that_was_trained_last_whatever_its_name(toy, tmp_path: Path) -> None:
    newest = toy()
    for name, age_s in (("multi_gpu", 3600), ("zz", 60)):
        other = newest.with_name(name)
        shutil.copytree(newest, other)
        for file in other.iterdir():
            os.utime(file, ns=(0, file.stat().st_mtime_ns - age_s * 10**9))
    assert newest_checkpoint(newest.parent) == newest / "checkpoint_epoch=1.pt"
    os.utime(newest.with_name("zz") / "checkpoint_epoch=1.pt")
    assert newest_checkpoint(newest.parent) == newest.with_name("zz") / "checkpoint_epoch=1.pt"


def test_a_run_records_what_it_was_run_with(toy_bundle: Path, tmp_path: Path, clinibundle: Program) -> None:
    write_squares(tmp_path / "data", "bj")
    config = toy_bundle / "configs" / "train.yaml"
    config.write_text(config.read_text() + "seed: 20\n")
    (tmp_path / "slow.yaml").write_text("learning_rate: 0.001\n")
    command = ("train", toy_bundle, "--dataset-dir", "data", "--overlay", "slow.yaml", "--overlay", "hardware/cpu")
    (tmp_path / "configs" / "hardware").mkdir(parents=True)
    (tmp_path / "configs" / "hardware" / "cpu.yaml").write_text("device: $torch.device('cpu')\n")
    assert clinibundle(*command, "--epochs", 3, "--set", "seed=[1, null]").code == 0
    folder = tmp_path / "runs" / "toy_bright" / "one"
    record = json.loads((folder / "run.json").read_text())
    assert datetime.fromisoformat(record.pop("started_at")).tzinfo is not None
    assert str(tmp_path) not in json.dumps({**record, "command": ""})
    assert record.pop("command").startswith("python -m monai.bundle run training ")
    assert record == {
        "bundle": "toy_bright",
        "version": "0.2.0",
        "overlays": ["slow.yaml", "hardware/cpu"],
        "settings": {"seed": [1, None], "epochs": 3},
        "dataset_dir": "data",
        "device": None,
        "seed": [1, None],
        "resumed_from": None,
        "versions": {
            "clinibundle": clinibundle_version, "monai": monai.__version__, "torch": torch.__version__,
        },
    }  # fmt: skip
    overlay = yaml.safe_load((folder / "overlay.yaml").read_text())
    assert overlay.keys() == {"dataset_dir", "output_dir", "run_dir", "learning_rate", "epochs", "seed"}

    assert clinibundle(*command[:4], "--epochs", 4, "--resume", "--device", "cpu").code == 0
    assert json.loads((folder / "run.json").read_text())["settings"]["epochs"] == 3
    again = json.loads((folder / "run-2.json").read_text())
    assert again["resumed_from"] == "checkpoint_epoch=3.pt" and again["overlays"] == [] and again["seed"] == 20
    assert (again["settings"], again["device"]) == ({"epochs": 4}, "cpu")
    assert yaml.safe_load((folder / "overlay-2.yaml").read_text())["epochs"] == 4


def test_the_recorded_command_does_the_same_again(lungs, tmp_path: Path) -> None:
    assert lungs("--epochs", 1, "--set", "loss#lambda_ce=0.5", "--set", "fold=null").code == 0
    folder = only_run(tmp_path)
    first = weights_of(folder, "checkpoint_epoch=1.pt")
    for file in folder.glob("*.pt"):
        file.unlink()
    command = shlex.split(json.loads((folder / "run.json").read_text())["command"])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", *command[1:]],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert same(first, weights_of(folder, "checkpoint_epoch=1.pt"))


def test_what_only_another_config_has_is_left_out(toy_bundle: Path, tmp_path: Path, clinibundle: Program) -> None:
    write_squares(tmp_path / "data", "bj")
    (tmp_path / "other.yaml").write_text("inferer#overlap: 0.5\nweights: mine.pt\nepochs: 2\n+training: [$print()]\n")
    assert clinibundle("train", toy_bundle, "--dataset-dir", "data", "--overlay", "other.yaml").code == 0
    kept = yaml.safe_load((tmp_path / "runs" / "toy_bright" / "one" / "overlay.yaml").read_text())
    assert kept.keys() == {"dataset_dir", "output_dir", "run_dir", "epochs", "training"}
    assert kept["training"][-1] == "$print()" and len(kept["training"]) == 3


def test_a_mistyped_argument_of_the_bundles_own_component_is_refused(lungs) -> None:
    run = lungs("--set", "loss#lambda_cee=0.5")
    assert run.code == 2 and "no id 'loss::lambda_cee' (did you mean 'loss::lambda_ce'?)" in run.err


def test_a_folder_that_cannot_be_written_into_is_refused(toy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match=r"cannot write into '.*file/run': Not a directory; name another --output-dir"
    ):
        toy({"run_dir": str(tmp_path / "file" / "run")})


def test_an_interrupt_while_weights_are_saved_waits_for_them(
    lungs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def interrupted_save(content: object, path: Path) -> None:
        if path.name == "model.pt":
            signal.raise_signal(signal.SIGINT)
        save(content, path)

    monkeypatch.setattr(torch, "save", interrupted_save)
    assert lungs("--epochs", 4).code == 130
    # Broken off in the second epoch, right after its validation.
    assert {path.name for path in only_run(tmp_path).glob("*.pt")} == {"model.pt", "checkpoint_epoch=1.pt"}
    assert weights_of(only_run(tmp_path))


def test_the_same_seed_gives_the_same_weights(lungs, tmp_path: Path) -> None:
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        assert lungs("--epochs", 1, "--seed", seed, "--output-dir", name).code == 0
    first, again, other = (
        weights_of(next((tmp_path / name / "lung_xray").iterdir())) for name in ("first", "again", "other")
    )
    assert same(first, again) and not same(first, other)


def test_it_is_what_plain_monai_does_with_the_same_overlay(lungs, phantoms: Path, tmp_path: Path) -> None:
    assert lungs("--epochs", 2).code == 0
    plain = ConfigWorkflow(
        config_file=[str(LUNGS / "configs" / "train.yaml"), str(CPU)],
        workflow_type="train",
        logging_file=False,
        bundle_root=str(LUNGS),
        dataset_dir=str(phantoms),
        run_dir=str(tmp_path / "plain"),
        run_id="training",
        batch_size=2,
        spatial_size=[64, 64],
        epochs=2,
    )
    plain.initialize()
    plain.run()
    assert same(
        weights_of(only_run(tmp_path), "checkpoint_epoch=2.pt"), weights_of(tmp_path / "plain", "checkpoint_epoch=2.pt")
    )


def test_every_error_of_the_data_is_listed_and_nothing_is_learnt(
    toy_bundle: Path, tmp_path: Path, clinibundle: Program
) -> None:
    data = write_squares(tmp_path / "data", "abcdefghijklmnopqrstuvwxyz")
    for picture in (data / "images").iterdir():
        picture.write_text("no picture")
    run = clinibundle("train", toy_bundle, "--dataset-dir", data, "--quiet")
    told = run.err.splitlines()
    assert (run.code, run.out) == (1, "")
    assert len([line for line in told if line.startswith("error: images/")]) == 26
    assert told[-1] == "refused: the data folder has 26 errors, listed above; mend them first"
    assert len(told) == 27 and not (tmp_path / "runs").exists()


def test_warnings_about_the_data_do_not_stop_it(toy_bundle: Path, tmp_path: Path, clinibundle: Program) -> None:
    data = write_squares(tmp_path / "data", "bj")
    shutil.copy(data / "images" / "b.png", data / "images" / "j.png")
    shutil.copy(data / "labels" / "b.png", data / "labels" / "j.png")
    (data / "datalist.json").write_text(
        json.dumps({"training": [{"image": f"images/{n}.png", "label": f"labels/{n}.png", "fold": 0} for n in "bj"]})
    )
    run = clinibundle("train", toy_bundle, "--dataset-dir", data)
    assert run.code == 0
    assert "warning: images/j.png: the same picture as 'images/b.png'; it counts twice" in run.err


@pytest.fixture
def toy(toy_bundle: Path, tmp_path: Path) -> object:
    """Trains the toy bundle; its folder of runs is `runs`."""
    data = write_squares(tmp_path / "data", "bj")

    def run(settings: dict[str, object] | None = None, device: str | None = None, resume: bool = False) -> Path:
        return train(Bundle(toy_bundle), data, tmp_path / "runs", [], settings or {}, device, resume, QUIET)

    return run


@pytest.mark.parametrize("error", [SystemExit(130), RuntimeError("diverged")], ids=["interrupt", "failure"])
def test_a_run_that_ends_before_its_first_checkpoint_leaves_nothing(
    toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(config_file: list[str], **_: object) -> None:
        (Path(config_file[-1]).parent / "events.out.tfevents.1").write_text("half")
        raise error

    monkeypatch.setattr("monai.bundle.run", fail)
    with pytest.raises((SystemExit, ClinibundleError)):
        toy()
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_later_keeps_what_it_learnt(toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = toy()

    def fail(**_: object) -> None:
        raise RuntimeError("CUDA error: out of memory\nmore lines")

    monkeypatch.setattr("monai.bundle.run", fail)
    with pytest.raises(ClinibundleError, match=r"^training stopped: RuntimeError: CUDA error: out of memory$"):
        toy({"epochs": 2}, resume=True)
    assert (folder / "model.pt").is_file()


def test_resume_passes_over_a_checkpoint_that_was_cut_short(toy, tmp_path: Path) -> None:
    folder = toy()
    half = folder / "checkpoint_epoch=2.pt"
    half.write_bytes((folder / "model.pt").read_bytes()[:-30])
    assert newest_checkpoint(folder.parent) == folder / "checkpoint_epoch=1.pt"
    (folder / "checkpoint_epoch=1.pt").unlink()
    with pytest.raises(UsageError, match="no run to resume"):
        toy(resume=True)


def test_the_tenth_epoch_is_newer_than_the_ninth(toy, tmp_path: Path) -> None:
    for epochs in (9, 10):
        folder = toy({"epochs": epochs})
    assert newest_checkpoint(folder.parent).name == "checkpoint_epoch=10.pt"


def test_a_device_that_is_not_there_is_refused_before_the_data_is_looked_at(toy, tmp_path: Path) -> None:
    (tmp_path / "data" / "images" / "b.png").write_text("no picture")
    with pytest.raises(UsageError, match="--device cuda:99"):
        toy(device="cuda:99")
    with pytest.raises(UsageError, match="--device cuda:99"):
        toy({"device": "$torch.device('cuda:99')"})
    with pytest.raises(DataFolderError):
        toy(device="cpu")
    assert not (tmp_path / "runs").exists()
