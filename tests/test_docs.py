"""docs/ stays true: its commands run, its tables are those of the code, its links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import typer.main
import yaml

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_bundle
from clinibundle.cli.app import app
from clinibundle.console import Talk
from clinibundle.dicom import gate
from clinibundle.errors import ClinibundleError
from clinibundle.workflows.read_input import DicomOptions
from clinibundle.workflows.segment import SegmentOptions, segment
from command_line import Program
from dicom.made_volumes import save_all
from made_ball import axial, ball_series, save_ball
from repository import ROOT
from toy_bundle import make_toy_volume_bundle

PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_README = [*PAGES, ROOT / "README.md"]
DIRECTIVE = re.compile(r"<!-- ([a-z]+)(?:: (.+?))? -->")
CLINIC = ROOT / "docs" / "clinic.md"
RESEARCHER = ROOT / "docs" / "researcher.md"


# Reading pages


def directives(page: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Each `<!-- name: argument -->` that has a line of its own: name, argument, and the lines below it."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if found := DIRECTIVE.fullmatch(line):
            yield found[1], found[2] or "", lines[number + 1 :]


def block(lines: list[str], language: str = "") -> str:
    """The fenced block that begins with the first line."""
    assert lines[0] == f"```{language}", f"expected a block here, found {lines[0]!r}"
    return "\n".join(lines[1 : lines.index("```", 1)])


def table(page: Path, name: str, argument: str = "") -> list[list[str]]:
    """The rows of the table below a directive, without its heading."""
    (below,) = (lines for n, a, lines in directives(page) if (n, a) == (name, argument))
    rows: list[list[str]] = []
    for line in below:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    assert set("".join(rows[1])) <= {"-"}
    return rows[2:]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def shell_blocks(page: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


# Commands


def marked_blocks(page: Path, slow: bool) -> list[str]:
    """The blocks that are run; without `slow` only those that take a few seconds."""
    wanted = ("", "slow") if slow else ("",)
    return [block(lines, "sh") for name, argument, lines in directives(page) if name == "test" and argument in wanted]


def run_page(page: Path, slow: bool, folder: Path) -> None:
    """Runs a page's blocks in order, as one script, in a folder that looks like a checkout's root."""
    for name in ("bundles", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "toy_bundle.py", folder / "tests")
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(marked_blocks(page, slow))],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={
            **kept,
            # Not resolved: the interpreter of a virtual environment is a link out of it.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        },
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]


def pages_with(slow: bool) -> list[Path]:
    return [page for page in PAGES if any(n == "test" and (a == "slow") == slow for n, a, _ in directives(page))]


@pytest.mark.parametrize("page", pages_with(slow=False), ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    run_page(page, False, tmp_path)
    # What a page leaves in result/ is explained on it.
    unexplained = [p.name for p in tmp_path.glob("result/*") if f"`{p.name}`" not in page.read_text(encoding="utf-8")]
    assert unexplained == []


SHARED = ROOT.parent / "shared" / "data" / "dicom"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared collection is not beside the repository")
def test_the_output_of_studies_is_as_shown(clinibundle: Program) -> None:
    ((_, folder, below),) = [d for d in directives(CLINIC) if d[0] == "output"]
    assert clinibundle("studies", SHARED / folder, "--no-cache").out == block(below) + "\n"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", pages_with(slow=True), ids=lambda page: page.name)
def test_all_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    run_page(page, True, tmp_path)


def test_every_page_that_shows_commands_has_some_that_are_run() -> None:
    assert [page.name for page in PAGES if marked_blocks(page, slow=True)] == [
        "bundle_author.md",
        "clinic.md",
        "researcher.md",
    ]


@pytest.mark.parametrize("page", WITH_README, ids=lambda page: page.name)
def test_every_clinibundle_command_that_is_shown_exists_with_its_options(page: Path) -> None:
    commands = typer.main.get_command(app).commands
    for text in shell_blocks(page):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if line.lstrip().startswith("clinibundle ") else []
            if not words:
                continue
            assert words[1] in commands, line
            known = {option for parameter in commands[words[1]].params for option in parameter.opts}
            assert {word for word in words[2:] if word.startswith("-")} <= known, line


# Links


@pytest.mark.parametrize("page", WITH_README, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not heading or heading in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Tables and lists that the code knows better


def test_the_table_of_ids_is_the_first_part_of_the_config() -> None:
    arguments = [argument for name, argument, _ in directives(RESEARCHER) if name == "ids"]
    assert arguments == ["bundles/lung_xray/configs/train.yaml"]
    config = yaml.safe_load((ROOT / arguments[0]).read_text(encoding="utf-8"))
    ids = list(config)
    first_part = ids[ids.index("imports") + 1 : ids.index("network_def")]
    rows = table(RESEARCHER, "ids", arguments[0])
    assert [names_in(row[0]) for row in rows] == [[name] for name in first_part]
    for row in rows:
        (name,), (shown,) = names_in(row[0]), names_in(row[1])
        value = config[name]
        # An expression or reference is shown as it is; YAML would want quotes around some.
        assert (shown if isinstance(value, str) else yaml.safe_load(shown)) == value, name


@pytest.mark.parametrize(
    ("page", "path"),
    [(page, argument) for page in PAGES for name, argument, _ in directives(page) if name == "fields"],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) else value.name,
)
def test_a_table_of_fields_has_those_of_its_class(page: Path, path: str) -> None:
    module, _, name = path.rpartition(".")
    fields = getattr(importlib.import_module(module), name).model_fields
    shown = [field for row in table(page, "fields", path) for field in names_in(row[0])]
    assert shown == list(fields)


@pytest.mark.parametrize(
    ("path", "text"),
    [(a, block(below, "yaml")) for page in PAGES for name, a, below in directives(page) if name == "valid"],
    ids=lambda value: value.rpartition(".")[2] if "." in value.partition("\n")[0] else "",
)
def test_a_description_that_is_shown_is_valid(path: str, text: str) -> None:
    module, _, name = path.rpartition(".")
    getattr(importlib.import_module(module), name).model_validate(yaml.safe_load(text))


def test_every_description_that_is_shown_whole_is_tried() -> None:
    assert [a.rpartition(".")[2] for page in PAGES for n, a, _ in directives(page) if n == "valid"] == [
        "DicomDescription", "DicomDescription",
    ]  # fmt: skip


def test_the_facts_of_a_volume_are_those_that_rules_may_ask_for() -> None:
    from clinibundle.dicom.rules import FACTS

    shown = [name for row in table(ROOT / "docs" / "bundle_author.md", "facts") for name in names_in(row[0])]
    assert shown == list(FACTS)


def test_the_defaults_of_a_rule_are_those_of_its_class() -> None:
    from clinibundle.dicom.rules import Rule

    for name, shown, _ in table(ROOT / "docs" / "bundle_author.md", "fields", "clinibundle.dicom.rules.Rule"):
        field = Rule.model_fields[names_in(name)[0]]
        expected = "required" if field.is_required() else "empty" if field.default == "" else f"`{field.default}`"
        assert shown == expected, name


def test_every_kind_of_problem_that_check_knows_is_explained() -> None:
    known: dict[str, set[str]] = {}
    for file in (ROOT / "app/clinibundle/workflows/check").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
                severity = ast.unparse(node.args[3]) if len(node.args) > 3 else "'error'"
                known.setdefault(node.args[1].value, set()).update(re.findall(r"'(error|warning)'", severity))
    shown = {row[0].strip("`"): set(re.findall("error|warning", row[1])) for row in table(RESEARCHER, "kinds")}
    assert shown == known


def explained_checks() -> set[str]:
    return {name for kind in ("", "volumes") for row in table(CLINIC, "warnings", kind) for name in names_in(row[0])}


def checks_that_can_warn(path: Path) -> Iterator[str]:
    """Names of the checks that a module makes with another status than `passed`, as far as they stand there."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Check"]
        # A name that is used several times is given to a variable called `name`.
        named = re.search(r"name(?:, \w+)? = '(\w+)'", ast.unparse(function))
        for call in calls:
            found = call.args[0].value if isinstance(call.args[0], ast.Constant) else named and named[1]
            if found and re.search("'(warning|fixed)'", ast.unparse(call.args[1])):
                yield found


