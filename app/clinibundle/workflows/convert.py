"""Convert: a series to NIfTI through the geometry gate, outlines of others to a label map, and a label map to a SEG.

Nothing here imports torch: it stands beside tools that start in moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clinibundle.checks import Check
from clinibundle.console import Talk
from clinibundle.dicom.codes import Code, Segment
from clinibundle.dicom.header import read_header
from clinibundle.dicom.index import Index
from clinibundle.dicom.read_volume import AIR_HU, read_volume
from clinibundle.dicom.rules import DicomWishes, Rule
from clinibundle.dicom.select import Candidate, choose
from clinibundle.dicom.stacks import plane_name
from clinibundle.dicom.straighten import Straightening, is_sheared, straighten
from clinibundle.dicom.values import text, whole
from clinibundle.errors import GeometryError, UnsuitableInput, UsageError
from clinibundle.files import refuse_output_in_input, whole_file
from clinibundle.pictures.nifti import read_labels_on_grid, write_nifti
from clinibundle.pictures.write import write_labels
from clinibundle.volume import Source, Volume
from clinibundle.workflows.read_input import missing_checks, opened, read_index, say_choice, whole_input

_VOLUME_ENDINGS = (".nii", ".nii.gz")
_LABEL_ENDINGS = (*_VOLUME_ENDINGS, ".png", ".tif", ".tiff")
_DICOM_ENDING = ".dcm"
ObjectKind = Literal["seg", "rtstruct"]
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
        object_kind: what a label map becomes in DICOM.
    """

    series: str | None = None
    correct_tilt: bool = False
    source: Path | None = None
    segments: Sequence[Segment] = ()
    names: Sequence[str] = ()
    overwrite: bool = False
    object_kind: ObjectKind = "seg"


@dataclass(frozen=True)
class Converted:
    """What was looked at on the way, and what the labels of a label map are called."""

    checks: tuple[Check, ...]
    labels: Mapping[int, str] = field(default_factory=dict)


def convert(path: Path, output: Path, options: ConvertOptions, talk: Talk) -> Converted:
    """Writes one file from one input; what is done follows from what the input is and how the output's name ends.

    Raises:
        UsageError: if the output's ending does not fit the input.
        ClinibundleError: if the input is refused.
    """
    for read in (path, options.source):
        if read is not None:
            refuse_output_in_input(output, whole_input(read))
    with opened(path, talk) as place:
        if output.name.lower().endswith(_DICOM_ENDING):
            return _labels_to_object(place, output, options, talk)
        if options.object_kind != "seg":
            raise UsageError(f"an {options.object_kind.upper()} needs an output that ends in {_DICOM_ENDING}")
        index = read_index(place, talk)
        kinds = {text(instance.header, "Modality").upper() for instance in index.instances}
        if len(index.instances) == 1 and kinds & {"SEG", "RTSTRUCT"}:
            return _outlines_to_labels(index, output, options, talk)
        return _series_to_nifti(index, output, options, talk)


def read_series(index: Index, options: ConvertOptions, talk: Talk) -> Volume:
    """The one volume of an index.

    Raises:
        ClinibundleError: if there is none, several, or one without a trustworthy geometry.
    """
    choice = choose(index, _WISHES, options.series, options.correct_tilt)
    meant = [candidate for candidate in choice.candidates if _may_be_meant(candidate)]
    if len(meant) > 1:
        keys = ", ".join(sorted(candidate.key for candidate in meant))
        raise UnsuitableInput(
            f"{len(meant)} volumes could be meant; choose one with --series (`clinibundle studies` describes them): "
            f"{keys}"
        )
    say_choice(choice, talk)
    placed = choice.chosen.placed
    if placed is None:
        raise UnsuitableInput("the input holds no volume; name a folder with a series of slices")
    with talk.progress("reading slices", len(placed.slices)) as advance:
        volume = read_volume(placed, advance=advance)
    return volume.with_checks(*missing_checks(index, choice.chosen))


def _may_be_meant(candidate: Candidate) -> bool:
    """Whether a user may want this volume: a faulty geometry is no reason to take another one in silence.

    Scouts and pictures without a place, such as dose pages, are nobody's volume.
    """
    ruled_out = any(reason.rule in {rule.name for rule in _WISHES.rules} for reason in candidate.refusals)
    has_place = plane_name(candidate.header) != "" and whole(candidate.header, "SamplesPerPixel", 1) == 1
    return not ruled_out and has_place


def _series_to_nifti(index: Index, output: Path, options: ConvertOptions, talk: Talk) -> Converted:
    _require_ending(output, _VOLUME_ENDINGS, "a series")
    volume = read_series(index, options, talk)
    if is_sheared(volume):
        volume, _ = _straightened(volume)
    with whole_file(output, options.overwrite) as partial:
        write_nifti(partial, volume)
    return Converted(volume.checks)


def _straightened(volume: Volume) -> tuple[Volume, Straightening]:
    outside = AIR_HU if volume.meaning == "hounsfield" else float(volume.array.min())
    return straighten(volume, outside)


