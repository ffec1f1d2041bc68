"""A bundle's configs with overlays and single settings on top; a mistyped id, which MONAI would add, is refused."""

from __future__ import annotations

import inspect
import json
import logging
import pydoc
import re
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from clinibundle.errors import BundleError, UsageError, did_you_mean

_REFERENCE = re.compile(r"[@%](\w+)")
# A bundle's configs that overlays are made for.
_WORKFLOWS = ("train", "evaluate", "inference")


def read_config(
    bundle: Path, name: str, overlays: Sequence[Path] = (), settings: Mapping[str, Any] | None = None
) -> Any:
    """A MONAI ConfigParser of `configs/<name>.yaml` (or .json) with overlays and settings, not yet parsed.

    Args:
        bundle: folder of the bundle; `bundle_root` is set to it, so that it runs from anywhere.
        name: `train`, `evaluate`, `inference`.
        overlays: files, later ones win; what they set must have a place in one of the bundle's configs, be a component
            or import, or be referred to by the overlay itself. What has its place in another config only is left out:
            `hardware/cpu` is for training and inference alike.
        settings: id to value, as `--set id=value` gives them; each must have a place in this config.

    Raises:
        BundleError: if there is no such config, or it cannot be read.
        UsageError: if an overlay or setting names an id that has no place.
    """
    # MONAI tells at every reader which optional codecs are absent.
    logging.getLogger("monai").setLevel(logging.ERROR)

    try:
        parser = _parser_of(config_file(bundle, name))
        files = [_config_file_or_none(bundle, other) for other in _WORKFLOWS if other != name and overlays]
        others = [_parser_of(file) for file in files if file is not None]
        for overlay in overlays:
            _put_on(parser, others, _read_overlay(overlay), overlay.name)
    except yaml.YAMLError as error:
        raise BundleError(f"a config is no valid YAML: {' '.join(str(error).split())}") from error
    for key, value in (settings or {}).items():
        if not _has_place(parser, _normal(key)):
            raise _no_such_id("--set", _normal(key), [parser])
        parser[key] = value
    parser["bundle_root"] = str(bundle)
    return parser


def _parser_of(file: Path) -> Any:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(file))
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


def component_of(part: Mapping[str, Any]) -> str:
    """What a part of a config calls, without its module."""
    return str(part.get("_target_", "")).rpartition(".")[2]


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


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`id=value` pairs as a mapping; values are read as YAML, so that 3, true, null and [1, 2] mean what they say.

    Raises:
        UsageError: if a pair has no `=`, or its value is no YAML, or nothing that JSON can hold.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set '{pair}': expected id=value, as in --set epochs=10")
        try:
            settings[_normal(key)] = value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set '{pair}': the value is no YAML; quote it") from error
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"--set '{pair}': a config holds neither dates nor infinite numbers; quote it") from error
    return settings


def _normal(key: str) -> str:
    return key.replace("#", "::")


def _plain(key: object) -> str:
    """The id itself: MONAI reads `+id` as "add to it"."""
    return _normal(str(key).removeprefix("+"))


def _put_on(parser: Any, others: Sequence[Any], content: Mapping[str, Any], where: str) -> None:
    """Sets an overlay's ids in every config that has a place for them, so that later ids of it find what these bring.

    Raises:
        UsageError: if no config has a place for an id.
    """
    from monai.bundle.utils import merge_kv

    for key, value in content.items():
        plain = _plain(key)
        fitting = [one for one in (parser, *others) if _has_place(one, plain)]
        brings = _brings_a_part(value, plain) or plain in _referred_to(content)
        if not fitting and brings and _may_grow(parser, plain):
            fitting = [parser]
        if not fitting:
            raise _no_such_id(where, plain, [parser, *others])
        for one in fitting:
            try:
                merge_kv(one, str(key), deepcopy(value))
            except ValueError as error:
                raise UsageError(
                    f"{where}: '{key}' adds to a list or mapping, and '{plain}' is neither, or not of the same kind"
                ) from error


def _has_place(parser: Any, plain: str) -> bool:
    """Whether the config has the id, or a component that takes an argument of that name."""
    if plain in parser:
        return True
    parent, _, name = plain.rpartition("::")
    arguments = _arguments(parser, parent)
    return arguments is None or name in arguments


def _arguments(parser: Any, component: str) -> set[str] | None:
    """Names of the arguments that a component takes, none if there is no component of this id.

    Returns:
        None if it takes any, or it cannot be told: it cannot be imported, or hides what it takes.
    """
    from monai.bundle import ConfigComponent

    config = parser.get(component) if component else None
    if not isinstance(config, dict) or "_target_" not in config:
        return set()
    with warnings.catch_warnings():
        # MONAI warns where two of its modules have a component of the name.
        warnings.simplefilter("ignore")
        target = ConfigComponent(config=config, locator=parser.locator).resolve_module_name()
        try:
            parameters = inspect.signature(pydoc.locate(str(target))).parameters  # type: ignore[arg-type]
        except (pydoc.ErrorDuringImport, TypeError, ValueError):
            return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return {*parameters, *ConfigComponent.non_arg_keys}


def _referred_to(content: Mapping[str, Any]) -> set[str]:
    """Ids that an overlay's own values refer to as `@id` or `%id`: those it may bring, as they are no slips."""
    return {found for text in _strings(content) for found in _REFERENCE.findall(text)}


def _strings(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _may_grow(parser: Any, plain: str) -> bool:
    """Whether a new id may be put there: at the top, or in a plain mapping."""
    parent = plain.rpartition("::")[0]
    config = parser.get(parent) if parent else {}
    return isinstance(config, dict) and "_target_" not in config


def _brings_a_part(value: Any, plain: str) -> bool:
    """Whether a new id of an overlay is meant: a component or import, or, in a mapping, a reference to one."""
    if isinstance(value, str):
        return value.startswith(("$import ", "@") if "::" in plain else "$import ")
    return isinstance(value, dict) and ("_target_" in value or any(_brings_a_part(v, plain) for v in value.values()))


def _no_such_id(where: str, plain: str, parsers: Sequence[Any]) -> UsageError:
    known = {one for parser in parsers for one in all_ids(parser.get())}
    parent = plain.rpartition("::")[0]
    known |= {f"{parent}::{name}" for parser in parsers for name in _arguments(parser, parent) or ()}
    return UsageError(f"{where}: the config has no id '{plain}'{did_you_mean(plain, known)}")
