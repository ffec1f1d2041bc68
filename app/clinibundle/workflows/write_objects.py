"""The DICOM objects of a case: what a clinic's other systems read, on the source's own frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import clinibundle
from clinibundle.bundle.description import Bundle, DicomDescription
from clinibundle.dicom.codes import Algorithm
from clinibundle.dicom.header import read_header
from clinibundle.report.case_figures import KeyPicture
from clinibundle.volume import Volume

if TYPE_CHECKING:
    from clinibundle.bundle.predict import Prediction
    from clinibundle.dicom.seg import SegKind


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


def write_objects(
    folder: Path, bundle: Bundle, described: DicomDescription, case: Objects, seg_kind: SegKind = "binary"
) -> None:
    """Writes `segmentation.dcm`, `key_image_001.dcm` and so on, and `measurements.dcm` where the bundle says how.

    Raises:
        OutputError: if what was written reads back differently, or nothing can refer to the source.
    """
    # highdicom takes a second to import; a refusal before this should not wait for it.
    from clinibundle.dicom.key_images import KeyImage, write_key_images
    from clinibundle.dicom.seg import write_seg
    from clinibundle.dicom.seg_check import SourceGrid
    from clinibundle.dicom.sr import write_sr

    source = case.volume.source
    sources = [read_header(path) for path in source.paths]
    grid = SourceGrid(sources, source.frames, case.volume.affine_lps)
    probability = {label: _frames(values) for label, values in case.prediction.probability.items()}
    algorithm = algorithm_of(bundle)
    seg = folder / "segmentation.dcm"
    write_seg(seg, _frames(case.prediction.label_map), grid, described.segments, algorithm, seg_kind, probability)
    shown = [
        KeyImage(_pixels(picture), [0 if source.frames else picture.slice_number or 0], picture.caption)
        for picture in case.pictures
    ]
    write_key_images(folder, shown, sources, algorithm)
    if described.measurements is not None:
        numbers = {segment.label: number for number, segment in enumerate(described.segments, start=1)}
        found = [{**f, "segment_number": numbers[f["label"]]} for f in case.findings if f["voxels"]]
        write_sr(folder / "measurements.dcm", sources, seg, found, described.measurements, algorithm)


def _frames(array: NDArray[Any]) -> NDArray[Any]:
    """(frames, rows, columns) of an array with the axes of a volume."""
    return array.T if array.ndim == 3 else array.T[None]


def _pixels(picture: KeyPicture) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(picture.outlined)).convert("RGB"))


def algorithm_of(bundle: Bundle) -> Algorithm:
    """Who made the objects."""
    return Algorithm(
        name=bundle.name,
        version=bundle.metadata.version,
        weights_sha256=bundle.weights_sha256,
        software_version=clinibundle.__version__,
    )
