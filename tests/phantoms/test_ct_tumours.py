import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.spatial.distance import pdist

from clinibundle.phantoms.ct_thorax import Pleura
from clinibundle.phantoms.ct_tumours import GAP_MM, Tumour, draw_tumours, mark_tumour, tumour_share
from clinibundle.phantoms.voxel_grid import grid_around

SPACING = (1.5, 0.9, 0.9)
VOXEL_ML = 1.5 * 0.9 * 0.9 / 1000
NEAR = np.ones((3, 3, 3))
TURN = np.array([[0.8, -0.36, 0.48], [0.6, 0.48, -0.64], [0.0, 0.8, 0.6]])
"""A rotation about an oblique axis, in whole hundredths."""
DIRECTIONS = {"axial": {}, "tilted": {"tilt_degrees": 17.0}, "oblique": {"rotation": TURN}}
TUMOURS = {
    "5 mm": Tumour((3.2, -4.1, -8.3), (2.5, 2.2, 2.4), 30),
    "12 mm": Tumour((-20.3, 10.1, -1.7), (6, 4.3, 5.1), 70),
    "30 mm": Tumour((10.4, 5.2, -14.6), (15, 12, 11), 120),
    "60 mm": Tumour((0.4, 0.2, -0.6), (30, 24, 21), 10),
}


def marked(tumour, grid):
    """The label of one tumour on a grid, and the share of it in every voxel."""
    label, shares = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape)
    box, share = tumour_share(grid, tumour)
    mark_tumour(label, box, share, round(tumour.volume_ml * 1000 / grid.voxel_mm3))
    shares[box] = share
    return label > 0, shares


def level(grid, tumour):
    """(x/a)² + (y/b)² + (z/c)² of every voxel in the tumour's own axes, by the affine alone: at most 1 inside."""
    z, y, x = np.indices(grid.shape)
    places = np.einsum("ij,j...->i...", grid.affine, np.stack([x, y, z, np.ones_like(x)]))[:3]
    x, y, z = (along - middle for along, middle in zip(places, tumour.centre_lps_mm, strict=True))
    turn = np.radians(tumour.turn_degrees)
    x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    a, b, c = tumour.semi_axes_mm
    return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("size", TUMOURS)
def test_the_label_is_the_ellipsoid_to_within_a_voxel(size, direction):
    grid = grid_around((0, 0, -5), (70, 110, 110), SPACING, **DIRECTIONS[direction])
    label, _ = marked(TUMOURS[size], grid)
    inside = level(grid, TUMOURS[size]) < 1
    # A voxel that is marked wrongly has a neighbour that is marked rightly: the surface passes between them.
    assert not (label & ~binary_dilation(inside, NEAR)).any()
    assert not (inside & ~binary_dilation(label, NEAR)).any()
    assert (label != inside).sum() <= 0.08 * inside.sum() + 3
    centroid = grid.affine[:3] @ [*np.argwhere(label).mean(axis=0)[::-1], 1]
    assert np.abs(centroid - TUMOURS[size].centre_lps_mm).max() < 0.4


@pytest.mark.parametrize("size", TUMOURS)
def test_label_and_shares_have_the_volume_of_the_formula(size):
    truth = 4 / 3 * np.pi * np.prod(TUMOURS[size].semi_axes_mm) / 1000
    label, shares = marked(TUMOURS[size], grid_around((0, 0, -5), (70, 110, 110), SPACING))
    assert TUMOURS[size].volume_ml == pytest.approx(truth)
    assert abs(label.sum() * VOXEL_ML - truth) <= VOXEL_ML / 2
    assert shares.sum() * VOXEL_ML == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("size", TUMOURS)
def test_the_longest_axial_diameter_is_that_of_the_formula_to_within_a_voxel(size):
    label, _ = marked(TUMOURS[size], grid_around((0, 0, -5), (70, 110, 110), SPACING))
    rim = max(label, key=np.sum)
    # From outer edge to outer edge: one pixel more than from centre to centre. A pixel's diagonal is the tolerance.
    measured = pdist(np.argwhere(rim)).max() * 0.9 + 0.9
    assert TUMOURS[size].axial_diameter_mm == pytest.approx(measured, abs=0.9 * np.sqrt(2))
    assert TUMOURS[size].axial_diameter_mm == 2 * TUMOURS[size].semi_axes_mm[0]


