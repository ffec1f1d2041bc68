"""What a look through a bundle can say of a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Verdict(IntEnum):
    """The worse, the larger."""

    CLEAN = 0
    NEEDS_TRUST = 1
    DANGEROUS = 2

    @property
    def words(self) -> str:
        """As people read it."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Finding:
    """One thing that was seen.

    Attributes:
        verdict: on it.
        place: file, and id or line within it.
        what: was found there, cut short.
        why: it is judged so.
    """

    verdict: Verdict
    place: str
    what: str
    why: str


def worst(verdicts: list[Verdict]) -> Verdict:
    """Of several verdicts; CLEAN of none."""
    return max(verdicts, default=Verdict.CLEAN)
