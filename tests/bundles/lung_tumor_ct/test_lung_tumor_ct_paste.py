from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_scans import LUNG_HU, TUMOUR_HU, draw_chest, write_volume
from numpy.typing import NDArray

from scripts_lung_tumor_ct.crops import LoadSlicesd
from scripts_lung_tumor_ct.paste import RandPasteLesiond, lies_in_lung
from scripts_lung_tumor_ct.slice_store import store_slices
from scripts_lung_tumor_ct.zones import NEAR_LUNG, TUMOUR

SIZE, MM = (140, 100, 6), (2.0, 2.0, 3.0)


def store(tmp_path: Path, name: str, **chest: Any) -> list[dict[str, Any]]:
    return store_slices([write_volume(tmp_path, name, *draw_chest(SIZE, MM, **chest), MM)], tmp_path / "store")


@pytest.fixture(scope="module")
def with_tumour(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return store(tmp_path_factory.mktemp("ill"), "ill")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return store(tmp_path_factory.mktemp("healthy"), "healthy", tumour_mm=None, seed=1)


def paste(rows: list[dict[str, Any]], seed: int = 0, prob: float = 1.0, **changes: Any) -> RandPasteLesiond:
    transform = RandPasteLesiond(rows, prob, **{"scale_range": (0.5, 1.4), **changes})
    transform.set_random_state(seed)
    return transform


@pytest.mark.parametrize("seed", range(6))
def test_a_pasted_lesion_lies_in_lung_and_is_labelled(
    with_tumour: list[dict[str, Any]], healthy: list[dict[str, Any]], seed: int
) -> None:
    before = LoadSlicesd()(healthy[2])
    image, zones = before["image"].clone(), before["zones"].clone()
    after = paste(with_tumour, seed)(before)
    assert torch.equal(before["image"], image) and torch.equal(before["zones"], zones)
    tumour = after["zones"][0] == TUMOUR
    assert tumour.sum() >= 12 and after["image"].shape == image.shape
    # Where there was lung there is now tumour, and nowhere else anything new.
    assert (zones[0][tumour] == NEAR_LUNG).all() and abs(float(image[0][tumour].mean()) - LUNG_HU) < 20
    # A small one is all rim, which fades into the lung.
    assert TUMOUR_HU - 250 < float(after["image"][0][tumour].median()) < TUMOUR_HU + 30
    # A ball of 11 mm, its rim and what fades, all 1.4 times as large.
    x, y = np.nonzero(tumour.numpy())
    columns, rows = np.indices(tumour.shape)
    far = torch.from_numpy(np.hypot(columns - x.mean(), rows - y.mean()) > 1.4 * (11 / 2 + 8) + 2)
    assert torch.equal(after["image"][:, far], image[:, far])
    assert torch.equal(after["zones"][0][~tumour], zones[0][~tumour])


def areas(rows: list[dict[str, Any]], onto: dict[str, Any], zoom: float) -> list[int]:
    found = []
    for seed in range(8):
        transform = paste(rows, seed, scale_range=(zoom, zoom))
        found.append(int((transform(LoadSlicesd()(onto))["zones"] == TUMOUR).sum()))
    return found


@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.4])
def test_a_lesion_is_as_large_as_the_zoom_makes_it(
    with_tumour: list[dict[str, Any]], healthy: list[dict[str, Any]], zoom: float
) -> None:
    (donor,) = [row for row in with_tumour if row["slice"] == 3]
    own = int((LoadSlicesd()(donor)["zones"] == TUMOUR).sum())
    assert [area / (own * zoom**2) for area in areas([donor], healthy[2], zoom)] == pytest.approx([1.0] * 8, rel=0.15)


