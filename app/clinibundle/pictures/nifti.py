"""Volumes to NIfTI as fast as the disk takes them, and label maps from NIfTI, whichever way they are turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from clinibundle.errors import DAMAGE, GeometryError, OutputError, UnreadableInput
from clinibundle.geometry import scaling_affine, turn_lps_ras
from clinibundle.volume import Volume

_SCANNER = 1
_SAME_GRID_MM = 0.05
_COMPRESSED = ".nii.gz"


def read_labels_on_grid(path: Path, volume: Volume) -> NDArray[np.integer[Any]]:
    """A label map (x, y, z) that lies on a volume's voxels; axes that are swapped or turned round are put right.

    Raises:
        UnreadableInput: if the file is no NIfTI label map.
        GeometryError: if its voxels are not those of the volume.
    """
    try:
        image: Any = nibabel.load(path)
        stored = np.asarray(image.dataobj)
        affine = turn_lps_ras(np.asarray(image.affine, np.float64))
    except (*DAMAGE, HeaderDataError, ImageFileError) as error:
        raise UnreadableInput(f"'{path.name}' cannot be read as NIfTI: it is damaged or something else") from error
    label_map = stored.astype(np.int64)
    if stored.ndim != 3 or (stored != label_map).any() or label_map.min(initial=0) < 0:
        raise UnreadableInput(f"'{path.name}' is no label map: expected three axes and whole numbers from 0")
    target = np.asarray(volume.affine_lps)
    if not np.linalg.det(affine[:3, :3]):
        raise GeometryError(f"'{path.name}' has no usable affine; expected the one of the series")
    turned = nibabel.orientations.io_orientation(np.linalg.inv(target) @ affine)
    label_map = nibabel.orientations.apply_orientation(label_map, turned)
    affine = affine @ nibabel.orientations.inv_ornt_aff(turned, stored.shape)
    corners = np.array([[0, 0, 0, 1], [*(size - 1 for size in label_map.shape), 1]]).T
    off = float(np.linalg.norm((affine - target) @ corners, axis=0).max())
    if label_map.shape != volume.spatial_shape or off > _SAME_GRID_MM:
        raise GeometryError(
            f"'{path.name}' has {' × '.join(map(str, label_map.shape))} voxels, up to {off:.2f} mm beside those of the "
            f"series, which has {' × '.join(map(str, volume.spatial_shape))}; expected a label map drawn on that series"
        )
    return np.asarray(label_map)


def write_nifti(path: Path, volume: Volume) -> None:
    """Writes `.nii` or `.nii.gz` in RAS, both codes saying that coordinates are the scanner's.

    Args:
        path: of the file.
        volume: (x, y, z) of a number type that NIfTI knows.

    Raises:
        OutputError: if the file cannot be written.
    """
    affine = scaling_affine(volume.spacing_mm) if volume.affine_lps is None else volume.affine_lps
    image = nibabel.Nifti1Image(volume.array, turn_lps_ras(affine))
    image.set_sform(image.affine, _SCANNER)
    image.set_qform(image.affine, _SCANNER)
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
