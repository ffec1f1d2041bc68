"""Running a bundle that nobody vouches for: only what is listed, and nothing else, by name.

What this keeps away: code in configs, in Python of the bundle, and in pickles. What it does not: faults in MONAI, torch
and the readers of pictures that a crafted file could use, and a network that answers wrongly on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clinibundle.bundle.configs import read_config
from clinibundle.errors import NeedsTrust
from clinibundle.exchange.components import judge_target
from clinibundle.exchange.config_files import arguments_that_reach_out, targets_in, texts_in
from clinibundle.exchange.expressions import CLEAN, judge_expression
from clinibundle.exchange.own_python import OwnPython
from clinibundle.exchange.verdicts import Verdict

# What `segment` takes from a bundle's inference config.
_TAKEN = ("network_def", "preprocessing", "inferer", "postprocessing", "weights")
_REFERENCE = re.compile(r"@(\w+(?:(?:::|#)\w+)*)")
_NOTHING_OF_ITS_OWN = OwnPython({})


def refuse_what_is_not_listed(
    root: Path, name: str, overlays: Sequence[Path] = (), settings: Mapping[str, Any] | None = None
) -> None:
    """Looks at all that `segment` would have MONAI make of a bundle's inference config.

    Args:
        root: of the bundle.
        name: of it, for the message.
        overlays: the user's own, put on top.
        settings: as overlays.

    Raises:
        NeedsTrust: with the id and name of the first thing that is more than references, harmless expressions and
            listed components.
    """
    parser = read_config(root, "inference", overlays, settings)
    for place, what, why in _more_than_listed(parser):
        raise NeedsTrust(
            f"'{name}' came packed and nobody vouches for it; its inference config has {what[:80]!r} at {place}: "
            f"{why}; "
            "run it with --trust if you know who made it"
        )


def _more_than_listed(parser: Any) -> Iterator[tuple[str, str, str]]:
    # As soon as anything is asked for, MONAI runs every import of the config, wherever it stands.
    for place, text in texts_in(parser.get()):
        verdict, why = judge_expression(text) if text.startswith("$") and "import" in text else CLEAN
        if verdict is not Verdict.CLEAN:
            yield place, text, why
    pending, seen = list(_TAKEN), set(_TAKEN)
    while pending:
        key = pending.pop(0)
        value = parser.get(key, None)
        for place, component in targets_in(value, key):
            verdict, why = judge_target(component["_target_"], _NOTHING_OF_ITS_OWN)
            if verdict is not Verdict.CLEAN:
                yield place, str(component["_target_"]), why
            for argument in arguments_that_reach_out(place, component):
                yield place, argument.what, argument.why
        for place, text in texts_in(value, key):
            if text.startswith("%"):
                yield place, text, "a macro, which takes in text from elsewhere"
            if text.startswith("$"):
                verdict, why = judge_expression(text)
                if verdict is not Verdict.CLEAN:
                    yield place, text, why
            for reference in _REFERENCE.findall(text) if text.startswith(("$", "@")) else ():
                # A part of something is looked at with the whole.
                whole = re.split("::|#", reference)[0]
                if whole not in seen:
                    seen.add(whole)
                    pending.append(whole)
