"""The content of a measurement report: PS3.16 TID 1500, each finding on its segment of a SEG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from highdicom import sr
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from clinibundle.dicom.codes import Algorithm, Measurement, MeasurementTable
from clinibundle.errors import OutputError

# TID 1500, row 12; pydicom's dictionary does not have it.
_QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
_ENGLISH = CodedConcept("en", "RFC5646", "English")
_CONTAINS = sr.RelationshipTypeValues.CONTAINS

Numbers = list[tuple[Measurement, float]]
"""What is reported of a finding, in the units of the table."""


@dataclass
class _Segment:
    """A segment of a SEG.

    Attributes:
        described: its item of the SegmentSequence.
        frames: of the SEG, from 1, that may hold it.
        images: class and instance UID of what these frames lie on, and there the frames of a multi-frame image, from 1.
    """

    described: Dataset
    frames: list[int] = field(default_factory=list)
    images: dict[tuple[str, str], list[int]] = field(default_factory=dict)


def lies_in_space(seg: Dataset) -> bool:
    """Whether the frames of a SEG have a place in the patient; those on a film have none."""
    groups = [seg.SharedFunctionalGroupsSequence[0], seg.PerFrameFunctionalGroupsSequence[0]]
    return any("PlaneOrientationSequence" in group for group in groups)


def report_content(
    sources: Sequence[Dataset],
    seg: Dataset,
    findings: Sequence[tuple[Mapping[str, Any], Numbers]],
    table: MeasurementTable,
    algorithm: Algorithm,
) -> Dataset:
    """The root of the content tree; without findings it says in words that there is none.

    Put together here since highdicom's MeasurementReport neither does without a finding nor takes a text.

    Args:
        sources: headers of the instances that the SEG lies on.
        seg: what the findings lie on.
        findings: each with its `name` and `segment_number`, and its numbers.
        table: codes of the findings and of the procedure.
        algorithm: who measured.

    Raises:
        OutputError: if a finding lies on no segment.
    """
    groups = _groups(sources, seg, findings, table, algorithm)
    words = "Not for diagnostic use: made by a program for research, not reviewed by a person."
    texts = [sr.TextContentItem(codes.DCM.Comment, words, _CONTAINS)]
    if not groups:
        words = f"No finding: {algorithm.name} {algorithm.version} found nothing to measure in these images."
        texts.append(sr.TextContentItem(codes.DCM.Finding, words, _CONTAINS))
    procedure = sr.CodeContentItem(
        codes.DCM.ProcedureReported, table.procedure.as_concept(), sr.RelationshipTypeValues.HAS_CONCEPT_MOD
    )
    root = sr.ContainerContentItem(codes.DCM.ImagingMeasurementReport, template_id="1500")
    root.ContentSequence = sr.ContentSequence(
        [
            *sr.LanguageOfContentItemAndDescendants(_ENGLISH),
            *_observer(algorithm),
            procedure,
            *([_container(codes.DCM.ImagingMeasurements, groups)] if groups else []),
            _container(_QUALITATIVE_EVALUATIONS, texts),
        ]
    )
    return root


def _groups(
    sources: Sequence[Dataset],
    seg: Dataset,
    findings: Sequence[tuple[Mapping[str, Any], Numbers]],
    table: MeasurementTable,
    algorithm: Algorithm,
) -> list[Dataset]:
    segments = _segments(seg)
    sharing = Counter(finding["segment_number"] for finding, _ in findings)
    unknown = set(sharing) - set(segments)
    if unknown:
        raise OutputError(
            f"a finding lies on segment {min(unknown)}, which the SEG does not have; the bundle's tables of findings "
            "and of segments do not fit each other"
        )
    groups: list[Dataset] = []
    for finding, numbers in findings:
        name, number = finding["name"], finding["segment_number"]
        template, region = _region(seg, number, segments[number], sharing[number], sources)
        groups += template(
            tracking_identifier=_tracking(name, number, segments[number], sharing[number], algorithm),
            algorithm_id=_identification(algorithm),
            measurements=[_measurement(row, value) for row, value in numbers],
            **_what_and_where(name, segments[number], table),
            **region,
        )
    return groups


def _segments(seg: Dataset) -> dict[int, _Segment]:
    segments = {int(item.SegmentNumber): _Segment(item) for item in seg.SegmentSequence}
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame, own in enumerate(seg.PerFrameFunctionalGroupsSequence, start=1):
        if _is_label_map(seg):
            # Only its pixels say which of the segments a frame holds.
            held = list(segments)
        else:
            held = [_group_of(own, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber]
        (image,) = _group_of(own, shared, "DerivationImageSequence").SourceImageSequence
        identity = (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID)
        for segment in (segments[number] for number in held):
            segment.frames.append(frame)
            of_image = segment.images.setdefault(identity, [])
            if "ReferencedFrameNumber" in image:
                of_image.append(image.ReferencedFrameNumber)
    return segments


def _group_of(own: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """A functional group of a frame, or of all frames where it is the same for each (PS3.3 C.7.6.16)."""
    sequence: Sequence[Dataset] = (own if keyword in own else shared)[keyword].value
    return sequence[0]


def _is_label_map(seg: Dataset) -> bool:
    return bool(seg.SegmentationType == "LABELMAP")


def _region(
    seg: Dataset, number: int, segment: _Segment, sharing: int, sources: Sequence[Dataset]
) -> tuple[Any, dict[str, Any]]:
    """The kind of group for what a finding lies on, and the group's references to it."""
    if not segment.frames:
        whole = [sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID) for source in sources]
        return sr.MeasurementsAndQualitativeEvaluations, {"source_images": whole}
    identity = (seg.SOPClassUID, seg.SOPInstanceUID)
    images = [sr.SourceImageForSegmentation(*image, frames or None) for image, frames in segment.images.items()]
    if lies_in_space(seg):
        # Findings that share a segment may each lie in some of its slices only.
        series = sr.SourceSeriesForSegmentation(sources[0].SeriesInstanceUID)
        source = {"source_images": images} if sharing == 1 else {"source_series": series}
        volume = sr.ReferencedSegment(*identity, number, **source)
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations, {"referenced_segment": volume}
    # Frame and segment number exclude each other (PS3.3 table 10-3): the frame of a label map does not say the segment,
    # any other does.
    where = (None, number) if _is_label_map(seg) else (segment.frames[0], None)
    plane = sr.ReferencedSegmentationFrame(*identity, *where, images[0])
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations, {"referenced_segment": plane}


