"""Which picture or volume of a study a bundle is run on, and why: a verdict per rule for each, ties are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from clinibundle.checks import Check
from clinibundle.dicom.gate import Placed, place
from clinibundle.dicom.index import Index, Instance
from clinibundle.dicom.rules import POINTS, DicomWishes, Reason, Rule, apply_rule
from clinibundle.dicom.stacks import Stack, is_picture, plane_name, split_series, split_study
from clinibundle.dicom.values import number, text, whole
from clinibundle.errors import GeometryError, UnreadableInput, UnsuitableInput

_GEOMETRY = "geometry"


@dataclass(frozen=True)
class Candidate:
    """A picture or volume with the reasons for and against it.

    Attributes:
        name: of the file, or of the volume in its series.
        key: what `--series` takes to choose it.
        header: of the picture, or of the volume's first slice.
        reasons: what each rule says.
        instance: a picture's file.
        stack: a volume's slices.
        placed: where they lie, if that can be told.
    """

    name: str
    key: str
    header: Dataset
    reasons: tuple[Reason, ...]
    instance: Instance | None = None
    stack: Stack | None = None
    placed: Placed | None = None

    @property
    def refusals(self) -> list[Reason]:
        """The rules that rule it out."""
        return [reason for reason in self.reasons if reason.verdict == "refused"]

    @property
    def score(self) -> int:
        """Sum over the rules: 2 preferred, 1 fits, 0 unknown, -1 doubtful."""
        return sum(POINTS[reason.verdict] for reason in self.reasons if reason.verdict != "refused")

    @property
    def series(self) -> str:
        """The end of its series UID, enough to tell series of a study apart without naming anybody."""
        return "…" + (self.key or "unknown")[-8:]

    @property
    def why(self) -> str:
        """In one line, for people."""
        if self.refusals:
            return "; ".join(reason.text for reason in self.refusals)
        telling = [r.text for r in self.reasons if r.verdict in ("preferred", "doubtful", "unknown")]
        return f"score {self.score}: " + ("; ".join(telling) or "fits every rule")

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
    """The chosen candidate and all of them, best first."""

    chosen: Candidate
    candidates: tuple[Candidate, ...]


def choose(index: Index, wishes: DicomWishes, series: str | None = None, correct_tilt: bool = False) -> Choice:
    """The one picture or volume of a study that fits best.

    Args:
        index: of the study.
        wishes: of the bundle.
        series: only this series UID, or the volume of it that `#2` behind the UID names.
        correct_tilt: volumes from a tilted gantry are taken.

    Raises:
        UnreadableInput: if there is no DICOM image at all.
        UnsuitableInput: if none fits, or several fit equally well, or the best fits too badly.
        GeometryError: if what fits best has no trustworthy place in the patient.
    """
    if not index.instances:
        raise UnreadableInput(_nothing_readable(index))
    instances = index.instances
    if series is not None:
        instances = tuple(i for i in instances if text(i.header, "SeriesInstanceUID") == series.partition("#")[0])
        if not instances:
            raise UnsuitableInput(f"no series {series} in the input; leave out --series to see what there is")
    if wishes.object == "radiograph":
        candidates = [judge(instance, wishes.rules, index.shown) for instance in instances]
    else:
        stacks, unusable = split_study(instances)
        if unusable and not stacks:
            raise UnreadableInput(unusable[0].reason)
        candidates = [judge_volume(stack, wishes, correct_tilt, index.shown) for stack in stacks]
        if series is not None and "#" in series:
            candidates = [candidate for candidate in candidates if candidate.key == series]
            if not candidates:
                raise UnsuitableInput(f"no volume {series} in the input; leave out --series to see what there is")
    if not candidates:
        raise UnsuitableInput(_no_volume(instances))
    candidates.sort(key=lambda c: (bool(c.refusals), -c.score))
    fitting = [candidate for candidate in candidates if not candidate.refusals]
    if not fitting:
        raise _none_fits(candidates)
    best = [candidate for candidate in fitting if candidate.score == fitting[0].score]
    if len(best) > 1:
        raise UnsuitableInput(_tie(best))
    if series is None and wishes.minimum_score is not None and best[0].score < wishes.minimum_score:
        raise UnsuitableInput(
            f"nothing fits well: the best, series {best[0].key}, has a score of {best[0].score} where "
            f"{wishes.minimum_score} is wanted ({best[0].why}); name it with --series to take it all the same"
        )
    _refuse_incomplete(fitting[0], instances)
    return Choice(fitting[0], tuple(candidates))


def _refuse_incomplete(chosen: Candidate, instances: Sequence[Instance]) -> None:
    """A damaged multi-frame file of the chosen series may hold a part of the volume, which looks whole without it."""
    if chosen.stack is None:
        return
    uid = chosen.stack.series_uid
    _, unusable = split_series([i for i in instances if text(i.header, "SeriesInstanceUID") == uid])
    if unusable:
        raise UnreadableInput(unusable[0].reason)


def judge(instance: Instance, rules: Sequence[Rule], shown: Callable[[str], str] = str) -> Candidate:
    """What every rule says of one picture; `shown` is what may be told of a value."""
    header = instance.header
    reasons = tuple(apply_rule(rule, header, {}, shown) for rule in rules)
    return Candidate(instance.name, text(header, "SeriesInstanceUID"), header, reasons, instance=instance)


def judge_volume(
    stack: Stack, wishes: DicomWishes, correct_tilt: bool = False, shown: Callable[[str], str] = str
) -> Candidate:
    """What every rule, and the geometry gate, say of one volume; `shown` is what may be told of a value."""
    placed, problem = None, None
    try:
        placed = place(stack.slices, f"series …{stack.key[-8:]}", tilt_allowed=True)
        if placed.tilt_degrees and not correct_tilt:
            place(stack.slices, f"series …{stack.key[-8:]}", tilt_allowed=False)
    except GeometryError as error:
        problem = str(error)
    facts = volume_facts(stack, placed)
    reasons = [apply_rule(rule, stack.header, facts, shown) for rule in wishes.rules]
    if problem is not None:
        reasons.append(Reason(_GEOMETRY, "refused", "", problem))
    name = stack.apart_by or f"{len(stack.slices)} slices"
    return Candidate(name, stack.key, stack.header, tuple(reasons), stack=stack, placed=placed)


def volume_facts(stack: Stack, placed: Placed | None) -> Mapping[str, str | float]:
    """What rules may ask of a volume besides its header; see `rules.FACTS`."""
    header = stack.header
    facts: dict[str, str | float] = {
        "plane": plane_name(header),
        "slices": len(stack.slices) if placed is None else len(placed.slices),
        "rows": whole(header, "Rows"),
        "columns": whole(header, "Columns"),
    }
    if placed is not None:
        facts["pixel_spacing_mm"] = max(placed.spacing_mm[:2])
        facts["slice_spacing_mm"] = placed.spacing_mm[2]
        facts["coverage_mm"] = placed.coverage_mm
    elif (thickness := number(header, "SliceThickness")) is not None:
        facts["slice_spacing_mm"] = thickness
    return facts


def _nothing_readable(index: Index) -> str:
    if len(index.skipped) == 1:
        return f"'{index.skipped[0].name}' cannot be used: {index.skipped[0].reason}"
    if not index.skipped:
        return "the folder is empty: expected DICOM files or pictures"
    first = index.skipped[0]
    return f"none of the {len(index.skipped)} files is a DICOM image; the first, '{first.name}': {first.reason}"


def _no_volume(instances: Sequence[Instance]) -> str:
    pictures = sum(is_picture(instance) for instance in instances)
    kinds = sorted({text(instance.header, "Modality") or "unknown" for instance in instances})
    return (
        f"the {len(instances)} DICOM objects of the input ({', '.join(kinds)}) hold {pictures} pictures and no volume; "
        "expected a series of slices"
    )


def _none_fits(candidates: Sequence[Candidate]) -> UnsuitableInput | GeometryError:
    what = "picture" if candidates[0].stack is None else "volume"
    only_geometry = [c for c in candidates if all(reason.rule == _GEOMETRY for reason in c.refusals)]
    if only_geometry:
        # It is the one that was wanted: say what is wrong with it rather than with the others.
        return GeometryError(only_geometry[0].refusals[0].text)
    if len(candidates) == 1:
        return UnsuitableInput(f"the {what} does not suit this bundle: {candidates[0].refusals[0].text}")
    reasons = sorted({candidate.refusals[0].text for candidate in candidates})
    return UnsuitableInput(f"none of the {len(candidates)} {what}s suits this bundle: {'; '.join(reasons)}")


def _tie(best: Sequence[Candidate]) -> str:
    keys = sorted({candidate.key or "unknown" for candidate in best})
    if len(keys) == 1:
        return (
            f"{len(best)} pictures of one series fit equally well ({', '.join(c.name for c in best)}); "
            "name the file itself"
        )
    what = "series" if all("#" not in key for key in keys) else "volumes"
    return f"{len(keys)} {what} fit equally well; choose one with --series: {', '.join(keys)}"