@pytest.mark.parametrize("zoom", [1.0, 20.0])
def test_the_box_holds_the_whole_lesion_and_all_that_fades(with_tumour: list[dict[str, Any]], zoom: float) -> None:
    lesion, opacity, core = paste(with_tumour, scale_range=(zoom, zoom))._lesion(with_tumour[3], copies=False)
    assert lesion.shape == opacity.shape == (5, *core.shape) and core.any()
    edge = torch.ones(core.shape, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    assert not core[edge].any() and float(opacity[:, edge].max()) < 0.01
    assert float(opacity[0][core].min()) > 0.4 and float(opacity.max()) <= 1


def test_the_neighbours_of_a_lesion_come_along(
    with_tumour: list[dict[str, Any]], healthy: list[dict[str, Any]]
) -> None:
    # The ball reaches 11 mm up and down, slices are 3 mm apart: three above and below the middle, none beyond.
    donor = with_tumour[0]
    assert donor["tumour"]
    before = LoadSlicesd()(healthy[2])
    after = paste([donor], scale_range=(1, 1))(before)
    brighter = [int(((after["image"] - before["image"])[channel] > 400).sum()) for channel in range(5)]
    # The donor is the lowest slice: the two below it are itself, the ball widens upwards.
    assert brighter[0] == brighter[1] == brighter[2] < brighter[3] < brighter[4]


def test_copies_stay_copies(with_tumour: list[dict[str, Any]], healthy: list[dict[str, Any]]) -> None:
    before = LoadSlicesd(step_probabilities=(1.0,))(healthy[2])
    after = paste(with_tumour[:1])(before)
    assert before["copies"] and (after["image"] == after["image"][:1]).all()
    assert not torch.equal(after["image"], before["image"])


def test_nothing_changes_at_probability_zero(with_tumour: list[dict[str, Any]], healthy: list[dict[str, Any]]) -> None:
    transform, row = paste(with_tumour, prob=0.0), LoadSlicesd()(healthy[2])
    for _ in range(10):
        after = transform(row)
        assert after["image"] is row["image"] and after["zones"] is row["zones"]


def test_lesions_come_only_from_the_rows_that_were_handed_in(
    tmp_path: Path, with_tumour: list[dict[str, Any]], healthy: list[dict[str, Any]]
) -> None:
    assert paste(healthy).donors == []
    row = LoadSlicesd()(healthy[2])
    assert paste(healthy)(row)["image"] is row["image"]
    some = with_tumour[1:3] + healthy
    assert paste(some).donors == with_tumour[1:3]


def test_lesions_at_the_chest_wall_are_no_donors(tmp_path: Path) -> None:
    (at_the_wall,) = [row for row in store(tmp_path, "wall", tumour_mm=(93.0, 0.0, 0.0)) if row["slice"] == 2]
    assert at_the_wall["tumour"] and not lies_in_lung(at_the_wall)
    (in_lung,) = [row for row in store(tmp_path, "lung") if row["slice"] == 2]
    assert lies_in_lung(in_lung)


def one_slice(tmp_path: Path, name: str, label: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """A drawn chest of one slice with this tumour."""
    hu, _ = draw_chest((140, 100, 1), MM, tumour_mm=None)
    hu[label] = TUMOUR_HU
    return store_slices([write_volume(tmp_path, name, hu, label.astype(np.uint8), MM)], tmp_path / "store")


def test_tiny_lesions_and_those_in_several_pieces_are_no_donors(tmp_path: Path) -> None:
    x, y, _ = np.indices((140, 100, 1))

    def disc(row: int, radius_px: int) -> NDArray[np.bool_]:
        return (x - 97) ** 2 + (y - row) ** 2 <= radius_px**2

    assert lies_in_lung(*one_slice(tmp_path, "one", disc(40, 4)))
    assert not lies_in_lung(*one_slice(tmp_path, "two", disc(40, 4) | disc(60, 4)))
    assert not lies_in_lung(*one_slice(tmp_path, "tiny", disc(40, 1)))


@pytest.mark.parametrize("seed", range(4))
def test_picture_and_label_of_a_lesion_are_turned_alike(
    tmp_path: Path, healthy: list[dict[str, Any]], seed: int
) -> None:
    x, y, _ = np.indices((140, 100, 1))
    rod = (abs(x - 97) <= 2) & (abs(y - 49) <= 10)
    before = LoadSlicesd()(healthy[2])
    after = paste(one_slice(tmp_path, "rod", rod), seed, scale_range=(1, 1))(before)
    brighter, labelled = (after["image"] - before["image"])[0] > 500, after["zones"][0] == TUMOUR
    assert labelled.sum() == pytest.approx(5 * 21, rel=0.15)
    assert 2 * (brighter & labelled).sum() / (brighter.sum() + labelled.sum()) > 0.85


def test_without_lung_nothing_is_pasted(with_tumour: list[dict[str, Any]]) -> None:
    row = {
        "image": torch.full((5, 140, 100), 40.0),
        "zones": torch.zeros(1, 140, 100, dtype=torch.uint8),
        "copies": False,
    }
    assert paste(with_tumour)(row)["image"] is row["image"]


def test_equal_seeds_paste_alike(with_tumour: list[dict[str, Any]], healthy: list[dict[str, Any]]) -> None:
    first, again, other = (paste(with_tumour, seed)(LoadSlicesd()(healthy[2]))["image"] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
