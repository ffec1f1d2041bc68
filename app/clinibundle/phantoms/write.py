"""Phantoms as a data folder, and as DICOM studies beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clinibundle.errors import BundleError, did_you_mean
from clinibundle.files import whole_directory, write_json
from clinibundle.phantoms.chest_radiograph import chest_spacing_mm, make_chest_radiograph
from clinibundle.phantoms.dicom_dx import write_dx_study

_FOLDS = 5


@dataclass(frozen=True)
class PictureKind:
    """A kind of made-up picture.

    Attributes:
        make: seed to picture and truth, both (rows, columns).
        spacing_mm: (rows, columns) to the side of a pixel.
        write_study: folder, pictures, seed and side of a pixel to DICOM files.
    """

    make: Callable[[int], tuple[NDArray[np.uint16], NDArray[np.bool_]]]
    spacing_mm: Callable[[tuple[int, int]], float]
    write_study: Callable[[Path, list[NDArray[np.uint16]], int, float], list[Path]]


PHANTOMS = {"chest_radiograph": PictureKind(make_chest_radiograph, chest_spacing_mm, write_dx_study)}
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


def _write_case(kind: PictureKind, folder: Path, index: int, seed: int, dicom: bool) -> dict[str, object]:
    """Writes one case and returns its row of the datalist."""
    name = f"phantom-{index:03d}"
    case_seed = _case_seed(seed, index)
    picture, truth = kind.make(case_seed)
    spacing = kind.spacing_mm((picture.shape[0], picture.shape[1]))
    image, label = f"images/{name}.png", f"labels/{name}.png"
    Image.fromarray(picture).save(folder / image)
    Image.fromarray(truth.astype(np.uint8) * 255).save(folder / label)
    if dicom:
        kind.write_study(folder / "dicom" / name, [picture], case_seed, spacing)
    return {"image": image, "label": label, "fold": index % _FOLDS, "group": name, "spacing_mm": [spacing, spacing]}


def _case_seed(seed: int, index: int) -> int:
    """A seed of the case's own, so that cases of neighbouring seeds do not repeat each other."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
