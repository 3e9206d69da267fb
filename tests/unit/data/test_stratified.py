"""Held-out images are a fair sample of every class."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsesearch.data.stratified import alternating, halves, hold_out
from sparsesearch.errors import DataError


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=12),
    fraction=st.floats(0.01, 0.9),
    parts=st.sampled_from([1, 2]),
)
def test_every_class_keeps_training_images(counts: list[int], fraction: float, parts: int) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    try:
        made = hold_out(labels, fraction, parts=parts)
    except DataError:
        assert sum(count >= 2 * (parts + 1) for count in counts) <= 1
        return
    assert sorted(index for part in made for index in part) == list(range(len(labels)))
    assert made == hold_out(labels, fraction, parts=parts)
    of = [Counter(labels[index] for index in part) for part in made]
    assert set(of[-1]) == set(range(len(counts)))
    for label, count in enumerate(counts):
        for part in of[:-1]:
            assert part[label] >= min(2, count // (parts + 1))
            assert part[label] <= max(2, fraction * count + 1.5)


def test_proportions() -> None:
    labels = [0] * 150 + [1] * 1
    held, rest = hold_out(labels, 0.1)
    assert Counter(labels[index] for index in held) == {0: 15}
    assert Counter(labels[index] for index in rest) == {0: 135, 1: 1}
    labels = [0] * 10 + [1] * 10
    first, second = halves(hold_out(labels, 0.1)[0], [labels[index] for index in hold_out(labels, 0.1)[0]])
    assert [sorted(labels[index] for index in half) for half in (first, second)] == [[0, 1], [0, 1]]
    labels = [label for label in range(100) for _ in range(13)]
    assert len(hold_out(labels, 0.3)[0]) == pytest.approx(390, abs=1), "rounding does not add up"


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), data=st.data())
def test_halves_are_disjoint_and_alike(counts: list[int], data: st.DataObject) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    first, second = halves(range(len(labels)), labels)
    assert sorted([*first, *second]) == list(range(len(labels)))
    assert abs(len(first) - len(second)) <= 1
    for label in range(len(counts)):
        assert abs(sum(labels[i] == label for i in first) - sum(labels[i] == label for i in second)) <= 1
    size = data.draw(st.integers(0, len(first)))
    begun = Counter(labels[index] for index in first[:size])
    for label, count in enumerate(counts):
        assert abs(begun[label] - count / 2 * size / max(1, len(first))) <= 2.5, "a beginning is a fair sample"
    woven = alternating(first, second)
    assert woven[0::2][: len(second)] == first[: len(woven[0::2])][: len(second)]
    assert woven[1::2] == second[: len(woven[1::2])]
