"""What a service reads of many studies at once, and of one study since a client looked last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, case, func, select

from sparsesearch.store import codec, migrate, tables
from sparsesearch.store.database import Database
from sparsesearch.store.service_tables import deliveries, submissions
from sparsesearch.store.sql_records import SqlRecords
from sparsesearch.store.trial_queries import load_trials
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.trial import Trial
from sparsesearch.value import Value

_OVER = [state.value for state in StudyState if state.is_over]
_ACTIVE = [state.value for state in StudyState if state.is_active]


class ServiceNumbers(Value):
    """A service in numbers.

    Attributes:
        studies: Number of studies by stored state.
        trials: Number of trials by state, of studies that are not over.
        oldest_queued_at: Unix time when the study was submitted that has been in the queue for longest; None for none.
        lease_age_s: Largest time in seconds since a study under way renewed its lease.
        mlflow_lag_s: Largest time in seconds for which a change of a study under way has not been in MLflow.
        deliveries: Number of messages to webhooks that are not delivered and not given up.
    """

    studies: Mapping[str, int]
    trials: Mapping[str, int]
    oldest_queued_at: float | None
    lease_age_s: float
    mlflow_lag_s: float
    deliveries: int


class LastChange(NamedTuple):
    """What changes whenever a study does.

    Attributes:
        uid: The unique id of the study, which another one of its name does not have.
        number: The number of the last change of a trial; 0 for none.
        condition: Its condition.
    """

    uid: str
    number: int
    condition: StudyCondition


class SqlServiceRecords(SqlRecords):
    """Read-only access for a service. Safe to use from several threads and processes."""

    _database: Database
    _lease_s: float

    def revision(self) -> str:
        """The revision of the tables. Raises `StoreError` if the database does not answer or is at another one."""
        migrate.prepare(self._database)
        return tables.REVISION

    def count_studies(self) -> int:
        """Number of all studies."""
        query = select(func.count()).select_from(tables.studies)
        return self._database.read(lambda connection: connection.scalar(query) or 0)

    def version(self, name: str) -> tuple[str, int]:
        """What changes whenever a trial of a study does: its unique id, and the number of the last change.

        Raises `StudyNotFoundError`.
        """
        trials = tables.trials.c
        last = select(func.max(trials.change)).where(trials.study_id == tables.studies.c.id).scalar_subquery()
        query = select(tables.studies.c.uid, last).where(tables.studies.c.name == bindparam("name"))

        def work(connection: Connection) -> tuple[str, int]:
            row = connection.execute(query, {"name": name}).first()
            if row is None:
                raise self._missing(connection, name)
            return row[0] or "", row[1] or 0

        return self._database.read(work)

    def last_change(self, name: str) -> LastChange:
        """The last change of a study. Raises `StudyNotFoundError`."""

        def work(connection: Connection) -> LastChange:
            row = self._find(connection, name)
            query = select(func.max(tables.trials.c.change)).where(tables.trials.c.study_id == row["id"])
            found = codec.condition_from_row(row, lease=self._lease(connection, row["id"]), now=self._now(connection))
            return LastChange(uid=row["uid"] or "", number=connection.scalar(query) or 0, condition=found)

        return self._database.read(work)

    def trials_changed(self, name: str, *, after: int, limit: int) -> Sequence[tuple[int, Trial]]:
        """The trials whose last change has a number above `after`, in order of these, with the numbers.

        Raises `StudyNotFoundError`.
        """

        def work(connection: Connection) -> list[tuple[int, Trial]]:
            study_id = self._find(connection, name)["id"]
            trials = tables.trials.c
            query = (
                select(trials.number, trials.change)
                .where(trials.study_id == study_id, trials.change > after)
                .order_by(trials.change)
                .limit(limit)
            )
            changes = {number: change for number, change in connection.execute(query)}
            found = load_trials(connection, study_id, study=name, numbers=changes) if changes else []
            return sorted(((changes[trial.number], trial) for trial in found), key=lambda pair: pair[0])

        return self._database.read(work)

    def service_numbers(self) -> ServiceNumbers:
        """The studies, trials and messages of the database in numbers."""

        def work(connection: Connection) -> ServiceNumbers:
            studies, trials, leases = tables.studies.c, tables.trials.c, tables.leases.c
            now = self._now(connection)
            by_state = connection.execute(select(studies.state, func.count()).group_by(studies.state))
            going_on = select(studies.id).where(studies.state.not_in(_OVER))
            of_trials = connection.execute(
                select(trials.state, func.count()).where(trials.study_id.in_(going_on)).group_by(trials.state)
            )
            queued = (
                select(func.min(submissions.c.submitted_at))
                .join(tables.studies, studies.id == submissions.c.study_id)
                .where(studies.state == StudyState.QUEUED.value)
            )
            by_steady_clock = leases.boot == (now.boot or "")
            expires = case((by_steady_clock, leases.steady_until - now.steady), else_=leases.expires_at - now.time)
            left = connection.scalar(
                select(func.min(expires))
                .join(tables.studies, studies.id == leases.study_id)
                .where(studies.state.in_(_ACTIVE), leases.owner.is_not(None))
            )
            waiting = select(func.count()).where(deliveries.c.next_at.is_not(None))
            unsynced = connection.scalar(
                select(func.min(trials.updated_at))
                .join(submissions, submissions.c.study_id == trials.study_id)
                .join(tables.studies, studies.id == trials.study_id)
                .where(studies.state.in_(_ACTIVE), trials.change > submissions.c.mlflow_change)
            )
            return ServiceNumbers(
                studies={state: count for state, count in by_state},
                trials={state: count for state, count in of_trials},
                oldest_queued_at=connection.scalar(queued),
                lease_age_s=0.0 if left is None else max(0.0, self._lease_s - left),
                mlflow_lag_s=0.0 if unsynced is None else max(0.0, now.time - unsynced),
                deliveries=connection.scalar(waiting) or 0,
            )

        return self._database.read(work)
