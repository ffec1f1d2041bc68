"""Outlines as a Grayscale Softcopy Presentation State (PS3.3 A.33.1): viewers draw them over the source; read back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from clinibundle import __version__
from clinibundle.dicom.codes import Algorithm, Segment
from clinibundle.dicom.contours import fill_even_odd
from clinibundle.dicom.derived import completed, series_number
from clinibundle.dicom.drawn import (
    COLOURS,
    RESEARCH_ONLY,
    Colour,
    colour_of,
    maker_of,
    refuse_undrawable,
    refuse_unnamed,
)
from clinibundle.dicom.grey_scale import copy_grey_scale, refuse_different_grey_scales, without_grey_scale
from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.dicom.trace import Loop, outlines_of
from clinibundle.dicom.values import numbers, put
from clinibundle.errors import OutputError

_KIND = "presentation state"
_UTF_8 = "ISO_IR 192"
# Those of SEG are 9000 and up, of SR 10000, of key images 11000, of RTSTRUCT 12000.
_SERIES_NUMBER_OFFSET = 13000
# In this object the first pixel reaches from 0 to 1 (PS3.3 C.10.5.1.2), elsewhere its centre is 0.
_TO_PIXEL_UNITS = 0.5
# Two numbers of 4 bytes each in at most 65534.
_MOST_POINTS_WITH_VR = 8191
_NOTICE_LAYER = "NOTICE"
# Left, top, right, bottom, in shares of what is displayed.
_NOTICE_BOX = (0.02, 0.94, 0.98, 0.99)
_NOTICE_COLOUR = (255, 255, 255)


def refuse_unshowable(grid: SourceGrid) -> None:
    """Raises OutputError unless the sources are single pictures that one presentation state can show."""
    refuse_undrawable(grid, _KIND)
    refuse_different_grey_scales(grid.sources)


def write_gsps(
    path: Path,
    label_map: NDArray[np.integer[Any]],
    grid: SourceGrid,
    segments: Sequence[Segment],
    algorithm: Algorithm | None,
    colours: Sequence[Colour] = COLOURS,
) -> None:
    """Writes a presentation state, reads it back, fills its lines, and compares every pixel with the label map.

    It shows the pictures with an outline, all of them if there is none, with the grey scale that they have by
    themselves, the outlines as closed lines with their segment's name, and that they are not for diagnostic use.

    Args:
        path: of the file to write.
        label_map: (frames, rows, columns) in the order of the grid's sources.
        grid: whose sources are shown: films or slices of a series.
        segments: meaning of each label above 0.
        algorithm: that made the outlines; None for outlines that a person drew.
        colours: of the outlines.

    Raises:
        OutputError: if a label has no segment, the sources cannot be shown together or referred to, or what is read
            back differs from what was meant.
    """
    refuse_unshowable(grid)
    refuse_unnamed(label_map, segments)
    try:
        with quietly():
            _state(label_map, grid, segments, algorithm, colours).save_as(path)
    except DAMAGE_TO_DICOM as error:
        # The error itself may quote the header, and so the patient.
        raise OutputError(
            f"no {_KIND} can be made for this source ({type(error).__name__}): its header is damaged, it is no grey "
            "picture, or an outline has more than 65535 points; the DICOM SEG holds the outline"
        ) from error
    compare_with_written(path, label_map, grid, segments)


def compare_with_written(
    path: Path, label_map: NDArray[np.integer[Any]], grid: SourceGrid, segments: Sequence[Segment]
) -> None:
    """Reads a presentation state back and raises OutputError unless its lines contain exactly what was meant.

    Args:
        path: of the presentation state.
        label_map: (frames, rows, columns).
        grid: that it lies on.
        segments: meaning of each label above 0.
    """
    try:
        with quietly():
            problem = next(_differences(pydicom.dcmread(path), label_map, grid, segments), None)
    except DAMAGE_TO_DICOM as error:
        raise OutputError(
            f"the {_KIND} cannot be read back ({type(error).__name__}); nothing was kept, please report this"
        ) from error
    if problem:
        raise OutputError(
            f"the {_KIND} read back differs from the mask: {problem}; nothing was kept, please report this"
        )


def _differences(
    state: Dataset, label_map: NDArray[np.integer[Any]], grid: SourceGrid, segments: Sequence[Segment]
) -> Iterator[str]:
    found: defaultdict[tuple[str, str], list[Loop]] = defaultdict(list)
    for annotation in state.GraphicAnnotationSequence:
        for graphic in annotation.get("GraphicObjectSequence") or ():
            points = np.reshape(graphic.GraphicData, (-1, 2)) - _TO_PIXEL_UNITS
            if graphic.GraphicType != "POLYLINE" or (points[0] != points[-1]).any():
                yield "a line is not closed"
            for image in annotation.ReferencedImageSequence:
                found[image.ReferencedSOPInstanceUID, annotation.GraphicLayer].append(points[:-1])
    for plane, source in zip(label_map, grid.sources, strict=True):
        for segment in segments:
            loops = found.pop((source.SOPInstanceUID, _layer_name(segment)), [])
            if not np.array_equal(fill_even_odd(loops, plane.shape), plane == segment.label):
                yield "its lines contain other pixels"
    if found:
        yield "it has lines on other pictures"


def _state(
    label_map: NDArray[np.integer[Any]],
    grid: SourceGrid,
    segments: Sequence[Segment],
    algorithm: Algorithm | None,
    colours: Sequence[Colour],
) -> Dataset:
    filled = np.flatnonzero(label_map.any(axis=(1, 2))).tolist()
    places = filled or list(range(len(grid.sources)))
    shown = [grid.sources[at] for at in places]
    images = [without_grey_scale(completed(source)) for source in shown]
    layers = {segment.label: _layer(order, segment, colours) for order, segment in enumerate(segments, start=1)}
    notice = GraphicLayer(_NOTICE_LAYER, len(segments) + 1, RESEARCH_ONLY, CIELabColor.from_rgb(*_NOTICE_COLOUR))
    maker = maker_of(algorithm)
    words = f"{RESEARCH_ONLY}: {maker}" + ("" if filled else ", no outline")
    annotations = [
        *_annotations(label_map[places], images, segments, layers),
        GraphicAnnotation(images, notice, text_objects=[TextObject(words, "DISPLAY", bounding_box=_NOTICE_BOX)]),
    ]
    names = ", ".join(segment.name for segment in segments)
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        series_instance_uid=generate_uid(),
        series_number=series_number(grid.sources[0], _SERIES_NUMBER_OFFSET),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="clinibundle",
        manufacturer_model_name="clinibundle",
        software_versions=__version__ if algorithm is None else algorithm.software_version,
        device_serial_number="none" if algorithm is None else algorithm.weights_sha256[:16],
        content_label="OUTLINES",
        content_description=f"{names}, {maker}"[:64],
        graphic_layers=[*layers.values(), notice],
        graphic_annotations=annotations,
        # The names of segments may be in another alphabet than the source.
        specific_character_set=_UTF_8,
        transfer_syntax_uid=_transfer_syntax(annotations),
        series_description=f"{maker} outlines, research only"[:64],
    )
    # Type 2C in the General Series module: there, and not known.
    state.Laterality = ""
    copy_grey_scale(state, shown)
    state.DisplayedAreaSelectionSequence = [_displayed_area(shown[0])]
    return state


def _transfer_syntax(annotations: Sequence[Dataset]) -> UID:
    """With explicit VR, without which DCMTK reads no tables, unless a line is too long for an element that has one."""
    graphics = [graphic for one in annotations for graphic in one.get("GraphicObjectSequence") or ()]
    longest = max((graphic.NumberOfGraphicPoints for graphic in graphics), default=0)
    return ImplicitVRLittleEndian if longest > _MOST_POINTS_WITH_VR else ExplicitVRLittleEndian


def _layer_name(segment: Segment) -> str:
    return f"LABEL_{segment.label}"


def _layer(order: int, segment: Segment, colours: Sequence[Colour]) -> GraphicLayer:
    colour = CIELabColor.from_rgb(*colour_of(segment.label, colours))
    return GraphicLayer(_layer_name(segment), order, segment.name[:64], colour)


def _annotations(
    label_map: NDArray[np.integer[Any]],
    images: Sequence[Dataset],
    segments: Sequence[Segment],
    layers: dict[int, GraphicLayer],
) -> Iterator[GraphicAnnotation]:
    """The outlines of each segment on each picture (pictures, rows, columns), and its name above the longest."""
    for plane, image in zip(label_map, images, strict=True):
        for segment in segments:
            loops = [loop + _TO_PIXEL_UNITS for loop in outlines_of(plane == segment.label)]
            if not loops:
                continue
            longest = max(loops, key=len)
            top = longest[longest[:, 1].argmin()]
            name = TextObject(segment.name, "PIXEL", anchor_point=tuple(top.tolist()), anchor_point_visible=False)
            lines = [GraphicObject("POLYLINE", np.concatenate([loop, loop[:1]]), "PIXEL") for loop in loops]
            yield GraphicAnnotation([image], layers[segment.label], graphic_objects=lines, text_objects=[name])


def _displayed_area(source: Dataset) -> Dataset:
    """The whole picture, fitted to the screen, in its own proportions (PS3.3 C.10.4)."""
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [source.Columns, source.Rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = numbers(source, keyword, 2)
        if spacing and min(spacing) > 0:
            put(area, "PresentationPixelSpacing", source[keyword].value)
            return area
    ratio = numbers(source, "PixelAspectRatio", 2)
    area.PresentationPixelAspectRatio = [int(part) for part in ratio] if ratio and min(ratio) >= 1 else [1, 1]
    return area
