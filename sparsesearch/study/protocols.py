"""The protocols of the system. Each docstring is a contract; every implementation passes the same test suite."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.shape import ShapeStep
from sparsesearch.study.digest import FrontNumbers, Span, StudyDigest, StudySummary, TrialRow
from sparsesearch.study.events import Event
from sparsesearch.study.hits import Hits
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.trial import Axis, Fidelity, NewTrial, StudyTimes, Trial, TrialState
from sparsesearch.value import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class StepTables(NamedTuple):
    """The cost of the schedules of one shape, as one table per step.

    A schedule without idle steps that leaves `c_i` tokens after step `i` costs `base + sum(tables[i][c_i])`.

    Attributes:
        base: Cost independent of the counts: stem, head, and every block before the first step of its stage.
        tables: For each step, the cost by number of tokens, from 0 to the initial number of its stage: the blocks up to
            the next step of the stage, and the scoring and matching of that next step.
    """

    base: float
    tables: tuple[NDArray[np.integer[Any]] | NDArray[np.floating[Any]], ...]


class Price(Protocol):
    """A cost function that is separable over steps, so that schedules can be scaled to a budget quickly. Pure.

    Tables are non-decreasing in the count. Besides its count, the cost of a step depends on its neighbours in the
    stage; if it depends on more, reported feasible budgets are still those of whole shapes.
    """

    def __hash__(self) -> int:
        """Equal prices give equal costs: feasible ranges are cached by it."""

    @property
    def unit(self) -> Literal["macs", "ms"]:
        """Multiply-adds (exact integers) or milliseconds."""

    def tables(self, geometry: BackboneGeometry, steps: Sequence[ShapeStep]) -> StepTables:
        """The cost of each step, by the tokens left after it.

        Args:
            geometry: The backbone.
            steps: Steps of a shape in order; without steps, `base` is the cost of the dense model.
        """

    def of(self, geometry: BackboneGeometry, schedule: Schedule) -> float:
        """Cost of one schedule; equals the sum of its tables."""


class Wait(Value):
    """No trial can be asked for before another result is told."""


class Done(Value):
    """No trial will follow.

    Attributes:
        reason: Why not all planned trials were asked for; None if they were.
    """

    reason: str | None = None


class Controller(Protocol):
    """Decides which trial to run next. Not thread-safe.

    On resume it is rebuilt by telling it the stored trials in order of their numbers; it then proposes exactly what it
    would have proposed without the interruption.
    """

    def ask(self) -> NewTrial | Wait | Done:
        """The next trial; `Wait` while results are outstanding that it depends on; `Done` when no trial will follow.

        Trials may be asked for while others run. A schedule is never asked for twice.
        """

    def tell(self, trial: Trial) -> None:
        """Register a stored trial: a result if it is in a final state, otherwise one that was asked for.

        Telling the same trial twice changes nothing.
        """


class StudyWriter(Protocol):
    """An open study, leased by one controller.

    Every write is one durable transaction, of any number of trials or events. A write by a previous lease owner, or
    with an attempt that is not the current one of the trial, raises `StaleAttemptError` and changes nothing; nor does
    any other write that raises.

    Attributes:
        spec: The study's document.
        uid: Its unique id, which names the folder of its checkpoints.
        active_s: Seconds that processes have worked on the study before it was opened.
    """

    spec: StudySpec
    uid: str
    active_s: float

    def add_trial(self, trial: NewTrial) -> Trial:
        """Store a new trial as WAITING; if its number is already stored, return that trial unchanged."""

    def add_trials(self, trials: Sequence[NewTrial]) -> list[Trial]:
        """`add_trial` for several trials at once; of those with the same number, the first is stored."""

    def claim(self, number: int, *, retry: bool = False, reason: str | None = None) -> Trial:
        """Mark a WAITING or RUNNING trial as RUNNING.

        The first claim sets attempt 1. Claiming a RUNNING trial again (after a lost controller) keeps the attempt;
        with `retry` (after a failed execution, for `reason`) the attempt increases by one and older writers are
        rejected. The reason is kept unless the final event has another.
        """

    def claim_all(self, numbers: Sequence[int]) -> list[Trial]:
        """`claim` for several trials at once, without `retry`."""

    def reopen(self, number: int, *, reason: str) -> Trial:
        """Mark a REFERENCE or COMPLETE training as RUNNING without a checkpoint, since its weights are lost.

        Its measurements are kept.
        """

    def record(self, event: Event) -> Trial:
        """Write an event and return the updated trial.

        A measurement is unique on (trial, step): reporting it again changes nothing.
        """

    def record_all(self, events: Sequence[Event]) -> list[Trial]:
        """`record` for several events at once, which may be of one trial; returns the trial after each."""

    def trials(self, states: Collection[TrialState] | None = None) -> Sequence[Trial]:
        """The trials in order of their numbers."""

    def set_state(self, state: StudyState, *, reason: str | None = None) -> None:
        """Store the state of the study. A request is kept while the state is active, and dropped after that."""

    def resolve(self, spec: StudySpec) -> None:
        """Replace the document of the study by its resolved form."""

    def requested(self) -> StopRequest | None:
        """A request to stop that is not fulfilled yet. Only reads; raises `StaleAttemptError` if the lease is lost."""

    def show_work(self, work: Sequence[WorkProgress]) -> None:
        """Store what the trainings under way have done, for others to read. A lost lease is no error here."""

    def renew(self) -> None:
        """Extend the lease; raises `StaleAttemptError` if another owner has taken it over."""

    def close(self) -> None:
        """Release the lease. A study that is still active is then PAUSED."""


class StudyStore(Protocol):
    """The store of all studies. Safe to use from several threads and processes."""

    def create_study(self, spec: StudySpec) -> StudyWriter:
        """Add a study and open it, RESOLVING or, if it is resolved, RUNNING. Raises `StudyExistsError`."""

    def submit_study(self, spec: StudySpec) -> None:
        """Add a study as QUEUED, for a process that opens it later. Raises `StudyExistsError`."""

    def open_study(self, name: str, *, resume: bool = False) -> StudyWriter:
        """Acquire the lease of a study.

        With `resume`, its state is RESOLVING or RUNNING from then on, and an earlier request is dropped.

        Raises `StudyNotFoundError`, `StudyBusyError` while the lease of another controller is valid, or, with
        `resume`, `StudyStateError` if the study was cancelled.
        """

    def request(self, name: str, request: StopRequest) -> StudyCondition:
        """Ask the process of a study to stop; a study that no process runs is stopped at once.

        Returns the new condition. Raises `StudyNotFoundError`, or `StudyStateError` if the study is over.
        """

    def spec(self, name: str) -> StudySpec:
        """The study's document, without opening it. Raises `StudyNotFoundError`."""

    def uid(self, name: str) -> str:
        """The study's unique id, which names the folder of its checkpoints. Raises `StudyNotFoundError`."""

    def trials(self, name: str) -> Sequence[Trial]:
        """The trials of a study, without opening it. Raises `StudyNotFoundError`."""

    def studies(self) -> Sequence[str]:
        """Names of all studies, oldest first."""

    def delete_study(self, name: str) -> None:
        """Remove a study with its trials. Raises `StudyNotFoundError` or `StudyBusyError`."""


