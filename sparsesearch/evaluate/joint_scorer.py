"""Score the schedules of a study's evaluations: one by one, or several in one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from torch import nn

from sparsesearch.data.task import ValPart
from sparsesearch.data.validation_size import num_more_images
from sparsesearch.evaluate.evaluation_memory import EvaluationMemory
from sparsesearch.schedule import Schedule
from sparsesearch.study.hits import Hits
from sparsesearch.study.progress import Bar, Progress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.stop import StopToken
from sparsesearch.study.trial import Trial
from sparsesearch.text import counted
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.scoring import PrefixCachedScorer, eval_batch


class Score(NamedTuple):
    """The result of an evaluation.

    Attributes:
        metrics: Validation metrics by name.
        hits: The images that are classified correctly.
        seconds: The seconds that it took.
    """

    metrics: dict[str, float]
    hits: Hits
    seconds: float


class JointScorer:
    """Scores schedules of one frozen model on validation images.

    Where the prefix states of all images fit in memory, they stay there, and each schedule is scored when its trial is
    evaluated. Otherwise, a schedule and those that follow it in the same process are scored in one pass.

    Args:
        spec: The study.
        part: The images; see `ValPart`.
        context: Backbone, data, device and precision.
        progress: Displays the progress of a pass.
        stop: Ends a pass, which has nothing to keep.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: StudySpec,
        *,
        part: ValPart,
        context: TrainingContext,
        progress: Progress,
        stop: StopToken,
    ) -> None:
        task, geometry, device = context.task, context.geometry, context.arithmetic.device
        self._batch_size = eval_batch(geometry)
        self._num_images = num_more_images(task.num_ranking, task.num_val) if part == "more" else task.num_val
        self._progress = progress
        self._stop = stop
        memory = EvaluationMemory.here(spec, geometry, num_images=self._num_images, device=device)
        self._scorer = PrefixCachedScorer(
            model,
            lambda: task.val(part, batch_size=self._batch_size),
            arithmetic=context.arithmetic,
            keeps_images=memory.fits,
            max_bytes=memory.cache_bytes,
        )
        self._part = part
        self._scores: dict[Schedule, Score] = {}

    def score(self, trial: Trial) -> Score:
        """Return the result of the schedule of a trial.

        Raises:
            StoppedError: The run is to stop.
        """
        joint = () if self._scorer.keeps_images else trial.followed_by
        for schedules in ([trial.schedule, *joint], [trial.schedule]):  # alone if it was left out
            if trial.schedule not in self._scores:
                self._scores = self._scored(schedules, trial)
        return self._scores.pop(trial.schedule)

    def _scored(self, schedules: Sequence[Schedule], trial: Trial) -> dict[Schedule, Score]:
        """Results of schedules, each with its part of the seconds of their pass."""
        started = perf_counter()
        label = f"evaluating {counted(len(schedules), 'schedule')}"
        with self._progress.bar(label, -(-self._num_images // self._batch_size), trial=trial.number) as bar:
            found = self._scorer.score_all(schedules, after_batch=lambda: self._go_on(bar))
        seconds = (perf_counter() - started) / max(1, len(found))
        return {schedule: Score(one.metrics("val"), one.hits(self._part), seconds) for schedule, one in found.items()}

    def _go_on(self, bar: Bar) -> None:
        bar.advance()
        if self._stop.check():
            self._stop.raise_if_set()
