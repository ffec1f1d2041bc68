"""Bundles that came packed: run by what is listed alone, unless the user trusts them."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from command_line import Program
from toy_bundle import make_toy_bundle

MARK = "clinibundle_was_here"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Program:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)).save(tmp_path / "a.png")
    return Program(monkeypatch, capsys)


def packed(tmp_path: Path, change: Callable[[dict[str, Any]], object] = lambda _: None, **files: str) -> Path:
    root = make_toy_bundle(tmp_path / "made" / "toy")
    path = root / "configs" / "inference.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    for name, text in files.items():
        (root / f"{name}.py").write_text(text)
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as archive:
        for each in sorted(root.rglob("*")):
            if each.is_file():
                archive.write(each, f"toy/{each.relative_to(root).as_posix()}")
    return tmp_path / "toy.zip"


def add(component: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["preprocessing"]["transforms"].append(component)


def test_a_packed_bundle_gives_what_its_folder_gives(program: Program, tmp_path: Path) -> None:
    path = packed(tmp_path)
    for bundle, out in ((path, "from_zip"), (tmp_path / "made" / "toy", "from_folder")):
        ran = program("segment", bundle, "a.png", "--output-dir", out)
        assert ran.code == 0, ran.err
    masks = [np.asarray(Image.open(tmp_path / out / "mask.png")) for out in ("from_zip", "from_folder")]
    assert np.array_equal(*masks) and masks[0].any()
    # Nothing is left of what was unpacked.
    assert not [entry for entry in sys.path if "clinibundle-" in entry]


REFUSED = {
    "component": (add({"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x"}), "Lambdad"),
    "harmful component": (add({"_target_": "os.system", "command": f"touch {MARK}"}), r"os\.system"),
    "expression": (add({"_target_": "Identityd", "keys": f"$open('{MARK}', 'w').name"}), "open"),
    "import": (lambda content: content.update(imports=["$import subprocess"]), "import subprocess"),
    "import that nothing refers to": (lambda content: content.update(hidden=["$import own"]), "import own"),
    "macro": (add({"_target_": "Identityd", "keys": "%inference.yaml::x"}), "macro"),
    "fetched weights": (add({"_target_": "Identityd", "keys": "image", "pretrained": True}), "pretrained"),
    "behind a reference": (
        lambda content: (
            add({"_target_": "Identityd", "keys": "@hidden"})(content),
            content.update(hidden="$exec('1')"),
        ),
        "exec",
    ),
    "own Python": (add({"_target_": "own.Harm", "keys": "image"}), r"own\.Harm"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_listed_is_refused_by_name_and_not_run(name: str, program: Program, tmp_path: Path) -> None:
    change, named = REFUSED[name]
    path = packed(tmp_path, change, own=f"open('{MARK}', 'w')\nclass Harm: pass\n")
    ran = program("segment", path, "a.png", "--output-dir", "out")
    assert ran.code == 3 and "--trust" in ran.err and len(ran.err.strip().splitlines()) <= 4
    assert re.search(named, ran.err.replace("\n", " "))
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob(MARK))


def test_a_user_who_trusts_it_runs_it_all(program: Program, tmp_path: Path) -> None:
    path = packed(tmp_path, add({"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x"}))
    assert program("segment", path, "a.png", "--output-dir", "out", "--trust").code == 0
    assert (tmp_path / "out" / "mask.png").is_file()


def test_an_archive_that_leads_out_of_its_folder_is_not_unpacked(program: Program, tmp_path: Path) -> None:
    path = packed(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"toy/../../{MARK}", "x")
    for trust in ([], ["--trust"]):
        ran = program("segment", path, "a.png", "--output-dir", "out", *trust)
        assert ran.code == 4 and "leads out of the bundle" in ran.err.replace("\n", " ")
    assert not list(tmp_path.rglob(MARK)) and not (tmp_path / "out").exists()
