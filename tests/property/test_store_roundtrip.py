"""Whatever a study can hold comes back equal from a database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import DynamicVitScorer, NormScorer, RandomScorer
from sparsesearch.space.definition import SearchSpace
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.study.events import Checkpointed, Ended, Measured
from sparsesearch.study.numbers import Numbers
from sparsesearch.study.protocols import StudyStore
from sparsesearch.study.spec import Budget, DataSpec, FidelitySpec, StudySpec, TrainSpec
from sparsesearch.study.trial import (
    CheckpointRef,
    Cost,
    Fidelity,
    Measurement,
    NewTrial,
    Origin,
    Proposal,
    Trial,
    TrialState,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.floats(allow_nan=False)  # NaN is kept too, but is not equal to itself; the contract suite looks at it
integers = st.integers(-(2**63) + 1, 2**63 - 1)
sizes = st.integers(0, 2**62)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
scorers = st.one_of(
    st.just(DynamicVitScorer()), st.just(NormScorer()), st.builds(RandomScorer, seed=st.integers(0, 2**40))
)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    ratios = sorted(draw(st.lists(st.floats(1e-6, 1.0), max_size=4)), reverse=True)
    blocks = sorted(draw(st.lists(st.integers(0, 11), min_size=len(ratios), max_size=len(ratios))))
    phases = draw(st.lists(st.just("before_block"), min_size=len(ratios), max_size=len(ratios)))
    return Schedule(
        steps=tuple(
            Step(block=block, keep_ratio=ratio, phase=phase, scorer=draw(scorers))  # type: ignore[arg-type]
            for block, ratio, phase in zip(blocks, ratios, phases, strict=True)
        )
    )


proposals = st.builds(
    Proposal,
    index=st.integers(0, 2**40),
    seed=st.integers(0, 2**63 - 1),
    seen=st.lists(st.integers(0, 10**6), max_size=5).map(Numbers),
    params=st.dictionaries(words, st.integers() | numbers | st.text(max_size=8), max_size=4),
    system_attrs=st.dictionaries(words, plain, max_size=3),
)
costs = st.builds(Cost, macs=sizes, params=sizes, latency_ms=st.none() | finite)
trials = st.builds(
    NewTrial,
    number=st.integers(0, 2**31 - 1),
    fidelity=st.sampled_from(Fidelity),
    origin=st.sampled_from(Origin),
    label=words,
    schedule=schedules(),
    key=words,
    cost=costs,
    seed=integers,
    parent=st.none() | st.integers(0, 10**6),
    proposal=st.none() | proposals,
    budget_macs=st.none() | sizes,
)
measurements = st.builds(
    Measurement,
    step=st.integers(0, 2**31 - 1),
    attempt=st.just(1),
    fidelity=st.sampled_from(Fidelity),
    metrics=st.dictionaries(st.text(max_size=8), numbers, max_size=4),
    seconds=finite,
    seed=integers,
)
checkpoints = st.builds(CheckpointRef, uri=words, sha256=words, step=st.integers(0, 2**31 - 1))
ends = st.builds(
    Ended,
    trial=st.just(0),
    attempt=st.just(1),
    state=st.sampled_from([state for state in TrialState if state.is_final]),
    reason=st.none() | words,
)
specs = st.builds(
    StudySpec,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", fullmatch=True),
    backbone=st.text(max_size=8),
    budget=st.builds(Budget, unit=st.sampled_from(["gflops", "fraction"]), high=st.floats(1e-9, 1e9)),
    data=st.builds(DataSpec, source=st.text(max_size=8), val_fraction=st.floats(1e-6, 0.999)),
    space=st.builds(SearchSpace, min_keep_ratio=st.floats(1e-6, 1.0)),
    seed=st.integers(0, 2**63 - 1),
    fidelity=st.builds(
        FidelitySpec, finetune=st.builds(TrainSpec, epochs=st.integers(1, 100), lr=st.floats(1e-300, 1e300))
    ),
    time_budget_s=st.none() | st.floats(1e-6, 1e9),
)


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> Iterator[StudyStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    with tempfile.TemporaryDirectory() as folder:
        opened = open_store(f"sqlite:///{Path(folder)}/studies.db")
        yield opened
        opened.close()


@settings(max_examples=60, deadline=None)
@given(spec=specs)
def test_studies(store: StudyStore, spec: StudySpec) -> None:
    store.create_study(spec).close()
    try:
        assert store.spec(spec.name) == spec
        assert store.spec(spec.name).model_dump_json() == spec.model_dump_json()
    finally:
        store.delete_study(spec.name)


@settings(max_examples=60, deadline=None)
@given(
    new=trials,
    reports=st.lists(measurements, max_size=4, unique_by=lambda item: item.step),
    checkpoint=st.none() | checkpoints,
    end=st.none() | ends,
)
def test_trials(
    store: StudyStore, new: NewTrial, reports: list[Measurement], checkpoint: CheckpointRef | None, end: Ended | None
) -> None:
    writer = store.create_study(StudySpec(name="digits", backbone="deit_pico", budget=Budget(high=0.65)))
    try:
        expected = Trial(**dict(new), study="digits")
        assert writer.add_trial(new) == expected
        assert list(writer.trials()) == [expected]
        number = new.number
        after = writer.claim(number)
        for report in reports:
            after = writer.record(Measured(trial=number, attempt=1, measurement=report))
        if checkpoint is not None:
            after = writer.record(Checkpointed(trial=number, attempt=1, checkpoint=checkpoint))
        if end is not None:
            after = writer.record(end.model_copy(update={"trial": number}))
        expected = expected.model_copy(
            update={
                "state": TrialState.RUNNING if end is None else end.state,
                "attempt": 1,
                "measurements": tuple(sorted(reports, key=lambda item: item.step)),
                "checkpoint": checkpoint,
                "reason": None if end is None else end.reason,
            }
        )
        assert after == expected
        assert list(store.trials("digits")) == [expected]
        assert repr(store.trials("digits")[0].measurements) == repr(writer.trials()[0].measurements)
    finally:
        writer.close()
        store.delete_study("digits")
