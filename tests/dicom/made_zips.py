"""Zips made for tests, sound ones and others, and what comes of them."""

import tempfile
import warnings
import zipfile
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from clinibundle.dicom import archive
from clinibundle.dicom.archive import unpacked
from clinibundle.errors import UnreadableInput

# In the names of all members, so that a refusal that quotes one is noticed.
PATIENT = "Kowalska"
SOUND = {
    "study/IM1": b"DICM" * 1000,
    "study/series 2/IM1.dcm": bytes(range(256)) * 900,
    "empty": b"",
    "__MACOSX/study/._IM1": b"\0\5\26\7",
    "._x": b"resource fork",
    ".hidden": b"hidden",
    "München/Übersicht 山田.dcm": b"umlauts",
    "inner.zip": b"PK\x03\x04 is not unpacked",
}


def zip_of(path, members, **how):
    """A zip of these names and contents; what Python says of equal names is not wanted."""
    with warnings.catch_warnings(), ZipFile(path, "w", **({"compression": zipfile.ZIP_DEFLATED} | how)) as made:
        warnings.simplefilter("ignore")
        for name, content in members:
            # Set afterwards, as ZipInfo changes some names.
            info = ZipInfo()
            info.filename = name
            made.writestr(info, content, compress_type=made.compression)
    return path


def with_directory(path, members, change, **how):
    """A zip whose list of members says something else than what is there."""
    with ZipFile(path, "w", **({"compression": zipfile.ZIP_DEFLATED} | how)) as made:
        for name, content in members:
            made.writestr(name, content)
        change(made.filelist)
    return path


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def unpacked_tree(path):
    with unpacked(path) as folder:
        return tree(folder)


def refusal(path):
    """Why a zip is refused; nothing of it remains, and the sentence names no member."""
    before = tree(path.parent)
    with pytest.raises(UnreadableInput) as caught, unpacked(path):
        pytest.fail("it was unpacked")
    assert list(Path(tempfile.gettempdir()).iterdir()) == []
    assert tree(path.parent) == before
    assert PATIENT.casefold() not in str(caught.value).casefold()
    return str(caught.value)


def refused_before_writing(path, monkeypatch):
    """Why a zip is refused when only its list of members was read."""
    monkeypatch.setattr(archive, "_write", lambda *_: pytest.fail("something was written"))
    return refusal(path)
