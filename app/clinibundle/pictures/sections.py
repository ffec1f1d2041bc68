"""Sections of a microscope, one or a stack, of any size: read window by window, never as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from clinibundle.checks import Check
from clinibundle.errors import DAMAGE, MissingExtra, UnreadableInput, UnsuitableInput
from clinibundle.pictures.read import RASTER_SUFFIXES, TIFF_SUFFIXES, case_name, read_picture
from clinibundle.pictures.tiff_pages import TiffPage, page_spacing_mm

ZARR_SUFFIXES = (".zarr",)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_AXIS_UNITS_MM = {"nanometer": 1e-6, "micrometer": 1e-3, "millimeter": 1.0, "angstrom": 1e-7}
_TIFF_DAMAGE: tuple[type[Exception], ...] = (*DAMAGE, tifffile.TiffFileError)
Family = Literal["png", "tif", "ome.zarr"]


class Section(Protocol):
    """A grey picture that is read window by window.

    Attributes:
        shape: rows, columns.
        dtype: of its values.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Values (rows, columns) of a window that lies inside the section."""
        ...


@dataclass(frozen=True)
class Stack:
    """Sections of one file, all of one size and type.

    Attributes:
        case: name for files and reports.
        sections: in the order of the file.
        family: that results are written in.
        is_stack: whether the file has an axis of sections, be it of one.
        spacing_mm: distance of neighbouring pixels along (x, y); None if unknown.
        checks: what was looked at.
    """

    case: str
    sections: Sequence[Section]
    family: Family
    is_stack: bool
    spacing_mm: tuple[float, float] | None
    checks: tuple[Check, ...]


class _ArraySection:
    """A section in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values
        self.shape = (int(values.shape[0]), int(values.shape[1]))
        self.dtype = values.dtype

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        return self._values[rows, columns]


class _GreyTiffSection:
    """A TIFF page as grey values, bright is bright."""

    def __init__(self, page: TiffPage, inverted: bool) -> None:
        self._page, self._inverted = page, inverted
        self.shape = page.shape
        self.dtype = np.dtype(np.float32) if page.samples == 3 else page.dtype

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        values = self._page.read(rows, columns)
        if self._page.samples == 3:
            values = values.astype(np.float32) @ _LUMA
        if self._inverted:
            top = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 0
            values = (top - values).astype(values.dtype)
        return values


class _ZarrSection:
    """The last two axes of a zarr array, all others at fixed places."""

    def __init__(self, array: Any, place: tuple[int, ...]) -> None:
        self._array, self._place = array, place
        self.shape = (int(array.shape[-2]), int(array.shape[-1]))
        self.dtype = np.dtype(array.dtype)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        try:
            return np.asarray(self._array[(*self._place, rows, columns)])
        except DAMAGE as error:
            raise UnreadableInput("a chunk of the OME-Zarr picture is damaged") from error


