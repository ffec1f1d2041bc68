"""A stack that passed the gate, from files to a Volume: decoded, rescaled slice by slice, every oddity stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from clinibundle.checks import Check
from clinibundle.dicom.frames import Slice
from clinibundle.dicom.gate import Placed
from clinibundle.dicom.header import quietly
from clinibundle.dicom.pixels import check_size, is_plain, read_whole, stored_frame
from clinibundle.dicom.stacks import plane_name
from clinibundle.dicom.values import number, text, whole
from clinibundle.errors import GeometryError, UnreadableInput, UnsuitableInput
from clinibundle.files import short_hash
from clinibundle.volume import Source, Volume

MAX_VOXELS = 2**31
"""What declares more is damaged or made to exhaust memory: a long whole-body CT has a tenth."""
AIR_HU = -1024
"""Voxels outside the scanned field become this where padding is filled."""
_AIR_BELOW_HU = -500
# Rescale types of Hounsfield units, plain and of multi-energy CT, and of units that are not told (PS3.3 C.11.1.1.2).
_HOUNSFIELD_TYPES, _UNSPECIFIED = ("HU", "HU_MOD"), "US"
_INT16 = np.iinfo(np.int16)
# More threads do not help: reading and rescaling are bound by memory.
_THREADS = 2


@dataclass(frozen=True)
class _Rescale:
    """Stored value to meaning (PS3.3 C.11.1): slope and intercept of each slice, and whether whole numbers suffice."""

    slopes: NDArray[np.float64]
    intercepts: NDArray[np.float64]

    @property
    def keeps_whole_numbers(self) -> bool:
        return bool((self.slopes == 1).all() and (self.intercepts == np.round(self.intercepts)).all())


def read_volume(placed: Placed, fill_padding: bool = False, advance: Callable[[], None] | None = None) -> Volume:
    """Decodes the slices of a stack into one volume.

    Args:
        placed: order and affine of the slices.
        fill_padding: voxels that the header calls padding become air where values are Hounsfield units, else 0 or the
            smallest other value of their slice if that is less; otherwise they keep the value that is stored.
        advance: called once for each slice.

    Returns:
        A volume (x, y, z) of int16 where the rescaled values are whole numbers that fit, else of float32.

    Raises:
        UnsuitableInput: if the slices are not grey.
        UnreadableInput: if pixels are absent, truncated, damaged or coded in a way no installed codec reads.
        GeometryError: if two different pictures lie at one position.
    """
    slices = placed.slices
    rows, columns = _check_form(slices)
    rescale = _rescale_of(slices)
    units, units_check = _meaning(slices)
    values = np.empty((len(slices), rows, columns), np.int16 if rescale.keeps_whole_numbers else np.float32)
    air = units == "hounsfield"
    try:
        padding = _fill(values, slices, rescale, fill_padding, air, advance or (lambda: None))
    except OverflowError:
        values = np.empty((len(slices), rows, columns), np.float32)
        padding = _fill(values, slices, rescale, fill_padding, air, advance or (lambda: None))
    checks = [*placed.checks, *_repeated_checks(placed), units_check]
    checks += _padding_checks(padding, values.size, fill_padding)
    if units == "hounsfield":
        air = _air_check(values)
        checks.append(air)
        if air.status == "warning" and units_check.value == _UNSPECIFIED:
            # Neither the header nor the values speak for it.
            units = "grey"
    checks += _header_checks(slices)
    headers = {id(s.instance): s.instance for s in slices}
    return Volume(
        array=values.T,
        affine_lps=placed.affine_lps,
        spacing_mm=placed.spacing_mm,
        meaning=units,
        source=Source(
            kind="dicom",
            case=short_hash(text(slices[0].header, "SeriesInstanceUID")),
            family="nii.gz",
            datasets=tuple(instance.header for instance in headers.values()),
            paths=tuple(instance.path for instance in headers.values()),
            frames=tuple(s.frame for s in slices) if any(s.is_framed for s in slices) else (),
        ),
        checks=tuple(checks),
        facts=_facts(placed),
    )


def _check_form(slices: Sequence[Slice]) -> tuple[int, int]:
    first = slices[0]
    rows, columns = whole(first.header, "Rows"), whole(first.header, "Columns")
    for one in slices:
        check_size(one.header, one.name)
        photometric = text(one.header, "PhotometricInterpretation")
        if photometric not in ("MONOCHROME1", "MONOCHROME2") or whole(one.header, "SamplesPerPixel", 1) != 1:
            raise UnsuitableInput(f"'{one.name}' is a {photometric or 'colourless'} picture; expected grey")
        if (whole(one.header, "Rows"), whole(one.header, "Columns")) != (rows, columns):
            raise UnsuitableInput(f"'{one.name}' has another size than '{first.name}'; expected one size in a volume")
    if rows * columns * len(slices) > MAX_VOXELS:
        raise UnreadableInput(
            f"the series declares {columns} × {rows} × {len(slices)} voxels, more than the limit of {MAX_VOXELS}"
        )
    return rows, columns


def _rescale_of(slices: Sequence[Slice]) -> _Rescale:
    slopes = [number(s.header, "RescaleSlope") for s in slices]
    intercepts = [number(s.header, "RescaleIntercept") for s in slices]
    flat = [s for s, slope in zip(slices, slopes, strict=True) if slope == 0]
    if flat:
        raise UnreadableInput(f"'{flat[0].name}' has a RescaleSlope of 0: its header is damaged; send it again")
    return _Rescale(
        np.array([1.0 if slope is None else slope for slope in slopes]),
        np.array([0.0 if intercept is None else intercept for intercept in intercepts]),
    )


def _meaning(slices: Sequence[Slice]) -> tuple[Any, Check]:
    """Whether the values are Hounsfield units (PS3.3 C.8.2.1.1.8 and C.11.1.1.2)."""
    name = "units"
    modality = text(slices[0].header, "Modality").upper()
    types = {text(s.header, "RescaleType").upper() for s in slices}
    rescaled = [number(s.header, "RescaleIntercept") is not None for s in slices]
    if modality != "CT":
        return "grey", Check(name, "passed", modality or None, None, "values in the scanner's own units")
    if not all(rescaled):
        detail = "no RescaleIntercept is given, so the values are not known to be Hounsfield units"
        return "grey", Check(name, "warning", None, "HU", detail)
    if types - {"", *_HOUNSFIELD_TYPES, _UNSPECIFIED}:
        detail = f"the values are in {', '.join(sorted(types - {''}))}, not in Hounsfield units"
        return "grey", Check(name, "warning", sorted(types), "HU", detail)
    if _UNSPECIFIED in types:
        detail = (
            "the scanner says 'unspecified' of its units; taken for Hounsfield units, as CT values with a rescale are"
        )
        return "hounsfield", Check(name, "warning", _UNSPECIFIED, "HU", detail)
    pairs = {(number(s.header, "RescaleSlope"), number(s.header, "RescaleIntercept")) for s in slices}
    if len(pairs) > 1:
        detail = f"Hounsfield units; {len(pairs)} different rescales within the series, each slice by its own"
        return "hounsfield", Check(name, "fixed", len(pairs), 1, detail)
    return "hounsfield", Check(name, "passed", "HU", "HU", "values are Hounsfield units")


def _fill(
    values: NDArray[Any],
    slices: Sequence[Slice],
    rescale: _Rescale,
    fill_padding: bool,
    air: bool,
    advance: Callable[[], None],
) -> int:
    """Decodes and rescales every slice into its place; returns how many voxels are padding.

    Raises:
        OverflowError: if a value does not fit into int16.
    """
    read_already = _multi_frame_files(slices)

    def one(at: int) -> int:
        room = values[at] if values.dtype == np.int16 else None
        instance = slices[at].instance
        stored = stored_frame(instance, slices[at].frame, room, read_already.get(instance.path))
        if stored.shape != values.shape[1:]:
            raise UnreadableInput(f"'{slices[at].name}' decodes to {stored.shape}, expected {values.shape[1:]}")
        padding = padding_mask(slices[at], stored)
        _rescaled_into(values[at], stored, float(rescale.slopes[at]), float(rescale.intercepts[at]))
        if values.dtype == np.float32 and not np.isfinite(values[at]).all():
            raise UnreadableInput(f"'{slices[at].name}' has values beyond all measure: it is damaged; send it again")
        advance()
        if padding is None:
            return 0
        if fill_padding:
            values[at][padding] = AIR_HU if air else values[at][~padding].min(initial=0)
        return int(np.count_nonzero(padding))

    # Quiet around all threads: what each of them sets and puts back would get mixed up.
    with quietly(), ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(one, range(len(slices))))


def _multi_frame_files(slices: Sequence[Slice]) -> dict[Path, Dataset]:
    """The compressed files that hold several of the slices, each read once rather than for each of its frames."""
    several = {s.instance.path: s.instance for s in slices if s.is_one_of_several}
    return {path: read_whole(instance) for path, instance in several.items() if not is_plain(instance)}


def _rescaled_into(target: NDArray[Any], stored: NDArray[Any], slope: float, intercept: float) -> None:
    if target.dtype != np.int16:
        with np.errstate(over="ignore", invalid="ignore"):
            np.add(stored * slope, intercept, out=target, casting="unsafe")
        return
    if stored.dtype.kind == "f":
        raise OverflowError
    low, high = int(stored.min()) + int(intercept), int(stored.max()) + int(intercept)
    if low < _INT16.min or high > _INT16.max:
        raise OverflowError
    # Both ends fit, so wrapping round on the way does no harm.
    wrapped = stored.view(np.int16) if stored.dtype.itemsize == target.itemsize else stored.astype(np.int16)
    np.add(wrapped, np.int64(intercept).astype(np.int16), out=target)


def padding_mask(one: Slice, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where stored values lie in the padding range (PS3.3 C.7.5.1.1.2); None if nowhere or nothing is said."""
    value = number(one.header, "PixelPaddingValue")
    if value is None:
        return None
    limit = number(one.header, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    if stored.dtype.kind != "f":
        # Written as a signed number though the pixels are unsigned, or the other way round.
        limits, turn = np.iinfo(stored.dtype), 1 << 8 * stored.dtype.itemsize
        if high < limits.min:
            low, high = low + turn, high + turn
        elif low > limits.max:
            low, high = low - turn, high - turn
    mask = stored == low if low == high else (stored >= low) & (stored <= high)
    return np.asarray(mask) if mask.any() else None


def _padding_checks(padding: int, voxels: int, filled: bool) -> list[Check]:
    if not padding:
        return []
    share = round(padding / voxels, 4)
    what = "taken as air" if filled else "kept as they are"
    detail = f"{share:.1%} of the voxels lie outside the scanned field (pixel padding), {what}"
    return [Check("padding", "fixed" if filled else "passed", share, None, detail)]


def _air_check(values: NDArray[Any]) -> Check:
    low, high = int(values[:, ::4, ::4].min()), int(values[:, ::4, ::4].max())
    if low > _AIR_BELOW_HU or high < _AIR_BELOW_HU:
        detail = f"values from {low} to {high} HU: no air or nothing but air; are these really Hounsfield units?"
        return Check("hu_range", "warning", [low, high], None, detail)
    return Check("hu_range", "passed", [low, high], None, f"values from {low} to {high} HU")


def _repeated_checks(placed: Placed) -> list[Check]:
    """Slices at one position are harmless if their pictures are equal; otherwise nobody knows which one is meant."""
    for at, extra in placed.repeated:
        first = placed.slices[at]
        rescale = _rescale_of([first, extra])
        one, other = (
            stored_frame(s.instance, s.frame) * slope + intercept
            for s, slope, intercept in zip((first, extra), rescale.slopes, rescale.intercepts, strict=True)
        )
        if not np.array_equal(one, other):
            raise GeometryError(
                f"'{first.name}' and '{extra.name}' show different pictures at one position; expected one slice for "
                "each position, so find out which is meant and leave the other out"
            )
    if not placed.repeated:
        return []
    detail = f"{len(placed.repeated)} slices were there twice with equal pixels; one of each was used"
    return [Check("repeated_slices", "fixed", len(placed.repeated), 0, detail)]


def _header_checks(slices: Sequence[Slice]) -> list[Check]:
    checks = []
    lossy = [s for s in slices if text(s.header, "LossyImageCompression") == "01"]
    if lossy:
        detail = f"{len(lossy)} slices were compressed with loss; fine structure may be missing"
        checks.append(
            Check(
                "lossy_compression",
                "warning",
                text(lossy[0].header, "LossyImageCompressionRatio") or None,
                None,
                detail,
            )
        )
    if any(text(s.header, "BurnedInAnnotation").upper() == "YES" for s in slices):
        detail = "the pictures themselves may show who the patient is"
        checks.append(Check("burned_in_annotation", "warning", "YES", "NO", detail))
    if any(text(s.header, "PhotometricInterpretation") == "MONOCHROME1" for s in slices):
        detail = "meant to be shown with dark for large values (MONOCHROME1); the values themselves were used"
        checks.append(Check("photometric_interpretation", "warning", "MONOCHROME1", "MONOCHROME2", detail))
    derived = [s for s in slices if text(s.header, "ImageType").upper().startswith("DERIVED")]
    if derived:
        checks.append(
            Check("image_type", "warning", "DERIVED", "ORIGINAL", "computed from other pictures, not scanned")
        )
    return checks


def _facts(placed: Placed) -> dict[str, str]:
    header = placed.slices[0].header
    column_mm, row_mm, slice_mm = placed.spacing_mm
    facts = {
        "Modality": text(header, "Modality"),
        "Body part": text(header, "BodyPartExamined"),
        "Plane": plane_name(header),
        "Voxels": f"{whole(header, 'Columns')} × {whole(header, 'Rows')} × {len(placed.slices)}",
        "Voxel size": f"{column_mm:.4g} × {row_mm:.4g} × {slice_mm:.4g} mm",
        "Kernel": text(header, "ConvolutionKernel"),
        "Manufacturer": text(header, "Manufacturer"),
    }
    return {key: value for key, value in facts.items() if value}
