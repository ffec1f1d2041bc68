"""A bundle made to stand alone: overlays become part of its configs, and each config has a JSON twin.

MONAI Label, NVFlare and MONAI's own loaders ask for `train.json`, `evaluate.json` and `inference.json`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clinibundle import __version__
from clinibundle.bundle.configs import config_file, read_config
from clinibundle.errors import BundleError

_WORKFLOWS = ("train", "evaluate", "inference")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".git*", ".DS_Store", "*.pyc")


def freeze(root: Path, overlays: Sequence[Path], to: Path) -> None:
    """Copies a bundle and puts overlays into its configs.

    A config that no overlay changes keeps its YAML as it was written, with its comments; a changed one is written anew.

    Args:
        root: of the bundle.
        overlays: later ones win.
        to: becomes the copy; must not be there.

    Raises:
        BundleError: if it has no inference config, or a config or overlay cannot be read.
        UsageError: if an overlay names an id that has no place.
    """
    shutil.copytree(root, to, ignore=_LEFT_OUT, symlinks=True)
    config_file(root, "inference")
    for name in _WORKFLOWS:
        if any((root / "configs" / f"{name}{ending}").is_file() for ending in (".yaml", ".yml", ".json")):
            _freeze_config(root, name, overlays, to / "configs")
    for path in sorted((to / "configs").glob("*.yaml")):
        twin = path.with_suffix(".json")
        if not twin.exists():
            _write_json(twin, yaml.safe_load(path.read_text(encoding="utf-8")))
    if any(target.startswith("clinibundle.") for target in _targets_of(to / "configs")):
        _name_as_required(to / "configs" / "metadata.json")


def _freeze_config(root: Path, name: str, overlays: Sequence[Path], configs: Path) -> None:
    plain, frozen = _as_data(root, name, ()), _as_data(root, name, overlays)
    _write_json(configs / f"{name}.json", frozen)
    written = next((path for path in (configs / f"{name}.yaml", configs / f"{name}.yml") if path.exists()), None)
    if written is not None and frozen != plain:
        on_top = ", ".join(overlay.stem for overlay in overlays)
        text = yaml.safe_dump(frozen, sort_keys=False, allow_unicode=True, width=120)
        written.write_text(f"# With these overlays put in: {on_top}.\n{text}", encoding="utf-8")


def _as_data(root: Path, name: str, overlays: Sequence[Path]) -> dict[str, Any]:
    data = dict(read_config(root, name, overlays).get())
    data.pop("_meta_", None)
    data["bundle_root"] = "."
    return data


def _write_json(path: Path, value: Any) -> None:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BundleError(f"'{path.name}' cannot be written as JSON: {error}; use plain values in the YAML") from error
    path.write_text(text + "\n", encoding="utf-8")


def _targets_of(configs: Path) -> Iterator[str]:
    for path in configs.glob("*.json"):
        pending = [json.loads(path.read_text(encoding="utf-8"))]
        while pending:
            value = pending.pop()
            if isinstance(value, Mapping):
                if isinstance(value.get("_target_"), str):
                    yield value["_target_"]
                pending += value.values()
            elif isinstance(value, list):
                pending += value


def _name_as_required(metadata: Path) -> None:
    content = json.loads(metadata.read_text(encoding="utf-8"))
    content.setdefault("required_packages_version", {}).setdefault("clinibundle", __version__)
    _write_json(metadata, content)
