"""What a run needs is foreseen, held against what there is, and refused where it cannot fit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinibundle.bundle import memory
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.memory import free_now, held_now, plan_run
from clinibundle.errors import BundleError, UnsuitableInput
from clinibundle.volume import Source, Volume
from dicom.made_volumes import lps_grid
from repository import ROOT
from toy_slices import MEMORY, make_toy_slice_bundle

GIB, MIB = 2**30, 2**20
PROGRAM = 500 * MIB
SPACING_MM = (0.7, 0.7, 1.0)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process really holds does not matter."""
    monkeypatch.setattr(memory, "held_now", lambda: PROGRAM)
    monkeypatch.setattr(memory, "PROGRAM", 0)
    monkeypatch.setattr(memory, "free_now", lambda: None)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(make_toy_slice_bundle(tmp_path / "toy_slices"))


def stating(folder: Path, **changes: Any) -> Bundle:
    return Bundle(make_toy_slice_bundle(folder / "changed" / "toy_slices", MEMORY | changes))


def volume(slices: int = 400, turn: tuple[float, float, float] = (0, 0, 0)) -> Volume:
    """512 × 512 voxels a slice, of which only the size is looked at."""
    array = np.broadcast_to(np.int16(0), (512, 512, slices))
    return Volume(array, lps_grid(SPACING_MM, turn=turn), SPACING_MM, "hounsfield", Source("dicom", "c", "nii.gz"))


def foreseen(slices: int, seen: int) -> float:
    """GiB by the arithmetic of docs/bundle_author.md: 0.7 mm become 1.4 mm, so a quarter of the voxels."""
    shown = 200 * MIB + 512 * 512 * seen * (30 + 50 / 4)
    return (PROGRAM + 512 * 512 * slices * 3 + max(shown, 512 * 512 * slices * 20)) / GIB


def test_few_slices_are_looked_at_as_a_whole_and_no_byte_more_is_asked_for(bundle: Bundle) -> None:
    needed = foreseen(30, 30)
    plan = plan_run(bundle, volume(30), needed + 1e-6)
    (check,) = plan.checks
    assert (plan.slabs, check.name, check.status, check.value) == (1, "slabs", "passed", 1)
    assert f"looked at as a whole: about {needed:.2g} GiB are needed" in check.detail
    assert plan_run(bundle, volume(30), needed - 1e-6).slabs == 2


@pytest.mark.parametrize("limit_gib", [None, 100.0, 4.0, 2.8])
def test_many_slices_are_cut_alike_however_much_memory_there_is(bundle: Bundle, limit_gib: float | None) -> None:
    plan = plan_run(bundle, volume(), limit_gib)
    assert plan.slabs == 13
    assert plan.checks[0].detail.startswith(
        "looked at in 13 slabs of up to 31 slices, with 2 more on either side: about 2.7 GiB are needed"
    )


@pytest.mark.parametrize("limit_gib", [0.83, 0.9, 1.0, 1.07])
def test_slabs_are_thinner_where_they_must_be_and_no_more_than_that(bundle: Bundle, limit_gib: float) -> None:
    plan = plan_run(bundle, volume(60), limit_gib)
    count = plan.slabs
    assert count > 2
    assert foreseen(60, -(-60 // count) + 4) <= limit_gib < foreseen(60, -(-60 // (count - 1)) + 4)
    assert "thinner than usual to fit" in plan.checks[0].detail


def test_slabs_are_cut_along_the_patient_not_along_the_array(bundle: Bundle) -> None:
    # Along the patient's axis a sagittal stack of 400 has 512 slices of 512 × 400.
    (check,) = plan_run(bundle, volume(turn=(0, 90, 90)), 3.0).checks
    assert int(check.value) * int(re.search(r"up to (\d+) slices", check.detail)[1]) >= 512


def test_what_does_not_fit_slice_by_slice_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UnsuitableInput, match=re.escape(
        "the volume of 512 × 512 × 400 voxels needs about 2.7 GiB of memory, even slice by slice, and 2.5 GiB are "
        "allowed (--max-memory); use a machine with more, or give --max-memory another limit"
    )):  # fmt: skip
        plan_run(bundle, volume(), 2.5)


def test_a_bundle_that_cannot_be_cut_is_run_on_the_whole_or_refused(tmp_path: Path) -> None:
    bundle = stating(tmp_path, slabs=None)
    assert plan_run(bundle, volume(), foreseen(400, 400) + 1e-6).slabs == 1
    with pytest.raises(UnsuitableInput, match="and this bundle cannot be run on parts of it, and 4 GiB are allowed"):
        plan_run(bundle, volume(), 4.0)


def test_without_a_limit_a_fifth_of_what_is_free_is_left(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = foreseen(30, 30)
    for spare, slabs in ((1e-6, 1), (-1e-6, 2)):
        free = int(((needed + spare) * GIB - PROGRAM) / 0.8)
        monkeypatch.setattr(memory, "free_now", lambda free=free: free)
        assert plan_run(bundle, volume(30), None).slabs == slabs
    monkeypatch.setattr(memory, "free_now", lambda: GIB)
    with pytest.raises(UnsuitableInput, match=r"1\.3 GiB may be used of what is free"):
        plan_run(bundle, volume(), None)


def test_where_nobody_says_what_is_free_no_limit_is_kept(bundle: Bundle) -> None:
    (check,) = plan_run(bundle, volume(), None).checks
    assert check.detail.endswith("GiB are needed")


def test_of_a_bundle_that_states_nothing_no_limit_can_be_kept(tmp_path: Path) -> None:
    bundle = Bundle(make_toy_slice_bundle(tmp_path / "toy_slices", None))
    assert plan_run(bundle, volume(), None).checks == ()
    with pytest.raises(
        BundleError, match=r"'toy_slices' does not say how much memory it needs .*leave out --max-memory"
    ):
        plan_run(bundle, volume(), 8.0)


def test_a_flat_picture_is_never_cut(bundle: Bundle) -> None:
    flat = Volume(np.zeros((9, 9), np.uint8), None, None, "grey", Source("picture", "c", "png"))
    assert plan_run(bundle, flat, None) == memory.Plan()


# The machine


def test_what_is_held_grows_by_what_is_taken() -> None:
    before = held_now()
    taken = np.ones(64 * MIB, np.uint8)
    assert held_now() - before == pytest.approx(taken.nbytes, rel=0.1)


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="only Linux says what is free")
def test_what_is_free_is_less_than_what_the_machine_has() -> None:
    total = int(re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024
    free = free_now()
    assert free is not None and 0 < free < total


@pytest.mark.parametrize(("most", "free"), [("1000000", 1_000_000 - 700_000 + 200_000), ("max", None)])
def test_a_container_has_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str, free: int | None
) -> None:
    for name, text in {"max": most, "current": "700000", "stat": "anon 5\ninactive_file 200000"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    unlimited = free_now()
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    found = free_now()
    assert found == free if free is not None else found == pytest.approx(unlimited, rel=0.2)


def test_the_statement_is_read_from_metadata_json(bundle: Bundle) -> None:
    stated = json.loads((bundle.root / "configs" / "metadata.json").read_text())["memory"]
    assert bundle.metadata.memory is not None
    assert json.loads(bundle.metadata.memory.model_dump_json()) == stated


def test_the_example_for_authors_is_the_statement_of_the_toy_bundle() -> None:
    page = (ROOT / "docs" / "bundle_author.md").read_text(encoding="utf-8")
    example = re.search(r'^"memory": (\{.*?^\})$', page, re.MULTILINE | re.DOTALL)
    assert example is not None and json.loads(example[1]) == MEMORY
