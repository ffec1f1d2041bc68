"""What would do harm is caught without being run; what is harmless is not."""

from __future__ import annotations

import gzip
import json
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
from malicious import MARK, TRICKS, ZIP_TRICKS, locked, make_clean_bundle

from clinibundle.errors import BundleError
from clinibundle.exchange.inspection import WORKFLOWS, Inspection, inspect_bundle
from clinibundle.exchange.tell import as_data, rows_of
from clinibundle.exchange.verdicts import Verdict
from command_line import Program
from repository import ROOT

# Of which an honest bundle may need one: what they do is told, and it is for the user to say whether to trust it.
MAY_BE_HONEST = {
    "MONAI runs another bundle", "Lambda", "partial of a call", "attrgetter", "debugger", "fetches weights", "joblib",
    "a package nobody knows", "macro to a file elsewhere", "link", "share of a Windows network", "absolute path",
    "home folder", "path that leads upwards", "path that leads upwards in an expression",
    "import through own package", "logging: writes a file", "own Python writes", "wheel",
    "archive inside",    "TorchScript", "environment is called", "walrus gives os a name", "MONAI's own downloader",
}  # fmt: skip


def packed(root: Path, to: Path) -> Path:
    with zipfile.ZipFile(to, "w") as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, f"toy/{path.relative_to(root).as_posix()}")
    return to


def worst_of(found: Inspection) -> Verdict:
    return max((finding.verdict for finding in found.findings), default=Verdict.CLEAN)


def test_there_are_many_tricks() -> None:
    assert len(TRICKS) + len(ZIP_TRICKS) >= 100


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_is_caught_in_folder_and_zip_and_nothing_is_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = make_clean_bundle(tmp_path / "toy")
    TRICKS[name](root)
    loaded, path = set(sys.modules), list(sys.path)
    sources = [root]
    if not any(each.is_symlink() or each.is_fifo() for each in root.rglob("*")):
        sources.append(packed(root, tmp_path / "toy.zip"))
    for source in sources:
        found = inspect_bundle(source)
        assert worst_of(found) >= (Verdict.NEEDS_TRUST if name in MAY_BE_HONEST else Verdict.DANGEROUS), found.findings
        if worst_of(found) is Verdict.DANGEROUS:
            assert found.verdict is Verdict.DANGEROUS
        # It is told in words that a terminal shows, and as data.
        assert all(cell.isprintable() for row in rows_of(found, everything=True) for cell in row)
        json.dumps(as_data(found))
    assert not list(tmp_path.rglob(MARK)) and sys.path == path
    assert not {module for module in set(sys.modules) - loaded if module.startswith(("scripts_", "very_useful"))}


@pytest.mark.parametrize("name", ZIP_TRICKS)
def test_a_trick_of_archives_is_caught(name: str, tmp_path: Path) -> None:
    path = packed(make_clean_bundle(tmp_path / "toy"), tmp_path / "toy.zip")
    assert worst_of(inspect_bundle(path)) is Verdict.CLEAN
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ZIP_TRICKS[name](archive)
    before = sorted(tmp_path.rglob("*"))
    found = inspect_bundle(path)
    assert worst_of(found) >= (Verdict.NEEDS_TRUST if name == "file beside the bundle" else Verdict.DANGEROUS)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_locked_member_is_caught(tmp_path: Path) -> None:
    path = packed(make_clean_bundle(tmp_path / "toy"), tmp_path / "toy.zip")
    locked(path)
    assert inspect_bundle(path).verdict is Verdict.DANGEROUS


@pytest.mark.parametrize(
    "root", sorted(p.parent.parent for p in ROOT.glob("bundles/*/configs/metadata.json")), ids=lambda p: p.name
)
def test_shipped_bundles_are_clean_for_inference_and_evaluation(root: Path, tmp_path: Path) -> None:
    for source in (root, packed(root, tmp_path / "bundle.zip")):
        found = inspect_bundle(source)
        assert found.verdict is Verdict.CLEAN, [f for f in found.findings if f.verdict]
        assert found.verdicts["inference"] is found.verdicts["evaluate"] is Verdict.CLEAN
        assert worst_of(found) < Verdict.DANGEROUS and set(found.verdicts) == set(WORKFLOWS)
        told = {finding.what for finding in found.findings}
        assert "SupervisedEvaluator" in told and "$@evaluator.run()" in told
        assert found.version and found.packages["monai"] and found.licence != "not stated"


def test_what_training_alone_needs_does_not_stain_inference(tmp_path: Path) -> None:
    root = make_clean_bundle(tmp_path / "toy")
    TRICKS["own Python writes"](root)
    path = root / "configs" / "train.yaml"
    path.write_text(path.read_text() + "tool:\n  _target_: scripts_x.tool.Tool\n")
    (root / "scripts_x" / "tool.py").write_text("from .other import x\nclass Tool: pass\n")
    (root / "scripts_x" / "other.py").write_text("from pathlib import Path\nx = Path('x').write_text\n")
    found = inspect_bundle(root)
    assert found.verdicts["train"] is Verdict.NEEDS_TRUST and found.verdict is Verdict.CLEAN


def test_a_volume_as_test_case_is_clean(tmp_path: Path) -> None:
    root = make_clean_bundle(tmp_path / "toy")
    (root / "test_case").mkdir()
    (root / "test_case" / "input.nii.gz").write_bytes(gzip.compress(bytes(400)))
    assert inspect_bundle(root).verdict is Verdict.CLEAN
    (root / "test_case" / "input.nii.gz").rename(root / "test_case" / "input.gz")
    assert inspect_bundle(root).verdict is Verdict.NEEDS_TRUST


def test_a_file_that_is_not_there_is_said_to_be_so(program: Program) -> None:
    ran = program("inspect", "nothing.zip")
    assert ran.code == 2 and "there is no file 'nothing.zip'" in ran.err


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04 broken"])
def test_what_is_no_bundle_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"no bundle|neither the folder"):
        inspect_bundle(path)


def test_a_zip_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BundleError, match="no bundle"):
        inspect_bundle(tmp_path / "x.zip")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("trick", "code", "verdict"),
    [(None, 0, "clean"), ("link", 3, "needs trust"), ("eval as a component", 4, "dangerous")],
)
def test_the_exit_code_says_the_verdict(
    trick: str | None, code: int, verdict: str, tmp_path: Path, program: Program
) -> None:
    root = make_clean_bundle(tmp_path / "toy")
    if trick is not None:
        TRICKS[trick](root)
    ran = program("inspect", root)
    assert ran.code == code and f"toy: {verdict}" in ran.out
    assert "LoadImaged" in program("inspect", root, "--all").out and "LoadImaged" not in ran.out
    as_data = program("inspect", root, "--json")
    assert as_data.code == code and json.loads(as_data.out)["verdict"] == verdict