def _tracking(name: str, number: int, segment: _Segment, sharing: int, algorithm: Algorithm) -> Any:
    """The segment's own identity for its only finding; a new one for each of several, which says that they share it."""
    if sharing == 1:
        return sr.TrackingIdentifier(segment.described.TrackingUID, segment.described.TrackingID)
    label = segment.described.SegmentLabel
    return sr.TrackingIdentifier(
        generate_uid(), f"{algorithm.name} {name} (one of {sharing} findings on segment {number}, {label})"
    )


def _what_and_where(name: str, segment: _Segment, table: MeasurementTable) -> dict[str, Any]:
    row = table.codes_of(name)
    if row is None:
        return {"finding_type": CodedConcept.from_dataset(segment.described.SegmentedPropertyTypeCodeSequence[0])}
    described: dict[str, Any] = {"finding_type": row.type.as_concept()}
    if row.site is not None:
        side = None if row.laterality is None else row.laterality.as_concept()
        described["finding_sites"] = [sr.FindingSite(row.site.as_concept(), side)]
    return described


def _measurement(row: Measurement, value: float) -> Any:
    derivation = None if row.derivation is None else row.derivation.as_concept()
    return sr.Measurement(row.concept.as_concept(), value, row.unit.as_concept(), derivation=derivation)


def _identification(algorithm: Algorithm) -> Any:
    """TID 4019."""
    return sr.AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        parameters=[f"weights_sha256={algorithm.weights_sha256}"],
        family=codes.DCM.ArtificialIntelligence,
    )


def _observer(algorithm: Algorithm) -> Any:
    """TID 1001, of a device."""
    device = sr.DeviceObserverIdentifyingAttributes(
        # The same program with the same weights is the same device.
        uid=generate_uid(entropy_srcs=["clinibundle observer", algorithm.model_dump_json()]),
        name="clinibundle",
        manufacturer_name="clinibundle",
        model_name=f"{algorithm.name} {algorithm.version}",
        serial_number=algorithm.weights_sha256,
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))


def _container(name: Any, items: Sequence[Dataset]) -> Any:
    container = sr.ContainerContentItem(name, relationship_type=_CONTAINS)
    container.ContentSequence = sr.ContentSequence(items)
    return container
