"""What every study store does, in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from latency_samples import made_up_confirmation

from sparsesearch.errors import (
    DuplicateTrialError,
    StaleAttemptError,
    StudyBusyError,
    StudyExistsError,
    StudyNotFoundError,
    StudyStateError,
)
from sparsesearch.schedule import Schedule
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.events import Checkpointed, Confirmed, Ended, Event, Measured
from sparsesearch.study.numbers import Numbers
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.protocols import StudyStore, StudyWriter
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.trial import (
    CheckpointRef,
    Cost,
    Fidelity,
    FinalState,
    Measurement,
    NewTrial,
    Origin,
    Proposal,
    StudyTimes,
    Trial,
    TrialState,
    TrialTimes,
)

LEASE_S = 60.0


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Backing:
    """Where studies are kept, and how to reach them once more."""

    clock: Clock
    open: Callable[[], MemoryStore | SqlStore]
    is_durable: bool


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backing]:
    clock = Clock()
    if request.param == "memory":
        memory = MemoryStore(clock=clock, lease_s=LEASE_S)
        yield Backing(clock=clock, open=lambda: memory, is_durable=False)
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/deep/er/studies.db"
    else:
        url = request.getfixturevalue("postgres_url")
    opened: list[SqlStore] = []

    def open_again() -> SqlStore:
        opened.append(open_store(url, clock=clock, lease_s=LEASE_S))
        return opened[-1]

    yield Backing(clock=clock, open=open_again, is_durable=True)
    for store in opened:
        store.close()


@pytest.fixture
def store(backing: Backing) -> StudyStore:
    return backing.open()


@pytest.fixture
def writer(store: StudyStore) -> StudyWriter:
    return store.create_study(spec())


def spec(name: str = "digits") -> StudySpec:
    return StudySpec(name=name, backbone="deit_pico", budget=Budget(low=0.1 + 0.2, high=0.65), seed=3)


def new(number: int, **changes: object) -> NewTrial:
    fields: dict[str, object] = {
        "number": number,
        "fidelity": Fidelity.SUPERNET,
        "origin": Origin.SEARCH,
        "label": "search",
        "schedule": Schedule.at([3, 6, 9], [0.7, 0.5, 1 / 3]),
        "key": f"{number:032x}",
        "cost": Cost(macs=3_000_000_001, params=22_000_000, latency_ms=0.1 + 0.2),
        "seed": 2**40 + number,
    }
    return NewTrial.model_validate({**fields, **changes})


def measured(trial: int, step: int = 1, *, attempt: int = 1, top1: float = 0.1 + 0.2) -> Measured:
    measurement = Measurement(
        step=step,
        attempt=attempt,
        fidelity=Fidelity.FINETUNE,
        metrics={"val_top1": top1, "val_loss": 1 / 3},
        seconds=1e-9 / 3,
        seed=7,
    )
    return Measured(trial=trial, attempt=attempt, measurement=measurement)


def ended(trial: int, state: FinalState = TrialState.COMPLETE, *, attempt: int = 1, reason: str | None = None) -> Ended:
    return Ended(trial=trial, attempt=attempt, state=state, reason=reason)


def checkpointed(trial: int, step: int, *, attempt: int = 1) -> Checkpointed:
    reference = CheckpointRef(uri=f"file:///ckpt/{trial}-{step}.safetensors", sha256="0" * 64, step=step)
    return Checkpointed(trial=trial, attempt=attempt, checkpoint=reference)


class TestTimes:
    def test_they_are_the_clock_at_each_write(self, backing: Backing) -> None:
        store, clock = backing.open(), backing.clock
        writer = store.create_study(spec())
        created = clock.now
        writer.add_trial(new(0))
        writer.add_trial(new(1))
        assert store.times("digits") == StudyTimes(created_at=created, trials={0: TrialTimes(), 1: TrialTimes()})
        clock.now += 1
        writer.claim(0)
        clock.now += 1
        writer.record(measured(0, 1))
        clock.now += 1
        writer.record(measured(0, 1))  # a repeated report
        writer.record(measured(0, 2))
        clock.now += 1
        writer.record(ended(0))
        expected = TrialTimes(
            started_at=created + 1, ended_at=created + 4, measured_at={1: created + 2, 2: created + 3}
        )
        assert backing.open().times("digits").trials[0] == expected

    def test_claiming_again_keeps_the_start(self, backing: Backing) -> None:
        store, clock = backing.open(), backing.clock
        writer = store.create_study(spec())
        writer.add_trial(new(0))
        writer.claim(0)
        started = clock.now
        clock.now += 5
        writer.claim(0)
        writer.claim(0, retry=True)
        assert store.times("digits").trials[0].started_at == started

    def test_a_study_that_is_used_again_is_another_one(self, backing: Backing) -> None:
        store, clock = backing.open(), backing.clock
        store.create_study(spec()).close()
        first = store.times("digits").created_at
        store.delete_study("digits")
        clock.now += 7
        store.create_study(spec())
        assert store.times("digits").created_at == first + 7

    def test_of_no_study(self, backing: Backing) -> None:
        with pytest.raises(StudyNotFoundError):
            backing.open().times("digits")


class TestWhoHoldsIt:
    def test_whoever_opened_it_until_it_is_closed(self, backing: Backing) -> None:
        writer = backing.open().create_study(spec())
        assert backing.open().condition("digits").is_leased
        writer.close()
        assert not backing.open().condition("digits").is_leased
        backing.open().open_study("digits")
        assert backing.open().condition("digits").is_leased

    def test_a_holder_without_a_sign_of_life_counts_as_lost(self, backing: Backing) -> None:
        store = backing.open()
        writer = store.create_study(spec())
        backing.clock.now += LEASE_S - 1
        assert store.condition("digits").is_leased
        writer.renew()
        backing.clock.now += LEASE_S - 1
        assert store.condition("digits").is_leased
        backing.clock.now += 1
        assert not store.condition("digits").is_leased

    def test_looking_changes_nothing(self, backing: Backing) -> None:
        store = backing.open()
        store.create_study(spec()).close()
        assert not store.condition("digits").is_leased
        store.open_study("digits")

    def test_of_no_study(self, backing: Backing) -> None:
        with pytest.raises(StudyNotFoundError):
            _ = backing.open().condition("digits").is_leased


class TestCondition:
    def test_a_new_study_is_resolved_first(self, backing: Backing) -> None:
        backing.open().create_study(spec())
        assert backing.open().condition("digits") == StudyCondition(state=StudyState.RESOLVING, is_leased=True)

    def test_a_resolved_document_replaces_the_requested_one(self, backing: Backing) -> None:
        writer = backing.open().create_study(spec())
        resolved = spec().model_copy(update={"precision": "float32"})
        writer.resolve(resolved)
        writer.set_state(StudyState.RUNNING)
        assert writer.spec == backing.open().spec("digits") == resolved
        assert backing.open().condition("digits").state is StudyState.RUNNING

    def test_a_submitted_study_waits_for_whoever_opens_it(self, backing: Backing) -> None:
        backing.open().submit_study(spec())
        assert backing.open().condition("digits") == StudyCondition(state=StudyState.QUEUED)
        with pytest.raises(StudyExistsError):
            backing.open().submit_study(spec())
        backing.open().open_study("digits", resume=True)
        assert backing.open().condition("digits").state is StudyState.RESOLVING

    def test_closing_an_active_study_pauses_it(self, backing: Backing) -> None:
        backing.open().create_study(spec()).close()
        assert backing.open().condition("digits") == StudyCondition(state=StudyState.PAUSED)

    @pytest.mark.parametrize("state", [StudyState.FINISHED, StudyState.FAILED, StudyState.CANCELLED])
    def test_closing_keeps_the_state_that_was_stored(self, backing: Backing, state: StudyState) -> None:
        writer = backing.open().create_study(spec())
        writer.set_state(state, reason="because")
        writer.close()
        assert backing.open().condition("digits") == StudyCondition(state=state, reason="because")

    def test_opening_to_look_keeps_the_state(self, backing: Backing) -> None:
        writer = backing.open().create_study(spec())
        writer.set_state(StudyState.FINISHED)
        writer.close()
        again = backing.open().open_study("digits")
        assert backing.open().condition("digits") == StudyCondition(state=StudyState.FINISHED, is_leased=True)
        again.close()
        assert backing.open().condition("digits").state is StudyState.FINISHED

    def test_without_a_sign_of_life_it_was_interrupted(self, backing: Backing) -> None:
        backing.open().create_study(spec())
        backing.clock.now += LEASE_S
        found = backing.open().condition("digits")
        assert (found.state, found.is_interrupted, found.word) == (StudyState.RESOLVING, True, "interrupted")

    @pytest.mark.parametrize("request_", list(StopRequest))
    def test_a_request_reaches_the_process_that_runs_it(self, backing: Backing, request_: StopRequest) -> None:
        writer = backing.open().create_study(spec())
        assert writer.requested() is None
        found = backing.open().request("digits", request_)
        assert (found.state, found.request) == (StudyState.STOPPING, request_)
        assert writer.requested() is request_
        writer.close()
        assert backing.open().condition("digits").state is StudyState.PAUSED
        assert backing.open().open_study("digits", resume=True).requested() is None, "a request is for one run"

    def test_a_request_outlives_the_step_from_resolving_to_running(self, backing: Backing) -> None:
        writer = backing.open().create_study(spec())
        backing.open().request("digits", StopRequest.PAUSE)
        writer.set_state(StudyState.RUNNING)
        assert writer.requested() is StopRequest.PAUSE
        assert backing.open().condition("digits").state is StudyState.STOPPING
        writer.set_state(StudyState.PAUSED)
        assert writer.requested() is None

    def test_a_cancellation_is_not_withdrawn_by_a_pause(self, backing: Backing) -> None:
        writer = backing.open().create_study(spec())
        backing.open().request("digits", StopRequest.CANCEL)
        backing.open().request("digits", StopRequest.PAUSE)
        assert writer.requested() is StopRequest.CANCEL

    def test_a_study_that_nobody_runs_is_stopped_at_once(self, backing: Backing) -> None:
        backing.open().submit_study(spec())
        assert backing.open().request("digits", StopRequest.PAUSE).state is StudyState.PAUSED
        assert backing.open().request("digits", StopRequest.STOP).state is StudyState.PAUSED
        assert backing.open().request("digits", StopRequest.CANCEL).state is StudyState.CANCELLED
        assert backing.open().request("digits", StopRequest.CANCEL).state is StudyState.CANCELLED
        with pytest.raises(StudyStateError, match="is cancelled, so there is nothing to pause"):
            backing.open().request("digits", StopRequest.PAUSE)
        with pytest.raises(StudyStateError, match="was cancelled and cannot be resumed"):
            backing.open().open_study("digits", resume=True)
        assert not backing.open().condition("digits").is_leased, "the refusal leaves the lease free"

    def test_an_interrupted_study_is_stopped_at_once(self, backing: Backing) -> None:
        backing.open().create_study(spec())
        backing.clock.now += LEASE_S
        assert backing.open().request("digits", StopRequest.PAUSE).state is StudyState.PAUSED

    def test_work_is_shown_while_the_lease_lives(self, backing: Backing) -> None:
        writer = backing.open().create_study(spec())
        work = (WorkProgress(label="dense training", done=3, total=10, trial=0, images_per_s=12.5, note="loss 1.0"),)
        writer.show_work(work)
        assert backing.open().condition("digits").work == work
        backing.clock.now += LEASE_S
        assert backing.open().condition("digits").work == ()
        backing.open().open_study("digits")
        assert backing.open().condition("digits").work == ()

    def test_a_lost_lease_changes_no_state(self, backing: Backing) -> None:
        writer = backing.open().create_study(spec())
        backing.clock.now += LEASE_S
        backing.open().open_study("digits", resume=True)
        before = backing.open().condition("digits")
        with pytest.raises(StaleAttemptError):
            writer.set_state(StudyState.FINISHED)
        with pytest.raises(StaleAttemptError):
            writer.resolve(spec())
        with pytest.raises(StaleAttemptError):
            writer.requested()
        writer.show_work([WorkProgress(label="old", done=0, total=1)])
        writer.close()
        assert backing.open().condition("digits") == before

    def test_of_no_study(self, backing: Backing) -> None:
        with pytest.raises(StudyNotFoundError):
            backing.open().request("digits", StopRequest.PAUSE)


def refused(writer: StudyWriter, write: Callable[[], object]) -> None:
    """The write is refused and leaves no trace."""
    before = writer.trials()
    with pytest.raises(StaleAttemptError) as caught:
        write()
    assert "\n" not in str(caught.value)
    assert writer.trials() == before


class TestStudies:
    def test_documents_come_back_equal(self, backing: Backing) -> None:
        backing.open().create_study(spec())
        assert backing.open().spec("digits") == spec()

    def test_the_writer_knows_its_document(self, backing: Backing) -> None:
        created = backing.open().create_study(spec())
        assert created.spec == spec()
        created.close()
        assert backing.open().open_study("digits").spec == spec()

    def test_names_are_listed_oldest_first(self, store: StudyStore) -> None:
        for name in ("b", "a", "c"):
            store.create_study(spec(name)).close()
        assert list(store.studies()) == ["b", "a", "c"]
        store.delete_study("a")
        store.create_study(spec("a")).close()
        assert list(store.studies()) == ["b", "c", "a"]

    def test_a_name_is_taken_once(self, backing: Backing, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        with pytest.raises(StudyExistsError, match=r"'digits'.*another name"):
            backing.open().create_study(spec())
        assert len(writer.trials()) == 1

    @pytest.mark.parametrize("verb", ["open_study", "spec", "trials", "delete_study"])
    def test_an_unknown_name_is_refused(self, store: StudyStore, verb: str) -> None:
        with pytest.raises(StudyNotFoundError, match="contains no studies yet"):
            getattr(store, verb)("digit")
        for name in "abcdefg":
            store.create_study(spec(name)).close()
        with pytest.raises(
            StudyNotFoundError, match=r"no study 'digit' in .*; existing studies: g, f, e, d, c, \.\.\."
        ):
            getattr(store, verb)("digit")

    def test_a_study_has_a_unique_id_of_its_own(self, store: StudyStore, writer: StudyWriter) -> None:
        other = store.create_study(spec("other"))
        assert len(writer.uid) == len(other.uid) == 32
        assert writer.uid != other.uid
        assert (store.uid("digits"), store.uid("other")) == (writer.uid, other.uid)
        writer.close()
        assert store.open_study("digits").uid == writer.uid
        other.close()
        store.delete_study("other")
        assert store.create_study(spec("other")).uid != other.uid

    def test_deleting_removes_the_trials_too(self, store: StudyStore, writer: StudyWriter) -> None:
        other = store.create_study(spec("other"))
        for each in (writer, other):
            each.add_trial(new(0))
            each.claim(0)
            each.record(measured(0))
        writer.close()
        store.delete_study("digits")
        assert list(store.studies()) == ["other"]
        again = store.create_study(spec())
        assert list(again.trials()) == []
        assert other.trials()[0].measurements

    def test_a_study_that_is_run_cannot_be_deleted(self, backing: Backing, writer: StudyWriter) -> None:
        with pytest.raises(StudyBusyError):
            backing.open().delete_study("digits")
        assert list(backing.open().studies()) == ["digits"]


class TestAdding:
    def test_a_trial_comes_back_equal(self, backing: Backing, writer: StudyWriter) -> None:
        proposal = Proposal(
            index=4,
            seed=2**63 + 5,
            seen=Numbers([0, 2]),
            params={"count": 3, "ratio": 1.0, "third": 1 / 3, "kind": "prune", "wide": float("inf")},
            system_attrs={"constraints": [0.1, -1e300], "nested": {"b": 1, "a": [None, True, "é\x00"]}},
        )
        trial = new(0, proposal=proposal, parent=0, budget_macs=2**40)
        stored = writer.add_trial(trial)
        assert stored == Trial(**dict(trial), study="digits", state=TrialState.WAITING)
        assert list(writer.trials()) == [stored]
        assert list(backing.open().trials("digits")) == [stored]
        kept = stored.proposal
        assert kept is not None
        assert type(kept.params["count"]) is int
        assert type(kept.params["ratio"]) is float

    def test_what_is_returned_is_what_is_stored(self, writer: StudyWriter) -> None:
        proposal = Proposal(index=0, seed=0, seen=Numbers(), params={}, system_attrs={"pair": (1, 2)})
        stored = writer.add_trial(new(0, proposal=proposal))
        assert stored.proposal is not None
        assert stored.proposal.system_attrs == {"pair": [1, 2]}
        assert list(writer.trials()) == [stored]

    def test_a_number_is_added_once(self, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        running = writer.claim(0)
        assert writer.add_trial(new(0, label="other", key="f" * 32)) == running
        assert list(writer.trials()) == [running]

    def test_the_same_work_is_not_added_twice(self, writer: StudyWriter) -> None:
        first = writer.add_trial(new(0))
        with pytest.raises(DuplicateTrialError, match=r"trial 1 .* duplicates trial 0"):
            writer.add_trial(new(1, key=first.key, seed=first.seed))
        assert list(writer.trials()) == [first]
        writer.add_trial(new(1, key=first.key, seed=first.seed + 1))
        writer.add_trial(new(2, key=first.key, seed=first.seed, fidelity=Fidelity.FINETUNE))
        assert [trial.number for trial in writer.trials()] == [0, 1, 2]

    def test_studies_do_not_see_each_other(self, store: StudyStore, writer: StudyWriter) -> None:
        other = store.create_study(spec("other"))
        writer.add_trial(new(0))
        other.add_trial(new(0, label="mine"))
        writer.claim(0)
        assert [(trial.label, trial.state) for trial in other.trials()] == [("mine", TrialState.WAITING)]

    def test_trials_are_in_order_of_their_numbers(self, store: StudyStore, writer: StudyWriter) -> None:
        for number in (11, 2, 1, 10):
            writer.add_trial(new(number))
        assert [trial.number for trial in writer.trials()] == [1, 2, 10, 11]
        assert [trial.number for trial in store.trials("digits")] == [1, 2, 10, 11]

    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 2**63},
            {"key": "a\x00b"},
            {"cost": Cost(macs=1, params=1, latency_ms=float("nan"))},
            {"proposal": Proposal(index=0, seed=0, seen=Numbers(), params={}, system_attrs={"x": object()})},
        ],
        ids=["seed", "key", "latency", "proposal"],
    )
    def test_what_cannot_be_kept_is_refused_everywhere(self, writer: StudyWriter, changes: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="trial 0 of study 'digits'"):
            writer.add_trial(new(0, **changes))
        assert list(writer.trials()) == []


class TestClaiming:
    def test_the_first_claim_is_attempt_one(self, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        claimed = writer.claim(0)
        assert (claimed.state, claimed.attempt) == (TrialState.RUNNING, 1)
        assert list(writer.trials()) == [claimed]

    def test_claiming_again_keeps_the_attempt(self, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        first = writer.claim(0)
        assert writer.claim(0) == first

    def test_a_retry_raises_the_attempt_and_fences_the_old_one(self, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        assert writer.claim(0, retry=True).attempt == 1
        writer.record(measured(0, 1))
        writer.record(checkpointed(0, 1))
        second = writer.claim(0, retry=True)
        assert (second.attempt, second.epochs_done, second.state) == (2, 1, TrialState.RUNNING)
        assert second.checkpoint is not None
        for event in (measured(0, 1), measured(0, 2), checkpointed(0, 2), ended(0)):
            refused(writer, lambda event=event: writer.record(event))  # type: ignore[misc]
        assert writer.record(measured(0, 2, attempt=2)).epochs_done == 2

    def test_a_final_trial_cannot_be_claimed(self, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        writer.claim(0)
        writer.record(ended(0))
        refused(writer, lambda: writer.claim(0))
        refused(writer, lambda: writer.claim(0, retry=True))

    def test_a_trial_that_was_never_added(self, writer: StudyWriter) -> None:
        with pytest.raises(LookupError, match="no trial 5"):
            writer.claim(5)
        with pytest.raises(LookupError, match="no trial 5"):
            writer.record(ended(5))


class TestRecording:
    @pytest.fixture
    def running(self, writer: StudyWriter) -> StudyWriter:
        writer.add_trial(new(0))
        writer.claim(0)
        return writer

    def test_measurements_come_back_exactly(self, backing: Backing, running: StudyWriter) -> None:
        event = measured(0, top1=0.1 + 0.2)
        after = running.record(event)
        assert after.measurements == (event.measurement,)
        assert list(backing.open().trials("digits")) == [after]
        assert after.metrics["val_top1"].hex() == (0.1 + 0.2).hex()

    def test_numbers_that_are_not_finite_are_kept(self, backing: Backing, running: StudyWriter) -> None:
        base = measured(0)
        metrics = {"nan": float("nan"), "inf": float("inf"), "minus": float("-inf"), "tiny": 5e-324, "zero": -0.0}
        measurement = base.measurement.model_copy(update={"metrics": metrics})
        running.record(base.model_copy(update={"measurement": measurement}))
        kept = backing.open().trials("digits")[0].metrics
        assert {name: str(value) for name, value in kept.items()} == {n: str(v) for n, v in metrics.items()}

    def test_the_first_report_of_a_step_is_kept(self, running: StudyWriter) -> None:
        first = running.record(measured(0, 1, top1=0.5))
        assert running.record(measured(0, 1, top1=0.9)) == first
        assert running.trials()[0].metrics["val_top1"] == 0.5

    def test_measurements_are_in_order_of_steps(self, running: StudyWriter) -> None:
        for step in (2, 0, 10, 1):
            running.record(measured(0, step))
        assert [item.step for item in running.trials()[0].measurements] == [0, 1, 2, 10]

    def test_the_newest_checkpoint_replaces_the_older(self, backing: Backing, running: StudyWriter) -> None:
        running.record(checkpointed(0, 1))
        after = running.record(checkpointed(0, 2))
        assert after.checkpoint == checkpointed(0, 2).checkpoint
        assert list(backing.open().trials("digits")) == [after]

    def test_a_reference_whose_weights_are_lost_runs_again(self, backing: Backing, running: StudyWriter) -> None:
        running.record(measured(0, 1, top1=0.5))
        running.record(checkpointed(0, 1))
        before = running.record(ended(0, TrialState.REFERENCE))
        after = running.reopen(0, reason="damaged")
        assert after == before.model_copy(update={"state": TrialState.RUNNING, "checkpoint": None, "reason": "damaged"})
        assert list(backing.open().trials("digits")) == [after]
        assert running.claim(0).attempt == before.attempt
        assert running.record(measured(0, 1, top1=0.9)).metrics["val_top1"] == 0.5
        running.record(checkpointed(0, 1))
        assert running.record(ended(0, TrialState.REFERENCE)).checkpoint == before.checkpoint

    @pytest.mark.parametrize("state", [TrialState.STOPPED, TrialState.FAILED])
    def test_only_trainings_that_ended_well_run_again(self, running: StudyWriter, state: FinalState) -> None:
        with pytest.raises(StaleAttemptError, match="only a training that has ended well can be repeated"):
            running.reopen(0, reason="damaged")
        running.record(ended(0, state))
        with pytest.raises(StaleAttemptError, match=f"is {state}; only"):
            running.reopen(0, reason="damaged")

    @pytest.mark.parametrize(
        "state",
        [
            TrialState.COMPLETE,
            TrialState.STOPPED,
            TrialState.FAILED,
            TrialState.REFERENCE,
        ],
    )
    def test_a_trial_ends_once(self, backing: Backing, running: StudyWriter, state: FinalState) -> None:
        running.record(measured(0, 1))
        running.record(checkpointed(0, 1))
        after = running.record(ended(0, state, reason="why: é\n\x00"))
        assert (after.state, after.reason) == (state, "why: é\n\N{REPLACEMENT CHARACTER}")
        assert list(backing.open().trials("digits")) == [after]
        assert running.record(ended(0, state, reason="again")) == after
        assert running.record(measured(0, 1, top1=0.9)) == after
        assert running.record(checkpointed(0, 1)) == after
        other = TrialState.FAILED if state is TrialState.COMPLETE else TrialState.COMPLETE
        changes: list[Event] = [ended(0, other), measured(0, 2), checkpointed(0, 2)]
        for event in changes:
            refused(running, lambda event=event: running.record(event))  # type: ignore[misc]

    def test_the_latency_of_an_ended_trial_is_confirmed_and_again(self, backing: Backing, running: StudyWriter) -> None:
        first, second = made_up_confirmation(2.0), made_up_confirmation(3.0, reference_ms=2.0)
        with pytest.raises(StaleAttemptError, match="measured only after it has ended"):
            running.record(Confirmed(trial=0, attempt=1, latency=first))
        running.record(ended(0))
        for latency, ms in ((first, 2.0), (first, 2.0), (second, 1.5)):
            after = running.record(Confirmed(trial=0, attempt=1, latency=latency))
            assert (after.state, after.confirmed, after.cost.latency_ms) == (TrialState.COMPLETE, latency, ms)
            assert backing.open().trials("digits")[0] == after
        with pytest.raises(StaleAttemptError, match="attempt 2 is rejected"):
            running.record(Confirmed(trial=0, attempt=2, latency=first))

    def test_an_unclaimed_trial_takes_no_report(self, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        for event in (measured(0), checkpointed(0, 1), ended(0)):
            refused(writer, lambda event=event: writer.record(event))  # type: ignore[misc]

    def test_a_report_from_the_future_is_refused(self, running: StudyWriter) -> None:
        refused(running, lambda: running.record(measured(0, attempt=2)))

    def test_a_measurement_must_be_of_the_reporting_attempt(self, running: StudyWriter) -> None:
        running.claim(0, retry=True)
        event = measured(0, attempt=1)
        refused(running, lambda: running.record(event.model_copy(update={"attempt": 2})))

    def test_trials_can_be_chosen_by_state(self, writer: StudyWriter) -> None:
        for number in range(4):
            writer.add_trial(new(number))
        for number in (1, 2, 3):
            writer.claim(number)
            writer.record(measured(number))
        writer.record(ended(3))
        chosen = writer.trials({TrialState.RUNNING, TrialState.COMPLETE})
        assert [(trial.number, len(trial.measurements)) for trial in chosen] == [(1, 1), (2, 1), (3, 1)]
        assert [trial.number for trial in writer.trials([TrialState.WAITING])] == [0]
        assert list(writer.trials([])) == []
        assert len(writer.trials()) == 4


class TestBatches:
    def test_they_store_what_single_writes_store(self, backing: Backing, writer: StudyWriter) -> None:
        other = backing.open().create_study(spec("one-by-one"))
        numbers = [0, 2, 1]
        added = writer.add_trials([new(number) for number in numbers])
        assert added == [other.add_trial(new(number)).model_copy(update={"study": "digits"}) for number in numbers]
        claimed = writer.claim_all(numbers)
        assert [trial.number for trial in claimed] == numbers
        assert all(trial.state is TrialState.RUNNING and trial.attempt == 1 for trial in claimed)
        events = [measured(0, 2), measured(1), measured(0, 1), ended(1), checkpointed(2, 1), ended(0)]
        steps = [len(trial.measurements) for trial in writer.record_all(events)]
        assert steps == [1, 1, 2, 1, 0, 2]
        for number in numbers:
            other.claim(number)
        for event in events:
            other.record(event)
        stored = [trial.model_copy(update={"study": "digits"}) for trial in backing.open().trials("one-by-one")]
        assert list(backing.open().trials("digits")) == stored
        times = backing.open().times("digits").trials
        assert times == backing.open().times("one-by-one").trials

    def test_nothing_is_nothing(self, writer: StudyWriter) -> None:
        assert writer.add_trials([]) == writer.claim_all([]) == writer.record_all([]) == []

    def test_numbers_that_are_stored_are_returned_as_they_are(self, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        writer.claim(0)
        found = writer.add_trials([new(1), new(0, label="another"), new(2), new(2)])
        assert [(trial.number, trial.state) for trial in found] == [
            (1, TrialState.WAITING),
            (0, TrialState.RUNNING),
            (2, TrialState.WAITING),
            (2, TrialState.WAITING),
        ]
        assert found == [writer.trials()[number] for number in (1, 0, 2, 2)]

    def test_one_refused_trial_refuses_the_batch(self, backing: Backing, writer: StudyWriter) -> None:
        writer.add_trial(new(0))
        for batch in (
            [new(1), new(2, key=new(0).key, seed=new(0).seed)],
            [new(1), new(2, key=new(1).key, seed=new(1).seed)],
        ):
            with pytest.raises(DuplicateTrialError, match="trial 2 "):
                writer.add_trials(batch)
            assert [trial.number for trial in backing.open().trials("digits")] == [0]

    def test_one_refused_event_refuses_the_batch(self, backing: Backing, writer: StudyWriter) -> None:
        writer.add_trials([new(0), new(1)])
        writer.claim_all([0, 1])
        before = backing.open().trials("digits")
        with pytest.raises(StaleAttemptError):
            writer.record_all([measured(0), ended(0), measured(1, attempt=2)])
        with pytest.raises(StaleAttemptError):
            writer.record_all([ended(0), measured(0)])
        with pytest.raises(LookupError):
            writer.record_all([measured(0), measured(7)])
        assert backing.open().trials("digits") == before
        writer.record_all([measured(0), ended(0)])
        with pytest.raises(StaleAttemptError):
            writer.claim_all([1, 0])
        assert writer.record(measured(1)).attempt == 1

    def test_a_late_owner_is_refused(self, backing: Backing, writer: StudyWriter) -> None:
        writer.add_trials([new(0), new(1)])
        backing.clock.now += LEASE_S + 1
        backing.open().open_study("digits")
        for write in (
            lambda: writer.add_trials([new(2)]),
            lambda: writer.claim_all([0, 1]),
            lambda: writer.record_all([measured(0)]),
        ):
            with pytest.raises(StaleAttemptError, match="no longer leased"):
                write()


class TestLeases:
    def writes(self, writer: StudyWriter) -> list[Callable[[], object]]:
        return [
            lambda: writer.add_trial(new(9)),
            lambda: writer.add_trial(new(0)),
            lambda: writer.claim(0),
            lambda: writer.record(measured(0, 5)),
            lambda: writer.record(ended(0)),
            writer.renew,
        ]

    @pytest.fixture
    def held(self, writer: StudyWriter) -> StudyWriter:
        writer.add_trial(new(0))
        writer.claim(0)
        return writer

    def test_a_study_has_one_holder(self, backing: Backing, held: StudyWriter) -> None:
        with pytest.raises(StudyBusyError, match=r"'digits' is being run by process \d+ on .* 60 s"):
            backing.open().open_study("digits")
        held.record(measured(0))

    def test_closing_gives_it_back(self, backing: Backing, held: StudyWriter) -> None:
        held.close()
        held.close()
        for write in self.writes(held):
            refused(held, write)
        backing.open().open_study("digits").record(measured(0))

    def test_closing_late_takes_nothing_from_the_next_holder(self, backing: Backing, held: StudyWriter) -> None:
        backing.clock.now += LEASE_S
        successor = backing.open().open_study("digits")
        held.close()
        successor.record(measured(0))
        with pytest.raises(StudyBusyError):
            backing.open().open_study("digits")

    def test_a_lease_is_lost_when_its_time_is_over(self, backing: Backing, held: StudyWriter) -> None:
        backing.clock.now += LEASE_S - 0.1
        with pytest.raises(StudyBusyError):
            backing.open().open_study("digits")
        backing.clock.now += 0.1
        successor = backing.open().open_study("digits")
        for write in self.writes(held):
            refused(successor, write)
        assert successor.claim(0).attempt == 1
        successor.record(measured(0))

    def test_the_time_that_processes_have_worked_is_counted(self, backing: Backing, held: StudyWriter) -> None:
        assert held.active_s == 0.0
        backing.clock.now += 20.0
        held.renew()
        backing.clock.now += 5.0
        held.close()
        backing.clock.now += 1000.0
        second = backing.open().open_study("digits")
        assert second.active_s == 25.0
        backing.clock.now += 10.0
        second.renew()
        backing.clock.now += LEASE_S + 1.0  # killed: what came after its last renewal is not known
        assert backing.open().open_study("digits").active_s == 35.0

    def test_an_expired_lease_that_nobody_took_still_holds(self, backing: Backing, held: StudyWriter) -> None:
        backing.clock.now += 10 * LEASE_S
        held.record(measured(0))
        with pytest.raises(StudyBusyError):
            backing.open().open_study("digits")

    @pytest.mark.parametrize("which", range(6))
    def test_every_write_extends_it(self, backing: Backing, held: StudyWriter, which: int) -> None:
        backing.clock.now += LEASE_S - 1
        self.writes(held)[which]()
        backing.clock.now += LEASE_S - 1
        with pytest.raises(StudyBusyError):
            backing.open().open_study("digits")

    def test_a_holder_of_a_deleted_study_is_refused(self, backing: Backing, held: StudyWriter) -> None:
        backing.clock.now += LEASE_S
        store = backing.open()
        store.delete_study("digits")
        for write in self.writes(held):
            with pytest.raises(StaleAttemptError):
                write()
        successor = store.create_study(spec())
        successor.add_trial(new(0))
        successor.claim(0)
        for write in self.writes(held):
            refused(successor, write)
        held.close()
        successor.renew()


class TestThreads:
    def test_one_of_many_creates(self, store: StudyStore) -> None:
        outcomes = _together(8, lambda index: store.create_study(spec()))
        assert sum(isinstance(outcome, StudyExistsError) for outcome in outcomes) == 7
        assert list(store.studies()) == ["digits"]

    def test_different_studies_can_be_created_at_once(self, store: StudyStore) -> None:
        outcomes = _together(6, lambda index: store.create_study(spec(f"s{index}")).spec.name)
        assert sorted(map(str, outcomes)) == [f"s{index}" for index in range(6)]
        assert sorted(store.studies()) == [f"s{index}" for index in range(6)]

    def test_one_of_many_opens(self, store: StudyStore, writer: StudyWriter) -> None:
        writer.close()
        outcomes = _together(8, lambda index: store.open_study("digits"))
        assert sum(isinstance(outcome, StudyBusyError) for outcome in outcomes) == 7

    def test_one_writer_serves_several_threads(self, writer: StudyWriter) -> None:
        for number in range(4):
            writer.add_trial(new(number))
            writer.claim(number)

        def work(index: int) -> None:
            for step in range(1, 9):
                writer.record(measured(index % 4, step, top1=step / 10))
                writer.renew()
            writer.trials()

        assert _together(8, work) == [None] * 8
        assert [trial.epochs_done for trial in writer.trials()] == [8] * 4
        assert all(len(trial.measurements) == 8 for trial in writer.trials())


def _together(num: int, work: Callable[[int], object]) -> list[object]:
    """Results, or the exceptions, of calls made at the same time."""
    start = threading.Barrier(num)
    outcomes: list[object] = [None] * num

    def run(index: int) -> None:
        start.wait()
        try:
            outcomes[index] = work(index)
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(num)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
