"""A bundle's configs with overlays and single settings on top; a mistyped id, which MONAI would add, is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clinibundle.errors import BundleError, UsageError, did_you_mean

# A bundle's configs that overlays are made for.
_WORKFLOWS = ("train", "evaluate", "inference")


def read_config(
    bundle: Path, name: str, overlays: Sequence[Path] = (), settings: Mapping[str, Any] | None = None
) -> Any:
    """A MONAI ConfigParser of `configs/<name>.yaml` (or .json) with overlays and settings, not yet parsed.

    Args:
        bundle: folder of the bundle; `bundle_root` is set to it, so that it runs from anywhere.
        name: `train`, `evaluate`, `inference`.
        overlays: files, later ones win; what they set must exist in the config, or be a component or import. What only
            another config of the bundle has is left out: `hardware/cpu` is for training and inference alike.
        settings: id to value, as `--set id=value` gives them.

    Raises:
        BundleError: if there is no such config, or it cannot be read.
        UsageError: if an overlay or setting names an id that the config does not have.
    """
    # MONAI tells at every reader which optional codecs are absent.
    logging.getLogger("monai").setLevel(logging.ERROR)
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    try:
        parser.read_config(str(config_file(bundle, name)))
        known = all_ids(parser.get())
        elsewhere = _ids_of_other_configs(bundle, name) - known if overlays else set()
        for overlay in overlays:
            content = _read_overlay(overlay)
            fitting = {key: value for key, value in content.items() if _plain(key) not in elsewhere}
            _refuse_unknown_ids(fitting, known, overlay.name)
            parser.update(fitting)
    except yaml.YAMLError as error:
        raise BundleError(f"a config is no valid YAML: {' '.join(str(error).split())}") from error
    _refuse_unknown_ids(settings or {}, known, "--set")
    parser.update({**(settings or {}), "bundle_root": str(bundle)})
    return parser


def config_file(bundle: Path, name: str) -> Path:
    """The authored YAML, or the JSON twin that packed bundles have.

    Raises:
        BundleError: if there is neither.
    """
    path = _config_file_or_none(bundle, name)
    if path is None:
        raise BundleError(f"the bundle '{bundle.name}' has no configs/{name}.yaml; it cannot be used for this")
    return path


def _config_file_or_none(bundle: Path, name: str) -> Path | None:
    paths = [bundle / "configs" / f"{name}{suffix}" for suffix in (".yaml", ".yml", ".json")]
    return next((path for path in paths if path.is_file()), None)


def all_ids(config: Any, prefix: str = "") -> set[str]:
    """Every id of a config, nested ones as `train::trainer::max_epochs`."""
    ids: set[str] = set()
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        ids.add(f"{prefix}{key}")
        ids |= all_ids(value, f"{prefix}{key}::")
    return ids


def _read_overlay(overlay: Path) -> dict[str, Any]:
    from monai.bundle import ConfigParser

    try:
        content = ConfigParser.load_config_file(str(overlay))
    except ValueError as error:
        raise UsageError(f"'{overlay.name}' is no config that MONAI reads; expected .yaml, .yml or .json") from error
    if not isinstance(content, dict):
        raise UsageError(f"'{overlay.name}' is no overlay; expected ids with their values, as in epochs: 10")
    return content


def _ids_of_other_configs(bundle: Path, name: str) -> set[str]:
    from monai.bundle import ConfigParser

    ids: set[str] = set()
    for other in _WORKFLOWS:
        path = _config_file_or_none(bundle, other) if other != name else None
        ids |= set() if path is None else all_ids(ConfigParser.load_config_file(str(path)))
    return ids


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`id=value` pairs as a mapping; values are read as YAML, so that 3, true, null and [1, 2] mean what they say.

    Raises:
        UsageError: if a pair has no `=`, or its value is no YAML.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set '{pair}': expected id=value, as in --set epochs=10")
        try:
            settings[_normal(key)] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set '{pair}': the value is no YAML; quote it") from error
    return settings


def _normal(key: str) -> str:
    return key.replace("#", "::")


def _plain(key: object) -> str:
    """The id itself: MONAI reads `+id` as "add to it"."""
    return _normal(str(key).removeprefix("+"))


def _refuse_unknown_ids(content: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in content:
        plain = _plain(key)
        parent = plain.rpartition("::")[0]
        # `a#b` may add b to an existing a; a new top-level id of an import or helper expression is fine in a file.
        if plain in known or (parent and parent in known):
            continue
        value = content[key]
        if where != "--set" and isinstance(value, str | dict) and _defines_something(value):
            known.add(plain)
            continue
        raise UsageError(f"{where}: the config has no id '{plain}'{did_you_mean(plain, known)}")


def _defines_something(value: str | dict[str, Any]) -> bool:
    # An overlay may bring components and imports of its own, which other ids of it refer to.
    return value.startswith("$import ") if isinstance(value, str) else "_target_" in value
