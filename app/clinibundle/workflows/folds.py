"""Which fold a case belongs to: a pure function of names, so that two machines split alike.

scikit-learn's splitters shuffle with NumPy's generator, whose stream may change between versions; a hash does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

NUMBER_OF_FOLDS = 5


def fold_by_hash(group: str) -> int:
    """The fold, 0 to 4, of a patient by name alone: it stays the same when other patients come or go."""
    return _hash(group) % NUMBER_OF_FOLDS


def balanced_folds(strata: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Folds of the same size, of whole set and of every stratum, give or take one.

    Args:
        strata: name of each case and the stratum it belongs to, such as `("shenzhen", "tuberculosis")`.

    Returns:
        The fold, 0 to 4, of each name; independent of the order in which the names come.
    """
    order = sorted(strata, key=lambda name: (strata[name], _hash(name)))
    return {name: place % NUMBER_OF_FOLDS for place, name in enumerate(order)}


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)
