"""What a training or an evaluation was run with, so that it can be told and done again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clinibundle import __version__
from clinibundle.bundle.configs import config_file
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_overlay, overlay_folders
from clinibundle.errors import OutputError
from clinibundle.files import write_json


def shown_path(path: str | Path) -> str:
    """Relative to the current folder where it lies below it, so that a record names no more than it has to."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def shown_overlay(overlay: Path, bundle: Path) -> str:
    """What `--overlay` takes for it: its name if it can be found by that, else its path."""
    for folder in overlay_folders(bundle):
        if overlay.is_relative_to(folder):
            name = overlay.relative_to(folder).with_suffix("").as_posix()
            if find_overlay(name, bundle).samefile(overlay):
                return name
    return shown_path(overlay)


def write_overlay(run_dir: Path, changed: Mapping[str, Any]) -> Path:
    """Keeps all that was set on top of a bundle's config as one overlay in the folder of the run; returns its path.

    Every start of a run has its own, `overlay.yaml`, `overlay-2.yaml` and so on: a resumed one may be set otherwise.

    Raises:
        OutputError: if the folder cannot be written into.
    """
    from monai.bundle import ConfigParser

    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        number = 1 + len(list(run_dir.glob("overlay*.yaml")))
        path = run_dir / ("overlay.yaml" if number == 1 else f"overlay-{number}.yaml")
        ConfigParser.export_config_file(dict(changed), path, fmt="yaml", sort_keys=False, allow_unicode=True)
    except OSError as error:
        raise OutputError(f"cannot write into '{run_dir}': {error.strerror}; name another --output-dir") from error
    return path


def write_run_record(overlay: Path, bundle: Bundle, facts: Mapping[str, Any]) -> None:
    """Writes `run.json`, or `run-2.json` beside `overlay-2.yaml` and so on.

    Args:
        overlay: from `write_overlay`.
        bundle: that is trained.
        facts: of this start, which JSON can hold.
    """
    configs = json.dumps([shown_path(config_file(bundle.root, "train")), shown_path(overlay)], ensure_ascii=False)
    command = ["python", "-m", "monai.bundle", "run", "training", "--bundle_root", shown_path(bundle.root)]
    content = {
        "bundle": bundle.name,
        "version": bundle.metadata.version,
        **facts,
        "started_at": datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds"),
        "versions": {"clinibundle": __version__, **{name: version(name) for name in ("monai", "torch")}},
        "command": shlex.join([*command, "--config_file", configs]),
    }
    write_json(overlay.with_name(f"{overlay.stem.replace('overlay', 'run')}.json"), content)
