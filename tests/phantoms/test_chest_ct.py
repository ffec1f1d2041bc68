import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from clinibundle.phantoms.chest_ct import make_chest_ct
from clinibundle.phantoms.ct_tumours import Tumour

WHOLE = {"shape": (32, 80, 80), "spacing_mm": (9.0, 5.0, 5.0)}
MIDDLE = {"shape": (24, 40, 40), "spacing_mm": (2.0, 1.5, 1.5)}
"""A few centimetres around the point (0, 0, -10)."""
SEEDS = range(5)


@pytest.fixture(scope="module")
def chests():
    return [make_chest_ct(seed, **WHOLE) for seed in SEEDS]


def millimetres(ct):
    """(3, slices, rows, columns): x, y, z of every voxel, by the affine alone."""
    z, y, x = np.indices(ct.label.shape)
    return np.einsum("ij,j...->i...", ct.affine_lps, np.stack([x, y, z, np.ones_like(x)]))[:3]


def voxel_ml(ct):
    return abs(np.linalg.det(ct.affine_lps[:3, :3])) / 1000


def air_outside(ct):
    return np.concatenate([ct.hounsfield[:, :4].ravel(), ct.hounsfield[:, 4:40, :2].ravel()])


def test_arrays_have_the_shape_and_kind_that_are_promised(chests):
    for ct in chests:
        assert ct.hounsfield.shape == ct.label.shape == ct.lungs.shape == WHOLE["shape"]
        assert (ct.hounsfield.dtype, ct.label.dtype, ct.lungs.dtype) == (np.int16, np.uint8, np.bool_)
        assert -1024 <= ct.hounsfield.min() < -1000
        assert 500 < ct.hounsfield.max() <= 3071
        np.testing.assert_allclose(ct.affine_lps @ [39.5, 39.5, 15.5, 1], [0, 0, -10, 1])
        np.testing.assert_array_equal(ct.affine_lps[:3, :3], np.diag([5, 5, 9]))


def test_tumours_of_a_seed_are_parts_of_their_own_in_the_lungs(chests):
    assert len({len(ct.tumours) for ct in chests}) > 1
    for ct in chests:
        parts, count = label(ct.label, np.ones((3, 3, 3)))
        assert count == len(ct.tumours) > 0
        for tumour in ct.tumours:
            x, y, z = np.rint(np.linalg.solve(ct.affine_lps, [*tumour.centre_lps_mm, 1]))[:3].astype(int)
            assert ct.lungs[z, y, x]
            part = parts == parts[z, y, x]
            assert abs(part.sum() * voxel_ml(ct) - tumour.volume_ml) <= max(voxel_ml(ct), 0.02 * tumour.volume_ml)
            free = tumour.touching == "nothing" and min(tumour.semi_axes_mm) > 10
            assert not (free and (part & ~ct.lungs).any())


def test_a_given_tumour_lies_where_it_should_in_leaning_slices_too():
    tumour = Tumour((5.0, -4.0, -12.0), (8, 6, 7), 40, hounsfield=2500.0)
    turn = np.array([[0.8, -0.36, 0.48], [0.6, 0.48, -0.64], [0.0, 0.8, 0.6]])
    for direction in ({}, {"tilt_degrees": 17.0}, {"rotation": turn}):
        ct = make_chest_ct(1, tumours=[tumour], **MIDDLE, **direction)
        half_way = ct.hounsfield > 1300
        for mask in (half_way, ct.label > 0):
            assert np.abs(millimetres(ct)[:, mask].mean(axis=1) - tumour.centre_lps_mm).max() < 0.5
            assert mask.sum() * voxel_ml(ct) == pytest.approx(tumour.volume_ml, rel=0.08)


@pytest.mark.parametrize("hounsfield", [35.0, -600.0])
def test_a_tumour_changes_the_density_by_the_share_of_each_voxel_that_it_fills(hounsfield):
    tumour = Tumour((1.0, 2.0, -11.0), (12, 10, 11), 25, hounsfield)
    ct, healthy = (make_chest_ct(1, tumours=each, noise_hu=0, **MIDDLE) for each in ([tumour], []))
    before, after = healthy.hounsfield.astype(float), ct.hounsfield.astype(float)
    within = np.linalg.norm(millimetres(ct) - np.reshape(tumour.centre_lps_mm, (3, 1, 1, 1)), axis=0) < 8
    assert (after[within] == hounsfield).all()
    contrast = hounsfield - before
    clear = np.abs(contrast) > 40
    # Where the contrast is too low to tell, the label stands in.
    share = np.where(clear, (after - before) / np.where(clear, contrast, 1), ct.label)
    assert share.sum() * voxel_ml(ct) == pytest.approx(4 / 3 * np.pi * 12 * 10 * 11 / 1000, rel=0.02)


def test_tissues_have_the_density_that_people_know(chests):
    for ct in chests:
        assert np.median(air_outside(ct)) == pytest.approx(-1000, abs=10)
        parenchyma = ~binary_dilation(~ct.lungs) & ~binary_dilation(ct.label > 0, iterations=2)
        assert np.median(ct.hounsfield[parenchyma]) == pytest.approx(-855, abs=30)
        assert 0.1 < (ct.hounsfield > 350).sum() * voxel_ml(ct) / 1000 < 1.5
    still = make_chest_ct(2, tumours=(), noise_hu=0, **WHOLE)
    litres = {value: (still.hounsfield == value).sum() * voxel_ml(still) / 1000 for value in (-1000, -102, 54, 62)}
    # Air outside, fat, muscle and liver.
    assert all(litres[value] > least for value, least in ((-1000, 15), (-102, 2), (54, 1.5), (62, 1))), litres