class StudyRecords(Protocol):
    """Read-only access to stored studies; safe from any thread, whether the study is open or not."""

    def spec(self, name: str) -> StudySpec:
        """The study's document. Raises `StudyNotFoundError`."""

    def uid(self, name: str) -> str:
        """The study's unique id, which names the folder of its checkpoints. Raises `StudyNotFoundError`."""

    def trials(
        self,
        name: str,
        *,
        states: Collection[TrialState] | None = None,
        numbers: Collection[int] | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Sequence[Trial]:
        """The trials in order of their numbers. Raises `StudyNotFoundError`.

        Only those in some states and with some numbers, and of these, after `offset`, at most `limit`.
        """

    def times(self, name: str, *, numbers: Collection[int] | None = None) -> StudyTimes:
        """Times of the study and its trials, or of those with some numbers. Raises `StudyNotFoundError`."""

    def hits(self, name: str, numbers: Collection[int]) -> Mapping[int, Hits]:
        """Which images trials classify correctly, by number; without trials of which it is not known.

        Raises `StudyNotFoundError`.
        """

    def condition(self, name: str) -> StudyCondition:
        """Its state, and what is known with it. Raises `StudyNotFoundError`."""

    def digest(self, name: str) -> StudyDigest:
        """Its trials in numbers. Raises `StudyNotFoundError`."""

    def rows(self, name: str) -> Sequence[TrialRow]:
        """A little of every trial, in order of their numbers. Raises `StudyNotFoundError`."""

    def front(self, name: str, fidelity: Fidelity, axis: Axis) -> FrontNumbers:
        """The front of the complete trials of a fidelity that have a finite score and a cost."""

    def spans(self, name: str, fidelity: Fidelity) -> Sequence[Span]:
        """When the measurements of a fidelity were taken, by trial and step."""

    def summaries(self, *, newest: int | None = None) -> Sequence[StudySummary]:
        """All studies, or the newest so many, oldest first."""


class Studies(StudyRecords, Protocol):
    """Stored studies that may be read and stopped, in a database here or in that of a service."""

    def studies(self) -> Sequence[str]:
        """Names of all studies, oldest first."""

    def request(self, name: str, request: StopRequest) -> StudyCondition:
        """Ask the process of a study to stop; see `StudyStore.request`."""

    def delete_study(self, name: str) -> None:
        """Remove a study with its trials. Raises `StudyNotFoundError` or `StudyBusyError`."""


class Evaluator(Protocol):
    """Evaluates a trial on the node where it runs. It has no access to the test split.

    Yields measurements in order of `step`, starting after `trial.epochs_done` or, if older, after its checkpoint. The
    caller records each event before it requests the next, and the evaluator writes a checkpoint only when the next
    event is requested.
    """

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run the trial from its recorded progress to its end."""


class Dispatcher(Protocol):
    """Runs trials: asks the controller, evaluates, records, and tells the controller."""

    def run(self, controller: Controller, writer: StudyWriter, evaluator: Evaluator) -> Done:
        """Run until the controller is done, and return what it said; unfinished trials of the store run first.

        Raises:
            StoppedError: The token of the dispatcher was set; all epochs that ended are stored.
        """
