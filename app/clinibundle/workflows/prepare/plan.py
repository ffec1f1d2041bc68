"""What a source layout hands over: which cases a source has, and how one of them is written into a data folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clinibundle.errors import UnsuitableInput


class NotThisLayout(UnsuitableInput):
    """A source is laid out in another way; the message says which files were expected."""


class LeaveOut(Exception):
    """A case cannot be used; the message says why."""


class Remark(NamedTuple):
    """A sentence about a file of the source: why it was left out, or what was changed on the way.

    Attributes:
        file: its place in the source.
        reason: the sentence.
    """

    file: str
    reason: str


@dataclass(frozen=True)
class SourceCase:
    """A picture with its label, as they lie in the source.

    Attributes:
        name: what it is called in the data folder.
        image: its picture.
        masks: its label, in one file or several that are joined.
        facts: what else its row in `datalist.json` says.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """The files of a case in the data folder, relative to it, and what was changed on the way."""

    image: str
    label: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How a source becomes a data folder.

    Attributes:
        found: what was recognised, for people.
        cases: all that have a picture and a label by their names.
        left_out: files without a counterpart.
        write: writes a case into a folder that has `images/` and `labels/`; raises `LeaveOut`.
        folds: fold of each case's name, given the cases that were written.
        header: what `datalist.json` says above its rows.
    """

    found: str
    cases: Sequence[SourceCase]
    left_out: Sequence[Remark]
    write: Callable[[SourceCase, Path], Written]
    folds: Callable[[Sequence[SourceCase]], Mapping[str, int]]
    header: Mapping[str, Any]


def shallowest_folder(source: Path, depth: int, fits: Callable[[Path], bool]) -> Path | None:
    """The folder that fits: `source` itself or, at most `depth` levels below, the one nearest to it.

    Archives put their files under one more folder, or under two copies at different depths.

    Raises:
        UnsuitableInput: if several folders of the same depth fit.
    """
    level = [source]
    for _ in range(depth + 1):
        fitting = [folder for folder in level if fits(folder)]
        if len(fitting) > 1:
            names = ", ".join(f"'{folder.relative_to(source).as_posix()}'" for folder in fitting)
            raise UnsuitableInput(
                f"'{source}' holds {len(fitting)} sets ({names}), one is expected; name one of these folders"
            )
        if fitting:
            return fitting[0]
        level = [below for folder in level for below in _folders_in(folder)]
    return None


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files of a folder with these endings, in any case, sorted by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    names = (entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    return [folder / name for name in sorted(names) if name.lower().endswith(suffixes)]


def _folders_in(folder: Path) -> Iterator[Path]:
    names = (entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith((".", "__")))
    yield from (folder / name for name in sorted(names))
