"""The program: its commands, and how a failure ends."""

from __future__ import annotations

import os
import sys
import warnings

import typer

from clinibundle.cli import check, evaluate, listing, phantom, prepare, segment, show, train, version
from clinibundle.console import Talk
from clinibundle.errors import ClinibundleError

_INTERRUPTED = 130

app = typer.Typer(
    name="clinibundle",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "MONAI bundles for clinics and researchers.\n\n"
        "Example: clinibundle segment lung_xray film.dcm --output-dir result"
    ),
)
app.command("list")(listing.list_bundles)
app.command("show")(show.show)
app.command("segment")(segment.segment)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("prepare")(prepare.prepare)
app.command("check")(check.check)
app.command("phantom")(phantom.phantom)
app.command("version")(version.version)


def main() -> None:
    """Runs a command; refusals are one sentence on standard error, with the exit code of their kind."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    # Warnings of the libraries quote values of headers, patient names among them; what matters becomes a check.
    warnings.simplefilter("default" if debug else "ignore")
    os.environ.setdefault("PYDICOM_QUIET", "1")
    try:
        app()
    except ClinibundleError as error:
        if debug:
            raise
        Talk().refusal(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        # The message may quote the input, so only its kind is shown.
        Talk().refusal(
            f"an internal error ({type(error).__name__}); run again with --debug to see where, and report it"
        )
        sys.exit(1)
