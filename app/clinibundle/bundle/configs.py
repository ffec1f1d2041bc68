"""A bundle's configs with overlays and single settings on top; a mistyped id, which MONAI would add, is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clinibundle.errors import BundleError, UsageError, did_you_mean


def read_config(
    bundle: Path, name: str, overlays: Sequence[Path] = (), settings: Mapping[str, Any] | None = None
) -> Any:
    """A MONAI ConfigParser of `configs/<name>.yaml` (or .json) with overlays and settings, not yet parsed.

    Args:
        bundle: folder of the bundle; `bundle_root` is set to it, so that it runs from anywhere.
        name: `train`, `evaluate`, `inference`.
        overlays: files, later ones win; what they set must exist in the config, or be a component or import.
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
        for overlay in overlays:
            content = ConfigParser.load_config_file(str(overlay))
            _refuse_unknown_ids(content, known, overlay.name)
            parser.update(content)
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
    for suffix in (".yaml", ".yml", ".json"):
        path = bundle / "configs" / f"{name}{suffix}"
        if path.is_file():
            return path
    raise BundleError(f"the bundle '{bundle.name}' has no configs/{name}.yaml; it cannot be used for this")


def all_ids(config: Any, prefix: str = "") -> set[str]:
    """Every id of a config, nested ones as `train::trainer::max_epochs`."""
    ids: set[str] = set()
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        ids.add(f"{prefix}{key}")
        ids |= all_ids(value, f"{prefix}{key}::")
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


def _refuse_unknown_ids(content: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in content:
        plain = _normal(str(key).removeprefix("+"))
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
