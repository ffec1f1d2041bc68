"""The key pictures of a segmentation: the film, or the telling slices of a volume, with the outline drawn in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.report.figures import Colour, overlay_png, plain_png
from clinibundle.report.marks import diameters_by_slice, diameters_svg, marks_svg, measured_in_words
from clinibundle.report.page import Figure
from clinibundle.report.views import slice_view_of
from clinibundle.volume import Volume

_SLICES_SHOWN = 3
# Of the picture: small pictures beside each other must be readable.
_TEXT_SHARE = 1 / 26


@dataclass(frozen=True)
class KeyPicture:
    """A telling picture of a case, with and without the outline.

    Attributes:
        slice_number: from 0; None for a flat picture.
        outlined, plain: PNG.
        caption: what is to be seen.
        marks: SVG that a report lays over it: measured diameters, and the patient's sides.
        measured: the same diameters in words.
    """

    slice_number: int | None
    outlined: bytes
    plain: bytes
    caption: str
    marks: str = ""
    measured: str = ""

    @property
    def figure(self) -> Figure:
        """For the report."""
        caption = f"{self.caption}; {self.measured}" if self.measured else self.caption
        return Figure(caption, self.outlined, self.plain, self.marks)


def key_pictures(
    volume: Volume,
    label_map: NDArray[np.integer[Any]],
    colours: Sequence[Colour],
    window: tuple[float, float] | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> list[KeyPicture]:
    """The film itself, or the slices of a volume that tell most.

    Args:
        volume: flat, or (x, y, z).
        label_map: on its grid.
        colours: of the labels.
        window: values shown black and white; by percentiles if not given.
        findings: as in measurements.json; the slices in which diameters were measured tell most.
    """
    if label_map.ndim == 2:
        picture = np.swapaxes(volume.array, 0, 1)
        outlined = overlay_png(picture, label_map.T, colours, limits=window)
        plain = plain_png(picture, limits=window)
        return [KeyPicture(None, outlined, plain, "the picture with the outline that was found")]
    view = slice_view_of(volume.spatial_shape, volume.affine_lps, volume.spacing_mm)
    diameters = diameters_by_slice(findings)
    found = []
    for k in key_slices(label_map, diameters):
        picture, labels = view.picture(volume.array[:, :, k]), view.picture(label_map[:, :, k])
        here = diameters.get(k, [])
        found.append(
            KeyPicture(
                slice_number=k,
                outlined=overlay_png(picture, labels, colours, limits=window, step_mm=view.step_mm),
                plain=plain_png(picture, limits=window, step_mm=view.step_mm),
                caption=f"slice {k + 1} of {label_map.shape[2]} with the outline that was found",
                marks=marks_svg(view, diameters_svg(view, here, _TEXT_SHARE)),
                measured=measured_in_words(here),
            )
        )
    return found


def key_slices(
    label_map: NDArray[np.integer[Any]], measured: Iterable[int] = (), count: int = _SLICES_SHOWN
) -> list[int]:
    """The slices (third axis) that tell most: those measured in, then those with the largest outline.

    The latter are well apart from the others. The middle slice if nothing is outlined.

    Args:
        label_map: (x, y, z).
        measured: slices in which diameters were measured, the most important first.
        count: how many are wanted at most.
    """
    areas = np.array([np.count_nonzero(label_map[:, :, k]) for k in range(label_map.shape[2])], np.int64)
    found = list(measured)[:count]
    apart = max(1, label_map.shape[2] // 20)
    for k in found:
        areas[max(0, k - apart) : k + apart + 1] = 0
    while areas.any() and len(found) < count:
        best = int(areas.argmax())
        found.append(best)
        areas[max(0, best - apart) : best + apart + 1] = 0
    return found or [label_map.shape[2] // 2]
