"""The queue of waiting and running trials, between the controller, the writer and the executors."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice, takewhile

from sparsesearch.dispatch.fault_pause import FaultPause
from sparsesearch.errors import InfrastructureError
from sparsesearch.evaluate.stop_file import StopFile
from sparsesearch.study.events import Ended, Event
from sparsesearch.study.observer import StudyObserver
from sparsesearch.study.protocols import Controller, Done, StudyWriter, Wait
from sparsesearch.study.stop import StopCause, StopToken
from sparsesearch.study.trial import NewTrial, Trial, TrialState, in_sequence, with_checkpoints

logger = logging.getLogger(__name__)


def is_training(trial: Trial) -> bool:
    """Whether a trial is a training, not a quick evaluation."""
    return trial.fidelity.is_training


class Interrupted(Exception):
    """The run must end immediately; `TrialQueue.fatal` is the reason."""


class TrialQueue:
    """The trials of one run. Not thread-safe; used only by the driver's thread.

    A trial is taken, its events and failures are recorded, and it is released; only then is it passed to
    `Controller.tell`, or waits for its next attempt.

    Attributes:
        done: What the controller said when it had no more trials; None before.
        fatal: The first error that ends the run.
        fault: A fault of a disk, network or machine, during which no trial is taken; None otherwise.
    """

    def __init__(
        self,
        controller: Controller,
        writer: StudyWriter,
        *,
        max_retries: int,
        observer: StudyObserver,
        stop: StopToken,
        stop_file: StopFile | None = None,
        pause: FaultPause | None = None,
        cluster_fault: Callable[[], InfrastructureError | None] = lambda: None,
        watch: Callable[[Mapping[int, Trial]], None] = lambda running: None,
    ) -> None:
        """Pass all stored trials to the controller; unfinished ones are taken first.

        Args:
            controller: Proposes the next trials.
            writer: The open study.
            max_retries: Maximum number of attempts after the first.
            observer: Told every stored change of a trial.
            stop: Once it is set, no new trials start.
            stop_file: Passes the request to stop on to the processes that run trials.
            pause: Waits for faults to pass; None to end the run with them.
            cluster_fault: Returns why the cluster cannot be used any more.
            watch: Called often with the running trials.
        """
        self._controller = controller
        self._writer = writer
        self._max_retries = max_retries
        self._observer = observer
        self._stop = stop
        self._stop_file = stop_file
        self._pause = pause or FaultPause()
        self._cluster_fault = cluster_fault
        self._watch = watch
        self._failures: Counter[int] = Counter()
        self._waiting: deque[Trial] = deque()
        self._running: dict[int, Trial] = {}
        self._ended: dict[int, Trial] = {}
        self.done: Done | None = None
        self.fatal: BaseException | None = None
        self.fault: InfrastructureError | None = None
        for trial in writer.trials():
            controller.tell(trial)
            if not trial.state.is_final:
                self._waiting.append(trial)

    @property
    def is_idle(self) -> bool:
        """Whether no trial is running."""
        return not self._running

    @property
    def stopping(self) -> bool:
        """Whether no new trials start, because the run is to stop.

        Raises:
            StoppedError: The lease is lost, so the run ends at once.
            InfrastructureError: The cluster is lost.
        """
        fault = self._cluster_fault()
        if fault is not None:
            raise fault
        self._watch(self._running)
        cause = self._stop.cause if self._stop.check() else None
        if cause is None:
            return False
        if self._stop_file is not None:
            self._stop_file.write(cause)
        if cause is StopCause.LEASE_LOST:
            self._stop.raise_if_set()
        return True

    def upcoming(self) -> Trial | None:
        """Return the next trial without taking it; None while others must end first, at the end, and during a fault."""
        if self.stopping or self.fault is not None:
            return None
        self._ask(1)
        return self._waiting[0] if self._waiting else None

    def take(self, *, training: bool) -> Trial | None:
        """Claim the next trial, if there is one and it is of this kind; it has the checkpoints that it builds on."""
        trial = self.upcoming()
        if trial is None or is_training(trial) is not training:
            return None
        return self._claim(1)[0]

    def take_evaluations(self, limit: int) -> list[Trial]:
        """Claim evaluations for one process, which may score them together.

        Those that follow a failed attempt are taken alone, so that none fails because of another.
        """
        if self.stopping or self.fault is not None:
            return []
        self._ask(limit)
        if self._waiting and self._waiting[0].attempt > 1:
            return [] if is_training(self._waiting[0]) else self._claim(1)
        ready = takewhile(lambda trial: not is_training(trial) and trial.attempt <= 1, islice(self._waiting, limit))
        return in_sequence(self._claim(sum(1 for _ in ready)))

    def _ask(self, limit: int) -> None:
        """Ask for trials until so many wait, and store them in one transaction; a training is the last of them."""
        asked: list[NewTrial] = []
        while len(self._waiting) + len(asked) < limit and not (self._waiting and is_training(self._waiting[-1])):
            answer = self._controller.ask()
            if isinstance(answer, Done):
                self.done = answer
            if isinstance(answer, Done | Wait):
                break
            asked.append(answer)
            if answer.fidelity.is_training:
                break
        if asked:
            self._waiting.extend(self._writer.add_trials(asked))

    def _claim(self, count: int) -> list[Trial]:
        """Claim the first trials of those that wait."""
        if not count:
            return []
        numbers = [self._waiting.popleft().number for _ in range(count)]
        references = self._writer.trials({TrialState.REFERENCE})
        taken = []
        for claimed in self._writer.claim_all(numbers):
            self._running[claimed.number] = claimed
            self._observer.changed(claimed)
            taken.append(with_checkpoints(claimed, references))
        return taken

    def record(self, event: Event) -> Trial:
        """Write an event to the store and return the updated trial."""
        trial = self._writer.record(event)
        before = self._running.get(trial.number)
        if before is not None:
            self._running[trial.number] = trial
            if trial != before:
                self._pause.passed()
            if len(trial.measurements) > len(before.measurements):
                self._observer.changed(trial)
        return trial

    def note_failure(self, number: int, *, attempt: int, reason: str) -> None:
        """Record a failed execution: start another attempt, or mark the trial as failed after the last one.

        A failure that was recorded before is ignored.
        """
        trial = self._running.get(number)
        if trial is None or trial.attempt != attempt or trial.state.is_final:
            return
        self._failures[number] += 1
        if self._failures[number] <= self._max_retries:
            logger.warning("trial %d, attempt %d: %s; retrying", number, attempt, reason)
            self._begin_attempt(trial, reason=reason)
            return
        reason = reason if attempt == 1 else f"{reason} (attempt {attempt}, the last)"
        self.record(Ended(trial=number, attempt=attempt, state=TrialState.FAILED, reason=reason))

    def note_fault(self, number: int, *, attempt: int, fault: InfrastructureError, is_lost: bool = False) -> None:
        """Note that a trial met a fault of a disk, network or machine, which is no failure of the trial.

        Args:
            number: The trial.
            attempt: Its attempt.
            fault: The fault.
            is_lost: Whether the process of the trial cannot be reached, so that what it may still do must not count.
        """
        self.fault = self.fault or fault
        trial = self._running.get(number)
        if is_lost and trial is not None and trial.attempt == attempt and not trial.state.is_final:
            self._begin_attempt(trial, reason=str(fault))

    def lose_all(self, fault: InfrastructureError) -> None:
        """Note that no process of a running trial can be reached; the queue is not used after this."""
        for trial in list(self._running.values()):
            if not trial.state.is_final:
                self._begin_attempt(trial, reason=str(fault))

    def wait_for_fault(self) -> bool:
        """Wait for a fault to pass, if there is one, before the trials that met it are taken again.

        Returns:
            Whether there was one.

        Raises:
            InfrastructureError: It has lasted too long.
            StoppedError: The run is to stop.
        """
        if self.fault is None:
            return False
        fault, self.fault = self.fault, None
        self._pause.wait(fault)
        return True

    def _begin_attempt(self, trial: Trial, *, reason: str) -> None:
        again = self._writer.claim(trial.number, retry=True, reason=f"attempt {trial.attempt} failed: {reason}")
        self._running[trial.number] = again
        self._observer.changed(again)

    def release(self, number: int) -> None:
        """Release a trial whose execution is over: pass its result to the controller, or queue its next attempt."""
        trial = self._running.pop(number)
        if trial.state.is_final:
            self._controller.tell(trial)
            self._ended[number] = trial
        else:
            self._waiting.appendleft(trial)

    def announce(self, number: int) -> None:
        """Tell the observer of a released trial in a final state."""
        trial = self._ended.pop(number, None)
        if trial is not None:
            self._observer.changed(trial)

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Store an error as the one that ends the run, for code whose caller wraps errors.

        Raises:
            Interrupted: In place of KeyboardInterrupt, after which Ray Tune would not stop its actors.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            self.fatal = self.fatal or error
            raise Interrupted from error
        except Exception as error:
            self.fatal = self.fatal or error
            raise
