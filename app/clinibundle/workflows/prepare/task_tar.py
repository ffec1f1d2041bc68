"""The .tar in which a decathlon task is given out, unpacked where it can do no harm.

tarfile reads it. What a stranger's archive calls for beyond that stands here: all members are looked at before one is
written, only the training volumes and their list are, by names that cannot lead elsewhere, and chunk by chunk.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tarfile import TarFile, TarInfo

from clinibundle.console import Talk
from clinibundle.errors import DAMAGE, OutputError, UnreadableInput
from clinibundle.files import delayed_interrupts
from clinibundle.pictures.read import NIFTI_SUFFIXES

MAX_MEMBERS = 100_000
"""No task has more files."""
MAX_BYTES = 128 << 30
"""All wanted members together may not come to more; the largest task of the decathlon has 27 GiB."""
LIST_NAME = "dataset.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
# Long names and the like, which tarfile reads in one go whatever size they state.
_MAX_READ_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_GIB = 1 << 30
_MAGIC_AT, _MAGIC = 257, b"ustar"
_DAMAGE_TO_TAR: tuple[type[Exception], ...] = (*DAMAGE, tarfile.TarError)
_UNPACK_YOURSELF = "if you trust it, unpack it yourself and name the folder"


def is_tar(path: Path) -> bool:
    """Whether a file is a tar that is not compressed as a whole, by its content."""
    try:
        with path.open("rb") as stream:
            stream.seek(_MAGIC_AT)
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


@contextmanager
def unpacked_task(path: Path, destination: Path, talk: Talk) -> Iterator[Path]:
    """A temporary sibling of `destination` with the list, images and labels of a task's tar; removed at the end.

    Raises:
        UnreadableInput: if the tar is damaged or larger than the limits, or has members that are links or devices, that
            lead out of it or share a name.
        OutputError: if there is no room for it.
    """
    folder = None
    try:
        # An interrupt that arrives meanwhile takes effect when `folder` is known, so that it is removed.
        with delayed_interrupts():
            folder = _temporary_sibling(destination)
        _unpack(path, folder, talk)
        yield folder
    finally:
        if folder is not None:
            with delayed_interrupts():
                shutil.rmtree(folder, ignore_errors=True)


def _temporary_sibling(destination: Path) -> Path:
    parent = destination.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{destination.name}.unpacked-", dir=parent))
    except OSError as error:
        raise OutputError(f"cannot write into '{parent}': {error.strerror}; choose another folder") from error


class _InShortReads(io.FileIO):
    """A file of which tarfile, which believes what a header says of its own size, cannot read too much at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_READ_BYTES:
            raise tarfile.ReadError
        return super().read(size) or b""


def _unpack(path: Path, folder: Path, talk: Talk) -> None:
    try:
        with _InShortReads(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            wanted = _wanted_members(archive)
            _refuse_large(wanted, shutil.disk_usage(folder).free)
            with talk.progress("Unpacking the training volumes", len(wanted)) as step:
                for place, member in wanted.items():
                    _write(archive, member, folder / place)
                    step()
    except _DAMAGE_TO_TAR as error:
        raise UnreadableInput(
            f"the tar is damaged or cut off ({type(error).__name__}); download it again, or unpack it and name the "
            "folder"
        ) from error


def _wanted_members(archive: TarFile) -> dict[PurePosixPath, TarInfo]:
    """What a training needs, by its place in the archive."""
    wanted: dict[PurePosixPath, TarInfo] = {}
    for number, member in enumerate(archive, start=1):
        # Also ends what a header that leads back to itself would make go on for ever.
        if number > MAX_MEMBERS:
            raise UnreadableInput(
                f"the tar lists more than {MAX_MEMBERS} members, the most that are read; {_UNPACK_YOURSELF}"
            )
        parts = _parts(member, number)
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise UnreadableInput(
                f"member {number} of the tar is a link, a device or a file with holes, expected plain files and "
                f"folders; {_UNPACK_YOURSELF}"
            )
        if not _is_wanted(parts):
            continue
        place = PurePosixPath(*parts)
        if place in wanted:
            raise UnreadableInput(f"member {number} of the tar has the name of an earlier one; {_UNPACK_YOURSELF}")
        wanted[place] = member
    return wanted


def _parts(member: TarInfo, number: int) -> list[str]:
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or "\0" in member.name or ":" in parts[0]:
        raise UnreadableInput(f"member {number} of the tar has a path that may lead out of it; {_UNPACK_YOURSELF}")
    return [part for part in parts if part not in ("", ".")]


def _is_wanted(parts: list[str]) -> bool:
    """Whether it is the list, an image or a label, at the top or one folder below."""
    if not parts or len(parts) > 3 or parts[-1].startswith("."):  # macOS leaves a `._a.nii.gz` beside each file
        return False
    if parts[-1] == LIST_NAME:
        return len(parts) <= 2
    return len(parts) >= 2 and parts[-2] in (IMAGES, LABELS) and parts[-1].lower().endswith(NIFTI_SUFFIXES)


def _refuse_large(wanted: Mapping[PurePosixPath, TarInfo], free_bytes: int) -> None:
    total = sum(member.size for member in wanted.values())
    if total > MAX_BYTES:
        raise UnreadableInput(
            f"the tar unpacks to {total / _GIB:.1f} GiB, expected at most {MAX_BYTES / _GIB:.0f} GiB; "
            f"{_UNPACK_YOURSELF}"
        )
    if total > free_bytes:
        raise OutputError(
            f"the tar unpacks to {total / _GIB:.1f} GiB and there is room for {free_bytes / _GIB:.1f} GiB beside the "
            "destination; make room or name another one"
        )


def _write(archive: TarFile, member: TarInfo, target: Path) -> None:
    content = archive.extractfile(member)
    if content is None:
        raise tarfile.ReadError
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stream = target.open("xb")
    except OSError as error:
        raise OutputError(f"cannot unpack beside the destination: {error.strerror}; name another one") from error
    with content, stream:
        shutil.copyfileobj(content, stream, _CHUNK_BYTES)
        if stream.tell() != member.size:
            raise tarfile.ReadError
