"""Python that a bundle brings along, read as a syntax tree and never imported.

What it finds is what honest code shows of itself. Code that hides on purpose can be written so that no reader of
syntax finds it; that is what signatures are for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from clinibundle.exchange.expressions import dotted_name
from clinibundle.exchange.names import (
    DANGEROUS_ATTRIBUTES,
    DANGEROUS_BUILTINS,
    DANGEROUS_DUNDERS,
    DANGEROUS_MODULES,
    HARMLESS_IN_PYTHON,
    is_within,
)
from clinibundle.exchange.verdicts import Finding, Verdict

_LARGEST_FILE = 2**20
_WRITES = frozenset({"write_text", "write_bytes", "touch", "rename", "unlink", "rmdir", "symlink_to", "hardlink_to"})
# What NumPy, torch and Pillow write with.
_SAVES = frozenset({"numpy.save", "np.save", "numpy.savez", "np.savez", "np.savez_compressed", "torch.save"})
# Of a class's own, in honest code.
_HARMLESS_BUILTINS_IN_PYTHON = frozenset({"getattr", "vars", "memoryview"})
_HARMLESS_DUNDERS_IN_PYTHON = frozenset({"__dict__", "__module__", "__self__", "__wrapped__", "__set_name__"})

_WAYS = ("__globals__", "__subclasses__", "__builtins__", "__import__")


class OwnPython:
    """The Python files of a bundle.

    Args:
        files: path in the bundle, to its text.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._trees: dict[str, ast.Module | None] = {}
        self._modules: dict[str, str] = {}
        for path, text in files.items():
            try:
                self._trees[path] = ast.parse(text) if len(text) <= _LARGEST_FILE else None
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                self._trees[path] = None
            self._modules[_module_name(path)] = path

    def has_module(self, module: str) -> bool:
        """Whether the bundle brings this module along."""
        return module in self._modules

    def defines(self, module: str, name: str) -> bool:
        """Whether it defines this class or function at its top, in place of importing it."""
        tree = self._trees[self._modules[module]]
        kinds = (ast.ClassDef, ast.FunctionDef)
        return tree is not None and any(isinstance(node, kinds) and node.name == name for node in tree.body)

    def roots(self) -> set[str]:
        """Names under which it can be imported."""
        return {module.partition(".")[0] for module in self._modules}

    def reached_from(self, texts: Iterable[str]) -> frozenset[str]:
        """Paths of the files that are run when these components and imports are: they, and what they import.

        Args:
            texts: names of components, and expressions, in which modules of the bundle may be named.
        """
        joined = "\n".join(texts)
        pending = [module for module in self._modules if re.search(rf"\b{re.escape(module)}\b", joined)]
        reached: set[str] = set()
        while pending:
            module = pending.pop()
            if module in self._modules and module not in reached:
                reached.add(module)
                parts = module.split(".")
                pending += [".".join(parts[:length]) for length in range(1, len(parts))]
                pending += _imported(module, self._trees[self._modules[module]], self._modules[module])
        return frozenset(self._modules[module] for module in reached)

    def findings(self) -> list[Finding]:
        """What its files do that is more than computing."""
        return [finding for path, tree in self._trees.items() for finding in _findings_of(path, tree, self.roots())]


def _module_name(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(module: str, tree: ast.Module | None, path: str) -> list[str]:
    """Every module that one may import, by full name."""
    names: list[str] = []
    package = module.split(".") if path.endswith("__init__.py") else module.split(".")[:-1]
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def _findings_of(path: str, tree: ast.Module | None, own_roots: set[str]) -> list[Finding]:
    if tree is None:
        return [Finding(Verdict.DANGEROUS, path, path, "is no Python that can be read, or far too long")]
    found = []
    for node in ast.walk(tree):
        verdict, why = _judge(node, own_roots)
        if verdict is not Verdict.CLEAN:
            line = getattr(node, "lineno", 0)
            found.append(Finding(verdict, f"{path}, line {line}", ast.unparse(node)[:100], why))
    return found


def _judge(node: ast.AST, own_roots: set[str]) -> tuple[Verdict, str]:  # noqa: PLR0911 - a line a kind of node
    if isinstance(node, ast.Import):
        return max((_judge_module(alias.name, own_roots) for alias in node.names), key=lambda each: each[0])
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module and not node.level else []
        judged = [_judge_module(name, own_roots) for name in names]
        return max(judged, key=lambda each: each[0], default=(Verdict.CLEAN, ""))
    dangerous_names = (DANGEROUS_BUILTINS | DANGEROUS_DUNDERS) - _HARMLESS_BUILTINS_IN_PYTHON
    if isinstance(node, ast.Name) and node.id in dangerous_names:
        return Verdict.DANGEROUS, f"{node.id} runs or reaches anything"
    if isinstance(node, ast.Attribute):
        return _judge_attribute(node)
    if isinstance(node, ast.Call):
        return _judge_call(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and any(way in node.value for way in _WAYS):
        return Verdict.DANGEROUS, "names a way to all of Python in a text"
    return Verdict.CLEAN, ""


def _judge_module(name: str, own_roots: set[str]) -> tuple[Verdict, str]:
    if is_within(name, DANGEROUS_MODULES) or name.rpartition(".")[2] in DANGEROUS_ATTRIBUTES:
        return Verdict.DANGEROUS, f"imports {name}"
    if is_within(name, HARMLESS_IN_PYTHON) or name.partition(".")[0] in own_roots | {"clinibundle"}:
        return Verdict.CLEAN, ""
    return Verdict.NEEDS_TRUST, f"imports {name}, which is not among the modules that bundles need"


def _judge_attribute(node: ast.Attribute) -> tuple[Verdict, str]:
    name = dotted_name(node) or f"(...).{node.attr}"
    if node.attr in _WRITES:
        return Verdict.NEEDS_TRUST, "writes or moves files"
    if node.attr in (DANGEROUS_ATTRIBUTES | DANGEROUS_DUNDERS) - _HARMLESS_DUNDERS_IN_PYTHON:
        return Verdict.DANGEROUS, f"{name} reaches files, the network or other programs"
    if is_within(name, DANGEROUS_MODULES - {"torch.load", "sys.path"}):
        return Verdict.DANGEROUS, f"{name} reaches files, the network or other programs"
    if name in _SAVES:
        return Verdict.NEEDS_TRUST, "writes files"
    return Verdict.CLEAN, ""


def _judge_call(node: ast.Call) -> tuple[Verdict, str]:
    name = dotted_name(node.func) or ""
    given = {word.arg: word.value for word in node.keywords}
    last = name.rpartition(".")[2]
    if name == "torch.load" and not _is_true(given.get("weights_only")):
        return Verdict.DANGEROUS, "torch.load without weights_only=True runs what a file holds"
    if last == "load" and _is_true(given.get("allow_pickle")):
        return Verdict.DANGEROUS, "reads pickles, which run what they hold"
    if name == "getattr" and not (len(node.args) > 1 and isinstance(node.args[1], ast.Constant)):
        return Verdict.DANGEROUS, "getattr with a name that is made at run time"
    if last == "open" and not name.startswith("Image."):
        mode = (
            node.args[1] if name == "open" and len(node.args) > 1 else node.args[0] if node.args else given.get("mode")
        )
        plain = mode.value if isinstance(mode, ast.Constant) else None
        if (isinstance(plain, str) and set(plain) & set("wax+")) or (mode is not None and plain is None):
            return Verdict.NEEDS_TRUST, "writes files"
    return Verdict.CLEAN, ""


def _is_true(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True
