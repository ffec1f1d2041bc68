"""Convert: a series to NIfTI through the geometry gate, outlines of others to a label map, and a label map to a SEG.

Nothing here imports torch: it stands beside tools that start in moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clinibundle.checks import Check
from clinibundle.console import Talk
from clinibundle.dicom.codes import Code, Segment
from clinibundle.dicom.header import read_header
from clinibundle.dicom.index import Index
from clinibundle.dicom.read_volume import AIR_HU, read_volume
from clinibundle.dicom.rules import DicomWishes, Rule
from clinibundle.dicom.select import choose
from clinibundle.dicom.straighten import straighten
from clinibundle.dicom.values import text
from clinibundle.errors import UnsuitableInput, UsageError
from clinibundle.files import refuse_output_in_input, whole_file
from clinibundle.pictures.nifti import read_labels_on_grid, write_nifti
from clinibundle.pictures.write import write_labels
from clinibundle.volume import Source, Volume
from clinibundle.workflows.read_input import opened, read_index

_VOLUME_ENDINGS = (".nii", ".nii.gz")
_LABEL_ENDINGS = (*_VOLUME_ENDINGS, ".png", ".tif", ".tiff")
_DICOM_ENDING = ".dcm"
# Of several volumes, scouts are never meant; between the others nobody chooses in silence.
_WISHES = DicomWishes(
    object="volume",
    rules=[Rule(name="image_type", keywords=["ImageType"], refuse_words=["LOCALIZER"], missing="fits")],
)


@dataclass(frozen=True)
class ConvertOptions:
    """What a user may turn.

    Attributes:
        series: the series UID to take, with `#2` behind it for the second volume of a series.
        correct_tilt: volumes of a tilted gantry are straightened rather than refused.
        source: the series that outlines lie on, as folder, file or zip.
        segments: what labels mean when they become a SEG; by default each is called by its number.
        names: of the segments or ROIs to take; all if empty.
        overwrite: replace the output file.
    """

    series: str | None = None
    correct_tilt: bool = False
    source: Path | None = None
    segments: Sequence[Segment] = ()
    names: Sequence[str] = ()
    overwrite: bool = False


def convert(path: Path, output: Path, options: ConvertOptions, talk: Talk) -> tuple[Check, ...]:
    """Writes one file from one input; what is done follows from what the input is and how the output's name ends.

    Returns:
        What was looked at on the way.

    Raises:
        UsageError: if the output's ending does not fit the input.
        ClinibundleError: if the input is refused.
    """
    refuse_output_in_input(output, path)
    if output.name.lower().endswith(_DICOM_ENDING):
        return labels_to_seg(path, output, options, talk)
    with opened(path, talk) as place:
        index = read_index(place, talk)
        kinds = {text(instance.header, "Modality").upper() for instance in index.instances}
        if len(index.instances) == 1 and kinds & {"SEG", "RTSTRUCT"}:
            return _outlines_to_labels(index, output, options, talk)
        return _series_to_nifti(index, output, options, talk)


def read_series(index: Index, options: ConvertOptions, talk: Talk, advance_name: str = "reading slices") -> Volume:
    """The one volume of an index.

    Raises:
        ClinibundleError: if there is none, several, or one without a trustworthy geometry.
    """
    choice = choose(index, _WISHES, options.series, options.correct_tilt)
    placed = choice.chosen.placed
    if placed is None:
        raise UnsuitableInput("the input holds no volume; name a folder with a series of slices")
    with talk.progress(advance_name, len(placed.slices)) as advance:
        return read_volume(placed, advance=advance)


def _series_to_nifti(index: Index, output: Path, options: ConvertOptions, talk: Talk) -> tuple[Check, ...]:
    _require_ending(output, _VOLUME_ENDINGS, "a series")
    volume = read_series(index, options, talk)
    if options.correct_tilt and any(c.name == "gantry_tilt" and c.status == "fixed" for c in volume.checks):
        outside = AIR_HU if volume.meaning == "hounsfield" else float(volume.array.min())
        volume, _ = straighten(volume, outside)
    with whole_file(output, options.overwrite) as partial:
        write_nifti(partial, volume)
    return volume.checks


def _outlines_to_labels(index: Index, output: Path, options: ConvertOptions, talk: Talk) -> tuple[Check, ...]:
    from clinibundle.dicom.outlines import Grid
    from clinibundle.dicom.read_seg import read_seg
    from clinibundle.dicom.rtstruct import read_rtstruct

    _require_ending(output, _LABEL_ENDINGS, "outlines")
    (instance,) = index.instances
    grid = None
    if options.source is not None:
        with opened(options.source, talk) as place:
            volume = read_series(read_index(place, talk), options, talk)
        if volume.affine_lps is None:
            raise UnsuitableInput("the source has no place in the patient; name the series that the outlines lie on")
        columns, rows, slices = volume.spatial_shape
        grid = Grid(volume.affine_lps, (slices, rows, columns), tuple(volume.source.sop_instance_uids))
    chosen = [int(name) if name.isdigit() else name for name in options.names] or None
    if text(instance.header, "Modality").upper() == "SEG":
        found = read_seg(instance.path, grid, chosen)
    elif grid is None:
        raise UsageError("an RTSTRUCT has no grid of its own; name the series it was drawn on with --source")
    else:
        found = read_rtstruct(instance.path, grid, chosen)
    label_map = found.label_map.T
    if label_map.shape[2] == 1 and not output.name.lower().endswith(_VOLUME_ENDINGS):
        label_map = label_map[:, :, 0]
    carrier = Volume(label_map, found.affine_lps, None, "grey", Source("volume", "labels", "nii.gz"))
    with whole_file(output, options.overwrite) as partial:
        if output.name.lower().endswith(_VOLUME_ENDINGS):
            write_nifti(partial, carrier)
        else:
            write_labels(partial, np.asarray(label_map))
    for number, name in sorted(found.names.items()):
        talk.stage(f"label {number}: {index.shown(name)}")
    return found.checks


def labels_to_seg(path: Path, output: Path, options: ConvertOptions, talk: Talk) -> tuple[Check, ...]:
    """A label map as NIfTI on the grid of a DICOM series, as DICOM SEG on that series.

    The SEG says that a person drew it: who or what made a label map, no file tells.

    Raises:
        UsageError: if no source is named.
        GeometryError: if the label map does not lie on the source's grid.
    """
    if options.source is None:
        raise UsageError("a SEG lies on the frames of a series; name the series with --source")
    with opened(options.source, talk) as place:
        volume = read_series(read_index(place, talk), options, talk)
        label_map = read_labels_on_grid(path, volume)
        labels = [int(label) for label in np.unique(label_map) if label]
        segments = list(options.segments) or [_unnamed_segment(label) for label in labels]
        from clinibundle.dicom.seg import write_seg
        from clinibundle.dicom.seg_check import SourceGrid

        grid = SourceGrid([read_header(p) for p in volume.source.paths], volume.source.frames, volume.affine_lps)
        with whole_file(output, options.overwrite) as partial:
            write_seg(partial, label_map.T, grid, segments, None)
    return volume.checks


def _unnamed_segment(label: int) -> Segment:
    """A segment of which nothing is known but that it is tissue."""
    tissue = Code(value="85756007", scheme="SCT", meaning="Tissue")
    return Segment(label=label, name=f"Label {label}", category=tissue, type=tissue)


def _require_ending(output: Path, endings: Sequence[str], what: str) -> None:
    if not output.name.lower().endswith(tuple(endings)):
        raise UsageError(f"'{output.name}' has another ending than {', '.join(endings)}, which {what} can become")
