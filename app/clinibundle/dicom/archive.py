"""A zip of a study, unpacked into a temporary folder where it can do no harm.

zipfile reads it. What a stranger's zip calls for beyond that stands here: nothing is written before all members have
been looked at, and nothing ever outside that folder, or beyond stated limits. Names of members may hold a patient's
name, so that refusals tell their number, counted from 1 as the zip lists them.
"""

from __future__ import annotations

import io
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile, ZipInfo

from clinibundle.dicom.inflate import MAX_RATIO, UNSUSPECTED_BYTES
from clinibundle.errors import DAMAGE, UnreadableInput
from clinibundle.files import delayed_interrupts

MAX_MEMBERS = 100_000
"""No study has more files."""
MAX_FOLDERS = 200_000
"""Folders take disk space that no size tells of."""
MAX_BYTES = 64 << 30
"""All members together may not come to more."""
_MAX_DEPTH = 16
# The list of members is read in one go: so much for each of them, and a refusal for more costs little memory.
_MAX_DIRECTORY_BYTES = 320 * MAX_MEMBERS
_LOCAL_HEADER_BYTES = 30
_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_NAME_IN_UTF8 = 0x0800
_LINK_OF_WINDOWS = 0x0400
_CHUNK_BYTES = 1 << 20
_GIB = 1 << 30
_DAMAGE_TO_ZIP: tuple[type[Exception], ...] = (*DAMAGE, zipfile.BadZipFile)
_ASK_FOR_ANOTHER = "ask for a new export of the study"
_UNPACK_YOURSELF = "if you trust it, unpack it yourself and name the folder"


def is_zip(path: Path) -> bool:
    """Whether a file is a zip by its content; DICOM whose preamble looks like one is DICOM."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    return start.startswith(_STARTS) and start[128:] != b"DICM"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the files of a zip, under the names that they have there; removed at the end.

    A file whose name cannot be read or is not taken by the file system, or that lies very deep, is called `member 7`
    after its place in the zip. Empty folders are left out. Zips within the zip stay files.

    Raises:
        UnreadableInput: if the zip is damaged, encrypted or larger than the limits, has members that are no plain files
            or folders, that leave the folder or share a name, or if there is no room for it.
    """
    folder = None
    try:
        # An interrupt that arrives meanwhile takes effect when `folder` is known, so that it is removed.
        with delayed_interrupts():
            folder = _temporary_folder()
        _unpack(path, folder)
        yield folder
    finally:
        if folder is not None:
            with delayed_interrupts():
                shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="clinibundle-"))
    except OSError as error:
        raise UnreadableInput(
            f"the zip cannot be unpacked ({error.strerror}); set TMPDIR to a folder that can be written to"
        ) from error


def _unpack(path: Path, folder: Path) -> None:
    try:
        with _InShortReads(path) as stream, ZipFile(stream) as archive:
            members = archive.infolist()
            _refuse_dangerous(members, archive_bytes=path.stat().st_size, free_bytes=shutil.disk_usage(folder).free)
            for number, member in enumerate(members, start=1):
                if not _is_folder(member):
                    _write(_content(archive, member, number), folder, _parts(member), number)
    except _DAMAGE_TO_ZIP as error:
        raise UnreadableInput(
            f"the zip is damaged or cut off: its list of members cannot be read ({type(error).__name__}); "
            f"{_ASK_FOR_ANOTHER}"
        ) from error


