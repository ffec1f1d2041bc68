"""Where a proposal's topology is wrong: the truth warped to the proposal without splitting or merging anything.

Jain et al. 2010 (Boundary Learning by Optimization with Topological Constraints, CVPR, doi:10.1109/CVPR.2010.5539950):
pixels of the truth are flipped towards the proposal, one at a time and only simple ones, whose flip changes no
topology. So a membrane that is thicker, or shifted and overlaps the true one, costs nothing (one that lies beside it
does, as only pixels that differ may be flipped). What costs are the pixels in which both still differ:

    warping error = their share of all pixels
    warping error of splits and mergers = the share of those alone whose flip would cut a cell in two or join two cells

The published warping errors of the ISBI 2012 challenge (U-Net 0.000353) are of the second kind, "minimum splits and
mergers warping error": Jain's is several times larger. Neither is to be read alone: a cell that is lost costs one pixel
in the first and nothing in the second, so a proposal with hardly any interior looks nearly perfect. One with none has
missed everything and gets 1 by rule, the worst value.

Interior is 4-connected and membrane 8-connected, what lies beyond the picture is membrane. Which pixels stay different
depends somewhat on the order of flips (some percent of the error). It is the order of the challenge's program (class
WarpingError of Trainable Weka Segmentation): passes over all pixels that differ, in each pass those first whose
probability lies farthest from the threshold, then column by column; until a pass flips nothing.

No library has this. Plain Python flips about 500,000 pixels a second, enough for the eleven thresholds of a section.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clinibundle.metrics.binary import Mask
from clinibundle.metrics.membranes import require_same_shape

# Rows and columns from a pixel to its 8 neighbours, clockwise from the upper left; odd ones share an edge with it.
RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


class WarpingErrors(NamedTuple):
    """Shares of the section's pixels, 0 to 1."""

    all: float
    splits_and_mergers: float


def _connectivity_numbers() -> NDArray[np.int64]:
    """For each code of 8 neighbours (bit k is 1 where neighbour k is interior) Yokoi's number of 4-connectivity.

    Yokoi, Toriwaki and Fukumura 1975: Σ over the neighbours k that share an edge of x_k - x_k x_k+1 x_k+2. It is the
    number of pieces of interior that meet in the pixel, and of pieces of membrane unless there is only one kind.
    """
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    corner, next_edge = np.roll(bits, -1, axis=1), np.roll(bits, -2, axis=1)
    numbers: NDArray[np.int64] = (bits - bits * corner * next_edge)[:, 1::2].sum(axis=1)
    return numbers


_CONNECTIVITY = _connectivity_numbers()

# Whether a pixel with these neighbours is simple: just one piece of interior and one of membrane meet in it.
SIMPLE = _CONNECTIVITY == 1

# In how many 8-connected pieces membrane lies around a pixel; corners alone do not part it.
MEMBRANE_PIECES = np.where((np.arange(256) & 0b10101010) == 0, 1, _CONNECTIVITY)


def warping_errors(truth: Mask, proposal: Mask, confidence: NDArray[np.float32] | None = None) -> WarpingErrors:
    """Both errors of one section.

    Args:
        truth: interior, (rows, columns).
        proposal: the same.
        confidence: see `warp`.

    Raises:
        DataFolderError: the shapes differ.
    """
    require_same_shape(proposal, truth)
    if truth.any() and not proposal.any():
        return WarpingErrors(1.0, 1.0)
    warped = warp(truth, proposal, confidence)
    topological = np.logical_or(*splits_and_mergers(warped, proposal))
    return WarpingErrors(float(np.mean(warped != proposal)), float(np.mean(topological)))


def warp(
    truth: Mask, proposal: Mask, confidence: NDArray[np.float32] | None = None, allowed: Mask | None = None
) -> Mask:
    """The truth with every simple pixel flipped that brings it nearer to the proposal, until none is left.

    Args:
        truth: interior, (rows, columns).
        proposal: the same.
        confidence: distance of each pixel's probability from the threshold; larger ones are flipped first. None flips
            column by column.
        allowed: where pixels may be flipped; None is everywhere, as in the challenge.

    Returns:
        A mask of the truth's topology: as many cells and holes in the same neighbourhood.

    Raises:
        DataFolderError: the shapes differ.
    """
    require_same_shape(proposal, truth)
    differs = truth != proposal if allowed is None else (truth != proposal) & allowed
    warped = np.pad(truth, 1)
    warped.ravel()[_flips(_neighbour_codes(warped), _in_order(differs, confidence))] ^= True
    inner: Mask = warped[1:-1, 1:-1]
    return inner


