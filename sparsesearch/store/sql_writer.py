"""The writer of a leased study in a SQL database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from sparsesearch.store import codec, driver_errors, study_transitions
from sparsesearch.store import writer_statements as sql
from sparsesearch.store.database import Database
from sparsesearch.store.lease import Lease
from sparsesearch.store.moment import Moment
from sparsesearch.store.outbox import write_condition
from sparsesearch.store.transition_writer import NO_HITS, Change, TransitionWriter
from sparsesearch.store.trial_queries import load_trials
from sparsesearch.store.trial_updates import changed, last_change, save_trials
from sparsesearch.study.hits import Hits
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.trial import NewTrial, Trial, TrialState

_T = TypeVar("_T")

_ANALYZED_AFTER = 64
"""Trials that a writer adds before it makes PostgreSQL analyze a table that was never analyzed."""


class SqlWriter(TransitionWriter):
    """An open study of a `SqlStore`. Thread-safe within the process that opened it.

    Every write first extends the lease in the same transaction, which fails if another process has taken it over. Hence
    nobody else writes to the study in between, and unfinished trials are known without reading them again.
    """

    def __init__(
        self,
        database: Database,
        *,
        spec: StudySpec,
        uid: str,
        study_id: int,
        lease: Lease,
        clock: Callable[[], float] | None,
        lease_s: float,
    ) -> None:
        """Called by the store, with a lease that it has acquired."""
        self.spec = spec
        self.uid = uid
        self._database = database
        self._study_id = study_id
        self.active_s = lease.active_s
        self._ours = {"the_study": study_id, "the_owner": lease.owner, "the_generation": lease.generation}
        self._clock = clock
        self._lease_s = lease_s
        self._lock = threading.RLock()
        self._unfinished: dict[int, Trial] = {}
        self._num_added = 0
        self._last_change: int | None = None

    def add_trials(self, trials: Sequence[NewTrial]) -> list[Trial]:
        """Store new trials as WAITING; see `StudyWriter.add_trials`.

        Raises:
            DuplicateTrialError: Another number has the same schedule, fidelity and seed.
            StaleAttemptError: The lease is lost.
        """
        if not trials:
            return []
        added = [codec.new_trial(trial, study=self.spec.name) for trial in trials]
        first: dict[int, tuple[Trial, dict[str, Any]]] = {}
        for one in added:
            first.setdefault(one[0].number, one)

        def work(connection: Connection, now: float) -> list[Trial]:
            more = {"study_id": self._study_id, "created_at": now, "updated_at": now}
            statement = sql.ADD_TO_SQLITE if self._database.is_sqlite else sql.ADD_TO_POSTGRES
            changes = self._changes(connection, len(first))
            rows = [{**row, **more, "change": change} for (_, row), change in zip(first.values(), changes, strict=True)]
            if statement.run_all(connection, rows) == len(first):
                return [first[trial.number][0] for trial, _ in added]
            stored = self._load(connection, first)
            for trial, _ in first.values():
                if trial.number not in stored:
                    same = {"key": trial.key, "fidelity": trial.fidelity.value, "seed": trial.seed}
                    found = connection.execute(sql.FIND_DUPLICATE, {"the_study": self._study_id, **same})
                    raise driver_errors.duplicate(trial, existing=found.scalar_one())
            return [stored[trial.number] for trial, _ in added]

        with self._lock:
            result = self._write(work)
            self._keep(result)
            self._num_added += len(result)
            if not self._database.is_sqlite and self._num_added - len(result) < _ANALYZED_AFTER <= self._num_added:
                self._database.write(_analyze)
        return result

    def trials(self, states: Collection[TrialState] | None = None) -> Sequence[Trial]:
        """Return the trials in order of their numbers, optionally only those in some states."""
        return self._database.read(
            lambda connection: load_trials(connection, self._study_id, study=self.spec.name, states=states)
        )

    def renew(self) -> None:
        """Extend the lease; raises `StaleAttemptError` if another process has taken it over."""
        self._write(lambda connection, now: None)

    def set_state(self, state: StudyState, *, reason: str | None = None) -> None:
        """Store the state of the study; see `StudyWriter.set_state`.

        Raises:
            StaleAttemptError: The lease is lost.
        """

        def work(connection: Connection, now: float) -> None:
            row = connection.execute(sql.FIND_STUDY, {"the_study": self._study_id}).mappings().one()
            found = codec.condition_from_row(row, lease=None, now=self._moment())
            after = study_transitions.entered(found, state, reason=reason)
            write_condition(connection, self._study_id, after, at=now)

        self._write(work)

    def resolve(self, spec: StudySpec) -> None:
        """Replace the document of the study by its resolved form.

        Raises:
            StaleAttemptError: The lease is lost.
        """
        values = {"the_study": self._study_id, "the_spec": codec.study_to_row(spec)["spec"]}
        self._write(lambda connection, now: connection.execute(sql.SET_SPEC, values))
        self.spec = spec

    def requested(self) -> StopRequest | None:
        """Return a request to stop that is not fulfilled yet. Does not extend the lease.

        Raises:
            StaleAttemptError: The lease is lost.
        """
        row = self._database.read(lambda connection: connection.execute(sql.FIND_REQUEST, self._ours).first())
        if row is None:
            raise driver_errors.lease_lost(self.spec.name)
        return None if row.request is None else StopRequest(row.request)

    def show_work(self, work: Sequence[WorkProgress]) -> None:
        """Store what the trainings under way have done, for others to read; does not raise if the lease is lost."""
        values = {**self._ours, "the_work": codec.work_to_text(work)}
        self._database.write(lambda connection: connection.execute(sql.SHOW_WORK, values))

    def close(self) -> None:
        """Release the lease, if this writer still owns it; a study that is active is then PAUSED.

        Closing again has no effect.
        """

        def work(connection: Connection) -> None:
            now = self._moment()
            times = {"now": now.time, "steady": now.steady, "lease_s": self._lease_s}
            released = connection.execute(sql.RELEASE, {**self._ours, **times})
            row = connection.execute(sql.FIND_STUDY, {"the_study": self._study_id}).mappings().first()
            if released.rowcount == 1 and row is not None and StudyState(row["state"]).is_active:
                paused = StudyCondition(state=StudyState.PAUSED)
                write_condition(connection, self._study_id, paused, at=now.time)

        self._database.write(work)

    def _write(self, work: Callable[[Connection, float], _T]) -> _T:
        """Return what `work` returns, given a transaction that has extended the lease, and its time."""

        def leased(connection: Connection) -> _T:
            now = self._extend(connection)
            if now is None:
                raise driver_errors.lease_lost(self.spec.name)
            return work(connection, now)

        return self._database.write(leased)

    def _moment(self) -> Moment:
        return Moment.of_machine() if self._clock is None else Moment.of_clock(self._clock)

    def _extend(self, connection: Connection) -> float | None:
        """Extend the lease and return the time; None if it is lost."""
        now, lease_s = self._moment(), self._lease_s
        values = {**self._ours, "lease_s": lease_s, "steady": now.steady, "steady_until": now.steady + lease_s}
        if self._clock is None and not self._database.is_sqlite:
            row = sql.EXTEND_BY_SERVER.run(connection, values).fetchone()
            return None if row is None else row[0] - lease_s
        is_ours = sql.EXTEND.run(connection, {**values, "until": now.time + lease_s}).rowcount == 1
        return now.time if is_ours else None

    def _change(self, changes: Sequence[Change], *, hits: Mapping[int, Hits] = NO_HITS) -> list[Trial]:
        if not changes:
            return []
        numbers = {number for number, _ in changes}
        earlier: tuple[list[Trial], dict[int, Trial]] | None = None

        def work(connection: Connection, now: float) -> tuple[list[Trial], dict[int, Trial]]:
            nonlocal earlier
            if earlier is not None:  # an attempt failed, after the commit or before
                self._forget(numbers)
            before = self._load(connection, numbers)
            if earlier is not None and all(codec.is_stored(before[number], earlier[1][number]) for number in numbers):
                return earlier
            after = dict(before)
            results = []
            for number, change in changes:
                if number not in after:
                    raise driver_errors.no_trial(number, study=self.spec.name)
                after[number] = change(after[number])
                results.append(after[number])
            pairs = changed([(before[number], after[number]) for number in sorted(numbers)])
            if pairs:
                numbers_of = self._changes(connection, len(pairs))
                save_trials(connection, pairs, self._study_id, metric=self.spec.metric, changes=numbers_of, now=now)
            if hits:
                add = sql.ADD_HITS_TO_SQLITE if self._database.is_sqlite else sql.ADD_HITS_TO_POSTGRES
                add.run_all(connection, [codec.hits_to_row(hits[n], study_id=self._study_id, number=n) for n in hits])
            earlier = results, after
            return earlier

        with self._lock:
            try:
                results, after = self._write(work)
            except BaseException:  # whether it is stored may be unknown, so read it again
                self._forget(numbers)
                raise
            self._keep(after.values())
        return results

    def _changes(self, connection: Connection, count: int) -> range:
        """The numbers of the next changes of trials, in the order in which others see them.

        Nobody else writes to the study, so that they are counted here; those of a transaction that fails are left out.
        """
        if self._last_change is None:
            self._last_change = last_change(connection, self._study_id)
        first = self._last_change + 1
        self._last_change += count
        return range(first, first + count)

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._unfinished.pop(number, None)

    def _load(self, connection: Connection, numbers: Collection[int]) -> dict[int, Trial]:
        """Return the stored trials among some numbers."""
        known = {number: self._unfinished[number] for number in numbers if number in self._unfinished}
        missing = set(numbers) - known.keys()
        if missing:
            found = load_trials(connection, self._study_id, study=self.spec.name, numbers=sorted(missing))
            known.update({trial.number: trial for trial in found})
        return known

    def _keep(self, trials: Iterable[Trial]) -> None:
        """Remember trials as they are stored, while they are unfinished."""
        for trial in trials:
            if trial.state.is_final:
                self._unfinished.pop(trial.number, None)
            else:
                self._unfinished[trial.number] = trial


def _analyze(connection: Connection) -> None:
    """Update PostgreSQL's statistics of trials, if it has none; it does so by itself, but only after a minute.

    Until then it takes one index for as good as another, and finds a trial by looking through all of its study.
    """
    if connection.execute(sql.STATISTICS_ARE_MISSING).scalar_one():
        connection.execute(sql.UPDATE_STATISTICS)
