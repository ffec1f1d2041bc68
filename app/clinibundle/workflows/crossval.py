"""Cross-validation of a bundle's training: every fold trained, every case measured out of fold, one ensemble of all.

Named by `configs/experiment/crossval.yaml`, which puts it in the place of a single training.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clinibundle.bundle.configs import config_file, read_config
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_overlay
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError
from clinibundle.workflows.evaluate import evaluate
from clinibundle.workflows.train import last_checkpoint

# Of the run as a whole, and no business of a fold.
_OWN_IDS = ("cross_validation", "folds", "fold_overlays", "evaluate_overlays", "initialize", "training", "run")
_OF_EACH_FOLD = ("fold", "run_dir", "resume_path", "dataset_dir", "bundle_root")


class CrossValidation:
    """Trains one network a fold, measures each on the fold that it has not seen, and joins them.

    In `run_dir` it leaves `fold_K/` with checkpoints and `last.pt` (the weights at the end of the schedule, so that the
    fold that is kept aside chooses nothing), `out_of_fold/` as `clinibundle evaluate` writes it, and the soft vote of
    all networks: `ensemble.pt` and `ensemble.yaml`, an overlay for evaluation and inference. Started again, it goes on
    where it was.

    Args:
        bundle_root: the bundle.
        dataset_dir: a data folder whose cases have folds.
        run_dir: for all results.
        folds: to train and measure.
        train_overlays: for the training of each fold, by name or path; those that `clinibundle train` was given are
            handed on by itself (they lie in `run_dir/overlay.yaml`).
        evaluate_overlays: for measuring, by name or path.
        device: as the config has it.
    """

    def __init__(
        self,
        bundle_root: str,
        dataset_dir: str,
        run_dir: str,
        folds: Sequence[int],
        train_overlays: Sequence[str] = (),
        evaluate_overlays: Sequence[str] = (),
        device: Any = "auto",
    ) -> None:
        self.bundle = Bundle(Path(bundle_root).resolve())
        self.dataset_dir, self.run_dir = Path(dataset_dir).resolve(), Path(run_dir).resolve()
        self.folds, self.device = list(folds), str(device)
        self.train_overlays = [find_overlay(name, self.bundle.root) for name in train_overlays]
        self.evaluate_overlays = [find_overlay(name, self.bundle.root) for name in evaluate_overlays]

    def run(self) -> dict[str, Any]:
        """Does all of it; the content of `out_of_fold/metrics.json`.

        Raises:
            ClinibundleError: if the training of a fold fails; its log says why.
        """
        talk = Talk()
        self.run_dir.mkdir(parents=True, exist_ok=True)
        weights = {}
        for number, fold in enumerate(self.folds, start=1):
            talk.stage(f"fold {fold} ({number} of {len(self.folds)})")
            weights[fold] = self._train(fold)
        found = evaluate(
            self.bundle,
            self.dataset_dir,
            self.run_dir / "out_of_fold",
            self.evaluate_overlays,
            {},
            self.device,
            True,
            talk,
            weights_by_fold=weights,
        )
        self._join(list(weights.values()))
        return found

    def _train(self, fold: int) -> Path:
        folder = self.run_dir / f"fold_{fold}"
        last = folder / "last.pt"
        if last.is_file():
            return last
        folder.mkdir(exist_ok=True)
        configs = [config_file(self.bundle.root, "train"), *self.train_overlays]
        if handed_on := self._handed_on():
            overlay = folder / "overlay.yaml"
            overlay.write_text(yaml.safe_dump(handed_on, sort_keys=False), encoding="utf-8")
            configs.append(overlay)
        ids = {"bundle_root": self.bundle.root, "dataset_dir": self.dataset_dir, "run_dir": folder, "fold": fold}
        if (checkpoint := last_checkpoint(folder)) is not None:
            ids["resume_path"] = checkpoint
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training"]
        command += ["--config_file", str([str(config) for config in configs])]
        command += ["--logging_file", str(self.bundle.root / "configs" / "logging.conf")]
        command += [f"--{key}={value}" for key, value in ids.items()]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            done = subprocess.run(command, check=False, stdout=log, stderr=log, env=environment)
        checkpoint = last_checkpoint(folder)
        if done.returncode != 0 or checkpoint is None:
            raise ClinibundleError(f"the training of fold {fold} stopped; the end of '{folder / 'log.txt'}' says why")
        return _keep_last_weights(checkpoint, last)

    def _handed_on(self) -> dict[str, Any]:
        """What `clinibundle train` has put on top of the bundle's config, without what is ours."""
        overlay = self.run_dir / "overlay.yaml"
        if not overlay.is_file():
            return {}
        content: Mapping[str, Any] = yaml.safe_load(overlay.read_text(encoding="utf-8")) or {}
        return {key: value for key, value in content.items() if key not in (*_OWN_IDS, *_OF_EACH_FOLD)}

    def _join(self, weights: Sequence[Path]) -> None:
        import torch

        from clinibundle.networks.soft_vote import join_weights

        torch.save(join_weights(weights), self.run_dir / "ensemble.pt")
        single = read_config(self.bundle.root, "evaluate", self.evaluate_overlays)["network_def"]
        voting = {
            "_target_": "clinibundle.networks.soft_vote.SoftVote",
            "networks": [single for _ in weights],
        }
        overlay = {"network_def": voting, "weights": str(self.run_dir / "ensemble.pt")}
        # Each member in full: YAML's aliases are no part of what MONAI's configs promise.
        text = yaml.dump(overlay, Dumper=_WithoutAliases, sort_keys=False)
        comment = (
            f"# The soft vote of {len(weights)} networks, for evaluation and inference, at so many times the cost.\n"
        )
        (self.run_dir / "ensemble.yaml").write_text(comment + text, encoding="utf-8")


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - what SafeDumper asks
        return True


def _keep_last_weights(checkpoint: Path, to: Path) -> Path:
    import torch

    partial = to.with_suffix(".part")
    torch.save(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"], partial)
    return partial.replace(to)
