from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage
from torch.nn.functional import interpolate

from clinibundle.errors import BundleError, DataFolderError
from clinibundle.transforms.deform import Deformation, RandDeform2Dd, bicubic_weights, resample

STILL = {"rotate_degrees": 0, "flip_prob": 0, "elastic_px": 0}


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(7).random(shape, dtype=np.float32))


def smooth(channels: int = 1, size: tuple[int, int] = (48, 56)) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(noise(channels, *size).numpy(), (0, 3, 3), mode="mirror"))


def by_matrix(matrix: object, size: tuple[int, int], displacements: object = None) -> Deformation:
    still = np.zeros((2, 3, 3))
    return Deformation(
        size, (np.array(size) - 1) / 2, np.array(matrix, float), still if displacements is None else displacements
    )


def point(x: int, y: int, size: tuple[int, int] = (7, 7)) -> torch.Tensor:
    picture = torch.zeros(1, *size)
    picture[0, x, y] = 1
    return picture


def bright(picture: torch.Tensor) -> list[int]:
    (found,) = (picture[0] > 0.99).nonzero().tolist()
    return found


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_with_all_switched_off_nothing_changes_by_a_bit(mode, dtype):
    picture = (255 * noise(3, 30, 41)).to(dtype)
    found = RandDeform2Dd("image", mode, **STILL)({"image": picture})["image"]
    assert torch.equal(found, picture if mode == "nearest" else picture.float())
    assert found.dtype == (dtype if mode == "nearest" else torch.float32)


def test_what_is_given_is_not_changed_with_what_comes_back():
    picture = noise(1, 9, 9)
    before = picture.clone()
    RandDeform2Dd("image", **STILL)({"image": picture})["image"].zero_()
    assert torch.equal(picture, before)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_is_exact(axis):
    deform = RandDeform2Dd("image", **{**STILL, "flip_prob": 0.5}).set_random_state(0)
    picture = noise(2, 12, 15)
    found = [deform({"image": picture})["image"] for _ in range(40)]
    assert all(any(torch.equal(one, picture.flip(axes)) for axes in ([], [1], [2], [1, 2])) for one in found)
    assert 3 < sum(torch.equal(one, picture.flip(axis + 1)) for one in found) < 20


def test_a_quarter_turn_brings_a_pixel_where_it_must():
    # A result's pixel (x, y), counted from the middle (3, 3), comes from (-y, x).
    turned = resample(point(3, 5), by_matrix([[0, -1], [1, 0]], (7, 7)), "bilinear")
    assert bright(turned) == [5, 3]


def test_a_shift_brings_a_pixel_where_it_must():
    deformation = Deformation((7, 7), np.array([4.0, 1.0]), np.eye(2), np.zeros((2, 3, 3)))
    assert bright(resample(point(4, 4), deformation, "bilinear")) == [3, 6]


def test_a_zoom_of_two_shows_things_twice_as_large_about_the_middle():
    deformation = RandDeform2Dd("image", **STILL, scale_range=(2, 2)).draw((9, 9))
    places = deformation.places
    assert torch.allclose(places[0, :, 0], 4 + (torch.arange(9.0) - 4) / 2)
    assert torch.allclose(places[1, 0, :], 4 + (torch.arange(9.0) - 4) / 2)


def test_zooms_and_turns_and_shifts_stay_within_what_is_given():
    deform = RandDeform2Dd(
        "image", rotate_degrees=20, scale_range=(0.5, 2), shift_px=6, flip_prob=0, elastic_px=0
    ).set_random_state(1)
    drawn = [deform.draw((30, 40)) for _ in range(300)]
    zooms = np.array([np.linalg.det(one.matrix) ** -0.5 for one in drawn])
    angles = np.degrees([np.arctan2(one.matrix[1, 0], one.matrix[0, 0]) for one in drawn])
    shifts = np.array([one.middle - (14.5, 19.5) for one in drawn])
    assert 0.5 <= zooms.min() < 0.55 and 1.8 < zooms.max() <= 2 and np.median(zooms) == pytest.approx(1, abs=0.1)
    for values, limit in ((angles, 20), (shifts, 6)):
        assert 0.95 * limit < np.abs(values).max() <= limit and abs(values.mean()) < limit / 5


