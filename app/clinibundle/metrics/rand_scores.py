"""How well a proposal groups the pixels of a section into cells: Rand and information theoretic scores.

As Arganda-Carreras et al. 2015 (doi:10.3389/fnana.2015.00142) define them. With p_ij the share of pixels that lie in
cell i of the proposal S and in cell j of the truth T, s_i = Σ_j p_ij and t_j = Σ_i p_ij,

    V_Rand split = Σ p_ij² / Σ t_j²     V_Rand merge = Σ p_ij² / Σ s_i²     V_Rand = 2 Σ p_ij² / (Σ s_i² + Σ t_j²)
    V_Info split = I(S; T) / H(S)       V_Info merge = I(S; T) / H(T)       V_Info = 2 I(S; T) / (H(S) + H(T))

Each score is the harmonic mean of its parts (α = 1/2). All lie in [0, 1], higher is better; the split part falls when
true cells are split, the merge part when they are merged. They are foreground-restricted: only pixels of true cells
count. Where the proposal has membrane on such a pixel, the pixel is a cell of its own, as in the challenge's program.

scikit-image has the pieces (adapted_rand_error, variation_of_information), but it counts the proposal's membrane as one
cell, pairs of different pixels only, and gives no V_Info; it is the referee of the tests.

The rule where there is nothing to compare: without a true cell there is no score, None. With a single cell nothing can
be merged, so V_Info merge is 1, and a proposal of one single cell splits nothing, so V_Info split is 1; one cell on
both sides is V_Info 1. (The challenge's program gives 0 there.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clinibundle.metrics.membranes import LabelMap, require_same_shape


class ClusterScore(NamedTuple):
    """A score and its parts, each 0 to 1."""

    value: float
    split: float
    merge: float


class Overlaps(NamedTuple):
    """Numbers of the pixels in true cells: of each overlap, each proposed cell and each true cell, in any order."""

    both: NDArray[np.int64]
    proposal: NDArray[np.int64]
    truth: NDArray[np.int64]

    @property
    def rand(self) -> ClusterScore:
        """V_Rand."""
        # The shares' common denominator cancels out.
        both, proposal, truth = (float(np.square(sizes, dtype=np.float64).sum()) for sizes in self)
        return ClusterScore(2 * both / (proposal + truth), both / truth, both / proposal)

    @property
    def information(self) -> ClusterScore:
        """V_Info."""
        joint, proposal, truth = (_entropy(sizes) for sizes in self)
        # Rounding alone could lead out of these bounds.
        shared = min(max(proposal + truth - joint, 0.0), proposal, truth)
        return ClusterScore(
            2 * shared / (proposal + truth) if proposal + truth > 0 else 1.0,
            shared / proposal if proposal > 0 else 1.0,
            shared / truth if truth > 0 else 1.0,
        )


def overlaps(proposal: LabelMap, truth: LabelMap) -> Overlaps | None:
    """What both scores are made of, or None where no pixel belongs to a true cell.

    Args:
        proposal: (rows, columns), 0 on membrane, else the number of the cell; of `thin_borders` for the scores of 2015.
        truth: the same; not thinned.

    Raises:
        DataFolderError: the shapes differ.
    """
    require_same_shape(proposal, truth)
    inside = truth != 0
    if not inside.any():
        return None
    # The larger factor comes first, so that pixels of one true cell stay together and little is left to sort.
    width = int(proposal.max()) + 1
    pairs, sizes = np.unique(truth[inside].astype(np.int64) * width + proposal[inside], return_counts=True)
    true_cell, proposed_cell = np.divmod(pairs, width)
    on_membrane = proposed_cell == 0
    alone = np.ones(int(sizes[on_membrane].sum()), np.int64)
    return Overlaps(
        both=np.concatenate([sizes[~on_membrane], alone]),
        proposal=np.concatenate([_add_up(proposed_cell[~on_membrane], sizes[~on_membrane]), alone]),
        truth=_add_up(true_cell, sizes),
    )


def _add_up(cell: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The size of each cell from those of its overlaps."""
    _, position = np.unique(cell, return_inverse=True)
    return np.bincount(position, sizes).astype(np.int64)


def _entropy(sizes: NDArray[np.int64]) -> float:
    """In nats."""
    if len(sizes) < 2:
        return 0.0
    share = sizes / sizes.sum()
    return -float(np.sum(share * np.log(share)))
