"""Trainings outside of a study, which go on where they were stopped or killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sparsesearch.app.signals import stopping_on_signals
from sparsesearch.seeds import derive_seed
from sparsesearch.study.progress import Progress
from sparsesearch.study.stop import StopCause, StoppedError, StopToken
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.kinds import Training
from sparsesearch.training.loop import Asked, TrainingRun
from sparsesearch.training.processes import Processes
from sparsesearch.training.step_files import StepFiles


class ResumableTrainings:
    """Runs trainings with checkpoints after every epoch and every few minutes.

    Args:
        folder: Where the checkpoints are kept.
        identity: What is trained, JSON-serializable; checkpoints of anything else are not used.
        processes: The processes that train together; the first writes.
        progress: Reports progress.
        stop: Set to stop; Ctrl-C and SIGTERM set it during a training as well.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Mapping[str, object],
        processes: Processes,
        progress: Progress,
        stop: StopToken,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._progress = progress
        self._stop = stop
        self.processes = processes

    @property
    def is_begun(self) -> bool:
        """Whether there are checkpoints of an earlier call."""
        return self._folder.is_dir()

    def run(
        self,
        training: Training,
        arithmetic: Arithmetic,
        *,
        seed: int,
        report: Callable[[TrainingRun, float, float], None],
    ) -> TrainingRun:
        """Run a training to its end, from its newest checkpoint.

        Args:
            training: What is trained.
            arithmetic: Device and precision.
            seed: Seed of its random numbers.
            report: Called by the first process after each epoch with the mean loss and the duration in seconds.

        Raises:
            StoppedError: Ctrl-C or SIGTERM; the step under way was finished, and a checkpoint written.
        """
        files = StepFiles(
            self._folder / training.label.replace(" ", "-"),
            identity={**self._identity, "training": training.label},
            report=self._progress.line,
        )
        spec, steps = training.spec, training.steps_per_epoch
        run = TrainingRun(training.model, spec, steps_per_epoch=steps, arithmetic=arithmetic, processes=self.processes)
        newest = self.processes.tensors_from_first(files.newest)
        if newest:
            run.restore(newest)
            self._progress.line(
                f"{training.label} goes on after epoch {run.epochs_done} of {spec.epochs}, step {run.steps_done}"
            )
        stop = self._stop

        def save() -> None:
            if self.processes.is_first:
                files.save(run.state(), epoch=run.epochs_done, step=run.steps_done)

        bar = self._progress.bar(training.label, spec.epochs * steps, batch_size=spec.batch_size)
        with bar, stopping_on_signals(stop, at_once=False):
            if newest:
                bar.advance(run.epochs_done * steps + run.steps_done)
            while run.epochs_done < spec.epochs:
                epoch = run.epochs_done + 1
                started = time.perf_counter()
                loss = run.epoch(
                    training.batches(epoch, first_step=run.steps_done, share=self.processes.share),
                    training.objective,
                    seed=derive_seed(seed, "epoch", epoch),
                    bar=bar,
                    ask=lambda: Asked(stop=stop.check(), save=self.processes.is_first and files.is_due),
                    save=save,
                )
                if loss is None:
                    self._progress.line(f"{training.label} is kept; the same command goes on with it")
                    raise StoppedError(stop.cause or StopCause.TERMINATE)
                if self.processes.is_first:
                    report(run, loss, time.perf_counter() - started)
                self.processes.wait()
                save()
        return run

    def clear(self) -> None:
        """Delete all checkpoints."""
        if self.processes.is_first:
            StepFiles(self._folder, identity={}).clear()
        self.processes.wait()