def test_control_points_move_by_the_stated_standard_deviation_in_pixels():
    deform = RandDeform2Dd("image", **{**STILL, "elastic_px": 10.0}).set_random_state(2)
    drawn = [deform.draw((101, 81)) for _ in range(300)]
    # Corners, middles of the sides and middle of the picture are the control points.
    still = np.stack(np.meshgrid([0, 50, 100], [0, 40, 80], indexing="ij"))
    moved = np.array([one.places[:, ::50, ::40].numpy() for one in drawn]) - still
    assert np.abs(moved - [one.displacements for one in drawn]).max() < 1e-3
    assert moved.std(axis=(0, 2, 3)) == pytest.approx([10, 10], rel=0.04)
    assert np.abs(moved.mean(axis=0)).max() < 2.5


def test_displacements_between_control_points_are_torchs_bicubic_interpolation():
    displacements = np.random.default_rng(0).normal(size=(2, 4, 4))
    found = by_matrix(np.eye(2), (33, 48), displacements).places
    expected = interpolate(torch.from_numpy(displacements)[None], size=(33, 48), mode="bicubic", align_corners=True)[0]
    still = torch.from_numpy(np.indices((33, 48)))
    assert torch.allclose(found, (still + expected).float(), atol=1e-4)
    assert torch.allclose(bicubic_weights(4, 50).sum(1), torch.ones(50), atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_everything_at_once_is_what_scipy_interpolates_at_these_places_of_the_mirrored_picture(seed):
    picture = noise(2, 40, 52)
    deform = RandDeform2Dd("image", shift_px=30, scale_range=(0.5, 1.5), size=(64, 33)).set_random_state(seed)
    deformation = deform.draw((40, 52))
    places = deformation.places.double().numpy()
    assert places.min() < -1 or (places.max(axis=(1, 2)) > (40, 52)).any()
    expected = [ndimage.map_coordinates(channel.numpy(), places, order=1, mode="mirror") for channel in picture]
    assert np.abs(resample(picture, deformation, "bilinear").numpy() - expected).max() < 1e-3
    whole = ndimage.map_coordinates(picture[0].numpy(), places, order=0, mode="mirror")
    # Half-way between two pixels either is the nearest.
    assert (resample(picture, deformation, "nearest")[0].numpy() == whole).mean() > 0.999


@given(
    picture_size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 50),
)
def test_a_crop_is_a_window_of_the_mirrored_picture_that_holds_as_much_of_it_as_can_be(picture_size, size, seed):
    picture = torch.arange(np.prod(picture_size)).reshape(1, *picture_size)
    deform = RandDeform2Dd("image", "nearest", size=size, **STILL).set_random_state(seed)
    first = deform.draw(picture_size).first
    deform.set_random_state(seed)
    mirrored = np.pad(picture[0].numpy(), 12, mode="reflect")
    x, y = (first + 12).astype(int)
    found = deform({"image": picture})["image"]
    assert np.array_equal(found[0].numpy(), mirrored[x : x + size[0], y : y + size[1]])
    assert found.unique().numel() == np.prod(np.minimum(picture_size, size))


def test_crops_reach_every_corner():
    deform = RandDeform2Dd("image", size=3, **STILL).set_random_state(0)
    found = {tuple(deform.draw((5, 4)).first) for _ in range(200)}
    assert found == {(x, y) for x in range(3) for y in range(2)}


def test_with_probability_zero_a_crop_is_made_all_the_same_and_nothing_else():
    picture = noise(1, 20, 30)
    deform = RandDeform2Dd("image", size=(8, 9), prob=0, shift_px=3, scale_range=(0.5, 2)).set_random_state(4)
    windows = picture[0].unfold(0, 8, 1).unfold(1, 9, 1).reshape(-1, 8, 9)
    for _ in range(5):
        assert (windows == deform({"image": picture})["image"]).all(dim=(1, 2)).sum() == 1


@given(
    seed=st.integers(0, 10_000),
    threshold=st.floats(0.45, 0.55),
    mode=st.sampled_from(["bilinear", "nearest"]),
    size=st.sampled_from([None, 24, 80]),
)
def test_picture_and_label_stay_aligned(seed, threshold, mode, size):
    picture = smooth()
    label = (picture > threshold).to(torch.uint8)
    deform = RandDeform2Dd(
        ["image", "label"], [mode, "nearest"], size=size, shift_px=9, scale_range=(0.7, 1.4)
    ).set_random_state(seed)
    row = deform({"image": picture, "label": label})
    # Between neighbours, diagonal ones too, the picture changes by so much at most.
    step = sum(float(picture.diff(dim=axis).abs().max()) for axis in (1, 2))
    clear = (row["image"] - threshold).abs() > step
    assert torch.equal((row["image"] > threshold)[clear], (row["label"] > 0)[clear])
    assert clear.any()


