"""Configs of a bundle read as data: which components they name, what expressions, links and paths they hold."""

from __future__ import annotations

import ast
import configparser
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import yaml

from clinibundle.exchange.components import judge_target
from clinibundle.exchange.expressions import judge_expression
from clinibundle.exchange.own_python import OwnPython
from clinibundle.exchange.verdicts import Finding, Verdict

LARGEST_CONFIG = 2**20
_DEEPEST, _MOST_VALUES = 60, 200_000
_URL = re.compile(r"\b(?:https?|ftp|file|s3|gs|ssh|git|data|oci|hf)://\S+|\\\\[\w.]+\\", re.IGNORECASE)
_ABSOLUTE = re.compile(r"(?:^|[\s'\"=(,])(/(?!/)[\w.~-]+/\S*|~[\w-]*/\S*|[A-Za-z]:[\\/]\S*)")
_UPWARDS = re.compile(r"(?:^|[\\/'\"\s=+])\.\.(?:[\\/]|$)")
_PUT_BEHIND = re.compile(r"@[\w:#]+\s*\+\s*(['\"])/.*?\1")
_FILE_OF_MACRO = re.compile(r"%(.+\.(?:json|yaml|yml))(?:::|#|$)", re.IGNORECASE)
# Arguments that make a component of MONAI fetch something.
_FETCHING = frozenset({"pretrained", "download", "progress", "is_pretrained", "pretrained_url", "hf_repo_id", "repo"})
_LOGGING_CLASSES = {
    "class": {"logging.Formatter"},
    "handler": {"StreamHandler", "logging.StreamHandler", "NullHandler"},
}
_FILE_HANDLERS = frozenset({"FileHandler", "logging.FileHandler"})


class Unreadable(Exception):
    """A config that is no plain data, and why."""


def read_plain(text: str, is_json: bool) -> Any:
    """JSON or YAML as plain data.

    Raises:
        Unreadable: if it is neither, has keys twice, tags that make objects, or unfolds to far more than was written.
    """
    try:
        if is_json:
            value = json.loads(text, object_pairs_hook=_without_double_keys)
        else:
            _refuse_tricks(text)
            value = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise Unreadable(f"cannot be read: {' '.join(str(error).split())[:120]}") from error
    budget = [_MOST_VALUES]
    _count(value, budget, 0)
    return value


def _without_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise Unreadable("has a key twice: readers differ in which one counts")
    return dict(pairs)


