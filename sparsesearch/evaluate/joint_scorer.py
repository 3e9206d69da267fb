"""Score the schedules of a study's evaluations: one by one, or several in one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from torch import nn

from sparsesearch.evaluate.evaluation_memory import EvaluationMemory
from sparsesearch.schedule import Schedule
from sparsesearch.study.progress import Bar, Progress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.stop import StopToken
from sparsesearch.study.trial import Trial
from sparsesearch.text import counted
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.scoring import PrefixCachedScorer, eval_batch

_Scores = dict[Schedule, tuple[dict[str, float], float]]


class JointScorer:
    """Scores schedules of one frozen model on the images that rank candidates.

    Where the prefix states of all images fit in memory, they stay there, and each schedule is scored when its trial is
    evaluated. Otherwise, a schedule and those that follow it in the same process are scored in one pass.

    Args:
        spec: The study.
        context: Backbone, data, device and precision.
        progress: Displays the progress of a pass.
        stop: Ends a pass, which has nothing to keep.
    """

    def __init__(
        self, model: nn.Module, spec: StudySpec, *, context: TrainingContext, progress: Progress, stop: StopToken
    ) -> None:
        task, geometry, device = context.task, context.geometry, context.arithmetic.device
        self._batch_size = eval_batch(geometry)
        self._num_images = task.num_val
        self._progress = progress
        self._stop = stop
        memory = EvaluationMemory.here(spec, geometry, num_images=task.num_val, device=device)
        self._scorer = PrefixCachedScorer(
            model,
            lambda: task.val("screen", batch_size=self._batch_size),
            arithmetic=context.arithmetic,
            keeps_images=memory.fits,
            max_bytes=memory.cache_bytes,
        )
        self._scores: _Scores = {}

    def score(self, trial: Trial) -> tuple[dict[str, float], float]:
        """Metrics of the schedule of a trial, and the seconds that they took.

        Raises:
            StoppedError: The run is to stop.
        """
        joint = () if self._scorer.keeps_images else trial.followed_by
        for schedules in ([trial.schedule, *joint], [trial.schedule]):  # alone if it was left out
            if trial.schedule not in self._scores:
                self._scores = self._scored(schedules, trial)
        return self._scores.pop(trial.schedule)

    def _scored(self, schedules: Sequence[Schedule], trial: Trial) -> _Scores:
        """Metrics of schedules, and of each its part of the seconds of their pass."""
        started = perf_counter()
        label = f"evaluating {counted(len(schedules), 'schedule')}"
        with self._progress.bar(label, -(-self._num_images // self._batch_size), trial=trial.number) as bar:
            scores = self._scorer.score_all(schedules, after_batch=lambda: self._go_on(bar))
        seconds = (perf_counter() - started) / max(1, len(scores))
        return {schedule: (metrics, seconds) for schedule, metrics in scores.items()}

    def _go_on(self, bar: Bar) -> None:
        bar.advance()
        if self._stop.check():
            self._stop.raise_if_set()