def splits_and_mergers(warped: Mask, proposal: Mask) -> tuple[Mask, Mask]:
    """Of the pixels that differ, those whose flip would cut a cell in two, and those whose flip would join two cells.

    A pixel of interior cuts its cell just where one piece of membrane reaches it from two sides: then both make a line
    across the cell. Cells and membranes are followed over the whole picture, and each pixel is judged by itself: of two
    that would cut a cell only together, neither counts.

    Args:
        warped: the truth as `warp` left it.
        proposal: the mask that it was warped to.
    """
    inside = np.pad(warped, 1)
    places = np.flatnonzero(np.pad(warped != proposal, 1))
    rings = places[:, None] + _steps(inside.shape[1])
    cells, _ = ndimage.label(inside)
    membranes, _ = ndimage.label(~inside, np.ones((3, 3)))
    pieces = MEMBRANE_PIECES[_neighbour_codes(inside).ravel()[places]]
    is_inside = inside.ravel()[places]
    cuts = is_inside & (pieces > _count_distinct(membranes.ravel()[rings]))
    joins = ~is_inside & (_count_distinct(cells.ravel()[rings[:, 1::2]]) > 1)
    return _mask_of(places[cuts], inside.shape), _mask_of(places[joins], inside.shape)


def _flips(codes: NDArray[np.uint8], places: NDArray[np.int64]) -> list[int]:
    """The places that are flipped.

    Args:
        codes: of the neighbours of every pixel of the padded picture.
        places: of the pixels that differ, in the order in which a pass visits them.
    """
    # A pass over all places would find most of them as they were. So only those wait to be visited that became simple
    # since; what lies ahead is visited in this pass, what lies behind in the next, as if all were visited each time.
    # Lists and bytes, since one entry of an array takes Python ten times as long.
    count = len(places)
    ranks = np.full(codes.size, count, np.int64)
    ranks[places] = np.arange(count)
    rank = ranks.tolist()
    place = places.tolist()
    simple = SIMPLE.tobytes()
    code = bytearray(codes.tobytes())
    # The last entry takes what concerns pixels that do not differ, or no longer.
    waiting = bytearray(SIMPLE[codes.ravel()[places]].tobytes() + b"\0")
    # Seen from a neighbour, the pixel lies on the other side.
    sides = [(int(-step), 1 << k) for k, step in enumerate(_steps(codes.shape[1]))]
    flipped = []
    while (now := waiting.find(1, 0, count)) >= 0:
        while now >= 0:
            waiting[now] = 0
            here = place[now]
            if simple[code[here]]:
                flipped.append(here)
                rank[here] = count
                for step, bit in sides:
                    neighbour = here + step
                    code[neighbour] = changed = code[neighbour] ^ bit
                    if simple[changed]:
                        waiting[rank[neighbour]] = 1
            now = waiting.find(1, now + 1, count)
    return flipped


def _in_order(differs: Mask, confidence: NDArray[np.float32] | None) -> NDArray[np.int64]:
    """Places in the padded picture of the pixels that differ, the most confident first, then column by column."""
    columns, rows = np.nonzero(differs.T)
    places: NDArray[np.int64] = (rows + 1) * (differs.shape[1] + 2) + columns + 1
    if confidence is None:
        return places
    ordered: NDArray[np.int64] = places[np.argsort(-confidence[rows, columns], kind="stable")]
    return ordered


def _neighbour_codes(padded: Mask) -> NDArray[np.uint8]:
    """Which neighbours of each pixel are interior, one bit each; 0 on the frame."""
    rows, columns = padded.shape
    codes = np.zeros(padded.shape, np.uint8)
    for bit, (down, right) in enumerate(RING):
        neighbour = padded[1 + down : rows - 1 + down, 1 + right : columns - 1 + right]
        codes[1:-1, 1:-1] |= neighbour.astype(np.uint8) << bit
    return codes


def _steps(width: int) -> NDArray[np.int64]:
    """From a place in a flat picture to those of its neighbours."""
    return np.array([down * width + right for down, right in RING])


def _count_distinct(numbers: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many different numbers but 0 each row has."""
    ordered = np.sort(numbers, axis=1)
    is_new = np.diff(ordered, axis=1, prepend=0) != 0
    counts: NDArray[np.int64] = is_new.sum(axis=1)
    return counts


def _mask_of(places: NDArray[np.int64], padded_shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(padded_shape, np.bool_)
    mask.ravel()[places] = True
    inner: Mask = mask[1:-1, 1:-1]
    return inner
