"""From the metrics of single cases to what a table says of all of them: mean, spread and a 95 % interval.

The interval is bootstrapped by group. Two films or scans of one patient resemble each other; drawn as if they were
independent they would make the interval too narrow. So whole groups are drawn with replacement, and each draw gives the
mean over the cases of its groups (cluster bootstrap with percentile interval: Davison and Hinkley, Bootstrap Methods
and their Application, 1997, sections 3.8 and 5.3). scipy.stats.bootstrap has no groups of its own and refuses a single
one; fed with the sums and sizes of the groups it is the referee of the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


class Summary(TypedDict):
    """One metric over all cases that have it, in the metric's own unit.

    `mean`, `median` and `std` (of the sample, ddof = 1; 0 for a single case) are over cases, `ci95` is the interval
    of the mean, `n` the number of cases. All but `n` are None where no case has the metric.
    """

    mean: float | None
    std: float | None
    ci95: list[float | None]
    median: float | None
    n: int


def summarise(
    rows: Sequence[Mapping[str, float | None]],
    metrics: Sequence[str],
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Summary]:
    """Each metric over all cases.

    Args:
        rows: metrics of one case each; a metric that is None or absent is left out and shows in `n`.
        metrics: the names to summarise, in the order wanted.
        groups: the group (patient) of each row; a case without one is a group of its own, under its own name.
        seed: of the bootstrap. Equal seeds give equal intervals, whichever other metrics are asked for.
        resamples: number of draws of the bootstrap.
    """
    return {metric: _summary([row.get(metric) for row in rows], groups, seed, resamples) for metric in metrics}


def bootstrap_interval(
    values: NDArray[np.float64], groups: NDArray[np.str_], seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `values` under resampling of groups.

    Every draw takes as many groups as there are, with replacement, and all cases of each. A single group gives an
    interval without width, which says that one patient cannot tell the spread between patients.

    Args:
        values: one a case, at least one, finite.
        groups: group of each case.
        seed: of the draws.
        resamples: number of draws; memory is 8 bytes · resamples · groups, a few times over.
    """
    names, group_of_case = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group_of_case, weights=values), np.bincount(group_of_case)
    draws = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _summary(cells: Sequence[float | None], groups: Sequence[str], seed: int, resamples: int) -> Summary:
    known = [(cell, group) for cell, group in zip(cells, groups, strict=True) if cell is not None]
    if not known:
        return Summary(mean=None, std=None, ci95=[None, None], median=None, n=0)
    values = np.array([cell for cell, _ in known], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a metric is NaN or infinite; a case without a value must have None")
    return Summary(
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        ci95=list(bootstrap_interval(values, np.array([group for _, group in known]), seed, resamples)),
        median=float(np.median(values)),
        n=len(values),
    )
