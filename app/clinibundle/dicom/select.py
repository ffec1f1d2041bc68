"""Which picture of a study a bundle is run on, and why: every candidate gets a verdict per rule, ties are refused.

The rules are the bundle's (`configs/dicom.yaml`), so nothing here knows a task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydicom.dataset import Dataset

from clinibundle.checks import Check
from clinibundle.dicom.index import Index, Instance
from clinibundle.dicom.values import text, texts
from clinibundle.errors import UnreadableInput, UnsuitableInput

Verdict = Literal["fits", "preferred", "unknown", "doubtful", "refused"]
# A rule may accept a dozen spellings; a refusal names this many.
_SHOWN_VALUES = 3
_POINTS: dict[Verdict, int] = {"preferred": 2, "fits": 1, "unknown": 0, "doubtful": -1}


class Rule(BaseModel):
    """One wish about a header.

    Attributes:
        name: as the check is called in measurements.json.
        keywords: DICOM keywords whose values are looked at, all together.
        accept: words one of which a value has to hold, upper or lower case; empty if any value fits.
        prefer: those of them that are liked best.
        refuse_words: words that rule a picture out wherever they stand in a value.
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
    otherwise: Literal["refused", "doubtful"] = "refused"
    missing: Literal["refused", "unknown", "fits"] = "unknown"
    why: str = ""


class DicomWishes(BaseModel):
    """A bundle's `configs/dicom.yaml`: the kind of object it takes and the rules for choosing one."""

    model_config = ConfigDict(extra="forbid")

    object: Literal["radiograph"]
    rules: list[Rule]


@dataclass(frozen=True)
class Reason:
    """What one rule says of one picture."""

    rule: str
    verdict: Verdict
    value: str
    text: str


@dataclass(frozen=True)
class Candidate:
    """A picture with the reasons for and against it."""

    instance: Instance
    reasons: tuple[Reason, ...]

    @property
    def refusals(self) -> list[Reason]:
        """The rules that rule it out."""
        return [reason for reason in self.reasons if reason.verdict == "refused"]

    @property
    def score(self) -> int:
        """Sum over the rules: 2 preferred, 1 fits, 0 unknown, -1 doubtful."""
        return sum(_POINTS[reason.verdict] for reason in self.reasons if reason.verdict != "refused")

    @property
    def series(self) -> str:
        """The end of its series UID, enough to tell series of a study apart without naming anybody."""
        return "…" + text(self.instance.header, "SeriesInstanceUID")[-8:]

    def checks(self) -> list[Check]:
        """The reasons in the form that measurements and report show."""
        return [
            Check(
                r.rule, "warning" if r.verdict in ("unknown", "doubtful") else "passed", r.value or None, None, r.text
            )
            for r in self.reasons
        ]


@dataclass(frozen=True)
class Choice:
    """The chosen picture and all candidates, best first."""

    chosen: Candidate
    candidates: tuple[Candidate, ...]


def choose(index: Index, wishes: DicomWishes, series_uid: str | None = None) -> Choice:
    """The one picture of a study that fits best.

    Args:
        index: of the study.
        wishes: of the bundle.
        series_uid: only this series is looked at.

    Raises:
        UnreadableInput: if there is no DICOM image at all.
        UnsuitableInput: if none fits, or several fit equally well.
    """
    instances = index.instances
    if not instances:
        raise UnreadableInput(_nothing_readable(index))
    if series_uid is not None:
        instances = tuple(i for i in instances if text(i.header, "SeriesInstanceUID") == series_uid)
        if not instances:
            raise UnsuitableInput(f"no series {series_uid} in the input; leave out --series to see what there is")
    candidates = sorted((judge(i, wishes.rules) for i in instances), key=lambda c: (bool(c.refusals), -c.score))
    fitting = [candidate for candidate in candidates if not candidate.refusals]
    if not fitting:
        raise UnsuitableInput(_none_fits(candidates))
    best = [candidate for candidate in fitting if candidate.score == fitting[0].score]
    if len(best) > 1:
        raise UnsuitableInput(_tie(best))
    return Choice(fitting[0], tuple(candidates))


def judge(instance: Instance, rules: Sequence[Rule]) -> Candidate:
    """What every rule says of one picture."""
    return Candidate(instance, tuple(_apply(rule, instance.header) for rule in rules))


def _apply(rule: Rule, header: Dataset) -> Reason:
    values = _values(header, rule.keywords)
    shown = ", ".join(values)
    name = " or ".join(rule.keywords)
    found = f"{name} is {shown}" if values else f"{name} is not given"
    for word in rule.refuse_words:
        if _says(values, word):
            where = name if len(rule.keywords) == 1 else "its description"
            return Reason(rule.name, "refused", word, f"{where} says '{word}'{_because(rule)}")
    if not values:
        return Reason(rule.name, rule.missing, "", f"{found}{_because(rule)}")
    if not rule.accept:
        return Reason(rule.name, "fits", "", "nothing speaks against it")
    if any(_says(values, word) for word in rule.prefer):
        return Reason(rule.name, "preferred", shown, found)
    if any(_says(values, word) for word in rule.accept):
        return Reason(rule.name, "fits", shown, found)
    return Reason(rule.name, rule.otherwise, shown, f"{found}, expected {_few(rule.accept)}{_because(rule)}")


def _says(values: Sequence[str], word: str) -> bool:
    """Whether a value holds the word, upper or lower case, as a word of its own."""
    # No letter of any alphabet before or after: a catéter is no cat. Digits and underscores end a word.
    whole_word = rf"(?<![^\W\d_]){re.escape(word)}(?![^\W\d_])"
    return any(re.search(whole_word, value, re.IGNORECASE) for value in values)


def _few(accepted: Sequence[str]) -> str:
    return " or ".join(accepted[:_SHOWN_VALUES]) + (" or the like" if len(accepted) > _SHOWN_VALUES else "")


def _because(rule: Rule) -> str:
    return f" ({rule.why})" if rule.why else ""


def _values(header: Dataset, keywords: Sequence[str]) -> list[str]:
    return [value for keyword in keywords for value in texts(header, keyword)]


def _nothing_readable(index: Index) -> str:
    if len(index.skipped) == 1:
        return f"'{index.skipped[0].name}' cannot be used: {index.skipped[0].reason}"
    if not index.skipped:
        return "the folder is empty: expected DICOM files or pictures"
    first = index.skipped[0]
    return f"none of the {len(index.skipped)} files is a DICOM image; the first, '{first.name}': {first.reason}"


def _none_fits(candidates: Sequence[Candidate]) -> str:
    if len(candidates) == 1:
        return f"the picture does not suit this bundle: {candidates[0].refusals[0].text}"
    reasons = sorted({candidate.refusals[0].text for candidate in candidates})
    return f"none of the {len(candidates)} pictures suits this bundle: {'; '.join(reasons)}"


def _tie(best: Sequence[Candidate]) -> str:
    uids = sorted({text(candidate.instance.header, "SeriesInstanceUID") for candidate in best})
    if len(uids) == 1:
        return (
            f"{len(best)} pictures of one series fit equally well ({', '.join(c.instance.name for c in best)}); "
            "name the file itself"
        )
    return f"{len(uids)} series fit equally well; choose one with --series: {', '.join(uids)}"
