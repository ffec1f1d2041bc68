"""Values as people read them in a report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clinibundle.errors import BundleError

NOT_KNOWN = "not known"
# A width, as in '999999999.1f', would let a received bundle fill the memory.
_SAFE_FORMAT = re.compile(r"(,?(\.\d)?[dfg%])?")
_LESIONS_TOLD = 3


@dataclass(frozen=True)
class Column:
    """A measurement that the report shows of each finding, as a bundle's `configs/report.yaml` states it.

    Attributes:
        key: of the finding, such as `area_mm2`.
        heading: for people, such as `Area`.
        unit: `mm²`, or empty.
        format: Python's for a number: `,.0f`, `.3g`, `.1%`; empty for four digits.
    """

    key: str
    heading: str
    unit: str = ""
    format: str = ""

    def __post_init__(self) -> None:
        if not _SAFE_FORMAT.fullmatch(self.format):
            raise BundleError(
                f"report column '{self.key}': format '{self.format}' is not understood; "
                "write one like ',.0f', '.3g' or '.1%'"
            )

    @property
    def heading_with_unit(self) -> str:
        """Such as `Area (mm²)`."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading

    def phrase(self, value: Any) -> str:
        """Within a sentence: `area 12,345 mm²`, or `area not known`."""
        heading = self.heading if self.heading[1:2].isupper() else self.heading[:1].lower() + self.heading[1:]
        text = value_text(value, self.format)
        return f"{heading} {text}" if text == NOT_KNOWN or not self.unit else f"{heading} {text} {self.unit}"


def value_text(value: Any, number_format: str = "") -> str:
    """Any value of a measurement, check or metric; None and what is not finite are not known.

    Numbers take the format (four digits without one), lists are joined with commas.
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {value_text(item, number_format)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(value_text(item, number_format) for item in value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number_text(value, number_format) if isinstance(value, int | float) else str(value)


def metric_text(value: Any) -> str:
    """A metric with four digits, zeros kept so that columns align."""
    return value_text(value, "#.4g" if isinstance(value, float) and abs(value) < 1000 else "")


def count_text(count: int, singular: str, plural: str = "") -> str:
    """`1 case`, `2 cases`, `no cases`."""
    noun = singular if count == 1 else plural or f"{singular}s"
    return f"{count or 'no'} {noun}"


def finding_sentences(findings: Sequence[Mapping[str, Any]], columns: Sequence[Column], most: int = 8) -> list[str]:
    """One sentence per finding, with its first three measurements; if there are more than `most`, one per name.

    Of a finding that consists of lesions: how many, with its first measurement, and a sentence for each of the first
    three, which are the largest.
    """
    if not findings:
        return ["Nothing was found: the model marked no part of the picture."]
    if any("lesions" in finding for finding in findings):
        return [sentence for finding in findings for sentence in _about_lesions(finding, columns)]
    if len(findings) > most:
        names = [str(finding["name"]) for finding in findings]
        return [f"{_capital(name)}: {names.count(name):,d} found." for name in dict.fromkeys(names)]
    return [_finding_sentence(finding, columns) for finding in findings]


def _about_lesions(finding: Mapping[str, Any], columns: Sequence[Column]) -> list[str]:
    count = finding.get("lesions")
    if not count:
        told = "lesion" not in finding or int(finding["lesion"]) <= _LESIONS_TOLD
        return [_finding_sentence(finding, columns)] if told else []
    in_all = next((f", {column.phrase(finding[column.key])} in all" for column in columns if column.key in finding), "")
    rest = f"; the {_LESIONS_TOLD} largest follow, all are in the table below" if count > _LESIONS_TOLD else ""
    return [f"{_capital(str(finding['name']))}: {count:,d} found{in_all}{rest}."]


def _number_text(number: float, number_format: str) -> str:
    if number_format.endswith("d"):
        return format(round(number), number_format)
    if number_format:
        return format(number, number_format)
    return format(number, ".4g" if isinstance(number, float) and abs(number) < 1000 else ",.0f")


def _finding_sentence(finding: Mapping[str, Any], columns: Sequence[Column]) -> str:
    name = _capital(str(finding["name"]))
    if finding.get("voxels") == 0:
        return f"{name}: not found."
    phrases = [column.phrase(finding[column.key]) for column in columns if column.key in finding][:3]
    return f"{name}: {', '.join(phrases)}." if phrases else f"{name}: found."


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