def test_a_tumour_smaller_than_a_voxel_is_still_marked():
    label, shares = marked(TUMOURS["5 mm"], grid_around((0, 0, 0), (9, 9, 9), (10.0, 10.0, 10.0)))
    assert np.argwhere(label).tolist() == [[3, 4, 4]]
    assert shares[3, 4, 4] == shares.max()
    assert shares.sum() == pytest.approx(TUMOURS["5 mm"].volume_ml, rel=0.02)


def test_a_tumour_that_leaves_the_grid_is_refused():
    grid = grid_around((0, 0, 0), (20, 20, 20), (2.0, 2.0, 2.0))
    tumour_share(grid, Tumour((0, 14.9, 0), (5, 5, 5)))
    with pytest.raises(ValueError, match="does not lie on the grid"):
        tumour_share(grid, Tumour((0, 15.2, 0), (5, 5, 5)))


def test_tumours_that_share_a_voxel_are_refused():
    grid = grid_around((0, 0, 0), (40, 40, 40), (1.0, 1.0, 1.0))
    label = np.zeros(grid.shape, np.uint8)
    mark_tumour(label, *tumour_share(grid, Tumour((-6, 0, 0), (5, 5, 5))), 524)
    with pytest.raises(ValueError, match="overlap"):
        mark_tumour(label, *tumour_share(grid, Tumour((3, 0, 0), (5, 5, 5))), 524)
    mark_tumour(label, *tumour_share(grid, Tumour((10, 0, 0), (5, 5, 5))), 524)
    assert label.sum() == 2 * 524


def test_facts_are_plain_numbers_that_agree_with_the_tumour():
    facts = TUMOURS["12 mm"].facts()
    assert facts["volume_ml"] == pytest.approx(4 / 3 * np.pi * 6 * 4.3 * 5.1 / 1000, abs=5e-4)
    assert (facts["axial_diameter_mm"], facts["centre_lps_mm"]) == (12, [-20.3, 10.1, -1.7])


def between_two_planes(points):
    """Lung from x = -60 (mediastinum) to x = 60 (chest wall) above z = -60 (diaphragm)."""
    x, _, z = np.moveaxis(points, -1, 0)
    return Pleura(wall=x - 60, diaphragm=-60 - z, mediastinum=-60 - x)


def test_drawn_tumours_touch_what_they_say_and_keep_apart():
    grid = grid_around((0, 0, 0), (40, 50, 50), (4.0, 4.0, 4.0))
    seen = []
    for seed in range(40):
        tumours = draw_tumours(np.random.default_rng(seed), between_two_planes, grid)
        assert 1 <= len(tumours) <= 4
        for number, tumour in enumerate(tumours):
            (x, y, z), (a, b, c) = tumour.centre_lps_mm, tumour.semi_axes_mm
            turn = np.radians(tumour.turn_degrees)
            reach = np.hypot(a * np.cos(turn), b * np.sin(turn))
            assert (x + reach > 60) == (tumour.touching == "chest wall")
            assert (x - reach < -60) == (tumour.touching == "mediastinum")
            assert -60 < x < 60
            assert z - c > -60
            assert max(abs(y) - max(a, b), abs(z) + c) < 100
            assert 5 <= tumour.axial_diameter_mm <= 60
            assert 20 <= tumour.hounsfield <= 60 or tumour.hounsfield == -600
            for other in tumours[:number]:
                between = np.linalg.norm(np.subtract(tumour.centre_lps_mm, other.centre_lps_mm))
                assert between > max(a, b, c) + max(other.semi_axes_mm) + GAP_MM
        seen += tumours
    assert {tumour.touching for tumour in seen} == {"nothing", "chest wall", "mediastinum"}
    assert {tumour.hounsfield == -600 for tumour in seen} == {True, False}
    assert min(tumour.axial_diameter_mm for tumour in seen) < 8
    assert max(tumour.axial_diameter_mm for tumour in seen) > 40


def test_where_no_tumour_fits_none_is_drawn():
    nowhere = Pleura(*(lambda points: np.ones(points.shape[:-1]) for _ in range(3)))
    grid = grid_around((0, 0, 0), (9, 9, 9), (4.0, 4.0, 4.0))
    assert draw_tumours(np.random.default_rng(0), lambda points: Pleura(*(f(points) for f in nowhere)), grid) == ()
