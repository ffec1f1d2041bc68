"""What many cases say beside the mean over cases: as one picture, patient by patient, with and without a finding.

The mean over cases gives a picture with ten true pixels the weight of one with ten thousand, and calls every picture
perfect that has nothing to find and in which nothing is found. So the same cases are also looked at

- pooled: tp, fp, fn and tn of all cases are added up, and every ratio is taken of the sums. Large objects weigh most.
- by group: the same within each group (patient), and then the mean over groups, of which each weighs the same.
- where there is something to find: the mean over those cases alone, missed ones among them.
- where there is nothing to find: in how many of those cases nothing was found.

Pixels count, not millimetres: cases with finer pixels weigh more. Ratios follow `metrics.binary`, its rule for empty
masks with them. Intervals are bootstrapped by group, as in `metrics.summary`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from clinibundle.metrics.binary import Counts
from clinibundle.metrics.summary import Summary, bootstrap_interval, summarise


class Pooled(TypedDict):
    """A ratio of counts that were added up over `n` cases; all but `n` are None where it has no meaning."""

    value: float | None
    ci95: list[float | None]
    n: int


class NothingToFind(TypedDict):
    """Of the `cases` without anything to find, in how many nothing was found, and their share with its interval."""

    cases: int
    nothing_found: int
    share: float | None
    ci95: list[float | None]


def pool(counts: Sequence[Counts], groups: Sequence[str], seed: int = 0, resamples: int = 2000) -> dict[str, Pooled]:
    """Every ratio of `Counts.ratios` of all cases together.

    Each draw of the bootstrap takes as many groups as there are and adds up the counts of their cases; a draw in which
    a ratio has no meaning is left out of its interval.

    Args:
        counts: of each case, at least one.
        groups: the group (patient) of each case.
        seed: of the bootstrap.
        resamples: number of its draws.
    """
    sums = np.array(list(_by_group(counts, groups).values()), np.int64)
    draws = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    drawn = np.stack([column[draws].sum(axis=1) for column in sums.T], axis=1)
    ratios = [Counts(*row).ratios() for row in drawn.tolist()]
    whole = Counts(*sums.sum(axis=0).tolist()).ratios()
    return {name: Pooled(value=value, ci95=_interval(ratios, name), n=len(counts)) for name, value in whole.items()}


def summarise_groups(
    counts: Sequence[Counts], groups: Sequence[str], seed: int = 0, resamples: int = 2000
) -> dict[str, Summary]:
    """Every ratio of `Counts.ratios` of each group's cases together, summarised over groups; `n` are groups."""
    by_group = _by_group(counts, groups)
    rows = [of_group.ratios() for of_group in by_group.values()]
    return summarise(rows, list(Counts(0, 0, 0, 0).ratios()), list(by_group), seed, resamples)


def summarise_where_truth(
    rows: Sequence[Mapping[str, float | None]],
    metrics: Sequence[str],
    counts: Sequence[Counts],
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Summary]:
    """`summarise` over the cases alone that have something to find.

    Args:
        rows: metrics of each case.
        metrics: the names to summarise.
        counts: of each case.
        groups: the group (patient) of each case.
        seed: of the bootstrap.
        resamples: number of its draws.
    """
    with_truth = [at for at, of_case in enumerate(counts) if of_case.has_truth]
    return summarise([rows[at] for at in with_truth], metrics, [groups[at] for at in with_truth], seed, resamples)


def count_where_empty(
    counts: Sequence[Counts], groups: Sequence[str], seed: int = 0, resamples: int = 2000
) -> NothingToFind:
    """How often nothing was found in the cases that have nothing to find."""
    empty = [(of_case, group) for of_case, group in zip(counts, groups, strict=True) if not of_case.has_truth]
    if not empty:
        return NothingToFind(cases=0, nothing_found=0, share=None, ci95=[None, None])
    right = np.array([not of_case.has_finding for of_case, _ in empty], np.float64)
    interval = bootstrap_interval(right, np.array([group for _, group in empty]), seed, resamples)
    return NothingToFind(
        cases=len(empty), nothing_found=int(right.sum()), share=float(right.mean()), ci95=list(interval)
    )


def _by_group(counts: Sequence[Counts], groups: Sequence[str]) -> dict[str, Counts]:
    """The sums of each group, in the order of the groups' names, so that the order of cases changes no draw."""
    sums: dict[str, Counts] = {}
    for group, of_case in sorted(zip(groups, counts, strict=True)):
        before = sums.get(group, Counts(0, 0, 0, 0))
        sums[group] = Counts(*(one + other for one, other in zip(before, of_case, strict=True)))
    return sums


def _interval(drawn: Sequence[Mapping[str, float | None]], name: str) -> list[float | None]:
    values = [value for ratios in drawn if (value := ratios[name]) is not None]
    if not values:
        return [None, None]
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]
