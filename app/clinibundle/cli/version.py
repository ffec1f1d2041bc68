"""`clinibundle version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed

import clinibundle
from clinibundle.cli.options import Quiet, Verbose
from clinibundle.console import Talk


def version(quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Versions of clinibundle and of what it stands on, for a bug report.

    Example: clinibundle version
    """
    rows = [["clinibundle", clinibundle.__version__], ["python", platform.python_version()]]
    rows += [[name, installed(name)] for name in ("monai", "torch", "pydicom", "highdicom", "numpy")]
    Talk(quiet, verbose).table(["package", "version"], rows)
