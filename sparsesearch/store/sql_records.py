"""Read studies from a SQL database: only the rows and columns that are asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from sparsesearch.analysis.study_front import BEST_FIRST
from sparsesearch.errors import StudyNotFoundError
from sparsesearch.store import codec, driver_errors, tables
from sparsesearch.store import record_queries as queries
from sparsesearch.store.database import Database
from sparsesearch.store.lease import Lease, OwnerProcess
from sparsesearch.store.moment import Moment
from sparsesearch.store.trial_queries import load_trials
from sparsesearch.study.digest import FrontNumbers, Span, StudyDigest, StudySummary, TrialCount, TrialRow
from sparsesearch.study.hits import Hits
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StudyCondition
from sparsesearch.study.trial import Axis, Fidelity, Origin, StudyTimes, Trial, TrialState, TrialTimes

_TRIALS, _MEASUREMENTS = tables.trials.c, tables.measurements.c
# A dictionary, since an enumeration looks up its members more slowly.
_FIDELITIES = {member.value: member for member in Fidelity}
_ORIGINS = {member.value: member for member in Origin}
_STATES = {member.value: member for member in TrialState}


class SqlRecords(StudyRecords):
    """The stored studies of a database whose tables exist. Safe to use from several threads and processes."""

    def __init__(self, database: Database, *, clock: Callable[[], float] | None = None) -> None:
        """Use a database; see `open_store`."""
        self._database = database
        self._clock = clock

    def spec(self, name: str) -> StudySpec:
        """Return the study's document, without opening it. Raises `StudyNotFoundError`."""
        return codec.study_from_row(self._database.read(lambda connection: self._find(connection, name)))

    def uid(self, name: str) -> str:
        """Return the study's unique id. Raises `StudyNotFoundError`."""
        return str(self._database.read(lambda connection: self._find(connection, name))["uid"] or "")

    def trials(
        self,
        name: str,
        *,
        states: Collection[TrialState] | None = None,
        numbers: Collection[int] | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Sequence[Trial]:
        """Return the trials of a study, without opening it; see `StudyRecords.trials`."""

        def work(connection: Connection) -> list[Trial]:
            study = self._find(connection, name)["id"]
            return load_trials(
                connection, study, study=name, states=states, numbers=numbers, offset=offset, limit=limit
            )

        return self._database.read(work)

    def times(self, name: str, *, numbers: Collection[int] | None = None) -> StudyTimes:
        """Return the timestamps of a study and its trials; see `StudyRecords.times`."""
        steps = select(_MEASUREMENTS.number, _MEASUREMENTS.step, _MEASUREMENTS.created_at)
        ends = select(_TRIALS.number, _TRIALS.started_at, _TRIALS.ended_at)
        if numbers is not None:
            steps = steps.where(_MEASUREMENTS.number.in_(numbers))
            ends = ends.where(_TRIALS.number.in_(numbers))

        def work(connection: Connection) -> StudyTimes:
            study = self._find(connection, name)
            measured: dict[int, dict[int, float]] = defaultdict(dict)
            for number, step, at in connection.execute(steps.where(_MEASUREMENTS.study_id == study["id"])):
                measured[number][step] = at
            rows = connection.execute(ends.where(_TRIALS.study_id == study["id"]))
            times = {
                number: TrialTimes(started_at=started, ended_at=ended, measured_at=measured.get(number, {}))
                for number, started, ended in rows
            }
            return StudyTimes(created_at=study["created_at"], trials=times)

        return self._database.read(work)

    def hits(self, name: str, numbers: Collection[int]) -> dict[int, Hits]:
        """Return the hits of trials that have any, by number. Raises `StudyNotFoundError`."""

        def work(connection: Connection) -> dict[int, Hits]:
            wanted = {"study": self._find(connection, name)["id"], "numbers": sorted(numbers)}
            rows = connection.execute(queries.HITS, wanted).mappings()
            return {row["number"]: codec.hits_from_row(row, study=name) for row in rows}

        return self._database.read(work)

    def condition(self, name: str) -> StudyCondition:
        """Return the state of a study and what is known with it. Raises `StudyNotFoundError`."""

        def work(connection: Connection) -> StudyCondition:
            row = self._find(connection, name)
            return codec.condition_from_row(row, lease=self._lease(connection, row["id"]), now=self._now(connection))

        return self._database.read(work)

    def digest(self, name: str) -> StudyDigest:
        """Return the trials of a study in numbers. Raises `StudyNotFoundError`."""

        def work(connection: Connection) -> StudyDigest:
            study = self._find(connection, name)
            of_it = {"study": study["id"]}
            counts = [
                TrialCount(fidelity=Fidelity(fidelity), state=TrialState(state), count=count)
                for state, fidelity, count in connection.execute(queries.COUNTS, of_it)
            ]
            latest = (queries.LAST_ENDED_AT, queries.LAST_STARTED_AT, queries.LAST_MEASURED_AT)
            events = [connection.scalar(query, of_it) for query in latest]
            return StudyDigest(
                counts=tuple(sorted(counts, key=lambda one: (one.fidelity, one.state))),
                num_retried=connection.scalar(queries.NUM_RETRIED, of_it) or 0,
                last_failed=connection.scalar(queries.LAST_FAILED, of_it),
                last_retried=connection.scalar(queries.LAST_RETRIED, of_it),
                last_event_at=max([study["created_at"], *(at for at in events if at is not None)]),
            )

        return self._database.read(work)

    def rows(self, name: str) -> Sequence[TrialRow]:
        """Return a little of every trial, in order of their numbers. Raises `StudyNotFoundError`."""

        def work(connection: Connection) -> list[TrialRow]:
            rows = connection.execute(queries.ROWS, {"study": self._find(connection, name)["id"]})
            return [
                TrialRow(number, _FIDELITIES[fidelity], _ORIGINS[origin], _STATES[state], *rest)
                for number, fidelity, origin, state, *rest in rows
            ]

        return self._database.read(work)

    def front(self, name: str, fidelity: Fidelity, axis: Axis) -> FrontNumbers:
        """Return the front of the complete trials of a fidelity; see `StudyRecords.front`."""

        def work(connection: Connection) -> FrontNumbers:
            wanted = {"study": self._find(connection, name)["id"], "fidelity": fidelity.value}
            front = tuple(connection.scalars(queries.FRONTS[axis], wanted))
            return FrontNumbers(front=front, proposal=connection.scalar(queries.PROPOSALS[axis], wanted))

        return self._database.read(work)

    def spans(self, name: str, fidelity: Fidelity) -> Sequence[Span]:
        """Return when the measurements of a fidelity were taken; see `StudyRecords.spans`."""

        def work(connection: Connection) -> list[Span]:
            wanted = {"study": self._find(connection, name)["id"], "fidelity": fidelity.value}
            return [Span(*row) for row in connection.execute(queries.SPANS, wanted)]

        return self._database.read(work)

    def studies(self) -> Sequence[str]:
        """Return the names of all studies, oldest first."""
        names = select(tables.studies.c.name).order_by(tables.studies.c.id)
        return self._database.read(lambda connection: list(connection.scalars(names)))

    def summaries(self, *, newest: int | None = None, skip: int = 0) -> Sequence[StudySummary]:
        """Return all studies, or the newest so many, oldest first; `skip` leaves out the newest."""

        def work(connection: Connection) -> list[StudySummary]:
            query = select(tables.studies).order_by(tables.studies.c.id.desc()).limit(newest).offset(skip)
            studies = connection.execute(query).mappings().all()[::-1]
            first = {"first": studies[0]["id"], "last": studies[-1]["id"]} if studies else {"first": 0, "last": -1}
            groups: dict[int, list[Row[Any]]] = defaultdict(list)
            for row in connection.execute(queries.SUMMARIES, first):
                groups[row.study_id].append(row)
            leases = {row.study_id: _lease_from_row(row) for row in connection.execute(queries.LEASES, first)}
            now = self._now(connection)
            return [_summary(study, leases.get(study["id"]), groups[study["id"]], now=now) for study in studies]

        return self._database.read(work)

    def _now(self, connection: Connection) -> Moment:
        """The time that decides leases."""
        if self._clock is not None:
            return Moment.of_clock(self._clock)
        return Moment.of_machine() if self._database.is_sqlite else Moment.of_server(connection)

    def _find(self, connection: Connection, name: str) -> codec.Row:
        row = connection.execute(select(tables.studies).where(tables.studies.c.name == name)).mappings().first()
        if row is None:
            raise self._missing(connection, name)
        return row

    def _lease(self, connection: Connection, study_id: int, *, for_update: bool = False) -> Lease | None:
        query = select(tables.leases).where(tables.leases.c.study_id == study_id)
        row = connection.execute(query.with_for_update() if for_update else query).first()
        return None if row is None else _lease_from_row(row)

    def _missing(self, connection: Connection, name: str) -> StudyNotFoundError:
        names = list(connection.scalars(select(tables.studies.c.name).order_by(tables.studies.c.id.desc())))
        return driver_errors.not_found(name, where=self._database.where, names=names)


def _summary(study: codec.Row, lease: Lease | None, groups: Sequence[Row[Any]], *, now: Moment) -> StudySummary:
    spec = codec.study_from_row(study)
    best = None
    for fidelity in BEST_FIRST:
        complete = {
            row.origin: getattr(row, spec.budget.axis)
            for row in groups
            if row.state == TrialState.COMPLETE.value and row.fidelity == fidelity.value
        }
        if complete.get(Origin.SEARCH.value) is not None:
            best = spec.metric.of_score(max(score for score in complete.values() if score is not None))
            break
    condition = codec.condition_from_row(study, lease=lease, now=now)
    return StudySummary(spec=spec, condition=condition, num_trials=sum(row.num for row in groups), best=best)


def _lease_from_row(row: Row[Any]) -> Lease:
    process = OwnerProcess(host=row.host, machine=row.machine, pid=row.pid, process_start=row.process_start)
    return Lease(
        owner=row.owner,
        generation=row.generation,
        expires_at=row.expires_at,
        process=process,
        work=row.work,
        active_s=row.active_s,
        steady_until=row.steady_until,
        boot=row.boot,
    )
