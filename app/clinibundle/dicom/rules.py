"""A bundle's wishes about DICOM as data, and what each of them says of one candidate; nothing here knows a task."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from clinibundle.dicom.values import texts
from clinibundle.errors import did_you_mean

Verdict = Literal["fits", "preferred", "unknown", "doubtful", "refused"]
POINTS: dict[Verdict, int] = {"preferred": 2, "fits": 1, "unknown": 0, "doubtful": -1}
FACTS = ("plane", "slices", "slice_spacing_mm", "pixel_spacing_mm", "coverage_mm", "rows", "columns")
"""What is known of a volume besides its header: its plane (`axial`, `coronal`, `sagittal`, `oblique`), number of
slices, distance of slices and of pixels (the larger of both ways), height from face to face, and size in pixels."""
# A rule may accept a dozen spellings; a refusal names this many.
_SHOWN_VALUES = 3


class Rule(BaseModel):
    """One wish about a header or a volume.

    Attributes:
        name: as the check is called in measurements.json.
        keywords: DICOM keywords, or facts of a volume such as `slice_spacing_mm`, whose values are looked at together.
        accept: words one of which a value has to hold, upper or lower case; empty if any value fits.
        prefer: those of them that are liked best.
        refuse_words: words that rule a candidate out wherever they stand in a value.
        at_least: smallest number that is accepted.
        at_most: largest number that is accepted.
        prefer_at_least: numbers from here on are liked best.
        prefer_at_most: numbers up to here are liked best.
        otherwise: what a value that is not accepted means.
        missing: what an absent or empty value means.
        why: for the person who is refused.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    keywords: list[str]
    accept: list[str] = []
    prefer: list[str] = []
    refuse_words: list[str] = []
    at_least: float | None = None
    at_most: float | None = None
    prefer_at_least: float | None = None
    prefer_at_most: float | None = None
    otherwise: Literal["refused", "doubtful"] = "refused"
    missing: Literal["refused", "unknown", "fits"] = "unknown"
    why: str = ""

    @model_validator(mode="after")
    def _know_the_keywords(self) -> Rule:
        for keyword in self.keywords:
            if keyword not in FACTS and tag_for_keyword(keyword) is None:
                raise ValueError(
                    f"rule '{self.name}' looks at '{keyword}', which is no DICOM keyword and no fact of a volume"
                    f"{did_you_mean(keyword, FACTS)}"
                )
        return self

    @property
    def has_limits(self) -> bool:
        """Whether it is about a number."""
        limits = (self.at_least, self.at_most, self.prefer_at_least, self.prefer_at_most)
        return any(limit is not None for limit in limits)


class DicomWishes(BaseModel):
    """A bundle's `configs/dicom.yaml`: the kind of object it takes and the rules for choosing one.

    Attributes:
        object: `radiograph`, a single picture, or `volume`, a stack of slices.
        rules: what is wanted of it.
        units: `hounsfield` if a volume whose values are not known to be Hounsfield units is refused.
        minimum_score: candidates below it are not taken unless they are named.
    """

    model_config = ConfigDict(extra="forbid")

    object: Literal["radiograph", "volume"]
    rules: list[Rule]
    units: Literal["hounsfield", "any"] = "any"
    minimum_score: int | None = None


@dataclass(frozen=True)
class Reason:
    """What one rule says of one candidate."""

    rule: str
    verdict: Verdict
    value: str
    text: str


def apply_rule(
    rule: Rule, header: Dataset, facts: Mapping[str, str | float], shown: Callable[[str], str] = str
) -> Reason:
    """What a rule says of a candidate's header and facts.

    Args:
        rule: of the bundle.
        header: of the picture, or of the volume's first slice.
        facts: of the volume.
        shown: what may be told of a value; free text may hold a patient's name.
    """
    values = [value for keyword in rule.keywords for value in _values(keyword, header, facts)]
    name = " or ".join(rule.keywords)
    told = ", ".join(map(shown, values))
    for word in rule.refuse_words:
        if _says(values, word):
            where = name if len(rule.keywords) == 1 else "its description"
            return Reason(rule.name, "refused", word, f"{where} says '{word}'{_because(rule)}")
    if not values:
        return Reason(rule.name, rule.missing, "", f"{name} is not given{_because(rule)}")
    if not rule.has_limits and not rule.accept:
        return Reason(rule.name, "fits", "", "nothing speaks against it")
    verdict, expected = _within_limits(rule, values[0]) if rule.has_limits else _accepted(rule, values)
    found = f"{name} is {told}"
    return Reason(rule.name, verdict, told, f"{found}, expected {expected}{_because(rule)}" if expected else found)


def _accepted(rule: Rule, values: Sequence[str]) -> tuple[Verdict, str]:
    """The verdict on words, and what was expected where they do not fit."""
    if any(_says(values, word) for word in rule.prefer):
        return "preferred", ""
    if any(_says(values, word) for word in rule.accept):
        return "fits", ""
    return rule.otherwise, _few(rule.accept)


def _within_limits(rule: Rule, value: str) -> tuple[Verdict, str]:
    """The verdict on a number, and what was expected where it does not fit."""
    try:
        number = float(value)
    except ValueError:
        return rule.missing, "a number"
    if rule.at_least is not None and number < rule.at_least:
        return rule.otherwise, f"at least {rule.at_least:g}"
    if rule.at_most is not None and number > rule.at_most:
        return rule.otherwise, f"at most {rule.at_most:g}"
    wanted = (rule.prefer_at_least is not None and number >= rule.prefer_at_least) or (
        rule.prefer_at_most is not None and number <= rule.prefer_at_most
    )
    return "preferred" if wanted else "fits", ""


def _values(keyword: str, header: Dataset, facts: Mapping[str, str | float]) -> list[str]:
    if keyword not in FACTS:
        return texts(header, keyword)
    value = facts.get(keyword, "")
    return [] if value == "" else [f"{value:.4g}" if isinstance(value, float) else str(value)]


def _says(values: Sequence[str], word: str) -> bool:
    """Whether a value holds the word, upper or lower case, as a word of its own."""
    # No letter of any alphabet before or after: a catéter is no cat. Digits and underscores end a word.
    whole_word = rf"(?<![^\W\d_]){re.escape(word)}(?![^\W\d_])"
    return any(re.search(whole_word, value, re.IGNORECASE) for value in values)


def _few(accepted: Sequence[str]) -> str:
    return " or ".join(accepted[:_SHOWN_VALUES]) + (" or the like" if len(accepted) > _SHOWN_VALUES else "")


def _because(rule: Rule) -> str:
    return f" ({rule.why})" if rule.why else ""
