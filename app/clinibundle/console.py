"""What people see: results on standard output; stages, progress, warnings and refusals on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_QUIET, _NORMAL, _VERBOSE = 0, 1, 2


class Talk:
    """Where a command's words go, and how many of them.

    Args:
        quiet: only results and refusals.
        verbose: what a stage found as well.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.level = _QUIET if quiet else _VERBOSE if verbose else _NORMAL
        # Names of files may look like markup.
        self.out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @property
    def is_quiet(self) -> bool:
        """Whether only results and refusals are wanted."""
        return self.level == _QUIET

    @property
    def is_verbose(self) -> bool:
        """Whether details are wanted."""
        return self.level == _VERBOSE

    def stage(self, text: str) -> None:
        """One line at the start of each stage."""
        if self.level >= _NORMAL:
            self._say(text, "dim")

    def detail(self, text: str) -> None:
        """More of it, with --verbose."""
        if self.level >= _VERBOSE:
            self._say(f"  {text}", "dim")

    def warning(self, text: str) -> None:
        """Something a person should look at; the work goes on."""
        if self.level >= _NORMAL:
            self._say(f"warning: {text}", "yellow")

    def problem(self, text: str) -> None:
        """One of several reasons for the refusal that follows; shown at any level."""
        self._say(f"error: {text}", "red")

    def refusal(self, text: str) -> None:
        """Why something was not done; shown at any level."""
        self._say(f"refused: {text}", "red")

    def result(self, text: str) -> None:
        """A line of result."""
        self.out.print(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table of results; cells are shown as they are."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self.out.print(table)

    def json(self, content: Any) -> None:
        """The one document of a --json run."""
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Any]:
        """A bar with count and time left; yields a function to call after each step. One line where no terminal is."""
        if self.is_quiet or not self.err.is_terminal:
            self.stage(f"{what} ({total})")
            yield lambda: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.err, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)

    def _say(self, text: str, style: str) -> None:
        self.err.print(_one_line(text), style=style)


def _one_line(text: str) -> str:
    """Without line breaks and terminal codes, which names of files and values of headers may bring along."""
    return "".join(character if character.isprintable() else " " for character in text)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else _one_line(str(value))
