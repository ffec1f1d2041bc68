"""The packed form of a bundle: a manifest of what is in it, and a zip that is the same whenever it is made."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinibundle import __version__
from clinibundle.files import sha256_of

MANIFEST = "manifest.json"
_FORMAT = 1
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16
# Compressed already; again takes time and gains nothing.
_STORED = (".png", ".jpg", ".gz", ".zip", ".whl")


def write_manifest(root: Path, facts: Mapping[str, Any]) -> None:
    """Writes what lies in a bundle, each file with its SHA-256, and what else is known of it."""
    files = {
        path.relative_to(root).as_posix(): sha256_of(path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).as_posix() != MANIFEST
    }
    content = {"format": _FORMAT, "packed_by": f"clinibundle {__version__}", **facts, "files": files}
    (root / MANIFEST).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_zip(root: Path, name: str, to: Path) -> None:
    """Zips a folder as `name/…`: sorted, without times and rights of this machine."""
    with zipfile.ZipFile(to, "w") as archive:
        for path in sorted(each for each in root.rglob("*") if each.is_file()):
            info = zipfile.ZipInfo(f"{name}/{path.relative_to(root).as_posix()}", _FIXED_TIME)
            info.external_attr, info.create_system = _PLAIN_FILE, 3
            info.compress_type = zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
