import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsesearch.sparsify.draws import Draws
from sparsesearch.training.objectives import window_tokens


@st.composite
def cases(draw):
    """A grid and boxes that touch no more tokens a side than the window has."""
    grid = (draw(st.integers(1, 16)), draw(st.integers(1, 16)))
    boxes = []
    for _ in range(draw(st.integers(1, 5))):
        spans = []
        for size in grid:
            side = math.ceil(size / 2)
            first = draw(st.integers(0, size - 1))
            last = draw(st.integers(first, min(first + side, size) - 1))
            inside = st.floats(0.05, 0.45)
            spans.append(((first + draw(inside)) / size, (last + 1 - draw(inside)) / size))
        (top, bottom), (left, right) = spans
        boxes.append([top, left, bottom, right])
    return grid, torch.tensor(boxes), draw(st.integers(0, 2**31))


@settings(deadline=None, derandomize=True, database=None)
@given(cases())
def test_the_window_is_a_block_of_the_grid_that_holds_the_box(case):
    grid, boxes, seed = case
    index_BK = window_tokens(boxes, grid=grid, draws=Draws(seed))
    sides = [math.ceil(size / 2) for size in grid]
    assert index_BK.dtype == torch.int64
    assert index_BK.shape == (len(boxes), sides[0] * sides[1])
    for indices, box in zip(index_BK.tolist(), boxes.tolist(), strict=True):
        rows, columns = sorted({i // grid[1] for i in indices}), sorted({i % grid[1] for i in indices})
        assert indices == [row * grid[1] + column for row in rows for column in columns]
        for found, size, side, low, high in zip(
            (rows, columns), grid, sides, (box[0], box[1]), (box[2], box[3]), strict=True
        ):
            assert found == list(range(found[0], found[0] + side))
            assert found[0] >= 0
            assert found[-1] < size
            assert found[0] <= low * size
            assert found[-1] + 1 >= high * size


def test_every_place_that_holds_the_box_is_drawn():
    boxes = torch.tensor([[0.5, 0.5, 0.625, 0.625]]).expand(200, 4)  # token (4, 4) of 8 x 8
    index_BK = window_tokens(boxes, grid=(8, 8), draws=Draws(0))
    starts = {(int(i) // 8, int(i) % 8) for i in index_BK[:, 0]}
    assert starts == {(row, column) for row in range(1, 5) for column in range(1, 5)}


@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.75, 0.75), (0.0, 0.75)])
def test_boxes_at_the_border_have_windows_at_the_border(corner):
    top, left = corner
    boxes = torch.tensor([[top, left, top + 0.25, left + 0.25]])
    index_BK = window_tokens(boxes, grid=(4, 4), draws=Draws(3))
    first = int(index_BK[0, 0])
    assert first == (2 * 4 if top else 0) + (2 if left else 0)


def test_the_generator_alone_decides():
    boxes = torch.tensor([[0.4, 0.4, 0.5, 0.5]]).expand(16, 4)
    draws = [window_tokens(boxes, grid=(8, 8), draws=Draws(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
