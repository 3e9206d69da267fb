"""An in-memory study store, for tests and for searches that need no persistence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

from sparsesearch.store import codec, driver_errors, study_transitions
from sparsesearch.store.lease import LEASE_SECONDS, Lease
from sparsesearch.store.memory_records import WHERE, MemoryRecords, StoredStudy
from sparsesearch.store.moment import Moment
from sparsesearch.store.transition_writer import NO_HITS, Change, TransitionWriter
from sparsesearch.study.hits import Hits
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.protocols import StudyStore, StudyWriter
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.trial import Fidelity, NewTrial, Trial, TrialState, TrialTimes


class MemoryStore(MemoryRecords, StudyStore):
    """An in-memory study store. Thread-safe; its studies are lost with the object."""

    def __init__(self, *, clock: Callable[[], float] | None = None, lease_s: float = LEASE_SECONDS) -> None:
        """Create an empty store.

        Args:
            clock: Clock, in Unix seconds, for tests; by default those of the machine.
            lease_s: Seconds after which a lease expires unless renewed.
        """
        super().__init__(clock=clock)
        self._lease_s = lease_s

    def set_patience(
        self,
        seconds: float,
        *,
        on_wait: Callable[[str], None] = lambda line: None,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Do nothing: memory is always available; see `SqlStore.set_patience`."""

    def create_study(self, spec: StudySpec) -> StudyWriter:
        """Add a study and open it. Raises `StudyExistsError` if the name exists."""
        with self._lock:
            now = self._now()
            lease = Lease.new(owner=uuid4().hex, generation=1, now=now, lease_s=self._lease_s)
            self._add(spec, state=study_transitions.opened(spec), lease=lease, now=now)
            return MemoryWriter(self, spec=spec, uid=self._studies[spec.name].uid, lease=lease)

    def submit_study(self, spec: StudySpec) -> None:
        """Add a study as QUEUED, for a thread that opens it later. Raises `StudyExistsError` if the name exists."""
        with self._lock:
            now = self._now()
            lease = Lease.new(owner=None, generation=0, now=now, lease_s=0.0)
            self._add(spec, state=StudyState.QUEUED, lease=lease, now=now)

    def request(self, name: str, request: StopRequest) -> StudyCondition:
        """Ask the thread of a study to stop, or stop a study that none runs; see `StudyStore.request`."""
        with self._lock:
            study, found = self._find(name), self.condition(name)
            after = study_transitions.requested(found, request, study=name)
            study.condition = after.model_copy(update={"work": study.condition.work})
            return after

    def open_study(self, name: str, *, resume: bool = False) -> StudyWriter:
        """Acquire the lease of a study, to run it with `resume`; see `StudyStore.open_study`."""
        with self._lock:
            study = self._find(name)
            now = self._now()
            study.lease.check_free(study=name, now=now)
            if resume:
                study.condition = study_transitions.resumed(study.condition, study.spec)
            study.condition = study.condition.model_copy(update={"work": ()})
            study.lease = Lease.new(
                owner=uuid4().hex,
                generation=study.lease.generation + 1,
                now=now,
                lease_s=self._lease_s,
                active_s=study.lease.active_s,
            )
            return MemoryWriter(self, spec=study.spec, uid=study.uid, lease=study.lease)

    def delete_study(self, name: str) -> None:
        """Remove a study with its trials. Raises `StudyNotFoundError` or `StudyBusyError`."""
        with self._lock:
            self._find(name).lease.check_free(study=name, now=self._now())
            del self._studies[name]

    def _add(self, spec: StudySpec, *, state: StudyState, lease: Lease, now: Moment) -> None:
        if spec.name in self._studies:
            raise driver_errors.exists(spec.name, where=WHERE)
        stored = codec.study_from_row(codec.study_to_row(spec))
        condition = StudyCondition(state=state)
        self._studies[spec.name] = StoredStudy(
            spec=stored, lease=lease, created_at=now.time, uid=uuid4().hex, condition=condition
        )

    def _leased(self, name: str, owner: str | None) -> StoredStudy:
        """Return the study with its lease extended, if `owner` owns it."""
        study = self._owned(name, owner)
        self._renew(study)
        return study

    def _owned(self, name: str, owner: str | None) -> StoredStudy:
        study = self._studies.get(name)
        if study is None or owner is None or study.lease.owner != owner:
            raise driver_errors.lease_lost(name)
        return study

    def _renew(self, study: StoredStudy) -> None:
        """Extend a lease, and count the time since it was last extended."""
        now, lease = self._now(), study.lease
        assert lease.steady_until is not None, "leases of this store have a steady clock"
        study.lease = replace(
            lease,
            expires_at=now.time + self._lease_s,
            steady_until=now.steady + self._lease_s,
            active_s=lease.active_s + now.steady - (lease.steady_until - self._lease_s),
        )


