"""One thing that is wrong with a data folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with which case.

    Attributes:
        case: the picture's place in the data folder, or what else of it is concerned; never a path outside it.
        kind: stable and short, such as `size_mismatch`.
        detail: what was found and expected, and what to do.
        severity: `error` where training would fail, or learn or measure something wrong; `warning` where a person
            should look.
    """

    case: str
    kind: str
    detail: str
    severity: Severity = "error"

    def as_dict(self) -> dict[str, str]:
        """The form it has for programs."""
        return asdict(self)
