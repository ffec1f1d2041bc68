from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from made_scans import lps_affine, write_pictures, write_volume
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from scripts_lung_tumor_ct.crops import read_stack
from scripts_lung_tumor_ct.slice_store import read_facts, store_slices
from scripts_lung_tumor_ct.zones import TUMOUR

SPACING_MM = (1.5, 2.0, 3.0)


def noise(size: tuple[int, int, int] = (9, 7, 5), seed: int = 0) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Every voxel is a marker of its own."""
    random = np.random.default_rng(seed)
    return random.integers(-1024, 3000, size, dtype=np.int16), (random.random(size) > 0.7).astype(np.uint8)


def stored(listed: list[dict[str, Any]]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Image and tumour of the one scan that was listed, as (x, y, slices)."""
    images, zones = read_stack(listed[0]["store"], range(len(read_facts(listed[0]["store"])["indices"])))
    return np.moveaxis(images, 0, -1), np.moveaxis(zones == TUMOUR, 0, -1)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "LPI", "PIR", "SAL"])
def test_a_volume_of_any_orientation_lies_in_the_store_as_in_lps(tmp_path: Path, axes: str) -> None:
    hu, label = noise()
    listed = store_slices([write_volume(tmp_path, "a", hu, label, SPACING_MM, axes)], tmp_path / "store")
    image, tumour = stored(listed)
    assert np.array_equal(image, hu) and np.array_equal(tumour, label)
    assert [row["slice"] for row in listed] == [0, 1, 2, 3, 4] == read_facts(listed[0]["store"])["indices"]
    assert [row["tumour"] for row in listed] == [bool(label[:, :, z].any()) for z in range(5)]
    assert read_facts(listed[0]["store"])["slice_distance_mm"] == pytest.approx(3.0)


def oblique_affine(spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Turned by 12 degrees about the patient's left-right axis."""
    cos, sin = np.cos(np.deg2rad(12)), np.sin(np.deg2rad(12))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[cos, -sin], [sin, cos]]
    return turn @ lps_affine(spacing_mm)


def test_an_oblique_volume_keeps_its_own_slices(tmp_path: Path) -> None:
    hu, label = noise()
    row = write_volume(tmp_path, "a", hu, label, axes="ARS", affine=oblique_affine(SPACING_MM))
    listed = store_slices([row], tmp_path / "store")
    image, tumour = stored(listed)
    assert np.array_equal(image, hu) and np.array_equal(tumour, label)
    assert read_facts(listed[0]["store"])["slice_distance_mm"] == pytest.approx(3.0)


@pytest.mark.parametrize("affine", [lps_affine((2.0, 1.0, 3.0)), oblique_affine((2.0, 1.0, 3.0))])
def test_slices_are_resampled_within_their_plane_and_not_between_each_other(
    tmp_path: Path, affine: NDArray[np.float64]
) -> None:
    x, y, z = np.meshgrid(np.arange(20), np.arange(31), np.arange(4), indexing="ij")
    # A plane in millimetres, which linear interpolation keeps, and one of its own a slice.
    hu = (20 * 2.0 * x - 10 * 1.0 * y + 500 * z).astype(np.int16)
    row = write_volume(tmp_path, "a", hu, (x > 9).astype(np.uint8), axes="RAS", affine=affine)
    image, tumour = stored(store_slices([row], tmp_path / "store", spacing_mm=1.25))
    assert image.shape[2] == 4 and image.shape[0] >= 30 and image.shape[1] >= 24
    x, y, z = np.meshgrid(np.arange(30), np.arange(24), np.arange(4), indexing="ij")
    # Up to where the border is.
    assert np.abs(image[:30, :24] - (20 * 1.25 * x - 10 * 1.25 * y + 500 * z)).max() <= 1
    # The label's edge lies half way between its pixels 9 and 10.
    assert np.array_equal(tumour[:30, :24], x * 1.25 > 9.5 * 2.0)