def _outlines_to_labels(index: Index, output: Path, options: ConvertOptions, talk: Talk) -> Converted:
    from clinibundle.dicom.outlines import Grid
    from clinibundle.dicom.read_seg import read_seg
    from clinibundle.dicom.rtstruct import read_rtstruct

    _require_ending(output, _LABEL_ENDINGS, "outlines")
    (instance,) = index.instances
    volume = grid = None
    if options.source is not None:
        volume = _source_volume(options.source, options, talk)
        columns, rows, slices = volume.spatial_shape
        grid = Grid(np.asarray(volume.affine_lps), (slices, rows, columns), tuple(volume.source.sop_instance_uids))
    chosen = [int(name) if name.isdecimal() else name for name in options.names] or None
    if text(instance.header, "Modality").upper() == "SEG":
        found = read_seg(instance.path, grid, chosen)
    elif grid is None:
        raise UsageError("an RTSTRUCT has no grid of its own; name the series it was drawn on with --source")
    else:
        found = read_rtstruct(instance.path, grid, chosen)
    label_map, affine = found.label_map.T, found.affine_lps
    if volume is not None and is_sheared(volume):
        # Where the NIfTI of that series lies, which is straightened as well.
        straight, plan = _straightened(volume)
        label_map, affine = _moved_along(label_map, plan), straight.affine_lps
    _write_label_map(output, label_map, affine, options.overwrite)
    return Converted(found.checks, {number: index.shown(name) for number, name in sorted(found.names.items())})


def _moved_along(label_map: NDArray[Any], plan: Straightening) -> NDArray[Any]:
    """A label map (x, y, z) of a sheared grid on the straightened one, by whole pixels; `plan.back` undoes it."""
    moved = np.zeros(plan.shape, label_map.dtype)
    width, height, depth = plan.source_shape
    for k in range(depth):
        x, y = (round(start + k * step) for start, step in zip(plan.start, plan.step, strict=True))
        moved[x : x + width, y : y + height, k] = label_map[:, :, k]
    return moved


def _write_label_map(
    output: Path, label_map: NDArray[Any], affine_lps: NDArray[np.float64] | None, overwrite: bool
) -> None:
    with whole_file(output, overwrite) as partial:
        if output.name.lower().endswith(_VOLUME_ENDINGS):
            write_nifti(partial, Volume(label_map, affine_lps, None, "grey", Source("volume", "labels", "nii.gz")))
        else:
            write_labels(partial, label_map[:, :, 0] if label_map.shape[2] == 1 else label_map)


def _source_volume(source: Path, options: ConvertOptions, talk: Talk) -> Volume:
    """The volume that outlines lie on."""
    with opened(source, talk) as place:
        return read_series(read_index(place, talk), options, talk)


def _labels_to_object(path: Path, output: Path, options: ConvertOptions, talk: Talk) -> Converted:
    """A label map as NIfTI on the grid of a DICOM series, as DICOM SEG or RTSTRUCT on that series.

    The object says that a person drew it: who or what made a label map, no file tells.

    Raises:
        UsageError: if no source is named.
        GeometryError: if the label map does not lie on the source's grid.
    """
    if options.source is None:
        raise UsageError(f"{_shown(options)} lies on the frames of a series; name the series with --source")
    with opened(options.source, talk) as place:
        volume = read_series(read_index(place, talk), options, talk)
        label_map = _labels_on_frames(path, volume)
        labels = [int(label) for label in np.unique(label_map) if label]
        if not labels:
            raise UnsuitableInput(f"'{path.name}' has no voxel above 0; {_shown(options)} needs at least one")
        segments = list(options.segments) or [_unnamed_segment(label) for label in labels]
        from clinibundle.dicom.rtstruct_out import write_rtstruct
        from clinibundle.dicom.seg import write_seg
        from clinibundle.dicom.seg_check import SourceGrid

        grid = SourceGrid([read_header(p) for p in volume.source.paths], volume.source.frames, volume.affine_lps)
        with whole_file(output, options.overwrite) as partial:
            if options.object_kind == "rtstruct":
                write_rtstruct(partial, label_map.T, grid, segments, None)
            else:
                write_seg(partial, label_map.T, grid, segments, None)
    # The numbers of ROIs are free, those of segments are not.
    renumbered = _renumbered_checks(segments) if options.object_kind == "seg" else []
    return Converted((*volume.checks, *renumbered), {segment.label: segment.name for segment in segments})


def _shown(options: ConvertOptions) -> str:
    return "a SEG" if options.object_kind == "seg" else "an RTSTRUCT"


def _labels_on_frames(path: Path, volume: Volume) -> NDArray[np.integer[Any]]:
    """A label map (x, y, z) on a volume's frames; it may have been drawn on the straightened NIfTI of the volume."""
    if not is_sheared(volume):
        return read_labels_on_grid(path, volume)
    try:
        return read_labels_on_grid(path, volume)
    except GeometryError:
        straight, plan = _straightened(volume)
        return plan.back(read_labels_on_grid(path, straight))


def _renumbered_checks(segments: Sequence[Segment]) -> list[Check]:
    """Segments count from 1 without gaps (PS3.3 C.8.20.2), labels need not: the way back gives segment numbers."""
    renumbered = {s.label: number for number, s in enumerate(segments, start=1) if s.label != number}
    if not renumbered:
        return []
    pairs = ", ".join(f"label {label} is segment {number}" for label, number in renumbered.items())
    return [Check("segment_numbers", "warning", list(renumbered), None, f"segments count from 1 without gaps: {pairs}")]


def _unnamed_segment(label: int) -> Segment:
    """A segment of which nothing is known but that it is tissue."""
    tissue = Code(value="85756007", scheme="SCT", meaning="Tissue")
    return Segment(label=label, name=f"Label {label}", category=tissue, type=tissue)


def _require_ending(output: Path, endings: Sequence[str], what: str) -> None:
    if not output.name.lower().endswith(tuple(endings)):
        raise UsageError(f"'{output.name}' has another ending than {', '.join(endings)}, which {what} can become")
