"""Train: checks the data folder, then runs the bundle's own training config through MONAI's runner, overlays named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinibundle.bundle.configs import config_file, read_config
from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError, DataFolderError, UsageError
from clinibundle.workflows.check import check_data_folder

_CHECKPOINT = re.compile(r"checkpoint_epoch=(\d+)\.pt$")
# More problems than this are counted, not listed; `clinibundle check` lists all.
_SHOWN_PROBLEMS = 20


def train(
    bundle: Bundle,
    dataset_dir: Path,
    output_dir: Path,
    overlays: Sequence[Path],
    settings: Mapping[str, Any],
    resume: bool,
    talk: Talk,
) -> Path:
    """Trains a bundle; returns the run's folder, with `model.pt` (best) and `checkpoint_epoch=N.pt` (to resume from).

    The same as `python -m monai.bundle run training --config_file "['train.yaml', <overlays>]"` with these settings.

    Args:
        bundle: whose `configs/train.yaml` is run.
        dataset_dir: a data folder.
        output_dir: runs are made below it.
        overlays: configs put on top, later ones win.
        settings: single ids put on top of those, such as `fold` or `weights`.
        resume: goes on with the newest run below `output_dir` that has a checkpoint.
        talk: told what happens.

    Raises:
        DataFolderError: if the data folder has problems.
        UsageError: for an unknown id, or nothing to resume.
        ClinibundleError: if training itself fails.
    """
    settings = {**settings, "dataset_dir": str(dataset_dir.resolve()), "output_dir": str(output_dir.resolve())}
    if resume:
        checkpoint = newest_checkpoint(output_dir / bundle.name)
        settings |= {"resume_path": str(checkpoint.resolve()), "run_dir": str(checkpoint.parent.resolve())}
        talk.stage(f"going on from {checkpoint.name} of {checkpoint.parent.name}")
    # Refuses mistyped ids, which MONAI would add without a word.
    parser = read_config(bundle.root, "train", overlays, settings)
    talk.stage("checking the data folder")
    refuse_problems(bundle, dataset_dir, talk)
    if "run_dir" not in settings:
        parser.parse()
        settings["run_dir"] = str(parser.get_parsed_content("run_dir"))
    talk.stage(f"training {bundle.name} in {settings['run_dir']}")
    _run_monai(bundle, overlays, settings)
    return Path(settings["run_dir"])


def newest_checkpoint(runs: Path) -> Path:
    """The last epoch's checkpoint of the newest run.

    Raises:
        UsageError: if there is none.
    """
    found = [p for p in runs.glob("*/checkpoint_epoch=*.pt") if _CHECKPOINT.search(p.name)]
    if not found:
        raise UsageError(f"no run to resume below '{runs}'; leave out --resume to start one, or name --output-dir")
    newest_run = max(path.parent.name for path in found)
    return max((p for p in found if p.parent.name == newest_run), key=lambda p: int(_CHECKPOINT.findall(p.name)[0]))


def refuse_problems(bundle: Bundle, dataset_dir: Path, talk: Talk) -> None:
    """Raises DataFolderError, after listing what is wrong, if a data folder has errors; warnings are only told."""
    allowed = bundle.data.label_values
    problems = check_data_folder(
        dataset_dir, label_values=None if allowed is None else [set(v) for v in allowed], talk=talk
    )
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in [p for p in problems if p.severity == "warning"][:_SHOWN_PROBLEMS]:
        talk.warning(f"{problem.case}: {problem.detail}")
    for problem in errors[:_SHOWN_PROBLEMS]:
        talk.refusal(f"{problem.case}: {problem.detail}")
    if errors:
        raise DataFolderError(
            f"the data folder has {len(errors)} errors; mend them first (clinibundle check lists every one)"
        )


def _run_monai(bundle: Bundle, overlays: Sequence[Path], settings: Mapping[str, Any]) -> None:
    import monai.bundle

    logging_file = bundle.root / "configs" / "logging.conf"
    try:
        monai.bundle.run(
            run_id="training",
            config_file=[str(config_file(bundle.root, "train")), *map(str, overlays)],
            meta_file=str(bundle.root / "configs" / "metadata.json"),
            logging_file=str(logging_file) if logging_file.is_file() else None,
            bundle_root=str(bundle.root),
            **settings,
        )
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, ImportError) as error:
        raise ClinibundleError(f"training stopped: {deepest_message(error)}") from error


def deepest_message(error: BaseException) -> str:
    """The first line of the error that started it all; MONAI wraps it in several of its own."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