def test_pictures_hold_hu_and_1024_and_lie_as_they_are_seen(tmp_path: Path) -> None:
    hu, label = noise()
    rows = write_pictures(tmp_path, "p", hu, label, [31, 32, 33, 40, 41])
    listed = store_slices([rows[n] for n in (3, 0, 4, 2, 1)], tmp_path / "store")
    image, tumour = stored(listed)
    assert np.array_equal(image, hu) and np.array_equal(tumour, label)
    assert read_facts(listed[0]["store"]) | {"crc32": 0, "tumour_px": 0} == {
        "indices": [31, 32, 33, 40, 41], "slice_distance_mm": None, "crc32": 0, "tumour_px": 0,
    }  # fmt: skip
    assert {row["group"] for row in listed} == {"p"}


def test_a_picture_without_a_place_is_a_scan_of_its_own(tmp_path: Path) -> None:
    hu, label = noise()
    rows = write_pictures(tmp_path, "p", hu, label, range(5))
    for row in rows:
        del row["original_slice_index"]
    listed = store_slices(rows, tmp_path / "store")
    assert len({row["store"] for row in listed}) == 5 and {row["slice"] for row in listed} == {0}


def test_pictures_are_resampled_by_their_rows_and_columns_and_left_alone_if_these_are_not_known(tmp_path: Path) -> None:
    hu, label = noise((24, 40, 1))
    known = write_pictures(tmp_path / "known", "p", hu, label, [3], spacing_mm=[0.7, 2.8])
    unknown = write_pictures(tmp_path / "unknown", "p", hu, label, [3], spacing_mm=None)
    # Rows lie 0.7 mm apart, columns 2.8 mm; from the first pixel's middle to the last one's.
    assert stored(store_slices(known, tmp_path / "store", spacing_mm=1.4))[0].shape[:2] == (47, 20)
    assert np.array_equal(stored(store_slices(unknown, tmp_path / "store", spacing_mm=1.4))[0], hu)


def test_slices_are_squeezed_linearly_and_their_label_by_the_nearest_pixel(tmp_path: Path) -> None:
    hu, label = noise((16, 10, 3))
    row = write_volume(tmp_path, "a", hu, label, SPACING_MM)
    image, tumour = stored(store_slices([row], tmp_path / "store", slice_size=[12, 20]))
    slices, labels = (torch.from_numpy(np.moveaxis(array, 2, 0).astype(np.float32))[None] for array in (hu, label))
    expected = interpolate(slices, size=(12, 20), mode="bilinear", align_corners=False)[0].numpy()
    assert np.abs(np.moveaxis(image, 2, 0) - expected).max() <= 0.51
    assert np.array_equal(np.moveaxis(tumour, 2, 0), interpolate(labels, size=(12, 20), mode="nearest")[0].numpy() > 0)


def test_the_lowest_slices_are_left_out_of_volumes_and_not_of_pictures(tmp_path: Path) -> None:
    hu, label = noise()
    # Its first slice in the file is the highest.
    volume = write_volume(tmp_path, "v", hu, label, SPACING_MM, "LPI")
    listed = store_slices([volume], tmp_path / "store", leave_out_lowest=2)
    assert [row["slice"] for row in listed] == [2, 3, 4]
    assert np.array_equal(stored(listed)[0][:, :, listed[0]["slice"]], hu[:, :, 2])
    pictures = write_pictures(tmp_path, "p", hu, label, range(5))
    assert len(store_slices(pictures, tmp_path / "store", leave_out_lowest=2)) == 5
    with pytest.raises(ValueError, match="no slice is left: no volume has more than the 5 that are left out"):
        store_slices([volume], tmp_path / "store", leave_out_lowest=5)


def written(store: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.iterdir()}


