"""The DICOM objects of a case: what a clinic's other systems read, on the source's own frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import clinibundle
from clinibundle.bundle.description import Bundle, DicomDescription
from clinibundle.dicom.codes import Algorithm
from clinibundle.dicom.header import read_header
from clinibundle.volume import Volume

if TYPE_CHECKING:
    from clinibundle.bundle.predict import Prediction
    from clinibundle.dicom.seg import SegKind


def write_objects(
    folder: Path,
    bundle: Bundle,
    described: DicomDescription,
    volume: Volume,
    prediction: Prediction,
    seg_kind: SegKind = "binary",
) -> None:
    """Writes `segmentation.dcm`.

    Raises:
        OutputError: if what was written reads back differently, or nothing can refer to the source.
    """
    # highdicom takes a second to import; a refusal before this should not wait for it.
    from clinibundle.dicom.seg import write_seg
    from clinibundle.dicom.seg_check import SourceGrid

    sources = [read_header(path) for path in volume.source.paths]
    grid = SourceGrid(sources, volume.source.frames, volume.affine_lps)
    frames = prediction.label_map.T if prediction.label_map.ndim == 3 else prediction.label_map.T[None]
    probability = {
        label: values.T if values.ndim == 3 else values.T[None] for label, values in prediction.probability.items()
    }
    write_seg(
        folder / "segmentation.dcm", frames, grid, described.segments, algorithm_of(bundle), seg_kind, probability
    )


def algorithm_of(bundle: Bundle) -> Algorithm:
    """Who made the objects."""
    return Algorithm(
        name=bundle.name,
        version=bundle.metadata.version,
        weights_sha256=bundle.weights_sha256,
        software_version=clinibundle.__version__,
    )
