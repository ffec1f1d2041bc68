"""`clinibundle train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinibundle.cli.options import BundleName, DatasetDir, Overlay, Quiet, Setting, Verbose
from clinibundle.console import Talk


def train(
    bundle: BundleName,
    dataset_dir: DatasetDir,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Runs are made below it.")] = Path("runs"),
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the config's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the config's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest run, exactly.")] = False,
    overlay: Overlay = None,
    setting: Setting = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N; instead of the config's.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a bundle by its own train.yaml through MONAI's runner, after a check of the data.

    Example: clinibundle train lung_xray --dataset-dir data --overlay hardware/cpu --epochs 20
    """
    from clinibundle.bundle.configs import parse_settings
    from clinibundle.bundle.description import Bundle
    from clinibundle.bundle.find import find_bundle, find_overlay
    from clinibundle.workflows.train import train as run

    talk = Talk(quiet, verbose)
    found = Bundle(find_bundle(bundle))
    settings = parse_settings(setting or [])
    settings |= {key: value for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    overlays = [find_overlay(name, found.root) for name in overlay or []]
    folder = run(found, dataset_dir, output_dir, overlays, settings, device, resume, talk)
    talk.result(f"best weights: {folder / 'model.pt'}")
