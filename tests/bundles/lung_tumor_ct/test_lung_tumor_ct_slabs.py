from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_scans import draw_chest, write_list, write_volume
from numpy.typing import NDArray

from scripts_lung_tumor_ct.crops import RandCropDeformd
from scripts_lung_tumor_ct.datalist import read_rows
from scripts_lung_tumor_ct.slabs import LoadSlabd, SlicesToVolumed
from scripts_lung_tumor_ct.slice_store import store_slices
from scripts_lung_tumor_ct.zones import TUMOUR


def stored(folder: Path, **recipe: float) -> tuple[list[dict[str, object]], NDArray[np.int16], NDArray[np.uint8]]:
    hu, label = draw_chest((40, 30, 6), (3.5, 3.5, 3.0), radius_mm=14)
    write_list(folder, [write_volume(folder, "scan", hu, label, (3.5, 3.5, 3.0))])
    return store_slices(read_rows(folder), folder / "store", **recipe), hu, label


@pytest.mark.parametrize(("middle", "first"), [(3, 1), (0, -2), (5, 3)], ids=["inside", "at the feet", "at the head"])
def test_a_slab_holds_the_slices_around_its_own_and_air_beyond_the_scan(
    tmp_path: Path, middle: int, first: int
) -> None:
    rows, hu, label = stored(tmp_path)
    slab = LoadSlabd(4)(rows[middle])
    assert slab["image"].shape == slab["zones"].shape == (4, 40, 30)
    for channel, number in enumerate(range(first, first + 4)):
        if 0 <= number < 6:
            assert np.array_equal(slab["image"][channel], hu[:, :, number])
            assert np.array_equal(slab["zones"][channel] == TUMOUR, label[:, :, number] == 1)
        else:
            assert (slab["image"][channel] == -1024).all() and not slab["zones"][channel].any()


def test_slices_are_brought_to_the_wanted_distance(tmp_path: Path) -> None:
    rows, _, _ = stored(tmp_path, spacing_mm=3.5, slice_distance_mm=1.5)
    # Six slices of 3 mm, from centre to centre 15 mm.
    assert len(rows) in (11, 12)


def test_all_slices_of_a_slab_are_cropped_alike_and_their_labels_with_them(tmp_path: Path) -> None:
    rows, _, _ = stored(tmp_path)
    crop = RandCropDeformd(16, 1.0, 0.0, 0.0, prob=0.0, middle_channel=2)
    crop.set_random_state(0)
    row = next(row for row in rows if row["tumour"])
    found = SlicesToVolumed()(crop(LoadSlabd(4)(row)))
    assert found["image"].shape == found["label"].shape == (1, 16, 16, 4)
    # Tumour is flesh in air, also after the crop.
    assert found["label"].any() and found["image"][found["label"] > 0.5].mean() > -100
    assert torch.equal(found["label"], (found["label"] > 0.5).float())
