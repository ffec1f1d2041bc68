"""A single-frame radiograph from DICOM to a Volume: decoded, one polarity, spacing with its trustworthiness stated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.config import IGNORE
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import UID

from clinibundle.checks import Check
from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly, read_header
from clinibundle.dicom.index import Instance
from clinibundle.dicom.pixels import check_size, decode, read_whole
from clinibundle.dicom.values import text, whole
from clinibundle.errors import UnreadableInput, UnsuitableInput
from clinibundle.files import short_hash
from clinibundle.volume import Source, Volume

# Film pixels are 0.05 to 0.5 mm, of pictures made smaller for teaching up to some mm.
PLAUSIBLE_SPACING_MM = (0.01, 5.0)
# A picture this flat or small holds nothing to outline.
MIN_SIDE_PIXELS = 64


def read_radiograph(instance: Instance) -> Volume:
    """Decodes a film into grey values where dark is what lets X-rays through (MONOCHROME2).

    The modality LUT or rescale is applied; the VOI window is not, as it belongs to a display and the grey values are
    scaled by the bundle.

    Raises:
        UnsuitableInput: if it is no grey single-frame picture, or too small.
        UnreadableInput: if its pixels are absent, truncated, damaged or coded in a way no installed codec reads.
    """
    checks = [_check_form(instance.header, instance.name)]
    dataset = read_whole(instance)
    header = read_header(instance.path)
    stored = decode(dataset, instance.name)
    padding = _padding_mask(header, stored)
    values = _with_meaning(stored, dataset, instance.name)
    values, polarity = _to_monochrome2(values, _photometric(header), padding)
    checks.append(polarity)
    if padding is not None:
        values[padding] = values[~padding].min()
        share = float(padding.mean())
        detail = f"{share:.1%} of the pixels are padding, taken as background"
        checks.append(Check("padding", "fixed", round(share, 4), None, detail))
    checks.append(_check_contrast(values, instance.name))
    if str(header.get("LossyImageCompression", "")) == "01":
        ratio = header.get("LossyImageCompressionRatio")
        detail = "the picture was compressed with loss; fine structure may be missing"
        checks.append(Check("lossy_compression", "warning", str(ratio) if ratio else None, None, detail))
    if str(header.get("BurnedInAnnotation", "")).upper() == "YES":
        checks.append(
            Check("burned_in_annotation", "warning", "YES", "NO", "the picture itself may show who the patient is")
        )
    spacing, check = film_spacing(header)
    checks.append(check)
    return Volume(
        array=values.T,
        affine_lps=None,
        spacing_mm=None if spacing is None else (spacing.column_mm, spacing.row_mm),
        meaning="grey",
        source=Source("dicom", short_hash(str(header.SOPInstanceUID)), "png", (header,), (instance.path,)),
        checks=tuple(checks),
        facts=_facts(header),
    )


@dataclass(frozen=True)
class FilmSpacing:
    """Distance of neighbouring rows (down) and columns (across), in mm."""

    row_mm: float
    column_mm: float


def film_spacing(header: Dataset) -> tuple[FilmSpacing | None, Check]:
    """Pixel spacing of a film and how far it can be trusted (PS3.3 C.7.6.3.1.1 and 10.7.1.3).

    PixelSpacing counts as calibrated if it says so or differs from ImagerPixelSpacing; at the detector the patient
    appears magnified, so ImagerPixelSpacing gives areas that are somewhat too large.
    """
    spacing = _pair(header, "PixelSpacing")
    imager = _pair(header, "ImagerPixelSpacing")
    nominal = _pair(header, "NominalScannedPixelSpacing")
    if spacing is not None:
        calibration = str(header.get("PixelSpacingCalibrationType", "")).strip()
        if calibration or (imager is not None and imager != spacing):
            detail = f"PixelSpacing, calibrated ({calibration or 'differs from ImagerPixelSpacing'})"
            return spacing, Check("pixel_spacing", "passed", _shown(spacing), None, detail)
        detail = "PixelSpacing is given but not said to be calibrated; areas may be too large by the magnification"
        return spacing, Check("pixel_spacing", "warning", _shown(spacing), None, detail)
    for found, keyword in ((imager, "ImagerPixelSpacing"), (nominal, "NominalScannedPixelSpacing")):
        if found is not None:
            detail = (
                f"only {keyword}, at the detector, is known; areas are too large by the magnification (often 5 to 15 %)"
            )
            return found, Check("pixel_spacing", "warning", _shown(found), None, detail)
    detail = "no usable pixel spacing is given, so areas in mm² are not known"
    return None, Check("pixel_spacing", "warning", None, None, detail)


def _pair(header: Dataset, keyword: str) -> FilmSpacing | None:
    try:
        row, column = (float(value) for value in header.get(keyword) or ())
    except (TypeError, ValueError):
        return None
    low, high = PLAUSIBLE_SPACING_MM
    return FilmSpacing(row, column) if low <= row <= high and low <= column <= high else None


def _shown(spacing: FilmSpacing) -> list[float]:
    return [spacing.row_mm, spacing.column_mm]


def _check_form(header: Dataset, name: str) -> Check:
    frames = whole(header, "NumberOfFrames", 1)
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    photometric = _photometric(header)
    check_size(header, name)
    if frames != 1:
        raise UnsuitableInput(f"'{name}' has {frames} frames; this bundle takes radiographs of a single frame")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsuitableInput(f"'{name}' is a {photometric or 'colourless'} picture; expected grey (MONOCHROME1 or 2)")
    if min(rows, columns) < MIN_SIDE_PIXELS:
        raise UnsuitableInput(
            f"'{name}' has {rows} × {columns} pixels; expected at least {MIN_SIDE_PIXELS} on each side"
        )
    return Check(
        "picture_form", "passed", [rows, columns], None, f"one grey frame of {rows} rows and {columns} columns"
    )


def _photometric(header: Dataset) -> str:
    return text(header, "PhotometricInterpretation")


def _with_meaning(stored: NDArray[Any], dataset: Dataset, name: str) -> NDArray[np.float32]:
    """Stored values after the modality LUT or rescale."""
    try:
        with quietly():
            return np.array(apply_modality_lut(stored, dataset), dtype=np.float32)
    except DAMAGE_TO_DICOM as error:
        raise UnreadableInput(
            f"the modality LUT or rescale of '{name}' cannot be applied; ask for it to be sent again"
        ) from error


def _padding_mask(header: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where stored values lie in the padding range (PS3.3 C.7.5.1.1.2); None if no pixel or every pixel does."""
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    try:
        low, high = sorted((int(value), int(value if limit is None else limit)))
    except (TypeError, ValueError, OverflowError):
        return None
    mask = np.asarray((stored >= low) & (stored <= high))
    return mask if mask.any() and not mask.all() else None