def case_of(path: Path) -> str:
    """The file's or folder's name without its endings."""
    name = path.name
    for suffix in (".ome.zarr", ".zarr", ".ome.tiff", ".ome.tif"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return case_name(path)


def section_files(path: Path) -> list[Path]:
    """The path itself, or the files of sections in a folder that is no OME-Zarr picture.

    Raises:
        UnreadableInput: if there is nothing of the kind.
    """
    if path.name.lower().endswith(ZARR_SUFFIXES) or (path.is_file() and _holds_sections(path)):
        return [path]
    found = sorted(p for p in path.iterdir() if _holds_sections(p)) if path.is_dir() else []
    if not found:
        raise UnreadableInput(
            f"there are no sections at '{path}'; expected TIFF, OME-Zarr or PNG, or a folder of such files"
        )
    return found


def _holds_sections(path: Path) -> bool:
    suffixes = (*TIFF_SUFFIXES, *RASTER_SUFFIXES) if path.is_file() else ZARR_SUFFIXES
    return path.name.lower().endswith(suffixes) and not path.name.startswith(".")


@contextmanager
def open_sections(path: Path) -> Iterator[Stack]:
    """Opens a TIFF, an OME-Zarr folder, or a small picture of another kind.

    Raises:
        UnreadableInput: if it is damaged, or nothing of the kind.
        UnsuitableInput: if it holds what is no grey section.
        MissingExtra: for OME-Zarr without the package zarr.
    """
    name = path.name.lower()
    if name.endswith(ZARR_SUFFIXES):
        yield _open_zarr(path)
    elif name.endswith(TIFF_SUFFIXES):
        try:
            tiff = tifffile.TiffFile(path)
        except _TIFF_DAMAGE as error:
            raise UnreadableInput(
                f"'{path.name}' cannot be read as a TIFF picture: it is damaged, truncated or something else"
            ) from error
        with tiff:
            yield _tiff_stack(path, tiff)
    else:
        volume = read_picture(path, 2, 1)
        stack = Stack(case_of(path), [_ArraySection(volume.array.T)], "png", False, None, volume.checks)
        yield stack


def _tiff_stack(path: Path, tiff: tifffile.TiffFile) -> Stack:
    try:
        series = tiff.series[0]
        pages = [page.aspage() for page in series.pages]
        others = len(tiff.series) - 1
        spacing_mm = page_spacing_mm(tiff, pages[0])
        axes = series.axes
    except _TIFF_DAMAGE as error:
        raise UnreadableInput(f"'{path.name}' cannot be read as a TIFF picture: it is damaged or truncated") from error
    inverted = pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
    sections = [_GreyTiffSection(TiffPage(path, page), inverted) for page in pages]
    checks = [_spacing_check(spacing_mm)]
    if inverted:
        text = "grey values were turned once, so that white is bright"
        checks.append(Check("photometric_interpretation", "fixed", "MINISWHITE", "MINISBLACK", text))
    if sections[0].dtype != TiffPage(path, pages[0]).dtype:
        checks.append(Check("colour", "warning", "RGB", "grey", "a colour picture was given; its brightness was taken"))
    if others:
        text = "the file holds further pictures, such as an overview; only the first was looked at"
        checks.append(Check("series", "warning", others + 1, 1, text))
    is_stack = len(pages) > 1 or len(axes.replace("S", "")) > 2
    return Stack(case_of(path), sections, "tif", is_stack, spacing_mm, tuple(checks))


def _open_zarr(path: Path) -> Stack:
    try:
        import zarr
    except ImportError as error:
        raise MissingExtra("OME-Zarr", "zarr", "zarr") from error
    try:
        group = zarr.open_group(str(path), mode="r")
        attributes = dict(group.attrs)
        described = attributes.get("ome", attributes)["multiscales"][0]
        largest = described["datasets"][0]
        array: Any = group[largest["path"]]
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in described["axes"]]
        names = [axis["name"] for axis in axes]
    except DAMAGE as error:
        raise UnreadableInput(
            f"'{path.name}' is no OME-Zarr picture: expected a group with multiscales, axes and the array they name"
        ) from error
    if names[-2:] != ["y", "x"] or len(names) != array.ndim:
        raise UnsuitableInput(f"'{path.name}' has the axes {', '.join(names)}; expected y and x as the last two")
    stacked = [axis for axis in range(array.ndim - 2) if array.shape[axis] > 1]
    if len(stacked) > 1 or any(names[axis] == "c" for axis in stacked):
        shape = " × ".join(map(str, array.shape))
        raise UnsuitableInput(
            f"'{path.name}' is {shape} ({', '.join(names)}); expected one channel, and one stack axis"
        )
    places = [[0] * (array.ndim - 2) for _ in range(array.shape[stacked[0]] if stacked else 1)]
    for number, place in enumerate(places):
        for axis in stacked:
            place[axis] = number
    spacing_mm = _zarr_spacing_mm(largest, axes)
    sections = [_ZarrSection(array, tuple(place)) for place in places]
    return Stack(case_of(path), sections, "ome.zarr", bool(stacked), spacing_mm, (_spacing_check(spacing_mm),))


def _zarr_spacing_mm(dataset: dict[str, Any], axes: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    steps = dataset.get("coordinateTransformations", [])
    scale = next((step["scale"] for step in steps if step.get("type") == "scale"), None)
    units = [_AXIS_UNITS_MM.get(str(axis.get("unit"))) for axis in axes[-2:]]
    if scale is None or units[0] is None or units[1] is None:
        return None
    return float(scale[-1]) * units[1], float(scale[-2]) * units[0]


def _spacing_check(spacing_mm: tuple[float, float] | None) -> Check:
    if spacing_mm is None:
        text = "the file does not say how large a pixel is, so areas are known in pixels only"
        return Check("pixel_spacing", "warning", None, None, text)
    return Check("pixel_spacing", "passed", list(spacing_mm), None, "pixel size in mm as the file states it")
