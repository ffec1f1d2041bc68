"""Phantoms as a data folder, and as DICOM studies beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clinibundle.errors import BundleError, UsageError, did_you_mean
from clinibundle.files import whole_directory, write_json
from clinibundle.geometry import spacing_of, turn_lps_ras
from clinibundle.phantoms.chest_ct import make_chest_ct
from clinibundle.phantoms.chest_radiograph import chest_spacing_mm, make_chest_radiograph
from clinibundle.phantoms.dicom_ct import write_ct_series
from clinibundle.phantoms.dicom_dx import write_dx_study
from clinibundle.phantoms.em_section import PIXEL_NM, make_em_section

_FOLDS = 5


class PhantomKind(Protocol):
    """A kind of made-up case."""

    def write_case(self, folder: Path, name: str, seed: int, dicom: bool) -> dict[str, object]:
        """Writes a case into `images/` and `labels/` of a data folder, and into `dicom/<name>/` if asked to.

        Returns:
            What is known of it, with the files' paths in the folder: its row of the datalist.
        """
        ...


@dataclass(frozen=True)
class PictureKind:
    """Pictures, written as PNG.

    Attributes:
        make: seed to picture and truth, both (rows, columns).
        spacing_mm: (rows, columns) to the side of a pixel.
        write_study: folder, pictures, seed and side of a pixel to DICOM files; None of what never is DICOM.
    """

    make: Callable[[int], tuple[NDArray[Any], NDArray[np.bool_]]]
    spacing_mm: Callable[[tuple[int, int]], float]
    write_study: Callable[[Path, list[NDArray[Any]], int, float], list[Path]] | None

    def write_case(self, folder: Path, name: str, seed: int, dicom: bool) -> dict[str, object]:
        """See `PhantomKind`."""
        picture, truth = self.make(seed)
        spacing = self.spacing_mm((picture.shape[0], picture.shape[1]))
        image, label = f"images/{name}.png", f"labels/{name}.png"
        Image.fromarray(picture).save(folder / image)
        Image.fromarray(truth.astype(np.uint8) * 255).save(folder / label)
        if dicom and self.write_study is None:
            raise UsageError("--dicom: pictures of this kind are no DICOM; leave it out")
        if dicom and self.write_study is not None:
            self.write_study(folder / "dicom" / name, [picture], seed, spacing)
        return {"image": image, "label": label, "spacing_mm": [spacing, spacing]}


@dataclass(frozen=True, eq=False)
class MadeVolume:
    """A made-up volume.

    Attributes:
        values: (slices, rows, columns).
        label: the same shape, 0 for background.
        affine_lps: (4, 4), voxel index (column, row, slice) to millimetres.
        facts: what else is known of it, for its row of the datalist.
    """

    values: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine_lps: NDArray[np.float64]
    facts: Mapping[str, object]


@dataclass(frozen=True)
class VolumeKind:
    """Volumes, written as NIfTI.

    Attributes:
        make: seed to volume.
        write_series: folder, values, affine and seed to DICOM files.
    """

    make: Callable[[int], MadeVolume]
    write_series: Callable[[Path, NDArray[np.int16], NDArray[np.float64], int], list[Path]]

    def write_case(self, folder: Path, name: str, seed: int, dicom: bool) -> dict[str, object]:
        """See `PhantomKind`; spacing in the order of the NIfTI's axes, x, y and z."""
        volume = self.make(seed)
        image, label = f"images/{name}.nii.gz", f"labels/{name}.nii.gz"
        _write_nifti(folder / image, volume.values, volume.affine_lps)
        _write_nifti(folder / label, volume.label, volume.affine_lps)
        if dicom:
            self.write_series(folder / "dicom" / name, volume.values, volume.affine_lps, seed)
        spacing = [round(side, 6) for side in spacing_of(volume.affine_lps)]
        return {"image": image, "label": label, "spacing_mm": spacing, **volume.facts}


def _chest_ct(seed: int) -> MadeVolume:
    ct = make_chest_ct(seed)
    facts = {"tumours": [tumour.facts() for tumour in ct.tumours]}
    return MadeVolume(ct.hounsfield, ct.label, ct.affine_lps, facts)


PHANTOMS: dict[str, PhantomKind] = {
    "chest_radiograph": PictureKind(make_chest_radiograph, chest_spacing_mm, write_dx_study),
    "chest_ct": VolumeKind(_chest_ct, write_ct_series),
    "em_section": PictureKind(make_em_section, lambda _: PIXEL_NM * 1e-6, None),
}
"""The kinds that a bundle can name."""


def write_phantom_cases(
    kind: str, destination: Path, cases: int, seed: int, dicom: bool, overwrite: bool = False
) -> None:
    """Writes made-up cases with known truth; the same arguments give the same bytes.

    Args:
        kind: a key of `PHANTOMS`.
        destination: becomes a data folder (`images/`, `labels/`, `datalist.json`), whole or not at all.
        cases: how many.
        seed: another seed makes other cases.
        dicom: adds `dicom/<case>/`, a study for each case.
        overwrite: replaces what `destination` holds.

    Raises:
        BundleError: if there is no such kind.
        OutputError: if `destination` cannot be written.
    """
    if kind not in PHANTOMS:
        raise BundleError(
            f"phantom kind '{kind}' is not known{did_you_mean(kind, PHANTOMS)}; choose one of {', '.join(PHANTOMS)}"
        )
    with whole_directory(destination, overwrite) as folder:
        (folder / "images").mkdir()
        (folder / "labels").mkdir()
        rows = [_write_case(PHANTOMS[kind], folder, index, seed, dicom) for index in range(cases)]
        write_json(folder / "datalist.json", {"training": rows})


def _write_case(kind: PhantomKind, folder: Path, index: int, seed: int, dicom: bool) -> dict[str, object]:
    """Writes one case and returns its row of the datalist."""
    name = f"phantom-{index:03d}"
    written = kind.write_case(folder, name, _case_seed(seed, index), dicom)
    own = {"image": written.pop("image"), "label": written.pop("label"), "fold": index % _FOLDS, "group": name}
    return {**own, **written}


def _write_nifti(path: Path, values: NDArray[np.int16 | np.uint8], affine_lps: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(values.T, turn_lps_ras(affine_lps))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _case_seed(seed: int, index: int) -> int:
    """A seed of the case's own, so that cases of neighbouring seeds do not repeat each other."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
