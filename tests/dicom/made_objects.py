"""Small SEG and RTSTRUCT objects, put together element by element, so that no writer's habit is taken for a rule."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, generate_uid

from clinibundle.checks import Check
from clinibundle.dicom.outlines import Outlines
from clinibundle.dicom.read_seg import read_seg

SEG, LABEL_MAP_SEG = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
DEFLATED_FRAMES = UID("1.2.840.10008.1.2.8.1")
PATIENT = {"PatientName": "Kowalska^Jadwiga", "PatientID": "PID-98765", "PatientBirthDate": "19440215"}
AXIAL = (1, 0, 0, 0, 1, 0)
# Of rows, then of columns.
SPACING = (0.5, 0.7)
ROWS, COLUMNS = 5, 7
# 35 single bits: frames share bytes.
MASKS = np.random.default_rng(11).random((4, ROWS, COLUMNS)) < 0.4


@dataclass(frozen=True)
class StoredFrame:
    """One frame of a SEG: stored values (rows, columns), the segment, where its first pixel lies (mm), its source."""

    values: np.ndarray
    segment: int | None = 1
    position: Sequence[float] | None = (0, 0, 0)
    source: str | None = None


def seg(
    frames: Sequence[StoredFrame],
    kind: str = "BINARY",
    bits: int = 1,
    names: Mapping[int, str] | None = None,
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = SPACING,
    between: float | None = 2.0,
    thickness: float | None = 1.5,
    syntax: UID = ExplicitVRLittleEndian,
) -> FileDataset:
    """A SEG of these frames; fractional ones have 255 as their maximum."""
    made = _object(LABEL_MAP_SEG if kind == "LABELMAP" else SEG, "SEG", syntax)
    made.SegmentationType = kind
    if kind == "FRACTIONAL":
        made.MaximumFractionalValue = 255
    segments = names if names is not None else {n: f"segment {n}" for n in sorted({f.segment or 1 for f in frames})}
    made.SegmentSequence = [described_segment(number, name) for number, name in segments.items()]
    made.NumberOfFrames = len(frames)
    made.Rows, made.Columns = frames[0].values.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    made.SharedFunctionalGroupsSequence = [_shared(orientation, spacing, between, thickness)]
    made.PerFrameFunctionalGroupsSequence = [_functional_groups(frame) for frame in frames]
    _set_pixels(made, [frame.values for frame in frames], bits, syntax)
    return made


def stack(values: Sequence[np.ndarray], heights: Sequence[float] | None = None, **more) -> list[StoredFrame]:
    """Frames one above the other, 2 mm apart if nothing else is said."""
    heights = 2.0 * np.arange(len(values)) if heights is None else heights
    return [StoredFrame(v, position=(0, 0, z), **more) for v, z in zip(values, heights, strict=True)]


def _object(sop_class: str, modality: str, syntax: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, sop_class
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = sop_class, generate_uid()
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.Modality = modality
    for keyword, value in PATIENT.items():
        setattr(made, keyword, value)
    return made


def _item(**attributes: object) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded concept."""
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def described_segment(number: int, name: str, kind: Dataset | None = None) -> Dataset:
    """An item of the segment sequence; a lung, if nothing else is said."""
    return _item(
        SegmentNumber=number,
        SegmentLabel=name,
        SegmentedPropertyCategoryCodeSequence=[code("123037004", "SCT", "Anatomical Structure")],
        SegmentedPropertyTypeCodeSequence=[kind or code("39607008", "SCT", "Lung")],
    )


def _shared(orientation, spacing, between, thickness) -> Dataset:
    measures = _item(PixelSpacing=list(spacing))
    if between is not None:
        measures.SpacingBetweenSlices = between
    if thickness is not None:
        measures.SliceThickness = thickness
    plane = _item(ImageOrientationPatient=list(orientation))
    return _item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[plane])


def _functional_groups(frame: StoredFrame) -> Dataset:
    made = Dataset()
    if frame.position is not None:
        made.PlanePositionSequence = [_item(ImagePositionPatient=[round(float(v), 10) for v in frame.position])]
    if frame.segment is not None:
        made.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=frame.segment)]
    if frame.source is not None:
        image = _item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=frame.source)
        made.DerivationImageSequence = [_item(SourceImageSequence=[image])]
    return made


