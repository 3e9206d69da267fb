"""The seams of the system. Each contract is in the docstring; every implementation passes the same test suite."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.shape import ShapeStep
from sparsesearch.study.events import Event
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import NewTrial, StudyTimes, Trial, TrialState


class StepTables(NamedTuple):
    """What the schedules of one shape cost, split into one table a step.

    A schedule that leaves `c_i` tokens behind step `i`, none of them idle, costs `base + sum(tables[i][c_i])`.

    Attributes:
        base: What does not depend on any count: stem, head, and every block in front of the first step of its stage.
        tables: For each step, an entry for each number of tokens from 0 to the initial number of its stage: the blocks
            up to the next step of the stage, and the scoring and matching of that next step.
    """

    base: float
    tables: tuple[NDArray[np.integer[Any]] | NDArray[np.floating[Any]], ...]


class Price(Protocol):
    """A cost that is separable over steps, so that schedules can be scaled to a budget quickly. Pure.

    No table falls with the count. Apart from its count, what a step costs depends on its neighbours in the stage; where
    it depends on more, budgets that the search says to be attainable are still those of whole shapes.
    """

    def __hash__(self) -> int:
        """Equal prices price equally: what spaces can reach is remembered by it."""

    @property
    def unit(self) -> Literal["macs", "ms"]:
        """Multiply-adds, exact integers; or milliseconds."""

    def tables(self, geometry: BackboneGeometry, steps: Sequence[ShapeStep]) -> StepTables:
        """What each step adds, by the tokens left behind it.

        Args:
            geometry: The backbone.
            steps: Steps of a shape in order; none at all is the dense model, all of it in `base`.
        """

    def of(self, geometry: BackboneGeometry, schedule: Schedule) -> float:
        """Cost of one schedule, equal to the sum of its tables."""


class Controller(Protocol):
    """Decides what to try next. Not thread-safe; one owner.

    It is rebuilt on resume by telling it the stored trials in order of their numbers; after that it proposes exactly
    what it would have proposed without the interruption.
    """

    def ask(self) -> NewTrial | None:
        """The next trial; None while results are outstanding, and when the controller wants no more.

        Trials may be asked for while others run. Never a schedule that was asked for or told before.
        """

    def tell(self, trial: Trial) -> None:
        """Take note of a stored trial: a result if it is in a final state, else one that was asked for.

        Telling the same trial twice changes nothing.
        """


class StudyWriter(Protocol):
    """One open study, held under a lease by one controller.

    Every write is one durable transaction. A write by an older owner of the lease, or with an attempt that is not
    the trial's current one, raises `StaleAttemptError` and changes nothing.
    """

    spec: StudySpec

    def add_trial(self, trial: NewTrial) -> Trial:
        """Store a new trial as WAITING; if its number is already stored, return that trial unchanged."""

    def claim(self, number: int, *, retry: bool = False, reason: str | None = None) -> Trial:
        """Mark a WAITING or RUNNING trial as RUNNING.

        The first claim sets attempt 1. Claiming a RUNNING trial again (after a lost controller) keeps the attempt;
        with `retry` (after a failed execution, for `reason`) the attempt rises by one and older writers are refused.
        The reason stays with the trial unless its end brings another.
        """

    def record(self, event: Event) -> Trial:
        """Write what happened and return the trial as it is afterwards.

        A measurement is unique on (trial, step): reporting it again changes nothing and keeps the first.
        """

    def trials(self, states: Collection[TrialState] | None = None) -> Sequence[Trial]:
        """The trials in order of their numbers."""

    def renew(self) -> None:
        """Extend the lease; raises `StaleAttemptError` if somebody else has taken it over."""

    def close(self) -> None:
        """Give the lease back."""


class StudyStore(Protocol):
    """All studies. Safe to use from several threads and processes."""

    def create_study(self, spec: StudySpec) -> StudyWriter:
        """Add a study and open it. Raises `StudyExistsError` if the name is taken."""

    def open_study(self, name: str) -> StudyWriter:
        """Take the lease of a study.

        Raises `StudyNotFoundError`, or `StudyBusyError` while another controller's lease is alive.
        """

    def spec(self, name: str) -> StudySpec:
        """The study's document, without opening it. Raises `StudyNotFoundError`."""

    def trials(self, name: str) -> Sequence[Trial]:
        """The trials of a study, without opening it. Raises `StudyNotFoundError`."""

    def studies(self) -> Sequence[str]:
        """Names of all studies, oldest first."""

    def delete_study(self, name: str) -> None:
        """Remove a study with its trials. Raises `StudyNotFoundError` or `StudyBusyError`."""


class StudyRecords(Protocol):
    """What a study is shown from. Reads only; safe from any thread, whether the study is open or not."""

    def spec(self, name: str) -> StudySpec:
        """The study's document. Raises `StudyNotFoundError`."""

    def trials(self, name: str) -> Sequence[Trial]:
        """The trials in order of their numbers. Raises `StudyNotFoundError`."""

    def times(self, name: str) -> StudyTimes:
        """When the study and its trials happened. Raises `StudyNotFoundError`."""

    def is_leased(self, name: str) -> bool:
        """Whether a living process has the study open, so that it is being run. Raises `StudyNotFoundError`."""


class Tracker(Protocol):
    """Shows a running study somewhere else, for people. One study at a time.

    - It copies only what the store holds, and reads it there itself: a call only says that there may be news.
    - It never raises and, `finish` apart, never waits: a tracker that fails says so in one line and tries again
      later; no study is stopped or held up by it.
    - Repeating anything changes nothing: a study that was resumed, or copied again, is shown once.
    - Nothing is ever read back from it into a study.
    """

    def start(self, study: str) -> None:
        """A controller begins to work on a stored study, or goes on with it."""

    def log(self, trial: Trial) -> None:
        """A trial was recorded in the store."""

    def finish(self, *, interrupted: bool = False) -> None:
        """The controller stops. Waits a bounded time, a short one if interrupted; says what is still to be shown."""


class Evaluator(Protocol):
    """Turn a trial into measurements, on the node where it runs. Has no handle on the test split.

    Yields measurements in order of `step`, starting behind `trial.epochs_done` or, if its checkpoint is older, behind
    the checkpoint; the caller records each before it asks for the next, and the evaluator writes its checkpoint only
    when it is asked for the next.
    """

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run the trial from where its record stands to its end."""


class Dispatcher(Protocol):
    """Runs trials: asks the controller, has the evaluator work, records, tells."""

    def run(self, controller: Controller, writer: StudyWriter, evaluator: Evaluator) -> None:
        """Until the controller wants no more trials."""
