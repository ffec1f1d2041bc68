"""The bones of a made-up chest CT: ribs, spine, breastbone, and those of the shoulders of raised arms."""

from __future__ import annotations

import numpy as np

from clinibundle.phantoms.ct_thorax import cage_front, half_depth, half_width, middle_y, spine_y
from clinibundle.phantoms.solids import Ellipsoid, Slab, Tube
from clinibundle.phantoms.voxel_grid import Field

CORTEX = 820.0
_CARTILAGE = 95.0
_RIB_GAP_MM = 23.5
_RIB_DROP_MM = 100.0
"""How much lower a rib ends in front than it starts at the back."""
_VERTEBRA_MM = 24.0


def paint_bones(slab: Slab, cage: Field, first_rib: float, marrow: float) -> None:
    """Paints all bones.

    Args:
        slab: what to paint on, in the body's millimetres.
        cage: how far each voxel lies outside the inside of the ribs.
        first_rib: z of its back end.
        marrow: Hounsfield units inside bones.
    """
    _paint_ribs(slab, cage, first_rib, marrow)
    _paint_breastbone(slab, marrow)
    _paint_spine(slab, marrow)
    for side in (-1, 1):
        blade = Ellipsoid((side * 122, 62, 74), (44, 5.5, 56), side * -48)
        slab.fill_solid(blade, 0.6 * CORTEX)
        slab.fill_solid(blade.grown(-2.5), marrow)
        head = Ellipsoid((side * 146, 28, 122), (24, 24, 24))
        shaft = Tube((side * 146, 28, 122), (side * 188, 0, 260), 12, 11)
        collarbone = Tube((side * 16, -36, 108), (side * 122, 2, 142), 7, 7)
        for bone, wall in ((head, 3), (shaft, 4), (collarbone, 2.5)):
            slab.fill_solid(bone, CORTEX)
            slab.fill_solid(bone.grown(-wall), marrow)


def _paint_ribs(slab: Slab, cage: Field, first_rib: float, marrow: float) -> None:
    """Twelve pairs of hoops on the cage that fall towards the front, where they end in cartilage."""
    x, y, z = slab.place
    across, along = x / half_width(z), (y - middle_y(z)) / half_depth(z)
    backwards = along / np.sqrt(across**2 + along**2 + 1e-6)
    order = (first_rib - _RIB_DROP_MM * np.arccos(backwards) / np.pi - z) / _RIB_GAP_MM
    rib = np.clip(np.rint(order), 0, 11)
    radial, upright = (cage - 5.0) / 3.6, (order - rib) * _RIB_GAP_MM / 6.8
    hoop = 4.5 * (np.sqrt(radial**2 + upright**2) - 1)
    # The last ribs are short, and none reaches the midline in front.
    foremost = np.interp(rib, [0, 6, 9, 10, 11], [-0.99, -0.97, -0.9, -0.1, 0.35]).astype(np.float32)
    hoop = np.maximum(hoop, 40 * (foremost - backwards))
    bone_ends = np.interp(rib, [0, 3, 9], [-0.86, -0.78, -0.6]).astype(np.float32)
    bony = 40 * (bone_ends - backwards)
    slab.fill(np.maximum(hoop, -bony), _CARTILAGE)
    slab.fill(np.maximum(hoop, bony), CORTEX)
    slab.fill(np.maximum(hoop + 1.7, bony + 1.7), marrow)


def _paint_breastbone(slab: Slab, marrow: float) -> None:
    x, y, z = slab.place
    half = np.interp(z, [-60, -20, 55, 70, 95], [8, 17, 14, 26, 30]).astype(np.float32)
    side = np.abs(x) - half
    depth = np.abs(y - cage_front(z) + 7) - 5.5
    plate = np.maximum(np.maximum(side, depth), np.abs(z - 18) - 76)
    slab.fill(plate, 0.6 * CORTEX)
    slab.fill(plate + 1.8, marrow)


def _paint_spine(slab: Slab, marrow: float) -> None:
    """Vertebrae and discs, canal, arches and processes; the discs lie level."""
    x, y, z = slab.place
    back = y - spine_y(z)
    aside = np.abs(x)
    turn = (z / _VERTEBRA_MM) % 1
    from_disc = (0.5 - np.abs(turn - 0.5)) * _VERTEBRA_MM
    waist = 1.6 * np.cos(2 * np.pi * turn)
    body = np.sqrt((x / (17 + waist)) ** 2 + (back / (14 + waist)) ** 2)
    body = 15.0 * (body - 1)
    slab.fill(body, 85)
    bone = np.maximum(body, 3 - from_disc)
    slab.fill(bone, 0.55 * CORTEX)
    slab.fill(bone + 1.8, marrow)
    # The arch closes the canal beside the upper half of each body.
    at_pedicle = np.abs(turn - 0.62) * _VERTEBRA_MM - 7
    ring = np.abs(np.sqrt(x**2 + (back - 22) ** 2) - 11.5) - 2.6
    slab.fill(np.maximum(ring, at_pedicle - 3), 0.7 * CORTEX)
    slab.fill(np.sqrt(x**2 + (back - 22) ** 2) - 9, 22)
    wing = np.maximum(np.abs(back - 25 - 0.25 * aside) - 4.5, np.maximum(aside - 33, 11 - aside))
    slab.fill(np.maximum(wing, at_pedicle), CORTEX)
    slab.fill(np.maximum(wing, at_pedicle) + 2, marrow)
    spinous = np.maximum(np.maximum(aside - 3.6, np.abs(back - 44) - 14), np.abs(turn - 0.4) * _VERTEBRA_MM - 9)
    slab.fill(spinous, CORTEX)
    slab.fill(spinous + 2, marrow)