def _set_pixels(made: FileDataset, frames: Sequence[np.ndarray], bits: int, syntax: UID) -> None:
    if syntax == ExplicitVRLittleEndian:
        stored = as_bytes(np.concatenate([values.ravel() for values in frames]), bits)
        made.PixelData = stored + bytes(len(stored) % 2)
        made["PixelData"].VR = "OW" if bits == 16 else "OB"
        return
    encode = {RLELossless: run_lengths, DEFLATED_FRAMES: deflated}[syntax]
    made.PixelData = encapsulate([encode(as_bytes(values.ravel(), bits)) for values in frames])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True


def as_bytes(values: np.ndarray, bits: int) -> bytes:
    """Little endian; single bits packed from the lowest on, with a gap only at the end (PS3.5 8.1.1)."""
    if bits == 1:
        return np.packbits(values.astype(bool), bitorder="little").tobytes()
    return values.astype(f"<u{bits // 8}").tobytes()


def deflated(frame: bytes) -> bytes:
    """Raw deflate, padded to an even length."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    made = compressor.compress(frame) + compressor.flush()
    return made + bytes(len(made) % 2)


def run_lengths(frame: bytes) -> bytes:
    """RLE Lossless with a single segment: runs of equal bytes, and stretches of others (PS3.5 Annex G)."""
    # 128 means nothing, and is what some writers pad with.
    made, at = bytearray(b"\x80"), 0
    while at < len(frame):
        run = 1
        while run < 128 and frame[at : at + run + 1] == frame[at : at + 1] * (run + 1):
            run += 1
        if run > 2:
            made += bytes([257 - run, frame[at]])
        else:
            run = min(2, len(frame) - at)
            made += bytes([run - 1]) + frame[at : at + run]
        at += run
    made += b"\x80" * (len(made) % 2)
    return struct.pack("<2L", 1, 64) + bytes(56) + bytes(made)


@dataclass(frozen=True)
class Contour:
    """A contour: points (points, 3) in mm, LPS; its kind, and the picture that it was drawn on."""

    points: np.ndarray
    kind: str = "CLOSED_PLANAR"
    image: str | None = None


def rtstruct(rois: Mapping[int, tuple[str, Sequence[Contour]]], images: Sequence[str] = ()) -> FileDataset:
    """An RTSTRUCT with these ROIs: number, name and contours; it refers to `images` as a whole."""
    made = _object(RTSTRUCT, "RTSTRUCT", ExplicitVRLittleEndian)
    made.StructureSetROISequence = [_item(ROINumber=number, ROIName=name) for number, (name, _) in rois.items()]
    made.ROIContourSequence = [
        _item(ReferencedROINumber=number, ContourSequence=[_contour(one) for one in contours])
        for number, (_, contours) in rois.items()
    ]
    if images:
        series = _item(ContourImageSequence=[_item(ReferencedSOPInstanceUID=uid) for uid in images])
        study = _item(RTReferencedSeriesSequence=[series])
        made.ReferencedFrameOfReferenceSequence = [_item(RTReferencedStudySequence=[study])]
    return made


def _contour(contour: Contour) -> Dataset:
    made = _item(
        ContourGeometricType=contour.kind,
        NumberOfContourPoints=len(contour.points),
        ContourData=[f"{value:.10g}" for value in np.ravel(contour.points)],
    )
    if contour.image is not None:
        made.ContourImageSequence = [_item(ReferencedSOPInstanceUID=contour.image)]
    return made


def write(made: FileDataset, path: Path) -> Path:
    """Writes an object as it is, wrong values included."""
    body, meta = DicomBytesIO(), DicomBytesIO()
    body.is_little_endian, body.is_implicit_VR = True, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Not `save_as`, which does not know all transfer syntaxes.
        write_dataset(body, made)
        write_file_meta_info(meta, made.file_meta, enforce_standard=False)
    content = body.getvalue()
    if made.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        content = deflated(content)
    path.write_bytes(bytes(128) + b"DICM" + meta.getvalue() + content)
    return path


def read(folder: Path, made: FileDataset, *args, **more) -> Outlines:
    """What a SEG is read as, written into a folder first."""
    return read_seg(write(made, folder / "seg.dcm"), *args, **more)


def check(found: Outlines, name: str) -> Check:
    """The check of this name."""
    return next(check for check in found.checks if check.name == name)
