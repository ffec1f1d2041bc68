"""The DICOM objects of a case: what a clinic's other systems read, on the source's own frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import clinibundle
from clinibundle.bundle.description import Bundle, DicomDescription
from clinibundle.dicom.codes import Algorithm
from clinibundle.dicom.header import read_header
from clinibundle.errors import UnsuitableInput
from clinibundle.report.case_figures import KeyPicture
from clinibundle.volume import Volume

if TYPE_CHECKING:
    from clinibundle.bundle.predict import Prediction
    from clinibundle.dicom.seg import SegKind
    from clinibundle.dicom.seg_check import SourceGrid

AlsoKind = Literal["rtstruct", "gsps", "gif"]
"""Written on request: contours for planning systems, lines that a viewer draws over the pictures, a moving picture."""

_VOLUME_AXES = 3


@dataclass(frozen=True)
class Objects:
    """What a case's objects are made of.

    Attributes:
        volume: the case.
        prediction: the bundle's answer on its grid.
        findings: as in measurements.json.
        pictures: its key images.
    """

    volume: Volume
    prediction: Prediction
    findings: Sequence[Mapping[str, Any]]
    pictures: Sequence[KeyPicture]


def refuse_impossible(bundle: Bundle, volume: Volume, also: Sequence[AlsoKind]) -> None:
    """Refuses what cannot be written of a case, before it is segmented.

    Raises:
        UnsuitableInput: if the case is no DICOM, or the bundle does not say what its labels are called there.
        OutputError: if the sources are of a kind that an object cannot lie on.
    """
    if "gif" in also and len(volume.spatial_shape) != _VOLUME_AXES:
        raise UnsuitableInput("--also gif shows a volume slice by slice, and this is a flat picture; leave it out")
    objects = [kind for kind in also if kind != "gif"]
    if not objects:
        return
    if not volume.source.datasets or bundle.dicom is None:
        raise UnsuitableInput(
            f"--also {objects[0]} needs DICOM pictures and a bundle that says what its labels are called in DICOM "
            "(configs/dicom.yaml); leave it out"
        )
    from clinibundle.dicom.presentation import refuse_unshowable
    from clinibundle.dicom.rtstruct_out import refuse_without_place

    grid = _grid(volume)
    if "rtstruct" in also:
        refuse_without_place(grid)
    if "gsps" in also:
        refuse_unshowable(grid)


def write_objects(
    folder: Path,
    bundle: Bundle,
    described: DicomDescription,
    case: Objects,
    seg_kind: SegKind = "binary",
    also: Sequence[AlsoKind] = (),
) -> None:
    """Writes the objects of a case, each under a name of its own.

    `segmentation.dcm`, `key_image_001.dcm` and so on, `measurements.dcm` where the bundle says how, and on request
    `outline_rtstruct.dcm` and `outline_gsps.dcm`.

    Raises:
        OutputError: if what was written reads back differently, or nothing can refer to the source.
    """
    # highdicom takes a second to import; a refusal before this should not wait for it.
    from clinibundle.dicom.key_images import KeyImage, write_key_images
    from clinibundle.dicom.seg import write_seg
    from clinibundle.dicom.sr import write_sr

    grid = _grid(case.volume)
    sources = grid.sources
    label_map = _frames(case.prediction.label_map)
    probability = {label: _frames(values) for label, values in case.prediction.probability.items()}
    algorithm = algorithm_of(bundle, case.prediction.weights_sha256)
    seg = folder / "segmentation.dcm"
    write_seg(seg, label_map, grid, described.segments, algorithm, seg_kind, probability)
    shown = [
        KeyImage(_pixels(picture), [0 if grid.frames else picture.slice_number or 0], picture.caption)
        for picture in case.pictures
    ]
    write_key_images(folder, shown, sources, algorithm)
    if {"rtstruct", "gsps"} & set(also):
        from clinibundle.dicom.presentation import write_gsps
        from clinibundle.dicom.rtstruct_out import write_rtstruct

        writers = {"rtstruct": write_rtstruct, "gsps": write_gsps}
        for kind in writers.keys() & set(also):
            path = folder / f"outline_{kind}.dcm"
            writers[kind](path, label_map, grid, described.segments, algorithm, bundle.report.colours)
    if described.measurements is not None:
        numbers = {segment.label: number for number, segment in enumerate(described.segments, start=1)}
        found = [{**f, "segment_number": numbers[f["label"]]} for f in case.findings if f["voxels"]]
        write_sr(folder / "measurements.dcm", sources, seg, found, described.measurements, algorithm)


def _grid(volume: Volume) -> SourceGrid:
    """Whole headers: what the index keeps of them is not enough for an object."""
    from clinibundle.dicom.seg_check import SourceGrid

    source = volume.source
    return SourceGrid([read_header(path) for path in source.paths], source.frames, volume.affine_lps)


def _frames(array: NDArray[Any]) -> NDArray[Any]:
    """(frames, rows, columns) of an array with the axes of a volume."""
    return array.T if array.ndim == 3 else array.T[None]


def _pixels(picture: KeyPicture) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(picture.outlined)).convert("RGB"))


def algorithm_of(bundle: Bundle, weights_sha256: str) -> Algorithm:
    """Who made the objects, with which weights."""
    return Algorithm(
        name=bundle.name,
        version=bundle.metadata.version,
        weights_sha256=weights_sha256,
        software_version=clinibundle.__version__,
    )
