import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from clinibundle.report.edge_path import edge_path


def filled(path, shape):
    """The pixels that a path goes round by the even-odd rule: an odd count of edges lies on their left."""
    inside = np.zeros(shape, bool)
    for x, y, steps in re.findall(r"M(\d+) (\d+)([^z]*)z", path):
        at = start = (int(x), int(y))
        moves = [(kind, int(step)) for kind, step in re.findall(r"([hv])(-?\d+)", steps)]
        assert [kind for kind, _ in moves[:-1:2]] == ["h"] * len(moves[:-1:2])
        for kind, step in [*moves, ("v", None)]:
            end = (at[0] + step, at[1]) if kind == "h" else (at[0], start[1] if step is None else at[1] + step)
            low, high = sorted((at[1], end[1]))
            inside[low:high, at[0] :] ^= True
            at = end
        assert at == start
    return inside


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_an_edge_filled_again_is_the_mask(mask):
    assert np.array_equal(filled(edge_path(mask), mask.shape), mask)


def test_a_path_is_short():
    mask = np.zeros((512, 512), bool)
    mask[100:400, 50:450] = True
    assert edge_path(mask) == "M50 100h400v300h-400z"
    assert edge_path(~mask).count("z") == 2
    assert edge_path(np.zeros((4, 4), bool)) == ""
