"""`clinibundle list`."""

from __future__ import annotations

from clinibundle.cli.options import Json, Quiet, Verbose
from clinibundle.console import Talk


def list_bundles(as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Bundles at hand: name, version, task, main metric, terms of the weights, where from.

    Example: clinibundle list
    """
    from clinibundle.workflows.catalogue import describe_bundles

    talk = Talk(quiet, verbose)
    rows = describe_bundles()
    if as_json:
        talk.json(rows)
        return
    columns = ("name", "version", "task", "modality", "metric", "weights", "from")
    talk.table(columns, [[row[column] for column in columns] for row in rows])
