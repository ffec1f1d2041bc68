"""Made-up sections for the tests of membrane scores."""

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed


def true_cells(size, cells, seed=0):
    """Numbered cells from the watershed of random seeds, parted by membranes of about 5 pixels (0)."""
    random = np.random.default_rng(seed)
    seeds = np.zeros((size, size), int)
    places = random.choice(size * size, cells, replace=False)
    seeds.ravel()[places] = np.arange(1, cells + 1)
    distance = ndimage.distance_transform_edt(seeds == 0) + 4 * smooth_noise(size, 6, random)
    numbers = watershed(distance, seeds, watershed_line=True)
    return np.where(ndimage.binary_dilation(numbers == 0, iterations=2), 0, numbers)


def probability_of(numbers, seed=0):
    """Of interior, as a fair network gives it: blurred, with gaps and lines here and there."""
    random = np.random.default_rng(seed)
    blurred = ndimage.gaussian_filter((numbers > 0).astype(float), 2)
    noisy = 1.15 * (blurred + 0.15 * smooth_noise(len(numbers), 4, random)) - 0.1
    return np.clip(noisy, 0, 1).astype(np.float32)


def smooth_noise(size, sigma, random):
    noise = ndimage.gaussian_filter(random.normal(size=(size, size)), sigma)
    return noise / noise.std()


def drawn(*rows):
    """A mask out of lines of text: # is membrane, anything else interior."""
    return np.array([[letter != "#" for letter in row] for row in rows])