class MemoryWriter(TransitionWriter):
    """An open study of a `MemoryStore`. Thread-safe."""

    def __init__(self, store: MemoryStore, *, spec: StudySpec, uid: str, lease: Lease) -> None:
        """Called by the store, with a lease that it has acquired."""
        self.spec = spec
        self.uid = uid
        self._store = store
        self.active_s = lease.active_s
        self._owner = lease.owner

    def add_trials(self, trials: Sequence[NewTrial]) -> list[Trial]:
        """Store new trials as WAITING; see `StudyWriter.add_trials`.

        Raises:
            DuplicateTrialError: Another number has the same schedule, fidelity and seed.
            StaleAttemptError: The lease is lost.
        """
        if not trials:
            return []
        added = [codec.new_trial(trial, study=self.spec.name)[0] for trial in trials]
        with self._store._lock:
            study = self._store._owned(self.spec.name, self._owner)
            new: dict[int, Trial] = {}
            numbers: dict[tuple[str, Fidelity, int], int] = {}
            for trial in added:
                if trial.number in study.trials or trial.number in new:
                    continue
                work = (trial.key, trial.fidelity, trial.seed)
                existing = study.numbers.get(work, numbers.get(work))
                if existing is not None:
                    raise driver_errors.duplicate(trial, existing=existing)
                new[trial.number], numbers[work] = trial, trial.number
            study.trials.update(new)
            study.numbers.update(numbers)
            study.times.update({number: TrialTimes() for number in new})
            self._store._renew(study)
            return [study.trials[trial.number] for trial in added]

    def trials(self, states: Collection[TrialState] | None = None) -> Sequence[Trial]:
        """Return the trials in order of their numbers, optionally only those in some states."""
        with self._store._lock:
            study = self._store._studies.get(self.spec.name)
            trials = [] if study is None else [trial for _, trial in sorted(study.trials.items())]
            return [trial for trial in trials if states is None or trial.state in states]

    def set_state(self, state: StudyState, *, reason: str | None = None) -> None:
        """Store the state of the study; see `StudyWriter.set_state`.

        Raises:
            StaleAttemptError: The lease is lost.
        """
        with self._store._lock:
            study = self._store._leased(self.spec.name, self._owner)
            study.condition = study_transitions.entered(study.condition, state, reason=reason)

    def resolve(self, spec: StudySpec) -> None:
        """Replace the document of the study by its resolved form.

        Raises:
            StaleAttemptError: The lease is lost.
        """
        with self._store._lock:
            study = self._store._leased(self.spec.name, self._owner)
            study.spec = codec.study_from_row(codec.study_to_row(spec))
            self.spec = spec

    def requested(self) -> StopRequest | None:
        """Return a request to stop that is not fulfilled yet.

        Raises:
            StaleAttemptError: The lease is lost.
        """
        with self._store._lock:
            study = self._store._studies.get(self.spec.name)
            if study is None or study.lease.owner != self._owner:
                raise driver_errors.lease_lost(self.spec.name)
            return study.condition.request

    def show_work(self, work: Sequence[WorkProgress]) -> None:
        """Store what the trainings under way have done, for others to read."""
        with self._store._lock:
            study = self._store._studies.get(self.spec.name)
            if study is not None and study.lease.owner == self._owner:
                study.condition = study.condition.model_copy(update={"work": tuple(work)})

    def renew(self) -> None:
        """Extend the lease; raises `StaleAttemptError` if another process has taken it over."""
        with self._store._lock:
            self._store._leased(self.spec.name, self._owner)

    def close(self) -> None:
        """Release the lease, if this writer still owns it. Closing again has no effect."""
        with self._store._lock:
            study = self._store._studies.get(self.spec.name)
            if study is not None and study.lease.owner == self._owner:
                self._store._renew(study)
                study.lease = replace(study.lease, owner=None)
                if study.condition.state.is_active:
                    study.condition = StudyCondition(state=StudyState.PAUSED)
                study.condition = study.condition.model_copy(update={"request": None, "work": ()})

    def _change(self, changes: Sequence[Change], *, hits: Mapping[int, Hits] = NO_HITS) -> list[Trial]:
        if not changes:
            return []
        with self._store._lock:
            study = self._store._owned(self.spec.name, self._owner)
            changed: dict[int, Trial] = {}
            results = []
            for number, change in changes:
                if number not in study.trials:
                    raise driver_errors.no_trial(number, study=self.spec.name)
                before = changed.get(number, study.trials[number])
                after = change(before)
                if after is not before:
                    changed[number] = after = codec.stored(after)
                results.append(after)
            now = self._store._now().time
            for number, after in changed.items():
                study.times[number] = _times(study.times[number], study.trials[number], after, now=now)
                study.trials[number] = after
            for number, flags in hits.items():
                study.hits.setdefault(number, flags)
            self._store._renew(study)
            return results


def _times(times: TrialTimes, before: Trial, after: Trial, *, now: float) -> TrialTimes:
    measured = {m.step: times.measured_at.get(m.step, now) for m in after.measurements}
    return TrialTimes(
        started_at=now if before.state is TrialState.WAITING else times.started_at,
        ended_at=now if after.state.is_final and not before.state.is_final else times.ended_at,
        measured_at=measured,
    )