@given(st.integers(0, 10_000))
def test_labels_keep_their_values_and_type(seed):
    label = torch.tensor([0, 3, 250, 40_000])[(4 * noise(1, 31, 26)).long()].to(torch.int32)
    deform = RandDeform2Dd("label", "nearest", scale_range=(0.5, 2)).set_random_state(seed)
    found = deform({"label": label})["label"]
    assert found.dtype == torch.int32
    assert set(found.unique().tolist()) <= set(label.unique().tolist())


def test_the_weight_channel_is_resampled_linearly_and_the_class_is_not():
    label = torch.cat([(noise(1, 40, 40) > 0.5).float(), 10 * smooth(1, (40, 40))])
    deform = RandDeform2Dd("label", "nearest", weighted_keys="label")
    found = deform.set_random_state(5)({"label": label})["label"]
    deformation = deform.set_random_state(5).draw((40, 40))
    assert torch.equal(found[:1], resample(label[:1], deformation, "nearest"))
    assert torch.equal(found[1:], resample(label[1:], deformation, "bilinear"))
    assert set(found[0].unique().tolist()) == {0, 1} and found[1].unique().numel() > 1000


def test_channels_and_keys_are_deformed_alike():
    picture = noise(3, 25, 25)
    row = RandDeform2Dd(["a", "b"]).set_random_state(0)({"a": picture, "b": picture[1:2], "c": 1})
    assert row["a"].shape == (3, 25, 25) and torch.equal(row["a"][1:2], row["b"]) and row["c"] == 1
    assert not torch.equal(row["a"], picture)


def test_the_same_seed_gives_the_same_deformation_and_another_a_different_one():
    picture = noise(1, 25, 25)
    found = [RandDeform2Dd("a").set_random_state(seed)({"a": picture})["a"] for seed in (5, 5, 6)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_switching_one_part_off_leaves_the_others_as_they_were():
    drawn = [
        RandDeform2Dd("a", size=10, shift_px=shift, elastic_px=elastic).set_random_state(1).draw((30, 30))
        for shift, elastic in ((4, 10), (0, 10), (0, 0))
    ]
    assert np.array_equal(drawn[0].matrix, drawn[1].matrix) and np.array_equal(drawn[1].matrix, drawn[2].matrix)
    assert np.array_equal(drawn[0].displacements, drawn[1].displacements)
    assert np.array_equal(drawn[1].middle, drawn[2].middle) and not np.array_equal(drawn[0].middle, drawn[1].middle)


@pytest.mark.parametrize("prob", [0, 1])
def test_numpy_arrays_and_metatensors_come_back_as_plain_tensors(prob):
    picture = noise(1, 9, 9)
    deform = RandDeform2Dd(["a", "b"], prob=prob)
    row = deform({"a": picture.numpy(), "b": MetaTensor(picture)})
    assert type(row["a"]) is torch.Tensor and type(row["b"]) is torch.Tensor and torch.equal(row["a"], row["b"])


def test_missing_keys_are_refused_or_allowed_as_in_monai():
    with pytest.raises(KeyError, match="label"):
        RandDeform2Dd(["image", "label"])({"image": noise(1, 9, 9)})
    deform = RandDeform2Dd(["label", "image"], ["nearest", "bilinear"], allow_missing_keys=True, **STILL)
    assert deform({"image": noise(1, 9, 9)})["image"].shape == (1, 9, 9)
    assert deform({}) == {}


def test_pictures_of_different_sizes_are_refused():
    with pytest.raises(DataFolderError, match=r"\(9, 9\).*\(9, 8\)"):
        RandDeform2Dd(["image", "label"])({"image": noise(1, 9, 9), "label": noise(1, 9, 8)})


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"mode": "cubic"}, "mode 'cubic' is unknown"), ({"scale_range": (0, 1)}, "two zooms above 0, found")],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(BundleError, match=said):
        RandDeform2Dd("image", **settings)
