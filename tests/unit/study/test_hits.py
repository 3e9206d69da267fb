"""Which images a model classifies correctly, as it is stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsesearch.study.hits import Hits

FLAGS = st.lists(st.booleans(), max_size=70)


@given(FLAGS)
def test_flags_are_those_that_were_packed(flags: list[bool]) -> None:
    hits = Hits.of(flags, images="screen")
    assert hits.flags() == flags
    assert hits.num_correct == sum(flags)
    assert len(hits.bits) == 2 * -(-len(flags) // 8)
    assert Hits.model_validate_json(hits.model_dump_json()) == hits


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=70))
def test_images_that_only_one_of_two_classifies_correctly(pairs: list[tuple[bool, bool]]) -> None:
    one, other = (Hits.of([pair[i] for pair in pairs], images="screen") for i in range(2))
    assert one.only_here(other) == sum(a and not b for a, b in pairs)
    assert other.only_here(one) == sum(b and not a for a, b in pairs)


@pytest.mark.parametrize("other", [Hits.of([True] * 3, images="confirm"), Hits.of([True] * 4, images="screen")])
def test_other_images_are_no_pairs(other: Hits) -> None:
    with pytest.raises(ValueError, match="are no pairs"):
        Hits.of([True] * 3, images="screen").only_here(other)
