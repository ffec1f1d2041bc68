"""What a source layout hands over: which cases a source has, and how one of them is written into a data folder."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clinibundle.console import Talk
from clinibundle.errors import OutputError, UnsuitableInput
from clinibundle.files import short_hash
from clinibundle.workflows.check import Problem
from clinibundle.workflows.folds import NUMBER_OF_FOLDS

_PACKED = ".gz"


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
class Origin:
    """The source, and what the bundle wants of it.

    Attributes:
        folder: that holds it.
        talk: where progress goes.
        label_values: sets of values that a label may have; None if the bundle does not say.
        outline_names: patterns of the names of the outlines to take; empty if the bundle does not say.
        is_temporary: the folder was made on the way, beside the destination, and goes at the end.
    """

    folder: Path
    talk: Talk
    label_values: Sequence[AbstractSet[int]] | None = None
    outline_names: Sequence[str] = ()
    is_temporary: bool = False

    def take(self, file: Path, target: Path) -> None:
        """Brings a file to its place in the data folder, byte by byte; the user's own stays where it is.

        It is compressed on the way where the target's ending says so and its own does not.

        Raises:
            OutputError: if there is no room for it.
        """
        try:
            if target.name.lower().endswith(_PACKED) and not file.name.lower().endswith(_PACKED):
                with file.open("rb") as plain, gzip.open(target, "wb", compresslevel=1) as packed:
                    shutil.copyfileobj(plain, packed)
            elif self.is_temporary:
                file.rename(target)
            else:
                shutil.copyfile(file, target)
        except OSError as error:
            raise OutputError(f"cannot write '{target.name}': {error.strerror}; make room or name another place") from (
                error
            )


@dataclass(frozen=True)
class SourceCase:
    """A picture with its label, as they lie in the source.

    Attributes:
        name: what it is called in the data folder.
        image: its picture; of a series of slices, one of them.
        masks: its label, in one file or several that are joined.
        facts: what else its row in `datalist.json` says.
        group: whose cases stay together; empty if it is a group of its own.
        shown: what people see it called; empty for the picture's place in the source.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    shown: str = ""


@dataclass(frozen=True)
class Written:
    """The files of a case in the data folder, relative to it.

    Attributes:
        image: its picture.
        label: its label.
        notes: what was changed on the way.
        facts: what else its row in `datalist.json` says, as far as that was learnt from the files.
    """

    image: str
    label: str
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def _no_problems() -> list[Problem]:
    return []


@dataclass(frozen=True)
class Plan:
    """How a source becomes a data folder.

    Attributes:
        found: what was recognised, for people.
        cases: all that have a picture and a label by their names.
        left_out: files without a counterpart.
        write: writes a case into a folder that has `images/` and `labels/`; raises `LeaveOut` for what is no case after
            all, and a `ClinibundleError` for a case that is refused.
        folds: fold of each case's name, given the cases that were written.
        header: what `datalist.json` says above its rows.
        refused: what has a counterpart and cannot be used all the same.
        find_problems: looks at all cases before any is written; an error among the problems refuses the whole source.
        side_by_side: several cases may be written at once; otherwise one has the memory for itself.
    """

    found: str
    cases: Sequence[SourceCase]
    left_out: Sequence[Remark]
    write: Callable[[SourceCase, Path], Written]
    folds: Callable[[Sequence[SourceCase]], Mapping[str, int]]
    header: Mapping[str, Any]
    refused: Sequence[Remark] = ()
    find_problems: Callable[[], list[Problem]] = _no_problems
    side_by_side: bool = True


def folds_of_groups(cases: Sequence[SourceCase]) -> dict[str, int]:
    """Folds of about the same number of cases, none of which parts a group; the order of the cases has no say.

    Large groups are given out first, each to the fold that has the fewest cases so far; equal ones by a hash, as names
    may be sorted by hospital or date.
    """
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case.group or case.name, []).append(case.name)
    sizes = [0] * NUMBER_OF_FOLDS
    folds = {}
    for _, names in sorted(groups.items(), key=lambda item: (-len(item[1]), short_hash(item[0]))):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(names)
        folds.update(dict.fromkeys(names, fold))
    return folds


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
