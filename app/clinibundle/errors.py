"""Every refusal that a user can meet.

    ClinibundleError            exit code 1
    ├── UnreadableInput         a file or folder cannot be read as what it claims to be
    ├── UnsuitableInput         it can be read, and the bundle must not be run on it
    ├── GeometryError           its voxels have no trustworthy place in the patient
    ├── BundleError             a bundle lacks something, or contradicts itself
    ├── DataFolderError         a data folder for training or evaluation has problems
    ├── OutputError             results cannot be written where they should go, or differ when read back
    ├── MissingExtra            an optional part of clinibundle is not installed
    ├── UsageError              exit code 2: the command line is wrong
    ├── NeedsTrust              exit code 3
    └── Dangerous               exit code 4

A message is one sentence: what was found, what was expected, what to do.
"""

from __future__ import annotations

import difflib
import struct
import zlib
from collections.abc import Iterable

DAMAGE: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What libraries raise when a file is damaged; the tests that damage files byte by byte look for more."""


class ClinibundleError(Exception):
    """Something a user can understand and mend; shown without a traceback."""

    exit_code = 1


class UnreadableInput(ClinibundleError):
    """A file or folder cannot be read as what it claims to be."""


class UnsuitableInput(ClinibundleError):
    """The input can be read, but the bundle must not be run on it."""


class GeometryError(ClinibundleError):
    """The input's voxels have no trustworthy place in the patient."""


class BundleError(ClinibundleError):
    """A bundle lacks something or contradicts itself."""


class DataFolderError(ClinibundleError):
    """A data folder for training or evaluation has problems."""


class OutputError(ClinibundleError):
    """Results cannot be written where they should go, or differ when read back."""


class MissingExtra(ClinibundleError):
    """An optional part of clinibundle is not installed."""


class UsageError(ClinibundleError):
    """The command line is wrong."""

    exit_code = 2


class NeedsTrust(ClinibundleError):
    """A bundle wants to run code of its own and nobody vouches for it."""

    exit_code = 3


class Dangerous(ClinibundleError):
    """A bundle holds something that no bundle needs."""

    exit_code = 4


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest known word, or nothing if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
