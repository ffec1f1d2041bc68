from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from clinibundle.report.moving_picture import moving_picture_gif
from clinibundle.volume import Source, Volume


def volume(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    values = np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16)
    return Volume(values, np.diag([*spacing, 1.0]), spacing, "hounsfield", Source("volume", "case", "nii.gz"))


def frames(gif: bytes) -> list[np.ndarray]:
    return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(io.BytesIO(gif)))]


def is_red(frame: np.ndarray) -> np.ndarray:
    return np.all(frame == (230, 60, 40), axis=-1)


def test_every_slice_is_a_frame_and_only_those_with_a_label_have_an_outline() -> None:
    labels = np.zeros((40, 30, 5), np.uint8)
    labels[10:20, 5:15, 3] = 1
    found = frames(moving_picture_gif(volume((40, 30, 5)), labels, [(230, 60, 40)], (-1000, 400)))
    assert [is_red(frame).any() for frame in found] == [False, False, False, True, False]


def test_the_outline_runs_around_the_label_and_leaves_what_is_in_it_to_be_seen() -> None:
    labels = np.zeros((40, 40, 1), np.uint8)
    labels[10:20, 5:15] = 1
    (frame,) = frames(moving_picture_gif(volume((40, 40, 1)), labels, [(230, 60, 40)], (-1000, 400)))
    red, scale = is_red(frame), 320 // 40
    rows, columns = np.nonzero(red)
    assert (columns.min(), columns.max()) == (10 * scale - 1, 20 * scale)
    assert (rows.min(), rows.max()) == (5 * scale - 1, 15 * scale)
    assert not red[5 * scale : 15 * scale, 10 * scale : 20 * scale].any()


@pytest.mark.parametrize("spacing", [(1.0, 2.0, 3.0), (2.0, 1.0, 1.0)])
def test_proportions_are_those_of_the_patient(spacing: tuple[float, float, float]) -> None:
    found = frames(moving_picture_gif(volume((40, 40, 2), spacing), np.zeros((40, 40, 2), np.uint8), [(230, 60, 40)]))
    rows, columns = found[0].shape[:2]
    assert rows / columns == pytest.approx(spacing[1] / spacing[0], rel=0.02)


def test_more_labels_than_colours_take_turns() -> None:
    labels = np.zeros((40, 40, 1), np.uint8)
    labels[5:10, 5:10], labels[20:25, 20:25], labels[30:35, 5:10] = 1, 2, 3
    (frame,) = frames(moving_picture_gif(volume((40, 40, 1)), labels, [(230, 60, 40), (0, 200, 0)], (-1000, 400)))
    assert is_red(frame)[35:90, 35:90].any() and is_red(frame)[35:90, 230:290].any()
    assert np.all(frame == (0, 200, 0), axis=-1)[150:210, 150:210].any()
