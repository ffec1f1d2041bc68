"""The one carrier of a picture on its way through the application, be it a film, a photograph or a CT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clinibundle.checks import Check

SourceKind = Literal["dicom", "picture", "volume"]
Meaning = Literal["grey", "hounsfield", "probability", "colour"]


@dataclass(frozen=True)
class Source:
    """Where a volume came from.

    Attributes:
        kind: `dicom`, `picture` (PNG, JPEG, TIFF) or `volume` (NIfTI).
        case: name for files and reports; never a patient's.
        family: the file family that a mask is written in: `png`, `tif` or `nii.gz`.
        datasets: DICOM only, headers (pydicom data sets without pixels) in the order of the volume's slices; a single
            one for a multi-frame object.
        paths: DICOM only, the files of the data sets.
        frames: multi-frame DICOM only, the frame number (from 0) of each slice.
        nifti_header: NIfTI only, the source's header.
    """

    kind: SourceKind
    case: str
    family: str
    datasets: tuple[Any, ...] = ()
    paths: tuple[Path, ...] = ()
    frames: tuple[int, ...] = ()
    nifti_header: Any = None

    @property
    def sop_instance_uids(self) -> list[str]:
        """Of the DICOM instances, in the order of the slices; empty for other sources."""
        return [str(dataset.SOPInstanceUID) for dataset in self.datasets]


@dataclass(frozen=True, eq=False)
class Volume:
    """A picture, its grid, and what is known about it.

    Attributes:
        array: values with the axes (x, y) or (x, y, z): x along a row (column index), y down a column (row index),
            z over slices. That is MONAI's order; `array.T` is the order of DICOM and of image files. Colour pictures
            have the colours in a last axis of their own.
        affine_lps: (4, 4), voxel index (x, y, z) to millimetres in the patient as DICOM has it (left, posterior,
            superior); None where the picture has no place in the patient, as a radiograph.
        spacing_mm: distance of neighbouring voxels along each axis of the array; None if unknown.
        meaning: what the values are.
        source: where it came from.
        checks: what was looked at so far.
        facts: what the report may show of the source, nothing that identifies a person.
    """

    array: NDArray[Any]
    affine_lps: NDArray[np.float64] | None
    spacing_mm: tuple[float, ...] | None
    meaning: Meaning
    source: Source
    checks: tuple[Check, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Size along (x, y) or (x, y, z)."""
        shape = self.array.shape[:-1] if self.meaning == "colour" else self.array.shape
        return tuple(int(size) for size in shape)

    def with_checks(self, *checks: Check) -> Volume:
        """The same volume with more checks at the end of its list."""
        return replace(self, checks=(*self.checks, *checks))
