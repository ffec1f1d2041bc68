"""Volumes to NIfTI as fast as the disk takes them, and label maps from NIfTI, whichever way they are turned."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import OrientationError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from clinibundle.errors import DAMAGE, GeometryError, OutputError, UnreadableInput
from clinibundle.geometry import scaling_affine, turn_lps_ras
from clinibundle.volume import Volume

_SCANNER = 1
SAME_GRID_MM = 0.05
"""How far a label map's voxels may lie from those of the series that it was drawn on."""
_SQUARE_TOLERANCE = 1e-4
_COMPRESSED = ".nii.gz"


def read_labels_on_grid(path: Path, volume: Volume) -> NDArray[np.integer[Any]]:
    """A label map (x, y, z) that lies on a volume's voxels; axes that are swapped or turned round are put right.

    Raises:
        UnreadableInput: if the file is no NIfTI label map.
        GeometryError: if its voxels are not those of the volume.
    """
    try:
        image: Any = nibabel.load(path)
        affine = turn_lps_ras(np.asarray(image.affine, np.float64))
        turn = _turn_onto(volume, image.shape, affine, path.name)
        stored = nibabel.orientations.apply_orientation(np.asarray(image.dataobj), turn)
        with np.errstate(invalid="ignore"):
            label_map = stored.astype(np.uint16)
    except (*DAMAGE, HeaderDataError, ImageFileError, OrientationError) as error:
        raise UnreadableInput(f"'{path.name}' cannot be read as NIfTI: it is damaged or something else") from error
    if (stored != label_map).any():
        raise UnreadableInput(f"'{path.name}' is no label map: expected whole numbers from 0 to 65535 in every voxel")
    return np.asarray(label_map)


def _turn_onto(volume: Volume, shape: tuple[int, ...], affine_lps: NDArray[np.float64], name: str) -> NDArray[Any]:
    """How a picture's axes have to be swapped and turned round to lie on a volume's voxels (nibabel's orientation).

    Asked before any voxel is read: what has another size may be of any size.

    Raises:
        GeometryError: if there is no such way.
    """
    shown, expected = (" × ".join(map(str, sizes)) for sizes in (shape, volume.spatial_shape))
    if len(shape) != 3:
        raise GeometryError(f"'{name}' has {len(shape)} axes; expected a label map of the series' {expected} voxels")
    target = np.asarray(volume.affine_lps)
    if not np.isfinite(affine_lps).all() or not np.linalg.det(affine_lps[:3, :3]):
        raise GeometryError(
            f"'{name}' has no usable affine, so nobody knows where it lies; expected that of the series"
        )
    turn = nibabel.orientations.io_orientation(np.linalg.inv(target) @ affine_lps)
    turned_shape = tuple(int(shape[int(axis)]) for axis in np.argsort(turn[:, 0]))
    turned = affine_lps @ nibabel.orientations.inv_ornt_aff(turn, shape)
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in turned_shape))]).T
    off = float(np.linalg.norm((turned - target) @ corners, axis=0).max())
    if turned_shape != volume.spatial_shape or off > SAME_GRID_MM:
        raise GeometryError(
            f"'{name}' has {shown} voxels, up to {off:.2f} mm beside those of the series (limit {SAME_GRID_MM:g} mm), "
            f"which has {expected}; expected a label map drawn on that series"
        )
    return np.asarray(turn)


def write_nifti(path: Path, volume: Volume) -> None:
    """Writes `.nii` or `.nii.gz` in RAS, its codes saying that coordinates are the scanner's.

    Args:
        path: of the file.
        volume: (x, y, z) of a number type that NIfTI knows.

    Raises:
        OutputError: if the file cannot be written.
    """
    affine = scaling_affine(volume.spacing_mm) if volume.affine_lps is None else volume.affine_lps
    image = nibabel.Nifti1Image(volume.array, turn_lps_ras(affine))
    image.set_sform(image.affine, _SCANNER)
    # A qform holds no shear, as of slices from a tilted gantry.
    image.set_qform(image.affine, 0 if _is_sheared(image.affine) else _SCANNER)
    image.header.set_xyzt_units("mm")
    try:
        if path.name.endswith(_COMPRESSED):
            nibabel.save(image, path)
            return
        with path.open("wb") as stream:
            image.header.write_to(stream)
            # No extensions follow; then the values as they lie in memory, x fastest: nibabel would copy them.
            stream.write(bytes(image.header.single_vox_offset - stream.tell()))
            np.ascontiguousarray(volume.array.T).tofile(stream)
    except OSError as error:
        raise OutputError(f"cannot write '{path.name}': {error.strerror}; choose another place") from error


def _is_sheared(affine: NDArray[np.float64]) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _SQUARE_TOLERANCE)
