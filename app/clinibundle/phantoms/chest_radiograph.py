"""A made-up frontal chest radiograph with known lung fields.

A rough projection: the way of each ray through soft tissue, air and bone is summed as millimetres of water, and the
film's characteristic curve turns the sum into grey. The lungs' truth follows the convention of the Montgomery and
Shenzhen outlines: heart border and mediastinum, dome of the diaphragm, rib margin down to the costophrenic angle; lung
behind the heart and behind the dome is shown, as it is on films, but does not count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from clinibundle.phantoms.canvas import Canvas, Field, Points, rounded, tube
from clinibundle.phantoms.chest_anatomy import ChestAnatomy, draw_anatomy
from clinibundle.phantoms.chest_skeleton import Skeleton

FILM_MM = (411.0, 360.0)
"""Height and width of the film that the chest fills."""
MAX_GREY = 4095
"""12 bits."""
LUNG_IS_AIR = 0.76
"""Share of air in lung that is full of it; the rest weighs as water does."""
VESSEL_RADII_MM = (3.2, 2.0, 1.2, 0.7)
"""From the hilum outwards, one for each generation of branches."""


def chest_spacing_mm(size: tuple[int, int]) -> float:
    """Side of a pixel of a picture of (rows, columns) that has the whole film on it, at 1:1 with the patient."""
    return max(extent / pixels for extent, pixels in zip(FILM_MM, size, strict=True))


def make_chest_radiograph(
    seed: int, size: tuple[int, int] = (512, 448)
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """A chest radiograph and its lung fields; the same seed gives the same chest.

    Args:
        seed: chooses anatomy, stance, exposure and noise.
        size: rows, columns.

    Returns:
        The picture (rows, columns), grey of 12 bits (0 to 4095) as MONOCHROME2 has it, air dark, and the lungs (rows,
        columns). The patient's left side, with the heart's apex, lies on the right of the picture.
    """
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(rng)
    canvas = Canvas(size, chest_spacing_mm(size), rng.uniform(-2.5, 2.5), (rng.uniform(-8, 8), rng.uniform(-8, 8)))
    depth = _trunk_depth(canvas, anatomy) * rng.uniform(0.9, 1.1)
    heart = canvas.inside(anatomy.mediastinum)
    air, lungs = np.zeros(size), np.zeros(size, dtype=bool)
    for half in anatomy.halves:
        pleura, abdomen = canvas.inside(half.pleura), canvas.inside(half.abdomen)
        air += _lung_depth(canvas, pleura, abdomen, heart, depth)
        lungs |= _largest_part(pleura & ~abdomen & ~heart)
    air = canvas.blurred(air, 0.6)
    vessels = _vessels(canvas, anatomy, rng) * rounded(air, 60)
    soft = _soft_tissue(canvas, anatomy, depth) - LUNG_IS_AIR * air - _gas(canvas, anatomy) + vessels
    return _exposed(canvas, np.clip(soft, 0, None) + _bones(canvas, anatomy.skeleton), rng), lungs


def _trunk_depth(canvas: Canvas, anatomy: ChestAnatomy) -> Field:
    """Millimetres from front to back of the trunk, where it is deepest on each row."""
    _, y = canvas.grid()
    apex, dome = anatomy.apex_mm, anatomy.dome_mm
    return np.interp(y, [apex - 50, apex - 10, apex + 100, dome, dome + 120], [110, 130, 195, 210, 225])


def _soft_tissue(canvas: Canvas, anatomy: ChestAnatomy, depth: Field) -> Field:
    """Millimetres of soft tissue as if the chest were solid."""
    trunk = depth * canvas.bulge([anatomy.body], 50)
    arms = 95 * canvas.bulge(anatomy.arms, 40)
    return canvas.blurred(np.maximum(trunk, arms) + 30 * canvas.bulge(anatomy.breasts, 40), 1.5)


def _lung_depth(
    canvas: Canvas, pleura: NDArray[np.bool_], abdomen: NDArray[np.bool_], heart: NDArray[np.bool_], depth: Field
) -> Field:
    """Millimetres of lung on the ray: less behind the heart, little behind the diaphragm."""
    room = (depth - 55) * rounded(canvas.depth_mm(pleura), 42)
    beside_heart = 1 - 0.72 * rounded(canvas.depth_mm(heart), 20)
    above_dome = np.where(abdomen, 0.3 * np.exp(-canvas.depth_mm(abdomen) / 18), 1.0)
    return room * beside_heart * above_dome


def _gas(canvas: Canvas, anatomy: ChestAnatomy) -> Field:
    """Millimetres of air in windpipe and bowel."""
    windpipe = tube(canvas.distance_mm(anatomy.airways[:1]), 9)
    bronchi = tube(canvas.distance_mm(anatomy.airways[1:]), 6)
    return canvas.blurred(np.maximum(windpipe, bronchi) + 40 * canvas.bulge(anatomy.bowel_gas, 12), 1.2)


def _bones(canvas: Canvas, skeleton: Skeleton) -> Field:
    """Bone as millimetres of water above the soft tissue in its place."""
    bones = (
        2.0 * tube(canvas.distance_mm(skeleton.posterior_ribs), 5.5, hollow=0.55)
        + 1.6 * tube(canvas.distance_mm(skeleton.anterior_ribs), 6.5, hollow=0.7)
        + 3.0 * tube(canvas.distance_mm(skeleton.clavicles), 6.5, hollow=0.6)
        + 1.6 * tube(canvas.distance_mm(skeleton.humeri), 12, hollow=0.7)
        + 22 * canvas.bulge(skeleton.humeral_heads, 20)
        + 7 * canvas.bulge(skeleton.scapulae, 4)
        + 0.8 * tube(canvas.distance_mm(skeleton.scapulae), 3)
    )
    return canvas.blurred(bones, 0.5) + _spine(canvas, skeleton.vertebrae_mm)


def _spine(canvas: Canvas, vertebrae_mm: tuple[float, ...]) -> Field:
    x, y = canvas.grid()
    pitch = vertebrae_mm[1] - vertebrae_mm[0]
    off_centre = (y - vertebrae_mm[0]) / pitch % 1 - 0.5  # 0 in the middle of a vertebra, 0.5 in the disc
    from_disc = 0.5 - np.abs(off_centre)
    half_width: Field = np.interp(y, [0, 300], [14, 19]) - 1.5 * np.cos(2 * np.pi * off_centre)  # waisted
    disc = np.exp(-((from_disc / 0.1) ** 2))
    pedicles = np.exp(-(((np.abs(x) - 11) / 3) ** 2) - ((from_disc - 0.3) * pitch / 4) ** 2)
    processes = np.exp(-((x / 2.5) ** 2) - ((from_disc - 0.1) * pitch / 5) ** 2)
    column = rounded(half_width - np.abs(x), 9)
    column *= 26 - 9 * disc + 10 * pedicles + 8 * processes
    return column


def _vessels(canvas: Canvas, anatomy: ChestAnatomy, rng: np.random.Generator) -> Field:
    """Millimetres of blood in hila, vessels, and (either side of nought) vessels too fine to tell apart."""
    generations: list[list[Points]] = [[] for _ in VESSEL_RADII_MM]
    x, y = canvas.grid()
    blood: Field = np.zeros(canvas.size)
    for half in anatomy.halves:
        at_x, at_y = half.hilum
        blood += 14 * np.exp(-(((x - at_x) / 11) ** 2) - ((y - at_y) / 22) ** 2)
        for heading in np.deg2rad(rng.uniform(-70, 85, size=15)):
            _grow(rng, np.array(half.hilum), heading, half.side, generations)
    for radius, vessels in zip(VESSEL_RADII_MM, generations, strict=True):
        blood += 2.2 * canvas.blurred(tube(canvas.distance_mm(vessels), radius), 0.4)
    haze = canvas.blurred(rng.standard_normal(canvas.size), 4)
    blood += 3 * haze / haze.std()
    return blood


def _grow(rng: np.random.Generator, start: Points, heading: float, side: int, generations: list[list[Points]]) -> None:
    """Adds a vessel from here (heading: radians below the way outwards) and all its branches, a list a generation."""
    if not generations:
        return
    half_length = rng.uniform(9, 16)
    bend = heading + rng.normal(0, 0.25)
    middle = start + half_length * np.array([side * np.cos(heading), np.sin(heading)])
    end = middle + half_length * np.array([side * np.cos(bend), np.sin(bend)])
    generations[0].append(np.stack([start, middle, end]))
    for turn in (-1, 1):
        _grow(rng, end, bend + turn * rng.uniform(0.15, 0.6), side, generations[1:])


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    parts, count = label(mask)
    if count < 2:
        return mask
    largest: NDArray[np.bool_] = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return largest


def _exposed(canvas: Canvas, water: Field, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Grey (rows, columns) of a film behind so many millimetres of water."""
    middle, latitude = rng.uniform(98, 128), rng.uniform(30, 46)  # the curve's middle and stretch, mm of water
    grain = rng.uniform(0.3, 0.9) * np.exp(water / 160)  # fewer quanta arrive behind more
    seen = canvas.blurred(water, 0.5) + grain * rng.standard_normal(canvas.size)
    darkest, brightest = rng.uniform(0, 0.04), rng.uniform(0.9, 1.0)
    grey = darkest + (brightest - darkest) / (1 + np.exp(-(seen - middle) / latitude))
    return np.clip(np.rint(grey * MAX_GREY), 0, MAX_GREY).astype(np.uint16)
