"""The files of a bundle, in a folder or a zip, with what is odd about them; nothing is unpacked.

zipfile refuses damaged archives, not dangerous ones: names that lead elsewhere, links, bombs, two files of one name.
"""

from __future__ import annotations

import stat
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from clinibundle.errors import BundleError
from clinibundle.exchange.verdicts import Finding, Verdict

_MOST_FILES = 10_000
_LARGEST_TOTAL = 8 * 2**30
# Of a file of more than a MiB; weights hardly shrink, and text by ten.
_LARGEST_RATIO = 100
_RATIO_MATTERS_FROM = 2**20
_METADATA = "configs/metadata.json"
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))})


class Contents:
    """Files of a bundle by their path in it, as POSIX writes paths.

    Attributes:
        sizes: of each file, bytes.
        findings: what is odd about names and sizes; files that are odd are not among `sizes`.
    """

    def __init__(self, sizes: dict[str, int], findings: list[Finding]) -> None:
        self.sizes, self.findings = sizes, findings

    def read(self, name: str, limit: int) -> bytes:
        """The first `limit` bytes of a file, all if it is shorter.

        Raises:
            BundleError: if it cannot be read.
        """
        raise NotImplementedError


class _Folder(Contents):
    def __init__(self, root: Path) -> None:
        self.root = root
        sizes: dict[str, int] = {}
        findings: list[Finding] = []
        for path in _walk(root, findings):
            sizes[path.relative_to(root).as_posix()] = path.lstat().st_size
        super().__init__(sizes, findings)

    def read(self, name: str, limit: int) -> bytes:
        try:
            with (self.root / name).open("rb") as stream:
                return stream.read(limit)
        except OSError as error:
            raise BundleError(f"'{name}' cannot be read: {error.strerror}") from error


def _walk(folder: Path, findings: list[Finding]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if path.name in ("__pycache__", ".git"):
            continue
        if stat.S_ISLNK(mode):
            findings.append(
                Finding(Verdict.DANGEROUS, path.name, str(path.readlink()), "a link, which leads elsewhere")
            )
        elif stat.S_ISDIR(mode):
            yield from _walk(path, findings)
        elif stat.S_ISREG(mode):
            yield path
        else:
            findings.append(Finding(Verdict.DANGEROUS, path.name, path.name, "neither file nor folder"))


class _Zip(Contents):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        findings: list[Finding] = []
        files = [info for info in archive.infolist() if not info.is_dir()]
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            if why := _why_odd(info):
                findings.append(Finding(Verdict.DANGEROUS, ascii(info.filename)[1:-1][:100], ascii(info.filename), why))
            elif not info.is_dir():
                self._members[info.filename] = info
        total = sum(info.file_size for info in files)
        if len(files) > _MOST_FILES or total > _LARGEST_TOTAL:
            findings.append(
                Finding(Verdict.DANGEROUS, "archive", f"{len(files)} files, {total} bytes", "far too large")
            )
        twice = Counter(unicodedata.normalize("NFKC", info.filename).casefold() for info in files)
        findings += [
            Finding(Verdict.DANGEROUS, name, name, "two files of one name: which one counts, depends on who unpacks")
            for name, times in twice.items()
            if times > 1
        ]
        root = _root_of(list(self._members))
        for name in [name for name in self._members if not name.startswith(root)]:
            findings.append(Finding(Verdict.NEEDS_TRUST, name, name, "lies beside the bundle"))
            del self._members[name]
        self._members = {name.removeprefix(root): info for name, info in self._members.items()}
        super().__init__({name: info.file_size for name, info in self._members.items()}, findings)

    def read(self, name: str, limit: int) -> bytes:
        try:
            with self.archive.open(self._members[name]) as stream:
                return stream.read(limit)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise BundleError(f"'{name}' in the archive is damaged or locked: {str(error)[:100]}") from error


def _why_odd(info: zipfile.ZipInfo) -> str:  # noqa: PLR0911 - a line a reason
    """Why a member must not be unpacked; empty if nothing speaks against it."""
    name, path = info.filename, PurePosixPath(info.filename)
    mode = info.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        return "its name leads out of the bundle"
    if not name.isprintable() or unicodedata.normalize("NFKC", name) != name or not name.isascii():
        return "its name has characters that look like others or like nothing"
    if any(part.partition(".")[0].lower() in _RESERVED or part != part.strip(" .") for part in path.parts):
        return "its name means something else on Windows"
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        return "a link or device, which leads elsewhere"
    if info.flag_bits & 1:
        return "it is locked with a password, so that nobody sees what it is"
    if info.file_size > _RATIO_MATTERS_FROM and info.file_size > _LARGEST_RATIO * max(1, info.compress_size):
        return f"{info.compress_size} bytes that unpack to {info.file_size}"
    return ""


def _root_of(names: list[str]) -> str:
    """The folder of the archive in which the bundle lies, with its slash; archives usually have one."""
    found = [name.removesuffix(_METADATA) for name in names if f"/{name}".endswith(f"/{_METADATA}")]
    return min(found, key=len, default="")


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The files of a bundle's folder or zip.

    Raises:
        BundleError: if it is neither, or holds no bundle.
    """
    if path.is_dir():
        yield _with_a_bundle(_Folder(path), path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, ValueError) as error:
        raise BundleError(f"'{path.name}' is neither the folder of a bundle nor a zip that can be read") from error
    with archive:
        yield _with_a_bundle(_Zip(archive), path)


def _with_a_bundle(contents: Contents, path: Path) -> Contents:
    if _METADATA not in contents.sizes and not contents.findings:
        raise BundleError(f"'{path.name}' is no bundle: it has no {_METADATA}")
    return contents