def test_the_back_of_the_lungs_is_denser_than_the_front(chests):
    for ct in chests:
        y = millimetres(ct)[1]
        front, back = (np.median(ct.hounsfield[ct.lungs & part]) for part in (y < -30, y > 30))
        assert back > front + 15


def test_noise_is_as_strong_as_asked_and_shared_by_neighbours_in_a_slice_only():
    clean, noisy = (make_chest_ct(2, tumours=[], noise_hu=hu, **MIDDLE).hounsfield.astype(float) for hu in (0, 25))
    noise = noisy - clean
    # Where nothing is cut off.
    noise = noise[:, 5:30, 5:30]
    assert clean[:, 5:30, 5:30].min() > -900
    assert noise.std() == pytest.approx(25, rel=0.03)
    for axis, shared in ((2, True), (1, True), (0, False)):
        one, next_one = (np.delete(noise, end, axis).ravel() for end in (0, -1))
        correlation = np.corrcoef(one, next_one)[0, 1]
        assert correlation > 0.2 if shared else abs(correlation) < 0.03


def test_without_a_wish_noise_is_10_to_40_hu(chests):
    # Air is cut at -1024, so only the upper half of its noise counts.
    found = [np.percentile(air_outside(ct), 84.13) - np.median(air_outside(ct)) for ct in chests]
    assert 9 < min(found) < max(found) < 41
    assert max(found) - min(found) > 5


def test_the_lungs_are_two_of_plausible_volume_with_the_larger_on_the_patients_right(chests):
    for ct in chests:
        parts, _ = label(ct.lungs)
        sizes = np.bincount(parts.ravel())[1:]
        largest = np.argsort(sizes)[-2:] + 1
        assert sizes[largest - 1].sum() > 0.99 * sizes.sum()
        litres = {
            np.sign(millimetres(ct)[0][parts == part].mean()): sizes[part - 1] * voxel_ml(ct) / 1000 for part in largest
        }
        assert 1.3 < litres[1] < litres[-1] < 3.6


def test_the_lungs_reach_neither_side_nor_top_of_the_grid_and_end_at_its_bottom(chests):
    for ct in chests:
        for face in (ct.lungs[-1], ct.lungs[:, 0], ct.lungs[:, -1], ct.lungs[:, :, 0], ct.lungs[:, :, -1]):
            assert not face.any()
        assert ct.lungs[0].sum() < 0.05 * max(plane.sum() for plane in ct.lungs)


def test_spine_and_couch_lie_behind(chests):
    for ct in chests:
        x, y, _ = millimetres(ct)
        assert y[(ct.hounsfield > 350) & (np.abs(x) < 12)].mean() > 40
        couch = ct.hounsfield[(y > 150) & (np.abs(x) < 50)]
        assert 0.05 < (couch > -850).mean() < 0.5


def test_the_same_arguments_give_the_same_bytes_and_another_seed_another_patient(chests):
    again = make_chest_ct(3, **WHOLE)
    for name in ("hounsfield", "label", "lungs", "affine_lps"):
        assert getattr(again, name).tobytes() == getattr(chests[3], name).tobytes()
    assert again.tumours == chests[3].tumours
    assert len({ct.hounsfield.tobytes() for ct in chests}) == len({ct.lungs.tobytes() for ct in chests}) == len(chests)


def test_a_patient_without_tumours_is_the_same_elsewhere(chests):
    healthy = make_chest_ct(3, tumours=(), **WHOLE)
    assert healthy.tumours == ()
    assert not healthy.label.any()
    far = ~binary_dilation(chests[3].label > 0, np.ones((3, 3, 3)), iterations=2)
    np.testing.assert_array_equal(healthy.hounsfield[far], chests[3].hounsfield[far])
    assert (healthy.hounsfield != chests[3].hounsfield).any()


def test_one_seed_is_one_patient_at_any_spacing(chests):
    coarser = make_chest_ct(2, (16, 40, 40), (18.0, 10.0, 10.0))
    for mine, theirs in zip(coarser.tumours, chests[2].tumours, strict=True):
        assert mine.facts() == theirs.facts()
    merged = chests[2].lungs.reshape(16, 2, 40, 2, 40, 2).mean(axis=(1, 3, 5)) > 0.5
    assert (merged != coarser.lungs).sum() < 0.08 * coarser.lungs.sum()


def test_tumours_off_the_grid_and_overlapping_ones_are_refused():
    with pytest.raises(ValueError, match="does not lie on the grid"):
        make_chest_ct(1, tumours=[Tumour((0.0, 28.0, -10.0), (5, 5, 5))], **MIDDLE)
    with pytest.raises(ValueError, match="overlap"):
        make_chest_ct(1, tumours=[Tumour((0.0, y, -10.0), (5, 5, 5)) for y in (0, 8)], **MIDDLE)
