"""Lesions of a volume: told apart, numbered, and measured one by one.

A lesion is a part of a mask whose voxels touch each other by a face, an edge or a corner (26-connected) and whose
volume is at least a stated one. Voxel volumes come from the affine's determinant, so a sheared grid counts rightly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clinibundle.geometry import spacing_of, to_patient_mm
from clinibundle.measure.diameters import diameters_in_longest_slice

_MM3_PER_ML = 1000.0
_BY_FACE_EDGE_OR_CORNER = np.ones((3, 3, 3), np.bool_)
# Of a voxel: a volume that is a whole number of voxels, and rounded up a little, asks for no voxel more.
_ROUNDING = 1e-6

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Lesion:
    """A lesion and where it is.

    Attributes:
        number: of the lesion in its label map, from 1.
        box: the part of the volume (x, y, z) that just holds it.
        mask: its voxels within the box.
        voxels: how many there are.
        volume_ml: of the voxels.
        centroid_lps_mm: the mean place of its voxels in the patient.
        touches_border: whether it reaches an outer face of the volume, and so may go on beyond it.
    """

    number: int
    box: Box
    mask: NDArray[np.bool_]
    voxels: int
    volume_ml: float
    centroid_lps_mm: tuple[float, float, float]
    touches_border: bool


def find_lesions(
    mask: NDArray[np.bool_], affine_lps: NDArray[np.float64], minimum_volume_ml: float = 0.0
) -> list[Lesion]:
    """The lesions of a mask, numbered as `label_lesions` does, the largest first.

    Args:
        mask: (x, y, z).
        affine_lps: (4, 4), voxel index to millimetres in the patient.
        minimum_volume_ml: what is smaller is no lesion.

    Raises:
        ValueError: if the mask is not one of three axes.
    """
    return lesions_of(label_lesions(mask, affine_lps, minimum_volume_ml), affine_lps)


def label_lesions(
    mask: NDArray[np.bool_], affine_lps: NDArray[np.float64], minimum_volume_ml: float = 0.0
) -> NDArray[np.uint16] | NDArray[np.uint32]:
    """The mask with the number of its lesion in every voxel: from 1 by falling volume, 0 where none is.

    Of equal volumes that comes first which has the first voxel in the order of the index (x, y, z).
    Needs 2 bytes a voxel for the result and 6 more in the box around all that the mask holds.

    Args:
        mask: (x, y, z).
        affine_lps: (4, 4), voxel index to millimetres in the patient.
        minimum_volume_ml: what is smaller is removed.

    Returns:
        (x, y, z) in 16 bits, in 32 where there are more than 65535 lesions.

    Raises:
        ValueError: if the mask is not one of three axes.
    """
    _require_volume(mask)
    if mask.dtype != np.bool_:
        raise ValueError(f"a mask must be boolean, not {mask.dtype}: compare with a label or a threshold first")
    boxes = ndimage.find_objects(mask.view(np.uint8))
    if not boxes:
        return np.zeros(mask.shape, np.uint16)
    box = boxes[0]
    parts, count = ndimage.label(mask[box], _BY_FACE_EDGE_OR_CORNER)
    voxels = np.bincount(parts[mask[box]], minlength=count + 1)[1:]
    by_size = np.argsort(-voxels, kind="stable")
    kept = by_size[voxels[by_size] >= minimum_volume_ml / voxel_volume_ml(affine_lps) - _ROUNDING]
    kind = np.uint16 if len(kept) <= np.iinfo(np.uint16).max else np.uint32
    number_of_part = np.zeros(count + 1, kind)
    number_of_part[kept + 1] = np.arange(1, len(kept) + 1)
    label_map = np.zeros(mask.shape, kind)
    label_map[box] = number_of_part[parts]
    return label_map


def lesions_of(label_map: NDArray[np.integer[Any]], affine_lps: NDArray[np.float64]) -> list[Lesion]:
    """The lesions of a label map, by their numbers there; numbers that no voxel has are left out.

    Args:
        label_map: (x, y, z), the number of its lesion in every voxel, 0 where none is.
        affine_lps: (4, 4), voxel index to millimetres in the patient.

    Raises:
        ValueError: if the label map has not three axes.
    """
    _require_volume(label_map)
    voxel_ml = voxel_volume_ml(affine_lps)
    lesions = []
    for number, box in enumerate(ndimage.find_objects(label_map), start=1):
        if box is None:
            continue
        mask = label_map[box] == number
        places = np.nonzero(mask)
        centre = [float(axis.mean()) + along.start for axis, along in zip(places, box, strict=True)]
        at_border = (along.start == 0 or along.stop == size for along, size in zip(box, label_map.shape, strict=True))
        lesions.append(
            Lesion(
                number=number,
                box=box,
                mask=mask,
                voxels=len(places[0]),
                volume_ml=len(places[0]) * voxel_ml,
                centroid_lps_mm=to_patient_mm(affine_lps, centre),
                touches_border=any(at_border),
            )
        )
    return lesions


def measure_lesions(
    label_map: NDArray[np.integer[Any]],
    probability: NDArray[np.floating[Any]],
    values_hu: NDArray[Any] | None,
    affine_lps: NDArray[np.float64],
    label: int,
    name: str,
) -> list[dict[str, Any]]:
    """A row for `measurements.json` per lesion, in the order of their numbers.

    Diameters are those of `clinibundle.measure.diameters`, in the slice across the array axis that runs most nearly
    from foot to head. Beside each of them stand its ends, `..._ends_voxel` as voxel index (x, y, z) whose whole numbers
    are voxel centres, and `..._ends_lps_mm`; `axial_slice` is the index of the slice, from 0.

    Args:
        label_map: (x, y, z), numbers as of `label_lesions`.
        probability: of the label, (x, y, z), 0 to 1; NaN where it is not known, and the confidence is then None.
        values_hu: Hounsfield units, (x, y, z); None if the values are no such units, and there is no `mean_hu` then.
        affine_lps: (4, 4), voxel index to millimetres in the patient.
        label: of all these lesions in the bundle's label map.
        name: of the finding; rows are named by it and by the lesion's number.

    Raises:
        ValueError: if the label map has not three axes.
    """
    rows = []
    for lesion in lesions_of(label_map, affine_lps):
        row = {
            "label": label,
            "name": f"{name} {lesion.number}",
            "lesion": lesion.number,
            "voxels": lesion.voxels,
            "volume_ml": lesion.volume_ml,
            **_axial_diameters(lesion, affine_lps),
            "confidence": _mean_or_none(probability[lesion.box][lesion.mask]),
            "centroid_lps_mm": _rounded(lesion.centroid_lps_mm),
            "touches_border": lesion.touches_border,
        }
        if values_hu is not None:
            row["mean_hu"] = _mean_or_none(values_hu[lesion.box][lesion.mask])
        rows.append(row)
    return rows


def voxel_volume_ml(affine_lps: NDArray[np.float64]) -> float:
    """Volume of a voxel, rightly of a sheared grid too: the determinant."""
    return abs(float(np.linalg.det(affine_lps[:3, :3]))) / _MM3_PER_ML


def _axial_diameters(lesion: Lesion, affine_lps: NDArray[np.float64]) -> dict[str, Any]:
    spacing = spacing_of(affine_lps)
    across_slices = int(np.argmax(np.abs(affine_lps[2, :3]) / spacing))
    in_slice = [spacing[axis] for axis in range(3) if axis != across_slices]
    found = diameters_in_longest_slice(np.moveaxis(lesion.mask, across_slices, -1), in_slice)

    starts = [along.start for along in lesion.box]
    facts: dict[str, Any] = {"axial_slice": found.slice_index + starts[across_slices]}
    for key, diameter in (("longest_axial_diameter", found.longest), ("perpendicular_diameter", found.perpendicular)):
        ends = np.insert(np.array(diameter.ends), across_slices, found.slice_index, axis=1) + starts
        facts[f"{key}_mm"] = diameter.length_mm
        facts[f"{key}_ends_voxel"] = [_rounded(end) for end in ends]
        facts[f"{key}_ends_lps_mm"] = [_rounded(to_patient_mm(affine_lps, end)) for end in ends]
    return facts


def _mean_or_none(values: NDArray[Any]) -> float | None:
    mean = float(values.mean(dtype=np.float64))
    return None if math.isnan(mean) else mean


def _rounded(place: Iterable[float]) -> list[float]:
    """To thousandths of a millimetre or a voxel, as places are given in measurements.json."""
    return [round(float(value), 3) for value in place]


def _require_volume(array: NDArray[Any]) -> None:
    if array.ndim != 3:
        raise ValueError(f"lesions are looked for in volumes (x, y, z), not in {array.ndim} axes")
