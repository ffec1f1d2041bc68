"""Output that appears whole or not at all, and fingerprints of files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clinibundle.errors import OutputError, UsageError

_CHUNK_BYTES = 1 << 20


@contextmanager
def whole_directory(destination: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary sibling of `destination` to write into; renamed into place at the end, removed on any error.

    Raises:
        OutputError: if `destination` holds something and `overwrite` is not set, or cannot be made.
    """
    refuse_full_directory(destination, overwrite)
    destination = destination.absolute()
    partial = None
    try:
        # An interrupt that arrives meanwhile takes effect when `partial` is known, so that it is removed.
        with delayed_interrupts():
            partial = _temporary_sibling(destination)
        yield partial
        partial.chmod(0o777 & ~_umask())
        # Again: somebody else may have filled it meanwhile.
        refuse_full_directory(destination, overwrite)
        _put_in_place(partial, destination)
    finally:
        if partial is not None:
            with delayed_interrupts():
                shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def whole_file(destination: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary sibling of a file to write; renamed into place at the end, removed on any error.

    Raises:
        OutputError: if `destination` is there and `overwrite` is not set, or cannot be made.
    """
    if destination.is_dir() or (destination.exists() and not overwrite):
        raise OutputError(f"'{destination}' is there already; name another file or add --overwrite")
    folder = None
    try:
        with delayed_interrupts():
            folder = _temporary_sibling(destination)
        yield folder / destination.name
        (folder / destination.name).replace(destination)
    finally:
        if folder is not None:
            with delayed_interrupts():
                shutil.rmtree(folder, ignore_errors=True)


def _temporary_sibling(destination: Path) -> Path:
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{destination.name}.partial-", dir=destination.parent))
    except OSError as error:
        raise OutputError(
            f"cannot write into '{destination.parent}': {error.strerror}; choose another folder"
        ) from error


def refuse_full_directory(destination: Path, overwrite: bool = False) -> None:
    """Raises OutputError if `destination` is a file, or a folder with something in it and `overwrite` is not set."""
    if destination.is_file():
        raise OutputError(f"'{destination}' is a file; name a folder for the results")
    if not overwrite and destination.is_dir() and any(destination.iterdir()):
        raise OutputError(f"'{destination}' is not empty; name another folder or add --overwrite")


def refuse_output_in_input(output: Path, source: Path) -> None:
    """Raises UsageError if `output` is, or lies in, the input; its path is not told, it may hold a patient's name."""
    if output.resolve().is_relative_to(source.resolve()):
        raise UsageError("the output folder lies in the input, which is never written to; name another one")


def refuse_input_in_output(output: Path, source: Path) -> None:
    """Raises UsageError if the input lies in `output`, so that --overwrite would remove it."""
    if source.resolve().is_relative_to(output.resolve()):
        raise UsageError("the input lies in the output folder, which would be replaced; name another one")


def _put_in_place(partial: Path, destination: Path) -> None:
    if not destination.exists():
        partial.rename(destination)
        return
    # Renamed away first: a folder cannot replace a full one, and at no time may half of each be there.
    with delayed_interrupts():
        replaced = Path(tempfile.mkdtemp(prefix=f".{destination.name}.replaced-", dir=destination.parent))
        try:
            destination.rename(replaced / "old")
            partial.rename(destination)
        except OSError:
            if (replaced / "old").exists():
                (replaced / "old").rename(destination)
            raise
        finally:
            shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def delayed_interrupts() -> Iterator[None]:
    """Ctrl-C, or a request to end, takes effect after the block: for what must not stop half way and takes moments."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread is interrupted.
        yield
        return
    arrived: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, lambda arriving, _: arrived.append(arriving)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """Writes JSON as people and programs read it; NaN and infinity are refused rather than written."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def short_hash(text: str) -> str:
    """Twelve hexadecimal digits that name a case without naming the patient."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
