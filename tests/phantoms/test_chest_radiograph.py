import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from clinibundle.phantoms.chest_radiograph import chest_spacing_mm, make_chest_radiograph

SMALL = (192, 168)
SEEDS = range(8)


@pytest.fixture(scope="module")
def chests():
    return [make_chest_radiograph(seed, SMALL) for seed in SEEDS]


def test_the_same_seed_gives_the_same_picture_and_lungs(chests):
    picture, lungs = make_chest_radiograph(3, SMALL)
    np.testing.assert_array_equal(picture, chests[3][0])
    np.testing.assert_array_equal(lungs, chests[3][1])


def test_another_seed_gives_another_chest(chests):
    assert len({lungs.tobytes() for _, lungs in chests}) == len(chests)
    assert len({picture.tobytes() for picture, _ in chests}) == len(chests)


def test_the_picture_is_12_bit_grey_that_uses_most_of_its_range(chests):
    for picture, lungs in chests:
        assert picture.dtype == np.uint16
        assert lungs.dtype == np.bool_
        assert picture.shape == lungs.shape == SMALL
        assert picture.max() <= 4095
        assert np.ptp(np.percentile(picture, [1, 99])) > 2000


def test_the_default_size_has_square_pixels_of_a_chest_film():
    assert chest_spacing_mm((512, 448)) == pytest.approx(360 / 448, rel=0.01)
    assert chest_spacing_mm((1024, 448)) == chest_spacing_mm((512, 448))


def test_the_lungs_are_two_parts_on_either_side_of_the_spine(chests):
    for _, lungs in chests:
        parts, count = label(lungs)
        assert count == 2
        columns = sorted(np.nonzero(parts == part)[1].mean() for part in (1, 2))
        assert columns[0] < SMALL[1] * 0.45 < SMALL[1] * 0.55 < columns[1]


def test_the_lungs_fill_a_plausible_part_of_the_film_and_stay_off_its_edge(chests):
    for _, lungs in chests:
        assert 0.15 < lungs.mean() < 0.45
        assert not np.concatenate([lungs[0], lungs[-1], lungs[:, 0], lungs[:, -1]]).any()


def test_the_heart_takes_more_of_the_patients_left_lung_on_the_right_of_the_picture(chests):
    for _, lungs in chests:
        rows = np.nonzero(lungs.any(axis=1))[0]
        above_the_domes = lungs[rows[0] + int(0.6 * len(rows)) : rows[0] + int(0.7 * len(rows))]
        spine = _spine_column(lungs)
        gap_left_of_spine = np.mean([spine - np.nonzero(row[:spine])[0].max() for row in above_the_domes])
        gap_right_of_spine = np.mean([np.nonzero(row[spine:])[0].min() for row in above_the_domes])
        assert gap_right_of_spine > gap_left_of_spine


def test_lungs_are_dark_and_what_lies_around_them_is_bright_and_air_outside_is_darkest(chests):
    for picture, lungs in chests:
        rim = binary_dilation(lungs, iterations=8) & ~binary_dilation(lungs, iterations=3)
        assert np.median(picture[lungs]) + 500 < np.median(picture[rim])
        assert picture[:4, :4].mean() < np.percentile(picture[lungs], 5)


def test_lung_behind_the_dome_does_not_count(chests):
    for _, lungs in chests:
        lowest = [SMALL[0] - 1 - np.argmax(column[::-1]) for column in lungs.T if column.any()]
        # Each lung reaches lowest at its outer side, the costophrenic angle.
        assert lowest[2] > np.median(lowest)
        assert lowest[-3] > np.median(lowest)


def _spine_column(lungs):
    """Column in the middle between the lungs near their tops, where nothing pushes either aside."""
    top = np.nonzero(lungs.any(axis=1))[0][0] + int(0.12 * SMALL[0])
    columns = np.nonzero(lungs[top])[0]
    widest = np.argmax(np.diff(columns))
    return (columns[widest] + columns[widest + 1]) // 2
