"""The writer of a leased study in a SQL database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Update, bindparam, insert, select, update

from sparsesearch.store import codec, driver_errors, study_transitions, tables
from sparsesearch.store.database import Database
from sparsesearch.store.lease import Lease
from sparsesearch.store.transition_writer import TransitionWriter
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.trial import NewTrial, Trial, TrialState

_OURS = (
    tables.leases.c.study_id == bindparam("the_study"),
    tables.leases.c.owner == bindparam("the_owner"),
    tables.leases.c.generation == bindparam("the_generation"),
)
_RENEWED_AT = tables.leases.c.expires_at - bindparam("lease_s")
_ACTIVE_S = tables.leases.c.active_s + bindparam("now") - _RENEWED_AT
_EXTEND = update(tables.leases).where(*_OURS).values(expires_at=bindparam("until"), active_s=_ACTIVE_S)
_RELEASE = (
    update(tables.leases).where(*_OURS).values(owner=None, expires_at=bindparam("now"), work=None, active_s=_ACTIVE_S)
)
_SHOW_WORK = update(tables.leases).where(*_OURS).values(work=bindparam("the_work"))
_THE_STUDY = tables.studies.c.id == bindparam("the_study")
_FIND_STUDY = select(tables.studies).where(_THE_STUDY)
_FIND_REQUEST = select(tables.studies.c.request).join(tables.leases).where(*_OURS)
_SET_CONDITION = (
    update(tables.studies)
    .where(_THE_STUDY)
    .values(state=bindparam("the_state"), reason=bindparam("the_reason"), request=bindparam("the_request"))
)
_SET_SPEC = update(tables.studies).where(_THE_STUDY).values(spec=bindparam("the_spec"))
_FIND_DUPLICATE = select(tables.trials.c.number).where(
    tables.trials.c.study_id == bindparam("the_study"),
    tables.trials.c.key == bindparam("key"),
    tables.trials.c.fidelity == bindparam("fidelity"),
    tables.trials.c.seed == bindparam("seed"),
)
_ADD_TRIAL = insert(tables.trials)
_ADD_MEASUREMENT = insert(tables.measurements)


@cache
def _update_trial(columns: tuple[str, ...]) -> Update:
    table = tables.trials.c
    ours = (table.study_id == bindparam("the_study"), table.number == bindparam("the_number"))
    return update(tables.trials).where(*ours).values({name: bindparam(name) for name in columns})


class SqlWriter(TransitionWriter):
    """An open study of a `SqlStore`. Thread-safe within the process that opened it.

    Every write first extends the lease in the same transaction, which fails if another process has taken it over.
    """

    def __init__(
        self,
        database: Database,
        *,
        spec: StudySpec,
        uid: str,
        study_id: int,
        lease: Lease,
        clock: Callable[[], float],
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

    def add_trial(self, trial: NewTrial) -> Trial:
        """Store a new trial as WAITING; if its number is already stored, return that trial unchanged.

        Raises:
            DuplicateTrialError: Another number has the same schedule, fidelity and seed.
            StaleAttemptError: The lease is lost.
        """
        new = codec.new_trial(trial, study=self.spec.name)
        with self._writing() as (connection, now):
            stored = load_trials(connection, self._study_id, study=self.spec.name, number=trial.number)
            if stored:
                return stored[0]
            same = {"the_study": self._study_id, "key": new.key, "fidelity": new.fidelity.value, "seed": new.seed}
            existing = connection.scalar(_FIND_DUPLICATE, same)
            if existing is not None:
                raise driver_errors.duplicate(new, existing=existing)
            row = codec.trial_to_row(new)
            connection.execute(_ADD_TRIAL, {**row, "study_id": self._study_id, "created_at": now, "updated_at": now})
        return new

    def trials(self, states: Collection[TrialState] | None = None) -> Sequence[Trial]:
        """Return the trials in order of their numbers, optionally only those in some states."""
        with self._database.reading() as connection:
            return load_trials(connection, self._study_id, study=self.spec.name, states=states)

    def renew(self) -> None:
        """Extend the lease; raises `StaleAttemptError` if another process has taken it over."""
        with self._writing():
            pass

    def set_state(self, state: StudyState, *, reason: str | None = None) -> None:
        """Store the state of the study; see `StudyWriter.set_state`.

        Raises:
            StaleAttemptError: The lease is lost.
        """
        with self._writing() as (connection, now):
            row = connection.execute(_FIND_STUDY, {"the_study": self._study_id}).mappings().one()
            found = codec.condition_from_row(row, lease=None, now=now)
            self._set_condition(connection, study_transitions.entered(found, state, reason=reason))

    def resolve(self, spec: StudySpec) -> None:
        """Replace the document of the study by its resolved form.

        Raises:
            StaleAttemptError: The lease is lost.
        """
        with self._writing() as (connection, _):
            row = codec.study_to_row(spec)
            connection.execute(_SET_SPEC, {"the_study": self._study_id, "the_spec": row["spec"]})
        self.spec = spec

    def requested(self) -> StopRequest | None:
        """Return a request to stop that is not fulfilled yet. Does not extend the lease.

        Raises:
            StaleAttemptError: The lease is lost.
        """
        with self._database.reading() as connection:
            row = connection.execute(_FIND_REQUEST, self._ours).first()
        if row is None:
            raise driver_errors.lease_lost(self.spec.name)
        return None if row.request is None else StopRequest(row.request)

    def show_work(self, work: Sequence[WorkProgress]) -> None:
        """Store what the trainings under way have done, for others to read; does not raise if the lease is lost."""
        with self._database.writing() as connection:
            connection.execute(_SHOW_WORK, {**self._ours, "the_work": codec.work_to_text(work)})

    def close(self) -> None:
        """Release the lease, if this writer still owns it; a study that is active is then PAUSED.

        Closing again has no effect.
        """
        with self._database.writing() as connection:
            released = connection.execute(_RELEASE, {**self._ours, "now": self._clock(), "lease_s": self._lease_s})
            row = connection.execute(_FIND_STUDY, {"the_study": self._study_id}).mappings().first()
            if released.rowcount == 1 and row is not None and StudyState(row["state"]).is_active:
                self._set_condition(connection, StudyCondition(state=StudyState.PAUSED))

    def _set_condition(self, connection: Connection, condition: StudyCondition) -> None:
        values = {f"the_{name}": value for name, value in codec.condition_to_row(condition).items()}
        connection.execute(_SET_CONDITION, {"the_study": self._study_id, **values})

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, float]]:
        with self._database.writing() as connection:
            now = self._clock()
            lengths = {"now": now, "lease_s": self._lease_s, "until": now + self._lease_s}
            extended = connection.execute(_EXTEND, {**self._ours, **lengths})
            if extended.rowcount != 1:
                raise driver_errors.lease_lost(self.spec.name)
            yield connection, now

    def _change(self, number: int, change: Callable[[Trial], Trial]) -> Trial:
        with self._writing() as (connection, now):
            stored = load_trials(connection, self._study_id, study=self.spec.name, number=number)
            if not stored:
                raise driver_errors.no_trial(number, study=self.spec.name)
            before = stored[0]
            after = change(before)
            if after is not before:
                self._save(connection, before, after, now=now)
        return after

    def _save(self, connection: Connection, before: Trial, after: Trial, *, now: float) -> None:
        old, new = codec.progress_to_row(before), codec.progress_to_row(after)
        changes = {name: value for name, value in new.items() if value != old[name]}
        changes["updated_at"] = now
        if before.state is TrialState.WAITING:
            changes["started_at"] = now
        if after.state.is_final and not before.state.is_final:
            changes["ended_at"] = now
        where = {"the_study": self._study_id, "the_number": after.number}
        connection.execute(_update_trial(tuple(changes)), {**changes, **where})
        known = {measurement.step for measurement in before.measurements}
        for item in after.measurements:
            if item.step not in known:
                row = codec.measurement_to_row(item, number=after.number)
                connection.execute(_ADD_MEASUREMENT, {**row, "study_id": self._study_id, "created_at": now})


def load_trials(
    connection: Connection,
    study_id: int,
    *,
    study: str,
    states: Collection[TrialState] | None = None,
    number: int | None = None,
) -> list[Trial]:
    """Load trials in order of their numbers, with two queries for any number of trials.

    Args:
        connection: An open transaction.
        study_id: Id of the study.
        study: Name of the study.
        states: Load only trials in these states.
        number: Load only the trial with this number.
    """
    wanted = {"the_study": study_id, "the_number": number, "the_states": [state.value for state in states or ()]}
    select_trials, select_measurements = _selects(by_number=number is not None, by_state=states is not None)
    measurements: dict[int, list[codec.Row]] = defaultdict(list)
    for row in connection.execute(select_measurements, wanted).mappings():
        measurements[row["number"]].append(row)
    rows = connection.execute(select_trials, wanted).mappings()
    return [codec.trial_from_row(row, measurements[row["number"]], study=study) for row in rows]


@cache
def _selects(*, by_number: bool, by_state: bool) -> tuple[Select[Any], Select[Any]]:
    """Return the queries for trials and for their measurements."""
    trials, measurements = tables.trials, tables.measurements
    select_trials = select(trials).where(trials.c.study_id == bindparam("the_study"))
    select_measurements = select(measurements).where(measurements.c.study_id == bindparam("the_study"))
    if by_number:
        select_trials = select_trials.where(trials.c.number == bindparam("the_number"))
        select_measurements = select_measurements.where(measurements.c.number == bindparam("the_number"))
    if by_state:
        select_trials = select_trials.where(trials.c.state.in_(bindparam("the_states", expanding=True)))
        select_measurements = select_measurements.where(
            measurements.c.number.in_(select_trials.with_only_columns(trials.c.number))
        )
    return (
        select_trials.order_by(trials.c.number),
        select_measurements.order_by(measurements.c.number, measurements.c.step),
    )
