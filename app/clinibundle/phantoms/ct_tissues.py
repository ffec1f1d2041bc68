"""What a made-up chest is painted with: Hounsfield units of couch, body wall, abdomen, lungs and mediastinum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clinibundle.phantoms.ct_bones import paint_bones
from clinibundle.phantoms.ct_thorax import Thorax, draw_thorax, spine_y, squarish_mm, torso_depth, torso_width, torso_y
from clinibundle.phantoms.ct_vessels import draw_vessels
from clinibundle.phantoms.solids import Ellipsoid, Slab, Solid, Tube
from clinibundle.phantoms.voxel_grid import Field

AIR, FAT, MUSCLE = -1000.0, -102.0, 54.0
LUNG = -855.0
"""Half way between the front and the back of the lungs, vessels apart."""
_COUCH_MM = 140.0


@dataclass(frozen=True, eq=False)
class Chest:
    """All of a chest but tumours.

    Attributes:
        thorax: where the lungs end.
        vessels: those in the lungs.
        breasts: ellipsoids of fat; none in some patients.
        fat_mm: under the skin.
        blood: Hounsfield units of vessels, high after contrast agent.
        marrow: Hounsfield units inside bones.
        first_rib: z of its back end.
    """

    thorax: Thorax
    vessels: tuple[Tube, ...]
    breasts: tuple[Ellipsoid, ...]
    fat_mm: float
    blood: float
    marrow: float
    first_rib: float


def draw_chest(rng: np.random.Generator) -> Chest:
    """A chest with anatomy, fat and contrast agent of its own."""
    thorax = draw_thorax(rng)
    return Chest(
        thorax=thorax,
        vessels=draw_vessels(rng, thorax),
        breasts=_breasts(rng) if rng.random() < 0.4 else (),
        fat_mm=rng.uniform(6, 18),
        blood=40.0 if rng.random() < 0.4 else rng.uniform(110, 230),
        marrow=rng.uniform(130, 260),
        first_rib=rng.uniform(122, 130),
    )


def paint_chest(slab: Slab, chest: Chest) -> Field:
    """Paints the chest.

    Returns:
        How far each voxel lies outside the lungs, about; negative inside. Their vessels count as lung.
    """
    cage = chest.thorax.cage_mm(slab.place)
    _paint_couch(slab)
    _paint_wall(slab, chest, cage)
    slab.fill(cage, FAT)
    _paint_abdomen(slab, chest.thorax, cage)
    outside_lungs = chest.thorax.pleura(slab).outside_mm
    _paint_lungs(slab, chest, outside_lungs)
    _paint_mediastinum(slab, chest)
    paint_bones(slab, cage, chest.first_rib, chest.marrow)
    return outside_lungs


def _paint_couch(slab: Slab) -> None:
    """A shell of carbon fibre filled with foam, and a thin mattress."""
    x, y, _ = slab.place
    depth = y - _COUCH_MM + x**2 / 1500
    beyond_edge = np.abs(x) - 212
    slab.fill(np.maximum(np.abs(depth + 4) - 4, beyond_edge), -920)
    slab.fill(np.maximum(np.abs(depth - 14) - 14, beyond_edge), -80)
    slab.fill(np.maximum(np.abs(depth - 14) - 11, beyond_edge + 3), -950)


def _paint_wall(slab: Slab, chest: Chest, cage: Field) -> None:
    """Skin, fat and muscles of trunk and arms."""
    x, y, z = slab.place
    # 12 mm of fat fit the torso's outline.
    grown = chest.fat_mm - 12
    torso = squarish_mm(x, y - torso_y(z), torso_width(z) + grown, torso_depth(z) + grown)
    slab.fill(torso, 0)
    slab.fill(torso + 2, FAT)
    for side in (-1, 1):
        arm = Tube((side * 138, 30, 112), (side * 186, 0, 260), 48, 44)
        slab.fill_solid(arm, FAT)
        slab.fill_solid(arm.grown(-6 - 0.4 * chest.fat_mm), MUSCLE)
    for breast in chest.breasts:
        slab.fill_solid(breast, FAT)
        slab.fill_solid(breast.grown(-14), 10, strength=0.5)
    across, along = chest.thorax.in_cage(slab.place)
    shoulder = np.clip((z - 10) / 70, 0, 1)
    thickness = 11 + (5 + 48 * shoulder) * across**2
    thickness = thickness + 16 * np.exp(-(((z - 50) / 45) ** 2)) * np.clip(-along, 0, 1) * np.abs(across)
    slab.fill(np.maximum(cage - thickness, torso + chest.fat_mm), MUSCLE)
    plane = np.abs(cage - 9 - (4 + 9 * shoulder) * across**2) - 1.2
    slab.fill(np.maximum(plane, torso + chest.fat_mm), FAT, strength=0.8)
    for side in (-1, 1):
        slab.fill_solid(Ellipsoid((side * 132, -4, 78), (17, 34, 46), side * 20), FAT)
        slab.fill_solid(Ellipsoid((side * 124, 62, 72), (48, 23, 66), side * -48), MUSCLE)
    beside_spine = np.sqrt(((np.abs(x) - 26) / 24) ** 2 + ((y - spine_y(z) - 42) / 18) ** 2) - 1
    slab.fill(np.maximum(18 * beside_spine, torso + 0.6 * chest.fat_mm), MUSCLE)


def _paint_abdomen(slab: Slab, thorax: Thorax, cage: Field) -> None:
    """Diaphragm, liver, spleen and stomach with its bubble."""
    below = thorax.diaphragm_mm(slab.place)
    slab.fill(np.maximum(np.maximum(-below, below - 3), cage), MUSCLE)
    inside = np.maximum(3 - below, cage + 4)
    liver = Ellipsoid((-52, -8, -125), (108, 92, 92), -8)
    spleen = Ellipsoid((92, 46, -122), (30, 44, 44), 30)
    stomach = Ellipsoid((66, -22, -122), (40, 46, 48))
    _, y, _ = slab.place
    for outside, value in (
        (liver.outside_mm(slab.place), 62),
        (spleen.outside_mm(slab.place), 52),
        (stomach.outside_mm(slab.place), 42),
        (stomach.outside_mm(slab.place) + 5, 15),
        # Air rises to the front of who lies on the back.
        (np.maximum(stomach.outside_mm(slab.place) + 5, y + 38), -960),
    ):
        slab.fill(np.maximum(outside, inside), value)


def _paint_lungs(slab: Slab, chest: Chest, outside_lungs: Field) -> None:
    """Parenchyma, denser towards the back, and vessels."""
    x, y, z = slab.place
    _, along = chest.thorax.in_cage(slab.place)
    patches = np.sin(x / 13 + 1) * np.sin(y / 15) * np.sin(z / 14 + 2)
    slab.fill(outside_lungs, LUNG + 36 * along + 10 * patches)
    for vessel in chest.vessels:
        # What is thinner than a voxel fills a part of it.
        thin = min(1.0, (vessel.start_radius + vessel.end_radius) / slab.border_mm)
        slab.fill_solid(vessel, chest.blood, strength=thin)


def _paint_mediastinum(slab: Slab, chest: Chest) -> None:
    """Heart, great vessels, airways and gullet; the fat around them is there already."""
    thorax = chest.thorax
    heart = thorax.heart_muscle
    (x, y, z), (a, b, c) = heart.centre, heart.radii
    slab.fill_solid(heart, 45 + 0.3 * (chest.blood - 40))
    chambers = (
        Ellipsoid((x + 0.28 * a, y + 0.2 * b, z), (0.5 * a, 0.45 * b, 0.6 * c), heart.turn_degrees + 10),
        Ellipsoid((x - 0.15 * a, y - 0.42 * b, z), (0.62 * a, 0.42 * b, 0.62 * c), heart.turn_degrees),
    )
    filled: tuple[Solid, ...] = (*chambers, *thorax.atria, *thorax.great_vessels)
    for blood in filled:
        slab.fill_solid(blood, chest.blood)
    for part in thorax.gullet:
        slab.fill_solid(part, 38)
    for part in thorax.gullet:
        slab.fill_solid(part.grown(-5), -300)
    airways = (*thorax.main_airways, *thorax.lobar_bronchi)
    for airway in airways:
        slab.fill_solid(airway.grown(1.6), 30)
    for airway in airways:
        slab.fill_solid(airway, AIR)


def _breasts(rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    radii = (rng.uniform(46, 60), rng.uniform(28, 44), rng.uniform(48, 62))
    z = rng.uniform(-25, 0)
    return tuple(Ellipsoid((side * 82, -88, z), radii, side * 24) for side in (-1, 1))
