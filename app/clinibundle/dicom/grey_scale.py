"""How the pictures of a series are shown by themselves, as a presentation state has to say it (PS3.4 N.2.1).

highdicom's own copy of it is not used: it shows MONOCHROME1 turned, and refuses images with both a window and a table.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from clinibundle.dicom.header import quietly
from clinibundle.dicom.values import number, numbers, put, text, texts
from clinibundle.errors import OutputError

_MODALITY_LUT = ("RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence")
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")


def refuse_different_grey_scales(sources: Sequence[Dataset]) -> None:
    """Raises OutputError if pictures differ in what a presentation state has but once: modality LUT, polarity, size."""
    same = ("PhotometricInterpretation", "Rows", "Columns", *_MODALITY_LUT)
    with quietly():
        differ = any(source.get(keyword) != sources[0].get(keyword) for source in sources for keyword in same)
    if differ:
        raise OutputError(
            "no presentation state is made for pictures of different rescale (as of PET), polarity or size, expected "
            "the same for all of them; the DICOM SEG holds the outline"
        )


def without_grey_scale(image: Dataset) -> Dataset:
    """Takes out what highdicom would copy; for a header of one's own."""
    for keyword in (*_MODALITY_LUT, *_WINDOW, "VOILUTSequence"):
        if keyword in image:
            delattr(image, keyword)
    return image


def copy_grey_scale(state: Dataset, shown: Sequence[Dataset]) -> None:
    """Modality LUT, windows or tables, and polarity of pictures, put into a presentation state that shows them."""
    _copy_modality_lut(state, shown[0])
    _copy_voi(state, shown)
    # PhotometricInterpretation of the pictures is ignored where a presentation state is applied (PS3.4 N.2.1.4).
    is_turned = text(shown[0], "PhotometricInterpretation") == "MONOCHROME1"
    state.PresentationLUTShape = "INVERSE" if is_turned else "IDENTITY"


def _copy_modality_lut(state: Dataset, source: Dataset) -> None:
    if source.get("ModalityLUTSequence"):
        state["ModalityLUTSequence"] = source["ModalityLUTSequence"]
    elif number(source, "RescaleSlope") is not None and number(source, "RescaleIntercept") is not None:
        state["RescaleSlope"], state["RescaleIntercept"] = source["RescaleSlope"], source["RescaleIntercept"]
        # Type 1C here, and often left out in images: unspecified.
        state.RescaleType = text(source, "RescaleType") or "US"


def _copy_voi(state: Dataset, shown: Sequence[Dataset]) -> None:
    """The pictures' own windows, or their tables where they have no window; an item for each different one."""
    items: dict[tuple[str, str], tuple[Dataset, list[Dataset]]] = {}
    for source in shown:
        voi = _window_or_lut(source)
        # As text, a table of many entries is only counted.
        tables = repr([table.LUTData for table in voi.get("VOILUTSequence") or ()])
        items.setdefault((str(voi), tables), (voi, []))[1].append(source)
    found = [(voi, sources) for voi, sources in items.values() if len(voi)]
    for voi, sources in found:
        if len(sources) < len(shown):
            voi.ReferencedImageSequence = [_reference(source) for source in sources]
    if found:
        state.SoftcopyVOILUTSequence = [voi for voi, _ in found]


def _window_or_lut(source: Dataset) -> Dataset:
    """The first window if it is well-formed, else the first table: an image may have several, here is room for one."""
    count = len(texts(source, "WindowCenter"))
    centres, widths = numbers(source, "WindowCenter", count), numbers(source, "WindowWidth", count)
    found = Dataset()
    # Narrower ones have no meaning (PS3.3 C.11.2.1.2).
    if count and centres and widths and widths[0] >= 1:
        for keyword in _WINDOW:
            if values := texts(source, keyword):
                put(found, keyword, values[0])
    elif source.get("VOILUTSequence"):
        found.VOILUTSequence = [source.VOILUTSequence[0]]
    return found


def _reference(source: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return reference
