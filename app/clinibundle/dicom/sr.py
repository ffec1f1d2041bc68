"""Measurements as a DICOM Structured Report (PS3.16 TID 1500) on a SEG, read back before it counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom
from highdicom import sr
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from clinibundle.dicom.codes import Algorithm, Measurement, MeasurementTable
from clinibundle.dicom.derived import completed
from clinibundle.dicom.header import DAMAGE_TO_DICOM, quietly
from clinibundle.dicom.sr_content import Numbers, lies_in_space, report_content
from clinibundle.errors import OutputError

_UTF_8 = "ISO_IR 192"
# Those of SEG are 9000 and up.
_SERIES_NUMBER_AFTER_SEG = 1000
# Relative. With a sign and an exponent of three digits, 16 characters leave nine to the number.
_ROUNDING_OF_DECIMAL_STRINGS = 1e-8

# Concept and unit, each as value and scheme; the number, and the number from its text.
_Read = tuple[tuple[str, str], tuple[str, str], float, float]


def write_sr(
    path: Path,
    sources: Sequence[Dataset],
    seg: Dataset | Path,
    findings: Sequence[Mapping[str, Any]],
    table: MeasurementTable,
    algorithm: Algorithm,
) -> None:
    """Writes an Imaging Measurement Report, reads it back, and compares every number with what was meant.

    What lies in space becomes a Comprehensive 3D SR of volumetric groups (TID 1411), a flat film a Comprehensive SR of
    planar ones (TID 1410). A finding whose segment has no frame is reported on the source images as a whole
    (TID 1501). Without any finding the report says so in words.

    Args:
        path: of the file to write.
        sources: headers of the instances that the SEG lies on.
        seg: what the findings lie on, or its path.
        findings: as in measurements.json, each with the `segment_number` that it lies on; measurements that are None
            or not there are left out.
        table: which measurements are reported, and as what.
        algorithm: recorded as the observer, and in each group.

    Raises:
        OutputError: if a finding lies on no segment or has a measurement that is no finite number, the source or the
            SEG cannot be referred to, or what is read back differs from what was meant.
    """
    numbers = [_numbers(finding, table) for finding in findings]
    try:
        with quietly():
            if isinstance(seg, Path):
                seg = pydicom.dcmread(seg, stop_before_pixels=True)
            content = report_content(sources, seg, list(zip(findings, numbers, strict=True)), table, algorithm)
            _document(sources, seg, content, algorithm).save_as(path)
    except DAMAGE_TO_DICOM as error:
        # The error itself may quote the header, and so the patient.
        raise OutputError(
            f"no DICOM SR can be made for this source ({type(error).__name__}): its header or its SEG is damaged; "
            "fetch the source again from its archive"
        ) from error
    compare_with_written(path, findings, table)


def compare_with_written(path: Path, findings: Sequence[Mapping[str, Any]], table: MeasurementTable) -> None:
    """Reads a report back and raises OutputError unless it holds exactly the numbers that were meant.

    FloatingPointValue has to be equal to the last bit; NumericValue, a text, to the digits that its 16 characters hold.

    Args:
        path: of the report.
        findings: in the order of the report.
        table: which measurements are reported, and as what.
    """
    meant = [_numbers(finding, table) for finding in findings]
    try:
        with quietly():
            found = [_read_numbers(group) for group in _measurement_groups(pydicom.dcmread(path))]
    except DAMAGE_TO_DICOM as error:
        raise OutputError(
            f"the SR cannot be read back ({type(error).__name__}); nothing was kept, please report this"
        ) from error
    if len(found) != len(meant):
        raise OutputError(
            f"the SR read back has {len(found)} findings, not {len(meant)}; nothing was kept, please report this"
        )
    for finding, wanted, read in zip(findings, meant, found, strict=True):
        if len(read) != len(wanted) or not all(map(_is_same, wanted, read)):
            raise OutputError(
                f"the SR read back differs from the measurements of '{finding['name']}'; nothing was kept, please "
                "report this"
            )


def _numbers(finding: Mapping[str, Any], table: MeasurementTable) -> Numbers:
    """What is reported of a finding, in the table's units."""
    numbers = []
    for row in table.measurements:
        value = finding.get(row.key)
        if value is None:
            continue
        number = float(value) * row.factor
        if not math.isfinite(number):
            raise OutputError(
                f"'{row.key}' of the finding '{finding['name']}' is {number}; expected a number, or None where it is "
                "unknown"
            )
        numbers.append((row, number))
    return numbers


def _measurement_groups(report: Dataset) -> list[Dataset]:
    return [
        group
        for container in report.ContentSequence
        if _coded(container.ConceptNameCodeSequence) == _coded([CodedConcept.from_code(codes.DCM.ImagingMeasurements)])
        for group in container.ContentSequence
    ]


def _read_numbers(group: Dataset) -> list[_Read]:
    return [
        (
            _coded(item.ConceptNameCodeSequence),
            _coded(value.MeasurementUnitsCodeSequence),
            float(value.FloatingPointValue),
            float(value.NumericValue),
        )
        for item in group.ContentSequence
        if item.ValueType == "NUM"
        for value in item.MeasuredValueSequence
    ]


def _coded(sequence: Sequence[Dataset]) -> tuple[str, str]:
    concept = CodedConcept.from_dataset(sequence[0])
    return concept.value, concept.scheme_designator


def _is_same(meant: tuple[Measurement, float], read: _Read) -> bool:
    row, number = meant
    codes_meant = (row.concept.value, row.concept.scheme), (row.unit.value, row.unit.scheme)
    *codes_read, exact, text = read
    rounded = math.isclose(text, number, rel_tol=_ROUNDING_OF_DECIMAL_STRINGS)
    return codes_meant == tuple(codes_read) and exact == number and rounded


def _document(sources: Sequence[Dataset], seg: Dataset, content: Dataset, algorithm: Algorithm) -> Any:
    document = sr.Comprehensive3DSR if lies_in_space(seg) else sr.ComprehensiveSR
    return document(
        evidence=[completed(sources[0]), *sources[1:], seg],
        content=content,
        series_instance_uid=generate_uid(),
        series_number=int(seg.SeriesNumber) + _SERIES_NUMBER_AFTER_SEG,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="clinibundle",
        manufacturer_model_name="clinibundle",
        software_versions=algorithm.software_version,
        device_serial_number=algorithm.weights_sha256[:16],
        is_complete=True,
        # The names of findings may be in another alphabet than the source.
        specific_character_set=_UTF_8,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"{algorithm.name} {algorithm.version} measurements, research only"[:64],
    )