def _refuse_tricks(text: str) -> None:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        tag = getattr(event, "tag", None)
        if (tag and not tag.startswith("tag:yaml.org,2002:")) or (tag and "python" in tag):
            raise Unreadable(f"the tag {tag} makes an object")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    pending, seen = [node], set()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, yaml.MappingNode):
            keys = [key.value for key, _ in each.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                raise Unreadable("has a key twice: readers differ in which one counts")
            pending += [part for pair in each.value for part in pair]
        elif isinstance(each, yaml.SequenceNode):
            pending += each.value


def _count(value: Any, budget: list[int], depth: int) -> None:
    budget[0] -= 1
    if budget[0] < 0 or depth > _DEEPEST:
        raise Unreadable("unfolds to far more than was written")
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, (str, int, float, bool)) and key is not None:
                raise Unreadable("has a key that is no text")
            _count(each, budget, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _count(each, budget, depth + 1)


def texts_in(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a config with its id, keys with values alike."""
    if isinstance(value, dict):
        for key, each in value.items():
            below = f"{place}::{key}" if place else str(key)
            if isinstance(key, str) and (key.startswith(("$", "@", "%")) or not key.isascii()):
                yield below, key
            yield from texts_in(each, below)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from texts_in(each, f"{place}::{number}")
    elif isinstance(value, str):
        yield place, value


def targets_in(value: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every component of a config: its id, and what it is made with."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield place, value
        for key, each in value.items():
            yield from targets_in(each, f"{place}::{key}" if place else str(key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from targets_in(each, f"{place}::{number}")


def judge_config(name: str, value: Any, own: OwnPython) -> list[Finding]:
    """What a config, read as data, would make MONAI do."""
    found = []
    for place, component in targets_in(value):
        verdict, why = judge_target(component["_target_"], own)
        found.append(Finding(verdict, f"{name}, {place}", _short(component["_target_"]), why or "a component"))
        found += arguments_that_reach_out(f"{name}, {place}", component)
    for place, text in texts_in(value):
        where = f"{name}, {place}"
        if text.startswith("$"):
            verdict, why = judge_expression(text)
            found.append(Finding(verdict, where, _short(text), why or "an expression"))
        elif text.startswith("%"):
            found += _judge_macro(where, text)
        found += _judge_links(where, text)
    return found


def arguments_that_reach_out(where: str, component: dict[str, Any]) -> list[Finding]:
    """Arguments by which a harmless component fetches, runs or reads what is not."""
    found = []
    mode = component.get("_mode_", "default")
    if mode not in ("default", "callable"):
        found.append(Finding(Verdict.NEEDS_TRUST, where, f"_mode_: {_short(mode)}", "starts a debugger, or more"))
    for key, value in component.items():
        if key in _FETCHING and value not in (False, None, 0, "false", "False"):
            found.append(
                Finding(Verdict.NEEDS_TRUST, where, f"{key}: {_short(value)}", "may fetch weights from elsewhere")
            )
        if key == "reader" and "numpy" in str(value).lower():
            found.append(Finding(Verdict.DANGEROUS, where, f"reader: {_short(value)}", "reads pickles, which run"))
        if (
            isinstance(key, str)
            and key.startswith("_")
            and key.strip("_") not in ("target", "mode", "disabled", "requires", "desc")
        ):
            found.append(Finding(Verdict.NEEDS_TRUST, where, _short(key), "an argument that is not meant for configs"))
    return found


def _judge_macro(where: str, text: str) -> list[Finding]:
    named = _FILE_OF_MACRO.match(text)
    if named is None:
        return []
    path = PurePosixPath(named.group(1).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in named.group(1) or "~" in path.parts:
        return [Finding(Verdict.DANGEROUS, where, _short(text), "takes in a config from outside the bundle")]
    return [Finding(Verdict.NEEDS_TRUST, where, _short(text), "takes in another file, from wherever it is run")]


def absolute_paths(text: str) -> list[str]:
    """Paths that do not begin at the bundle; what is put behind a reference, as in @bundle_root + '/models', does."""
    return [str(path) for path in _ABSOLUTE.findall(_PUT_BEHIND.sub("", text))]


def _judge_links(where: str, text: str) -> list[Finding]:
    found = [Finding(Verdict.NEEDS_TRUST, where, _short(link), "a link to elsewhere") for link in _URL.findall(text)]
    if not found and not text.startswith(("@", "%")):
        found = [
            Finding(Verdict.NEEDS_TRUST, where, _short(path), "a path outside the bundle")
            for path in absolute_paths(text)
        ]
    if not text.startswith("%") and _UPWARDS.search(text):
        found.append(Finding(Verdict.NEEDS_TRUST, where, _short(text), "a path that leads out of a folder"))
    if not text.isascii() and (text.startswith(("$", "@", "%")) or any(ord(sign) in _INVISIBLE for sign in text)):
        found.append(
            Finding(Verdict.DANGEROUS, where, ascii(text)[:100], "characters that look like others or like nothing")
        )
    return found


_INVISIBLE = frozenset(
    {
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x206A),
        0xAD,
        0xFEFF,
        0x180E,
        *range(0xE0000, 0xE0080),
    }
)


def judge_logging(name: str, text: str) -> list[Finding]:
    """`logging.conf`, of which logging evaluates classes and arguments."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        return [Finding(Verdict.NEEDS_TRUST, name, name, f"cannot be read: {str(error)[:80]}")]
    found = []
    for section in parser.sections():
        for key, value in parser[section].items():
            where = f"{name}, [{section}] {key}"
            if key == "class":
                found += _judge_logging_class(where, section, value)
            elif key in ("args", "kwargs") and not _is_plain_arguments(value):
                found.append(
                    Finding(Verdict.DANGEROUS, where, _short(value), "is evaluated, and is more than constants")
                )
    return found


def _judge_logging_class(where: str, section: str, value: str) -> list[Finding]:
    known = _LOGGING_CLASSES["handler" if section.startswith("handler") else "class"]
    if value in known:
        return []
    if value in _FILE_HANDLERS:
        return [Finding(Verdict.NEEDS_TRUST, where, value, "writes a file")]
    return [Finding(Verdict.DANGEROUS, where, _short(value), "any class or function can be named here, and is called")]


def _is_plain_arguments(value: str) -> bool:
    try:
        tree = ast.parse(value.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if isinstance(tree, (ast.Tuple, ast.List)):
        return all(
            isinstance(each, ast.Constant) or ast.unparse(each) in ("sys.stdout", "sys.stderr") for each in tree.elts
        )
    if isinstance(tree, ast.Dict):
        return all(isinstance(each, ast.Constant) for each in tree.values)
    return isinstance(tree, ast.Constant)


def _short(value: object) -> str:
    return str(value)[:100]
