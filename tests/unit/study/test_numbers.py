from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sparsesearch.study.numbers import Numbers
from sparsesearch.study.trial import Proposal


def proposal(seen: object) -> Proposal:
    return Proposal.model_validate({"index": 0, "seed": 0, "seen": seen, "params": {}})


@pytest.mark.parametrize(
    ("numbers", "document"),
    [
        ([], []),
        ([7], [7]),
        ([0, 1, 2, 5], [[0, 2], 5]),
        ([3, 2, 1], [3, 2, 1]),
        ([1, 1, 2], [1, [1, 2]]),
        (range(10_000), [[0, 9_999]]),
    ],
)
def test_they_are_written_as_runs(numbers: list[int], document: list[int | list[int]]) -> None:
    made = Numbers(numbers)
    assert made.document() == document
    assert list(made) == list(numbers)
    assert len(made) == len(list(numbers))
    assert Numbers.of(document) == made == tuple(numbers)
    assert Numbers.of(list(numbers)) == made


@given(st.lists(st.integers(-5, 20), max_size=30))
def test_any_sequence_comes_back(numbers: list[int]) -> None:
    made = Numbers(numbers)
    read = Proposal.model_validate_json(proposal(numbers).model_dump_json()).seen
    assert read == made
    assert hash(read) == hash(made)
    assert list(read) == numbers


def test_one_sequence_has_one_form() -> None:
    assert Numbers.of([[0, 2], [3, 4], 5]) == Numbers(range(6))
    assert Numbers.of([[0, 2], [3, 4], 5]).document() == [[0, 5]]


@pytest.mark.parametrize("value", ["12", 3, None, {"a": 1}, [1.5], [True], ["1"], [[1]], [[2, 1]], [[1, 2, 3]], [None]])
def test_nothing_else_is_taken(value: object) -> None:
    with pytest.raises(ValidationError, match="seen"):
        proposal(value)


def test_they_are_not_equal_to_others() -> None:
    assert Numbers([1]) != Numbers([2])
    assert Numbers([1]) != (2,)
    assert Numbers([1]) != [1]
