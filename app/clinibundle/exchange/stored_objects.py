"""Weight files and other binaries, looked through without being loaded: what would their pickles call?

torch tells unsafe names of its own zip format alone, picklescan and modelscan know lists of dangerous names; here only
what the weights of a network need is let through (the rules of torch's weights_only).
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Callable

from clinibundle.exchange.expressions import CLEAN, Judgement
from clinibundle.exchange.verdicts import Verdict

LARGEST_LOOKED_THROUGH = 2**30
_STORAGES = "Float Double Half BFloat16 Long Int Short Char Byte Bool ComplexFloat ComplexDouble Untyped Typed"
_TORCH = "Size device Tensor bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 bool"
_ALLOWED = frozenset(
    {
        "collections OrderedDict", "_codecs encode", "torch.nn.parameter Parameter", "torch.serialization _get_layout",
        *(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
        *(f"torch {name}Storage" for name in _STORAGES.split()),
        *(f"torch.storage {name}Storage" for name in _STORAGES.split()),
        *(f"torch {name}" for name in _TORCH.split()),
    }
)  # fmt: skip
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"})
_BETWEEN_TEXTS = frozenset({"MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"})
_PICKLE_START = re.compile(rb"\x80[\x01-\x05]|[(cil\]})](?=.)", re.DOTALL)
_PICKLE_ENDINGS = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".dill", ".p", ".th", ".tar")
_CODE_ENDINGS = {
    **dict.fromkeys(
        (".so", ".dll", ".dylib", ".pyd", ".exe", ".pyc", ".pyo", ".egg", ".jar", ".class"), "compiled code"
    ),
    **dict.fromkeys((".sh", ".bat", ".cmd", ".ps1", ".vbs", ".command", ".desktop", ".lnk", ".reg"), "a script"),
}
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}


def judge_binary(name: str, size: int, read: Callable[[int], bytes]) -> Judgement | None:  # noqa: PLR0911 - a line a kind
    """The verdict on a file that is no text that others look at; None if it is nothing that is known to run.

    Args:
        name: path of the file.
        size: bytes.
        read: gives the first so many bytes.
    """
    lower = name.lower()
    for ending, kind in _CODE_ENDINGS.items():
        if lower.endswith(ending) or f"{ending}." in lower:
            return Verdict.DANGEROUS, f"{kind}, which nobody can look through"
    if lower.endswith(".whl"):
        return Verdict.NEEDS_TRUST, "a Python package; it is never installed by itself"
    start = read(16)
    if start[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe") or start[:2] == b"MZ" or start[:2] == b"#!":
        return Verdict.DANGEROUS, "a program"
    if lower.endswith(".nii.gz") and start.startswith(b"\x1f\x8b"):
        # Numbers, as in the test case of a packed bundle.
        return CLEAN
    if any(start.startswith(magic) for magic in _PACKED):
        return Verdict.NEEDS_TRUST, "an archive inside the bundle, which is not looked through"
    if size > LARGEST_LOOKED_THROUGH:
        return Verdict.NEEDS_TRUST, f"{size} bytes are too many to look through"
    if start.startswith(b"PK"):
        return _judge_zip(read(size))
    if start.startswith(b"\x93NUMPY"):
        return _judge_numpy(read(2**16))
    if start.startswith(b"\x89HDF"):
        return Verdict.NEEDS_TRUST, "HDF5, in which Keras keeps code"
    if lower.endswith(".safetensors"):
        return _judge_safetensors(size, read)
    if lower.endswith(_PICKLE_ENDINGS) or start[:1] == b"\x80":
        return (
            judge_pickles(read(size))
            if _PICKLE_START.match(start)
            else (Verdict.NEEDS_TRUST, "no weights that can be read")
        )
    return None


def _judge_zip(content: bytes) -> Judgement:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [info.filename for info in archive.infolist()]
            if twice := [name for name, times in Counter(names).items() if times > 1]:
                return Verdict.DANGEROUS, f"holds {twice[0]} twice: readers differ in which one counts"
            if sum(info.file_size for info in archive.infolist()) > LARGEST_LOOKED_THROUGH:
                return Verdict.DANGEROUS, "unpacks to far more than it is"
            if any(name.endswith(".npy") for name in names):
                return max(
                    (_judge_numpy(archive.read(name)) for name in names), key=lambda each: each[0], default=CLEAN
                )
            pickles = [name for name in names if name.endswith((".pkl", ".pickle"))]
            judged = [judge_pickles(archive.read(name)) for name in pickles]
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        return Verdict.NEEDS_TRUST, f"a damaged archive: {str(error)[:80]}"
    if not pickles:
        return Verdict.NEEDS_TRUST, "an archive inside the bundle, which is not looked through"
    if any("/code/" in f"/{name}" for name in names):
        judged.append((Verdict.NEEDS_TRUST, "TorchScript, a program of its own"))
    return max(judged, key=lambda each: each[0])


def judge_pickles(content: bytes) -> Judgement:
    """Of one or several pickles one behind the other, as old weight files are."""
    stream, found = io.BytesIO(content), []
    while stream.tell() < len(content):
        begin = stream.tell()
        try:
            found += _names_called(stream)
        except (ValueError, IndexError, UnicodeDecodeError, OverflowError, EOFError):
            # What follows the pickles of an old weight file are the numbers themselves.
            if begin == 0:
                return Verdict.NEEDS_TRUST, "no pickle that can be read"
            break
    others = [name for name in found if name not in _ALLOWED]
    if others:
        return Verdict.DANGEROUS, f"a pickle that calls {others[0].replace(' ', '.')[:80]}"
    return CLEAN


def _names_called(stream: io.BytesIO) -> list[str]:
    """What one pickle imports; raises if it is damaged."""
    names: list[str] = []
    texts: list[str | None] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            names.append(str(argument))
        elif opcode.name == "STACK_GLOBAL":
            module, name = [None, None, *texts][-2:]
            names.append("something that is put together" if module is None or name is None else f"{module} {name}")
        elif opcode.name.startswith("EXT"):
            names.append("an extension code")
        if opcode.name in _TEXTS:
            texts.append(str(argument))
        elif opcode.name not in _BETWEEN_TEXTS:
            texts.append(None)
    return names


def _judge_numpy(content: bytes) -> Judgement:
    header = content[:4096].partition(b"}")[0]
    kind = re.search(rb"'descr':\s*(.+?),\s*'fortran", header, re.DOTALL)
    if kind is None or b"O" in re.sub(rb"'(?:[A-Za-z_]\w*)'\s*,", b"", kind.group(1)):
        return Verdict.DANGEROUS, "an array of objects, which are pickles and run"
    return CLEAN


def _judge_safetensors(size: int, read: Callable[[int], bytes]) -> Judgement:
    length = int.from_bytes(read(8), "little")
    if not 2 <= length <= min(size - 8, 10**8):
        return Verdict.NEEDS_TRUST, "no safetensors that can be read"
    try:
        header = json.loads(read(8 + length)[8:])
    except (ValueError, RecursionError):
        return Verdict.NEEDS_TRUST, "no safetensors that can be read"
    return CLEAN if isinstance(header, dict) else (Verdict.NEEDS_TRUST, "no safetensors that can be read")
