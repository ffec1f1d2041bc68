"""Ctrl-C at any moment of studies, convert and segment on CT ends with 130 and leaves everything as it was."""

from __future__ import annotations

import importlib
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from command_line import Program, files_in, start_process
from made_ball import axial, save_ball
from toy_bundle import make_toy_volume_bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a zipped study, a label map and a bundle; temporary files and the cache lie in it too."""
    folder = tmp_path / "place"
    make_toy_volume_bundle(folder / "bundles" / "toy_ct")
    save_ball(folder / "study", SeriesDescription="Thorax")
    with zipfile.ZipFile(folder / "study.zip", "w") as archive:
        for file in sorted((folder / "study").iterdir()):
            archive.write(file, file.name)
    labels = np.zeros((48, 40, 12), np.uint8)
    labels[4:9, 10:20, 3:6] = 1
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1.0, -1, 1, 1]) @ axial()), folder / "labels.nii.gz")
    (folder / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.chdir(folder)
    return folder


def interrupt_at(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Presses Ctrl-C each time a function begins, in whichever thread; the list shows whether it did."""
    module, _, function = name.rpartition(".")
    owner = importlib.import_module(module)
    original = getattr(owner, function)
    pressed = []

    def pressing(*arguments: Any, **named: Any) -> Any:
        pressed.append(name)
        signal.raise_signal(signal.SIGINT)
        # The main thread has a moment to hear of it before another one goes on.
        time.sleep(0.02)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, function, pressing)
    return pressed


READING = ["dicom.archive._write", "dicom.index.walk_header", "dicom.read_volume.stored_frame"]
MOMENTS = [
    *[("studies study.zip", name) for name in READING[:2]],
    ("studies study", "dicom.header_cache._row"),
    *[("convert study.zip -o out/ct.nii.gz", name) for name in READING],
    ("convert study.zip -o out/ct.nii.gz", "workflows.convert.write_nifti"),
    *[("convert labels.nii.gz -o out/s.dcm --source study.zip", name) for name in READING],
    ("convert labels.nii.gz -o out/s.dcm --source study.zip", "dicom.seg.compare_with_written"),
    *[("segment toy_ct study.zip -o out", name) for name in READING],
    ("segment toy_ct study.zip -o out", "workflows.segment_case.write_label_map"),
    ("segment toy_ct study.zip -o out", "dicom.seg.compare_with_written"),
    ("segment toy_ct study.zip -o out", "dicom.key_images.compare_with_written"),
    ("segment toy_ct study.zip -o out", "workflows.segment_case.render_segmentation_report"),
    ("segment toy_ct study.zip -o out", "files._put_in_place"),
    ("segment toy_ct study.zip -o out --all", "workflows.segment_case.write_json"),
]


@pytest.mark.parametrize(("line", "moment"), MOMENTS, ids=lambda value: value.replace(" ", "_"))
def test_ctrl_c_leaves_nothing_half_written(
    place: Path, clinibundle: Program, monkeypatch: pytest.MonkeyPatch, line: str, moment: str
) -> None:
    before = files_in(place)
    pressed = interrupt_at(monkeypatch, f"clinibundle.{moment}")
    ran = clinibundle(*line.split())
    assert pressed and ran.code == 130
    assert (ran.out, "Traceback" in ran.err) == ("", False)
    # Folders above the output, made for it, may stay; headers that were read may be remembered.
    left = {name: content for name, content in files_in(place).items() if not name.startswith("cache")}
    left.pop("out", None)
    assert left == before


def test_a_process_that_is_interrupted_while_it_writes_leaves_nothing(place: Path) -> None:
    before = files_in(place)
    process = start_process("segment", "toy_ct", "study.zip", "-o", "out", cwd=place, env={"TMPDIR": "tmp"})
    give_up = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < give_up and not list(place.glob(".out.partial-*/*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), told
    assert "Traceback" not in told
    assert {name: content for name, content in files_in(place).items() if not name.startswith("cache")} == before
