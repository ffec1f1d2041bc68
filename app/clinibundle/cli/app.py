"""The program: its commands, and how a failure ends."""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from clinibundle.cli import (
    check,
    convert,
    evaluate,
    inspect,
    listing,
    pack,
    phantom,
    prepare,
    segment,
    show,
    studies,
    train,
    version,
)
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError

app = typer.Typer(
    name="clinibundle",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "MONAI bundles for clinics and researchers.\n\n"
        "Example: clinibundle segment lung_xray film.dcm --output-dir result\n\n"
        "With --debug, any command shows where in the program a failure arose; that may quote the input."
    ),
)
app.command("list")(listing.list_bundles)
app.command("show")(show.show)
app.command("studies")(studies.studies)
app.command("segment")(segment.segment)
app.command("convert")(convert.convert)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("prepare")(prepare.prepare)
app.command("check")(check.check)
app.command("phantom")(phantom.phantom)
app.command("inspect")(inspect.inspect)
app.command("pack")(pack.pack)
app.command("version")(version.version)


def main() -> None:
    """Runs a command; refusals are one sentence on standard error, with the exit code of their kind."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    # Warnings of the libraries quote values of headers, patient names among them; what matters becomes a check.
    warnings.simplefilter("default" if debug else "ignore")
    ended_by: list[int] = []
    try:
        with _ended_by_signals(ended_by):
            app(prog_name=app.info.name)
    except Exception as error:  # noqa: BLE001 - the outermost place, which turns every failure into an exit code
        if ended_by:
            # It arrived where Python cannot be interrupted, such as a lock of its own, and something else came of it.
            sys.exit(128 + ended_by[0])
        if isinstance(error, ClinibundleError):
            _refuse(str(error), error.exit_code, debug)
        # The message may quote the input, so only its kind is shown.
        kind = type(error).__name__
        _refuse(f"an internal error ({kind}); run again with --debug to see where, and report it", 1, debug)


def _refuse(text: str, exit_code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    Talk().refusal(text)
    sys.exit(exit_code)


@contextmanager
def _ended_by_signals(arrived: list[int]) -> Iterator[None]:
    """Ctrl-C and a request to end leave as SystemExit (130 and 143), so that half-written output is cleared away.

    Python's own KeyboardInterrupt would not do: after one has passed through an `eval`, which MONAI's configs are made
    of, Python ends itself by the signal whatever exit code is asked for.

    Args:
        arrived: gets the numbers of the signals.
    """

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        arrived.append(number)
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