def _to_monochrome2(
    values: NDArray[np.float32], photometric: str, padding: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], Check]:
    name = "photometric_interpretation"
    if photometric == "MONOCHROME2":
        return values, Check(name, "passed", photometric, "MONOCHROME2", "bright is dense, as expected")
    # Turned within the picture's own range: the same picture as a film whose largest value is white.
    picture = values if padding is None else values[~padding]
    turned = picture.max() + picture.min() - values
    detail = "grey values were turned once, so that bright is dense"
    return turned, Check(name, "fixed", photometric, "MONOCHROME2", detail)


def _check_contrast(values: NDArray[np.float32], name: str) -> Check:
    low, high = (float(v) for v in np.percentile(values[::4, ::4], (1, 99)))
    if not np.isfinite(values).all() or high <= low:
        raise UnsuitableInput(
            f"'{name}' shows nothing: its grey values do not differ (1st and 99th percentile {low:g}, {high:g})"
        )
    return Check(
        "contrast", "passed", [low, high], None, f"grey values from {low:g} to {high:g} (1st to 99th percentile)"
    )


def _facts(header: Dataset) -> dict[str, str]:
    facts = {
        "Modality": str(header.get("Modality", "")),
        "Body part": str(header.get("BodyPartExamined", "")),
        "View": str(header.get("ViewPosition", "")),
        "Rows × columns": f"{header.get('Rows')} × {header.get('Columns')}",
        "Object": _uid_name(header.SOPClassUID),
        "Manufacturer": str(header.get("Manufacturer", "")),
    }
    return {key: value for key, value in facts.items() if value}


def _uid_name(uid: object) -> str:
    """As the standard calls it, or the UID itself if it is none of the standard's or no UID at all."""
    return str(UID(str(uid), IGNORE).name)