class _InShortReads(io.FileIO):
    """A file of which zipfile, which believes what the zip says of its own size, cannot read too much at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise UnreadableInput(_more_than_members())
        return super().read(size) or b""


def _more_than_members() -> str:
    return f"the zip lists more than {MAX_MEMBERS} files, the most that are read; {_UNPACK_YOURSELF}"


def _refuse_dangerous(members: Sequence[ZipInfo], archive_bytes: int, free_bytes: int) -> None:
    """Raises UnreadableInput for what can be told from the list of members."""
    if len(members) > MAX_MEMBERS:
        raise UnreadableInput(_more_than_members())
    for number, member in enumerate(members, start=1):
        _refuse_unusual(member, number)
    _refuse_overlapping(members)
    _refuse_same_names(members)
    _refuse_many_folders(members)
    _refuse_large(sum(member.file_size for member in members), archive_bytes, free_bytes)


def _refuse_unusual(member: ZipInfo, number: int) -> None:
    name = _name(member)
    if name.startswith("/") or "\\" in name or any(_leads_out(part) for part in name.split("/")):
        raise UnreadableInput(f"member {number} of the zip has a path that may lead out of it; {_UNPACK_YOURSELF}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.external_attr & _LINK_OF_WINDOWS:
        raise UnreadableInput(
            f"member {number} of the zip is a link or device, expected files and folders; {_UNPACK_YOURSELF}"
        )
    if member.flag_bits & _ENCRYPTED:
        raise UnreadableInput(
            f"member {number} of the zip is encrypted; unpack it with its password and name the folder"
        )
    # Others are rare, and zipfile inflates them without a limit.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableInput(
            f"member {number} of the zip is compressed by method {member.compress_type}, expected 0 (stored) or 8 "
            f"(deflated); {_UNPACK_YOURSELF}"
        )


def _leads_out(part: str) -> bool:
    return part == ".." or re.match("[A-Za-z]:", part) is not None


def _refuse_overlapping(members: Sequence[ZipInfo]) -> None:
    """Members that share bytes make small zips large (D. Fifield, A better zip bomb, WOOT 2019)."""
    spans = sorted(
        (member.header_offset, member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size, number)
        for number, member in enumerate(members, start=1)
    )
    for (_, end, one), (start, _, other) in pairwise(spans):
        if start < end:
            raise UnreadableInput(
                f"members {min(one, other)} and {max(one, other)} of the zip share the same bytes, as in a zip made to "
                f"fill the disk; {_ASK_FOR_ANOTHER}"
            )


def _refuse_same_names(members: Sequence[ZipInfo]) -> None:
    numbers: dict[str, int] = {}
    for number, member in enumerate(members, start=1):
        parts = _parts(member)
        if _is_folder(member) or not parts:
            continue
        first = numbers.setdefault(_folded("/".join(parts)), number)
        if first != number:
            raise UnreadableInput(
                f"members {first} and {number} of the zip have one name, or names that only differ in small and "
                f"capital letters or in the form of accents; {_UNPACK_YOURSELF}"
            )


def _folded(name: str) -> str:
    """The same for names that a file system may take for one."""
    return unicodedata.normalize("NFD", name.casefold())


def _refuse_many_folders(members: Sequence[ZipInfo]) -> None:
    parents = {tuple(_parts(member)[:-1]) for member in members}
    if sum(map(len, parents)) > MAX_FOLDERS:
        raise UnreadableInput(
            f"the zip holds more than {MAX_FOLDERS} folders, the most that are made; {_UNPACK_YOURSELF}"
        )


def _refuse_large(total_bytes: int, archive_bytes: int, free_bytes: int) -> None:
    if total_bytes > MAX_BYTES:
        raise UnreadableInput(
            f"the zip unpacks to {total_bytes / _GIB:.1f} GiB, expected at most {MAX_BYTES / _GIB:.0f} GiB; "
            f"{_UNPACK_YOURSELF}"
        )
    if total_bytes > max(UNSUSPECTED_BYTES, MAX_RATIO * archive_bytes):
        raise UnreadableInput(
            f"the zip unpacks to {total_bytes / archive_bytes:.0f} times its size, expected at most {MAX_RATIO} times, "
            f"as one made to fill the disk; {_UNPACK_YOURSELF}"
        )
    if total_bytes > free_bytes:
        raise UnreadableInput(
            f"the zip unpacks to {total_bytes / _GIB:.1f} GiB and the temporary folder has room for "
            f"{free_bytes / _GIB:.1f} GiB; make room, or set TMPDIR to a folder that has it"
        )


def _is_folder(member: ZipInfo) -> bool:
    return member.orig_filename.endswith("/") or stat.S_ISDIR(member.external_attr >> 16)


def _name(member: ZipInfo) -> str:
    """Its path in the zip; empty if that is in an encoding that the zip does not state.

    Read in a wrong encoding, a patient's name would no more be recognised as such. UTF-8 is not mistaken for another.
    """
    # Not `filename`, which zipfile cuts at a zero byte. What is not stated, it has read as CP437.
    name = member.orig_filename
    if member.flag_bits & _NAME_IN_UTF8:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeDecodeError:
        return ""


def _parts(member: ZipInfo) -> list[str]:
    return [part for part in _name(member).split("/") if part not in ("", ".")]


def _content(archive: ZipFile, member: ZipInfo, number: int) -> Iterator[bytes]:
    """A member's bytes, which are as many as it says and have the checksum that it says.

    Raises:
        UnreadableInput: if they are not.
    """
    # zipfile stops silently at the size that the zip states; with one byte more to hope for, a lie comes out.
    hopeful = copy(member)
    hopeful.file_size += 1
    found = 0
    try:
        with archive.open(hopeful) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                found += len(chunk)
                yield chunk
    except _DAMAGE_TO_ZIP as error:
        raise UnreadableInput(
            f"member {number} of the zip is damaged ({type(error).__name__}); {_ASK_FOR_ANOTHER}"
        ) from error
    if found != member.file_size:
        raise UnreadableInput(
            f"member {number} of the zip unpacks to another size than the {member.file_size} bytes that it states; "
            f"{_ASK_FOR_ANOTHER}"
        )


def _write(content: Iterator[bytes], folder: Path, parts: Sequence[str], number: int) -> None:
    try:
        with _new_file(folder, parts, number) as target:
            for chunk in content:
                target.write(chunk)
    except OSError as error:
        raise UnreadableInput(
            f"member {number} of the zip cannot be unpacked ({error.strerror}); make room, or set TMPDIR to another "
            "folder"
        ) from error


def _new_file(folder: Path, parts: Sequence[str], number: int) -> BinaryIO:
    """A file by the member's name or, where the file system does not take that, by its number."""
    if 0 < len(parts) <= _MAX_DEPTH:
        # ValueError: a zero byte.
        with suppress(OSError, ValueError):
            path = folder.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
    return (folder / f"member {number}").open("xb")
