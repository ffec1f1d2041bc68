"""The house keeps its floors, help stays fast, and the application knows no task."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.api import read_configuration
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "app" / "clinibundle"
MODULES = sorted(PACKAGE.rglob("*.py"))
BUNDLES = sorted(path.parent.parent.name for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
# On no floor: the package itself and the door to the command line.
OUTSIDE = {"__init__", "__main__"}
# Imported by a help text, or before a refusal; torch takes seconds.
WITHOUT_TORCH = ("cli", "dicom", "pictures", "measure", "metrics", "report")
# Named by configs alone.
COMPONENTS = {"metrics/membrane_metric.py"}


def test_the_floors_are_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    result = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert result == 0, capsys.readouterr().out


def test_every_module_is_on_a_floor() -> None:
    (contract,) = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    rooms = {room.strip().removeprefix("clinibundle.") for floor in contract["layers"] for room in floor.split("|")}
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - OUTSIDE
    assert there == rooms


def mentions(source: str, name: str) -> list[str]:
    """Texts in code that name a bundle; docstrings, comments and examples of help texts may."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    # `cell_tracking` is not named by the layout `cell_tracking_challenge`; a plain word only if it stands alone.
    pattern = rf"(?<![a-z0-9]){name}(?![a-z0-9_])" if "_" in name else rf"^{name}$|/{name}\b"
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [t for t in texts if t not in docstrings and "Example: clinibundle " not in t and re.search(pattern, t)]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_no_line_of_the_application_names_a_bundle(bundle: str) -> None:
    found = {path.relative_to(PACKAGE).as_posix(): mentions(path.read_text(), bundle) for path in MODULES}
    assert {path: texts for path, texts in found.items() if texts} == {}


def test_a_bundles_name_in_code_would_be_found() -> None:
    named = '"""About lung_xray."""\nif name == "lung_xray": import_module("scripts_lung_xray")\n'
    assert mentions(named, "lung_xray") == ["lung_xray", "scripts_lung_xray"]
    assert mentions('x = "bundles/nuclei/configs"', "nuclei") and not mentions('x = "touching nuclei"', "nuclei")
    assert not mentions('layout = "cell_tracking_challenge"', "cell_tracking")


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_room_is_entered_without_torch(room: str) -> None:
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if path.relative_to(PACKAGE).as_posix() not in COMPONENTS
    ]
    assert names
    # None in sys.modules makes an import of that name fail, and the traceback names who tried.
    forbid = "import importlib, sys; sys.modules.update(torch=None, monai=None); "
    code = f"{forbid} [importlib.import_module(name) for name in {names}]"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
