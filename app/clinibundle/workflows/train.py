"""Train: checks the data folder, then runs the bundle's own training config through MONAI's runner, overlays named."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import wraps
from pathlib import Path
from typing import Any

from clinibundle.bundle.configs import config_file, read_config
from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import BundleError, ClinibundleError, DataFolderError, UsageError
from clinibundle.files import delayed_interrupts, refuse_output_in_input
from clinibundle.workflows.check import check_data_folder
from clinibundle.workflows.record import shown_overlay, shown_path, write_overlay, write_run_record

_CHECKPOINT = re.compile(r"checkpoint_epoch=(\d+)\.pt$")
# They log every step, MONAI on standard output, where only results belong.
_TALKATIVE = ("ignite", "monai.bundle.scripts", "monai.bundle.workflows")


def train(
    bundle: Bundle,
    dataset_dir: Path,
    output_dir: Path,
    overlays: Sequence[Path],
    settings: Mapping[str, Any],
    device: str | None,
    resume: bool,
    talk: Talk,
) -> Path:
    """Trains a bundle; returns the run's folder, with `model.pt` (best) and `checkpoint_epoch=N.pt` (to resume from).

    The same as `python -m monai.bundle run training --config_file "['train.yaml', <overlays>]"` with these settings;
    `overlay.yaml` in the folder holds all of them in one, and `run.json` how the run came about.

    Args:
        bundle: whose `configs/train.yaml` is run.
        dataset_dir: a data folder.
        output_dir: runs are made below it.
        overlays: configs put on top, later ones win.
        settings: single ids put on top of those, such as `fold` or `epochs`.
        device: `auto`, `cpu`, `cuda`, `cuda:N`; None leaves the config's.
        resume: goes on with the newest run below `output_dir` that has a checkpoint.
        talk: told what happens.

    Raises:
        DataFolderError: if the data folder has problems.
        UsageError: for an unknown id, nothing to resume, a device that is not there, or runs within the data folder.
        BundleError: if the config cannot be built.
        OutputError: if the run's folder cannot be written into.
        ClinibundleError: if training itself fails.
    """
    refuse_output_in_input(output_dir, dataset_dir)
    ids = {**settings, "dataset_dir": str(dataset_dir.resolve()), "output_dir": str(output_dir.resolve())}
    checkpoint = newest_checkpoint(output_dir / bundle.name) if resume else None
    if checkpoint is not None:
        ids |= {"resume_path": str(checkpoint.resolve()), "run_dir": str(checkpoint.parent.resolve())}
        talk.stage(f"going on from {checkpoint.name} of {checkpoint.parent.name}")
    if device is not None:
        ids["device"] = _device_expression(device)
    # The bundle's own package, so that the arguments of its components are known.
    sys.path.insert(0, str(bundle.root))
    # Refuses mistyped ids, which MONAI would add without a word.
    parser = read_config(bundle.root, "train", overlays, ids)
    config = deepcopy(parser.get())
    config |= _settle(parser, bundle.name, talk)
    talk.stage("checking the data folder")
    refuse_problems(bundle, dataset_dir, talk)
    run_dir = Path(config["run_dir"])
    talk.stage(f"training {bundle.name} in {run_dir}")
    facts = {
        "overlays": [shown_overlay(overlay, bundle.root) for overlay in overlays],
        "settings": dict(settings),
        "dataset_dir": shown_path(dataset_dir),
        "device": device,
        "seed": config.get("seed"),
        "resumed_from": None if checkpoint is None else checkpoint.name,
    }
    with _gone_if_nothing_was_learnt(run_dir), _whole_checkpoints():
        overlay = write_overlay(run_dir, _changed(config, read_config(bundle.root, "train").get()))
        write_run_record(overlay, bundle, facts)
        _run_monai(bundle, overlay, talk)
    return run_dir


def _changed(config: Mapping[str, Any], shipped: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in shipped or value != shipped[key]}


def _device_expression(device: str) -> str:
    from clinibundle.bundle.predict import pick_device

    return f"$torch.device('{pick_device(device)}')"


def _settle(parser: Any, bundle_name: str, talk: Talk) -> dict[str, Any]:
    """What the config leaves open until a run starts: its folder, once and for all, and a validation within the epochs.

    Raises:
        UsageError: if the config's device is not there.
        BundleError: if one of these ids cannot be evaluated.
    """
    from clinibundle.bundle.predict import pick_device

    settled: dict[str, Any] = {}
    try:
        parser.parse()
        settled["run_dir"] = str(parser.get_parsed_content("run_dir"))
        device = str(parser.get_parsed_content("device")) if "device" in parser else None
    except (RuntimeError, ValueError, KeyError, TypeError, ImportError) as error:
        raise BundleError(
            f"the training config of '{bundle_name}' cannot be built: {deepest_message(error)}"
        ) from error
    if device is not None:
        pick_device(device)
    epochs, interval = parser.get("epochs"), parser.get("val_interval")
    if isinstance(epochs, int) and isinstance(interval, int) and interval > epochs:
        talk.warning(
            f"val_interval is {interval}, but {epochs} epochs are asked for; validating after the last of them"
        )
        settled["val_interval"] = epochs
    return settled


def newest_checkpoint(runs: Path) -> Path:
    """The last epoch's checkpoint of the run that was trained last; those cut short by a power cut do not count.

    Raises:
        UsageError: if there is none.
    """
    found = list(_whole_ones(runs.glob("*/checkpoint_epoch=*.pt")))
    if not found:
        raise UsageError(f"no run to resume below '{runs}'; leave out --resume to start one, or name --output-dir")
    # By time and not by name: folders may be called anything. Where times are equal, as in copies, the name decides.
    newest_run = max(found, key=lambda path: (path.stat().st_mtime_ns, path.parent.name)).parent
    return max((path for path in found if path.parent == newest_run), key=_epoch_of)


def last_checkpoint(run_dir: Path) -> Path | None:
    """The last epoch's whole checkpoint of one run; None if there is none."""
    return max(_whole_ones(run_dir.glob("checkpoint_epoch=*.pt")), key=_epoch_of, default=None)


