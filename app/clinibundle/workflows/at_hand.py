"""A bundle that was named by folder, name or packed file, ready to be used, and whether anybody vouches for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_bundle
from clinibundle.exchange.unpack import unpack


@contextmanager
def bundle_at_hand(name: str) -> Iterator[tuple[Bundle, bool]]:
    """The bundle, and whether it came packed: then it is unpacked into a folder that is gone afterwards.

    Raises:
        BundleError: if it is no bundle.
        UsageError: if no bundle has that name.
        Dangerous: if unpacking it would do harm.
    """
    path = Path(name)
    if not (path.is_file() and path.suffix.lower() == ".zip"):
        yield Bundle(find_bundle(name)), False
        return
    with TemporaryDirectory(prefix="clinibundle-") as folder:
        root = Path(folder) / path.stem
        unpack(path, root)
        yield Bundle(find_bundle(str(root))), True
