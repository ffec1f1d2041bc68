"""The command line: one module per command, each parses, calls one function and prints."""

from clinibundle.cli.app import main

__all__ = ["main"]