def test_every_check_of_a_picture_that_can_warn_is_explained() -> None:
    of_outlines = {"read_seg.py", "rtstruct.py", "convert.py"}
    rooms = [ROOT / "app" / "clinibundle" / room for room in ("dicom", "pictures", "workflows")]
    files = [file for room in rooms for file in room.glob("*.py") if file.name not in of_outlines]
    made = {name for file in files for name in checks_that_can_warn(file)}
    assert {"slice_spacing", "slice_thickness", "units", "padding", "left_out", "laterality"} <= made
    assert made - explained_checks() == set()


def test_checks_that_are_explained_are_made_and_those_of_the_bundle_are_all_explained() -> None:
    shown = explained_checks()
    bundle = Bundle(find_bundle("lung_xray"))
    of_bundle = {rule.name for rule in bundle.dicom.rules if rule.name != "modality"}
    of_bundle |= {limit.name for limit in bundle.measure.limits}
    in_code = {
        node.value
        for file in (ROOT / "app").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert shown - of_bundle <= in_code
    assert of_bundle <= shown


def test_tolerances_are_those_of_the_gate_and_all_of_them() -> None:
    shown = {names_in(name)[0]: value for name, value, _ in table(CLINIC, "tolerances")}
    held = {
        name: " to ".join(f"{side:g}" for side in value) if isinstance(value, tuple) else f"{value:g}"
        for name, value in own_values(gate).items()
        if not name.startswith("_")
    }
    assert shown == held


def own_values(module: ModuleType) -> dict[str, Any]:
    """What a module assigns by name, without what it imports."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    names = [t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]
    return {name: getattr(module, name) for name in names}


def test_the_floors_are_those_that_are_held() -> None:
    (lines,) = (below for name, _, below in directives(ROOT / "docs" / "architecture.md") if name == "layers")
    held = re.search(r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert block(lines).splitlines() == re.findall(r'"(.+)"', held[1])


# Refusals


@pytest.fixture
def film(phantoms: Path) -> Callable[..., None]:
    """Writes a made-up film with some of its attributes changed, or removed where None is given."""

    def write(path: str = "film.dcm", **changes: object) -> None:
        header = pydicom.dcmread(phantoms / "dicom" / "phantom-000" / "IM0001")
        # Of the case that the page shows.
        header.Rows, header.Columns, header.PixelData = 512, 448, np.arange(512 * 448, dtype="<u2").tobytes()
        for keyword, value in changes.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        Path(path).parent.mkdir(exist_ok=True)
        header.save_as(path)

    return write


Film = Callable[..., None]


def text_files(film: Film) -> str:
    Path("study").mkdir()
    for name in ("a.txt", "b.txt"):
        (Path("study") / name).write_text("x")
    return "study"


def file_of(name: str, content: bytes) -> Callable[[Film], str]:
    def make(film: Film) -> str:
        Path(name).write_bytes(content)
        return name

    return make


def film_with(**changes: object) -> Callable[[Film], str]:
    def make(film: Film) -> str:
        film(**changes)
        return "film.dcm"

    return make


def two_films(first: dict[str, object], second: dict[str, object]) -> Callable[[Film], str]:
    def make(film: Film) -> str:
        film("study/a.dcm", **first)
        film("study/b.dcm", **{"SOPInstanceUID": "1.2.826.0.1.9", **second})
        return "study"

    return make


def video(film: Film) -> str:
    film()
    header = pydicom.dcmread("film.dcm")
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    header.PixelData = pydicom.encaps.encapsulate([bytes(200)])
    header["PixelData"].VR = "OB"
    header.save_as("film.dcm")
    return "film.dcm"


def damaged_png(film: Film) -> str:
    Path("film.png").write_bytes((ROOT / "docs" / "pictures" / "lung_xray.png").read_bytes()[:400])
    return "film.png"


def tiff_stack(film: Film) -> str:
    tifffile.imwrite("film.tif", np.zeros((5, 80, 80), np.uint8), photometric="minisblack")
    return "film.tif"


def nifti_volume(film: Film) -> str:
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((80, 80, 20), np.float32), np.eye(4)), "ct.nii.gz")
    return "ct.nii.gz"


def output_in_use(film: Film) -> str:
    film()
    Path("out").mkdir()
    Path("out/mine.txt").write_text("keep")
    return "film.dcm"


def empty_folder(film: Film) -> str:
    Path("study").mkdir()
    return "study"


OTHER_SERIES = {"SeriesInstanceUID": "1.2.826.0.1.8"}
LATERAL = {"ViewPosition": "LL"}
REFUSED: dict[str, Callable[[Film], str]] = {
    "a path with nothing there": lambda film: "study",
    "an empty folder": empty_folder,
    "a letter instead of a film": file_of("letter.docx", b"Dear colleague"),
    "a damaged zip": file_of("study.zip", b"PK\x03\x04" + bytes(300)),
    "a folder without DICOM images": text_files,
    "a CT": film_with(Modality="CT"),
    "no modality in the header": film_with(Modality=""),
    "another part of the body": film_with(BodyPartExamined="KNEE"),
    "a lateral view, by its tag": film_with(**LATERAL),
    "a lateral view, by its description": film_with(SeriesDescription="Thorax lateral"),
    "a lateral view, by its orientation": film_with(PatientOrientation=["A", "F"]),
    "an animal, by its description": film_with(StudyDescription="Dog, thorax"),
    "several films, none of which fits": two_films(LATERAL, {"BodyPartExamined": "KNEE"}),
    "two films of one series": two_films({}, {}),
    "two series that fit": two_films({}, OTHER_SERIES),
    "a series that is not there": two_films({}, OTHER_SERIES),
    "several frames": film_with(NumberOfFrames=3),
    "a colour object": film_with(PhotometricInterpretation="RGB"),
    "a picture that is too small": film_with(Rows=40, Columns=40, PixelData=bytes(3200)),
    "a film that shows nothing": film_with(PixelData=np.full(512 * 448, 7, "<u2").tobytes()),
    "a film without pixels": film_with(PixelData=None),
    "a truncated film": film_with(PixelData=bytes(100)),
    "a video": video,
    "a damaged PNG": damaged_png,
    "a TIFF with several pages": tiff_stack,
    "a volume in NIfTI": nifti_volume,
    "an output folder that is in use": output_in_use,
    "an output folder inside the study": lambda film: film("study/film.dcm") or "study",
    "--resume together with --overwrite": film_with(),
}
OPTIONS: dict[str, dict[str, object]] = {
    "a series that is not there": {"dicom": DicomOptions(series="1.2.3")},
    "--resume together with --overwrite": {"resume": True, "overwrite": True},
}


@pytest.mark.parametrize(("given", "sentence", "code"), table(CLINIC, "refusals"), ids=lambda cell: cell[:40])
def test_a_refusal_that_is_quoted_really_occurs(
    given: str, sentence: str, code: str, film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(REFUSED[given](film))
    out = source / "out" if "inside the study" in given else Path("out")
    options = SegmentOptions(device="cpu", **OPTIONS.get(given, {}))
    with pytest.raises(ClinibundleError) as refused:
        segment(Bundle(find_bundle("lung_xray")), source, out, options, Talk(quiet=True))
    # Three dots stand for what differs from input to input.
    assert re.fullmatch(re.escape(sentence).replace("…", ".+"), str(refused.value)), str(refused.value)
    assert refused.value.exit_code == int(code)


def test_every_refusal_that_is_tried_is_quoted() -> None:
    assert [row[0] for row in table(CLINIC, "refusals")] == list(REFUSED)


# Refusals of volumes, in a folder called study


def slices(change: Callable[[list[Any]], None]) -> Callable[[], str]:
    """A CT whose slices were changed, left out, or joined by others."""

    def make() -> str:
        made = ball_series()
        change(made)
        save_all(made, Path("study"))
        return "study"

    return make


def ct(**changes: Any) -> Callable[[], str]:
    def make() -> str:
        save_ball(Path("study"), **changes)
        return "study"

    return make


def move(x: float, z: float) -> Callable[[list[Any]], None]:
    return lambda made: setattr(made[5], "ImagePositionPatient", [x, 12.5, z])


def turn_one(made: list[Any]) -> None:
    made[5].ImageOrientationPatient = [0.99985, 0.01745, 0, -0.01745, 0.99985, 0]


def in_series_of(made: list[Any], others: list[Any]) -> list[Any]:
    for other in others:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(other, keyword, made[0][keyword].value)
    return others


def another_at_the_place_of_one(made: list[Any]) -> None:
    (other,) = in_series_of(made, ball_series()[4:5])
    other.PixelData = bytes(len(other.PixelData))
    made.append(other)


def truncated() -> str:
    save_ball(Path("study"))
    path = Path("study/IM0005")
    path.write_bytes(path.read_bytes()[:-900])
    return "study"


def two_series() -> str:
    for name in "ab":
        save_ball(Path("study", name), StudyInstanceUID="1.2.3")
    return "study"


def zip_slip() -> str:
    with zipfile.ZipFile("study.zip", "w") as archive:
        archive.writestr("../x", "y")
    return "study.zip"


VOLUMES_REFUSED: dict[str, Callable[[], str]] = {
    "a missing slice": slices(lambda made: made.pop(5)),
    "uneven slices": slices(move(-31.0, -126.5)),
    "a slice that is shifted aside": slices(move(-30.0, -127.5)),
    "a tilted gantry": ct(affine=axial(shear=(0, 1.0))),
    "two pictures at one place": slices(another_at_the_place_of_one),
    "planes that are not parallel": slices(turn_one),
    "slices without direction": ct(ImageOrientationPatient=None),
    "slices without place": ct(ImagePositionPatient=None),
    "no pixel spacing": ct(PixelSpacing=None),
    "values without rescale": ct(RescaleIntercept=None),
    "values in another unit": ct(RescaleType="OD"),
    "a scout alone": ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "an MR": ct(Modality="MR"),
    "colour slices": ct(PhotometricInterpretation="PALETTE COLOR"),
    "a truncated slice": truncated,
    "pictures of no size": ct(Rows=60_000, Columns=60_000),
    "two series that fit alike": two_series,
    "two passes in one series": slices(lambda made: made.extend(in_series_of(made, ball_series(AcquisitionNumber=2)))),
    "a zip that leads out of its folder": zip_slip,
}


@pytest.mark.parametrize(
    ("given", "sentence", "code"), table(CLINIC, "refusals", "volumes"), ids=lambda cell: cell[:40]
)
def test_a_refusal_of_a_volume_that_is_quoted_really_occurs(
    given: str, sentence: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = Bundle(make_toy_volume_bundle(tmp_path / "toy_ct"))
    source = Path(VOLUMES_REFUSED[given]())
    with pytest.raises(ClinibundleError) as refused:
        segment(bundle, source, Path("out"), SegmentOptions(device="cpu"), Talk(quiet=True))
    assert re.fullmatch(re.escape(sentence).replace("…", ".+"), str(refused.value)), str(refused.value)
    assert refused.value.exit_code == int(code)


def test_every_refusal_of_a_volume_that_is_tried_is_quoted() -> None:
    assert [row[0] for row in table(CLINIC, "refusals", "volumes")] == list(VOLUMES_REFUSED)
