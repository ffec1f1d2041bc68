"""A packed bundle put into a folder: only what lies in it, only if nothing about the archive is odd."""

from __future__ import annotations

from pathlib import Path

from clinibundle.errors import BundleError, Dangerous
from clinibundle.exchange.contents import open_contents
from clinibundle.exchange.verdicts import Verdict


def unpack(archive: Path, to: Path) -> None:
    """Writes the files of a packed bundle into `to`, which must be empty or not there.

    Raises:
        BundleError: if it holds no bundle, or a file is damaged.
        Dangerous: if the archive holds names, links or sizes that do harm when unpacked.
    """
    with open_contents(archive) as contents:
        odd = [finding for finding in contents.findings if finding.verdict is Verdict.DANGEROUS]
        if odd:
            raise Dangerous(f"'{archive.name}' is not unpacked: {odd[0].place!r}: {odd[0].why}")
        for name, size in contents.sizes.items():
            content = contents.read(name, size + 1)
            if len(content) != size:
                raise BundleError(f"'{archive.name}' is damaged: '{name}' has {len(content)} bytes in place of {size}")
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