def _whole_ones(checkpoints: Iterable[Path]) -> Iterator[Path]:
    # torch writes zip files, whose directory comes last.
    return (path for path in checkpoints if _CHECKPOINT.search(path.name) and zipfile.is_zipfile(path))


def _epoch_of(checkpoint: Path) -> int:
    return int(_CHECKPOINT.findall(checkpoint.name)[0])


def refuse_problems(bundle: Bundle, dataset_dir: Path, talk: Talk) -> None:
    """Raises DataFolderError, after listing what is wrong, if a data folder has errors; warnings are only told."""
    allowed = bundle.data.label_values
    problems = check_data_folder(
        dataset_dir, label_values=None if allowed is None else [set(v) for v in allowed], talk=talk
    )
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in problems:
        tell = talk.problem if problem.severity == "error" else talk.warning
        tell(f"{problem.case}: {problem.detail}")
    if errors:
        raise DataFolderError(f"the data folder has {len(errors)} errors, listed above; mend them first")


@contextmanager
def _gone_if_nothing_was_learnt(run_dir: Path) -> Iterator[None]:
    """Takes away a folder that was made here if an error or Ctrl-C comes before there are any weights in it."""
    made_here = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        if made_here and not any(run_dir.glob("*.pt")):
            shutil.rmtree(run_dir, ignore_errors=True)
            with suppress(OSError):  # another run may have come below a parent meanwhile
                for parent in made_here[1:]:
                    parent.rmdir()
        raise


@contextmanager
def _whole_checkpoints() -> Iterator[None]:
    """Ctrl-C waits for a checkpoint: MONAI's savers delete the old best weights, then write the new ones in place."""
    from ignite.handlers import Checkpoint

    interruptible = Checkpoint.__call__

    @wraps(interruptible)
    def call(*arguments: Any, **named: Any) -> None:
        with delayed_interrupts():
            interruptible(*arguments, **named)

    Checkpoint.__call__ = call
    try:
        yield
    finally:
        Checkpoint.__call__ = interruptible


def _run_monai(bundle: Bundle, overlay: Path, talk: Talk) -> None:
    import monai.bundle

    _settle_loggers(talk)
    logging_file = bundle.root / "configs" / "logging.conf"
    try:
        monai.bundle.run(
            run_id="training",
            # What was judged is what is run: overlays and settings as they fitted.
            config_file=[str(config_file(bundle.root, "train")), str(overlay)],
            meta_file=str(bundle.root / "configs" / "metadata.json"),
            # With False the bundle's own lines, one per epoch, do not come either.
            logging_file=str(logging_file) if logging_file.is_file() and not talk.is_quiet else False,
            bundle_root=str(bundle.root),
        )
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, ImportError) as error:
        raise ClinibundleError(f"training stopped: {deepest_message(error)}") from error


def _settle_loggers(talk: Talk) -> None:
    """Shows what the libraries log with --verbose only, and where the bundle's own lines go, to standard error."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.INFO if talk.is_verbose else logging.CRITICAL)


def deepest_message(error: BaseException) -> str:
    """The first line of the error that started it all; MONAI wraps it in several of its own."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