def test_a_scan_is_written_once_for_each_recipe(tmp_path: Path) -> None:
    row, store = write_volume(tmp_path, "a", *noise(), SPACING_MM), tmp_path / "store"
    first = store_slices([row], store)
    before = written(store)
    assert store_slices([row], store) == first and written(store) == before and len(before) == 3
    assert store_slices([row], store, spacing_mm=1.0)[0]["store"] != first[0]["store"]
    assert before.items() < written(store).items()


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_changed_source_is_stored_anew(tmp_path: Path, kind: str) -> None:
    hu, label = noise()
    # Not packed, so that a changed file is as long as it was.
    row, store = write_volume(tmp_path, "a", hu, label, SPACING_MM, ending="nii"), tmp_path / "store"
    store_slices([row], store)
    hu, label = (hu[::-1], label) if kind == "image" else (hu, 1 - label)
    write_volume(tmp_path, "a", hu, label, SPACING_MM, ending="nii")
    os.utime(row[kind], ns=(1, 1))
    image, tumour = stored(store_slices([row], store))
    assert np.array_equal(image, hu) and np.array_equal(tumour, label)


@pytest.mark.parametrize("ending", ["_image.npy", "_zones.npy", ".json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_scan_is_stored_anew(tmp_path: Path, ending: str, damage: str) -> None:
    hu, label = noise()
    row, store = write_volume(tmp_path, "a", hu, label, SPACING_MM), tmp_path / "store"
    path = Path(store_slices([row], store)[0]["store"] + ending)
    content = path.read_bytes()
    path.write_bytes({"changed": content[:-3] + b"!" + content[-2:], "cut": content[:-7], "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    image, tumour = stored(store_slices([row], store))
    assert np.array_equal(image, hu) and np.array_equal(tumour, label)
    assert path.read_bytes() == content


def test_several_may_make_one_store_at_once(tmp_path: Path) -> None:
    rows = [write_volume(tmp_path, name, *noise(seed=seed), SPACING_MM) for seed, name in enumerate("abc")]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: store_slices(rows, tmp_path / "store"), range(4)))
    assert all(listed == made[0] for listed in made)
    # Nothing half-written stays behind.
    assert len(list((tmp_path / "store").iterdir())) == 9
    assert np.array_equal(stored(made[0])[0], noise(seed=0)[0])


@pytest.mark.parametrize("write", ["volume", "pictures"])
def test_a_label_of_another_size_is_refused_in_one_sentence(tmp_path: Path, write: str) -> None:
    hu, label = noise((9, 7, 1))
    if write == "volume":
        rows = [write_volume(tmp_path, "a", hu, label[:-1], SPACING_MM)]
    else:
        rows = write_pictures(tmp_path, "a", hu, label[:-1], [4])
    sizes = "9 x 7 x 1 voxels and its label 8 x 7 x 1" if write == "volume" else "9 x 7 voxels and its label 8 x 7"
    with pytest.raises(ValueError, match=rf"^'.*images/a.*' has {sizes}: a label lies on the grid of its image$"):
        store_slices(rows, tmp_path / "store")
    assert not list((tmp_path / "store").iterdir())


def test_a_label_that_lies_elsewhere_by_its_header_is_refused(tmp_path: Path) -> None:
    row = write_volume(tmp_path, "a", *noise(), SPACING_MM)
    label = nibabel.load(row["label"])
    nibabel.save(nibabel.Nifti1Image(np.asarray(label.dataobj), label.affine + np.eye(4, k=3) * 0.05), row["label"])
    store_slices([row], tmp_path / "store")
    nibabel.save(nibabel.Nifti1Image(np.asarray(label.dataobj), np.diag([-1.5, -2.0, 3.0, 1.0])), row["label"])
    with pytest.raises(
        ValueError, match=r"^'.*a\.nii\.gz' and its label lie up to 86\.\d mm apart by their headers: a"
    ):
        store_slices([row], tmp_path / "store")


def test_pictures_of_one_scan_and_of_several_sizes_are_refused(tmp_path: Path) -> None:
    rows = write_pictures(tmp_path, "p", *noise((9, 7, 1)), [4]) + write_pictures(tmp_path, "p", *noise((9, 8, 1)), [5])
    with pytest.raises(
        ValueError, match=r"p_z005.png' has 9 x 8 pixels and '.*p_z004.png' 9 x 7: slices of one scan are"
    ):
        store_slices(rows, tmp_path / "store")
