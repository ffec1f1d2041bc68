"""Which picture sizes suit a U-Net of unpadded 3×3 convolutions: every pooling sees even sizes, and something is left.

On each of depth + 1 levels of either path stand `convolutions` convolutions, and each takes one pixel from every side.
With c of them, the sizes along one axis, in pixels, are

    down    n becomes (n − 2c) / 2 at the next level        up      n becomes 2n − 2c at the level above

so that inputs n ≡ −2c (mod 2^depth) pool evenly, and the output is n less twice the margin m(depth), where
m(0) = c and m(depth) = 2c + 2 m(depth − 1), that is c (3 · 2^depth − 2). The network of the paper (arXiv 1505.04597,
Fig. 1; depth 4, c = 2) has the margin 92: 572 gives 388, and so do 188, 204, 220 … give 4, 20, 36 …
"""

from __future__ import annotations

from clinibundle.errors import UnsuitableInput


def _step(depth: int) -> int:
    """2^depth, which valid sizes are apart."""
    return 1 << depth  # TorchScript, which the network may be turned into, makes a float of the power


def margin(depth: int, convolutions: int = 2) -> int:
    """Pixels that the output lacks at each end of an axis: 92 at depth 4.

    Args:
        depth: number of poolings.
        convolutions: of 3×3 a level.
    """
    return convolutions * (3 * _step(depth) - 2)


def is_valid(size: int, depth: int, convolutions: int = 2) -> bool:
    """Whether an input of this size is halved without a remainder at every level and gives an output."""
    return size > 2 * margin(depth, convolutions) and (size + 2 * convolutions) % _step(depth) == 0


def output_size(size: int, depth: int, convolutions: int = 2) -> int:
    """What an input of this size gives: 388 for 572 at depth 4.

    Raises:
        UnsuitableInput: the size is not valid.
    """
    if not is_valid(size, depth, convolutions):
        raise UnsuitableInput(
            f"a size of {size} pixels does not suit an unpadded U-Net of depth {depth}; "
            f"the nearest that does is {nearest_valid(size, depth, convolutions)}"
        )
    return size - 2 * margin(depth, convolutions)


def valid_at_least(size: int, depth: int, convolutions: int = 2) -> int:
    """The smallest valid input size that is not below `size`: 572 for 557 … 572 at depth 4."""
    least = max(size, 2 * margin(depth, convolutions) + 1)
    cells = -(-(least + 2 * convolutions) // _step(depth))
    return cells * _step(depth) - 2 * convolutions


def valid_at_most(size: int, depth: int, convolutions: int = 2) -> int:
    """The largest valid input size that is not above `size`: 572 for 572 … 587 at depth 4.

    Raises:
        UnsuitableInput: even the smallest valid size is larger.
    """
    found = size - (size + 2 * convolutions) % _step(depth)
    if not is_valid(found, depth, convolutions):
        raise UnsuitableInput(
            f"a size of {size} pixels is too small for an unpadded U-Net of depth {depth}, "
            f"which needs {valid_at_least(1, depth, convolutions)} or more"
        )
    return found


def nearest_valid(size: int, depth: int, convolutions: int = 2) -> int:
    """The valid input size nearest to `size`, the larger of two that are equally near: 508 for 512 at depth 4."""
    above = valid_at_least(size, depth, convolutions)
    below = above - _step(depth)
    return below if is_valid(below, depth, convolutions) and size - below < above - size else above
