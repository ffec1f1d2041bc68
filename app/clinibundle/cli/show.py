"""`clinibundle show`."""

from __future__ import annotations

from clinibundle.cli.options import BundleName, Quiet, Verbose
from clinibundle.console import Talk


def show(bundle: BundleName, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """The model card of a bundle.

    Example: clinibundle show lung_xray
    """
    from rich.markdown import Markdown

    from clinibundle.workflows.catalogue import model_card

    # Without it, what is longer than a line is cut off.
    Talk(quiet, verbose).out.print(Markdown(model_card(bundle)), soft_wrap=False)
