"""A section of electron microscopy as membrane, interior and cells: what the scores of the ISBI 2012 challenge compare.

In a label 0 is membrane and all else is interior. A proposal is interior where its probability of interior lies above
the threshold, as the challenge has it (not at the threshold: at 1.0 nothing is interior).

Cells are the 4-connected pieces of the interior, and membrane is 8-connected: so a membrane of one pixel parts two
cells in whichever direction it runs. The challenge's own program, the package trainableSegmentation.metrics of Fiji's
Trainable Weka Segmentation, numbers cells with 4 neighbours in all its metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from clinibundle.errors import DataFolderError
from clinibundle.metrics.binary import Mask

LabelMap = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Cells:
    """One section parted into cells.

    `numbers` is 0 on membrane and the number of its cell elsewhere, (rows, columns). `interior` is where no membrane
    is; cells of `numbers` that touch are parted in it by a line of one pixel. `confidence` says how far each pixel's
    probability is from the threshold, and is None where there was no probability.
    """

    numbers: LabelMap
    interior: Mask
    confidence: NDArray[np.float32] | None = None


def cells_of_labels(labels: LabelMap | Mask) -> Cells:
    """Of a true label, or of a proposal that is a label map.

    Args:
        labels: (rows, columns), 0 on membrane. A mask, or numbers that are all the same (1, 255), mark interior, and
            its 4-connected pieces are the cells; different numbers are cells themselves, touching or not.
    """
    if labels.ndim != 2 or not (labels.dtype == np.bool_ or np.issubdtype(labels.dtype, np.integer)):
        raise TypeError(
            f"labels must be a plane of integers or booleans, not {labels.dtype} of shape {labels.shape}: "
            "threshold a probability first"
        )
    interior: Mask = labels != 0
    if np.count_nonzero(np.unique(labels)) < 2:
        numbers, _ = ndimage.label(interior)
        return Cells(numbers, interior)
    numbers = labels.astype(np.int64)
    return Cells(numbers, interior & ~_touches_another(numbers))


def cells_of_probability(probability: NDArray[np.floating], threshold: float) -> Cells:
    """The 4-connected pieces of what lies above the threshold.

    Args:
        probability: (rows, columns), that a pixel is interior, 0 to 1.
        threshold: 0 to 1.
    """
    interior = probability > threshold
    numbers, _ = ndimage.label(interior)
    # In 32 bits, as the challenge sorts by it.
    return Cells(numbers, interior, np.abs(probability - threshold).astype(np.float32))


def thin_borders(numbers: LabelMap) -> LabelMap:
    """Cells grown into the membrane until lines of about one pixel part them; membrane that parts no cells vanishes.

    This is the challenge's border thinning (Arganda-Carreras et al. 2015): a watershed of the binary picture, flooded
    from the cells through 4 neighbours. Programs differ in single pixels where two floods meet; V_Rand of proposals
    like a network's was seen to differ by less than 0.0001 for that.

    Args:
        numbers: (rows, columns), 0 on membrane, else the number of the cell.

    Returns:
        The same with fewer zeros; all zeros where there is no cell.
    """
    # Only the rim of a cell can grow: to flood from its middle as well would take several times as long.
    flooded = ndimage.binary_dilation(numbers == 0)
    grown = watershed(
        np.zeros(numbers.shape, np.uint8), np.where(flooded, numbers, 0), mask=flooded, watershed_line=True
    )
    return np.where(flooded, grown, numbers)


def require_same_shape(proposal: NDArray[np.generic], truth: NDArray[np.generic]) -> None:
    """Both are planes of one size.

    Raises:
        DataFolderError: they are not.
    """
    if proposal.shape != truth.shape or truth.ndim != 2:
        raise DataFolderError(
            f"the proposal has the shape {proposal.shape} and the true label {truth.shape}, which must be the same "
            "rows and columns; bring the label to the size of its section, and score a stack section by section"
        )


def _touches_another(numbers: LabelMap) -> Mask:
    """Whether the pixel to the right or below belongs to another cell."""
    touches = np.zeros(numbers.shape, np.bool_)
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        touches[here] |= (numbers[here] != numbers[there]) & (numbers[there] != 0)
    return touches
