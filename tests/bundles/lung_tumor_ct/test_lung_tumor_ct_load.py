from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from made_scans import draw_chest, write_pictures, write_volume
from monai.data import MetaTensor

from scripts_lung_tumor_ct.load import KeepOwnSliced, LoadScand, measured_rows


def test_a_volume_is_read_as_it_is(tmp_path: Path) -> None:
    hu, label = draw_chest((30, 20, 4))
    (row,) = measured_rows([write_volume(tmp_path, "a", hu, 3 * label, axes="RAS", spacing_mm=[2, 2, 3])])
    read = LoadScand(unknown_spacing_mm=1.4)(row)
    image = nibabel.load(row["image"])
    assert np.array_equal(read["image"][0], image.get_fdata()) and np.allclose(read["image"].affine, image.affine)
    assert np.array_equal(read["label"][0], nibabel.load(row["label"]).get_fdata() > 0)


@pytest.mark.parametrize(("known", "expected"), [([3.0, 2.0], (2.0, 3.0)), (None, (1.4, 1.4))])
def test_a_picture_is_read_as_a_volume_of_itself_between_its_neighbours(
    tmp_path: Path, known: list[float] | None, expected: tuple[float, float]
) -> None:
    hu, label = draw_chest((30, 20, 4))
    rows = measured_rows(write_pictures(tmp_path, "p", hu, label, [7, 8, 9, 10], spacing_mm=known, tumour_px=9))
    assert all(set(row) <= {"image", "label", "slices", "spacing_mm"} for row in rows)
    read = LoadScand(unknown_spacing_mm=1.4)(rows[1])
    assert np.array_equal(read["image"][0], hu[:, :, [0, 0, 1, 2, 3]]) and np.array_equal(
        read["label"][0], label[:, :, 1]
    )
    # Laid out in LPS: NIfTI's axes run to the right and to the front. `spacing_mm` is that of rows, then of columns.
    assert np.allclose(read["image"].affine, np.diag([-expected[0], -expected[1], 1, 1]))
    assert read["image"].meta["filename_or_obj"] == rows[1]["image"]


def test_of_what_was_found_beside_a_picture_its_own_slice_is_kept() -> None:
    found = torch.arange(5).expand(1, 3, 2, 5)
    row = {"pred": found, "probability": MetaTensor(found), "slices": ["a"] * 5}
    kept = KeepOwnSliced(["pred", "probability"])(row)
    assert all(kept[key].shape == (1, 3, 2) and (kept[key] == 2).all() for key in ("pred", "probability"))
    assert KeepOwnSliced("pred")({"pred": found})["pred"] is found
