"""Checks are facts, not prints: one list feeds console, measurements.json and report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["passed", "fixed", "warning"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at before, or after, a bundle ran.

    A check that fails altogether is no `Check` but an error, and nothing is written.

    Attributes:
        name: stable and short, such as `photometric_interpretation`.
        status: `passed`; `fixed` where the input was put right on the way; `warning` where a person should look.
        value: what was found, or None.
        limit: what it was held against, or None.
        detail: a sentence for the report.
    """

    name: str
    status: Status
    value: Any = None
    limit: Any = None
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The form it has in measurements.json."""
        return asdict(self)
