"""Many files side by side, with progress."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

from clinibundle.console import Talk

# Decoding and compressing leave Python's lock; more threads than this mostly add memory for large pictures.
_MAX_THREADS = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], what: str, talk: Talk | None = None
) -> list[Result]:
    """Results of `function` in the order of `items`; after an error, or Ctrl-C, nothing more is started.

    Args:
        function: called once per item, in any thread.
        items: what to work on.
        what: the words in front of the progress bar.
        talk: where progress goes; None for silence.
    """
    executor = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
    results = []
    try:
        progress = talk.progress(what, len(items)) if talk else nullcontext(lambda: None)
        with progress as step, warnings.catch_warnings():
            # Set here and not in the threads, which share one list of filters. Of large or damaged pictures Pillow
            # warns without a name; whoever reads them says which it was.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            for result in executor.map(function, items):
                results.append(result)
                step()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return results
