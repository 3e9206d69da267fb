"""Run a `counts` trial: learn the token counts of one method for the budgets of a study."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import nn

from sparsesearch.backbones.transforms import attach_, set_schedule_
from sparsesearch.budget.price import study_price
from sparsesearch.budget.solve import check_budget
from sparsesearch.data.task import Batch, Epoch, Task
from sparsesearch.schedule import Schedule
from sparsesearch.space.encoding import shape_of
from sparsesearch.study.learned_counts import BATCH, LearnedCounts, num_steps
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.stop import StopToken
from sparsesearch.training.count_learning import learn_counts
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.teacher import Teacher


def study_counts(
    model: nn.Module,
    spec: StudySpec,
    *,
    schedule: Schedule,
    seed: int,
    context: TrainingContext,
    teacher: Teacher,
    progress: Progress,
    stop: StopToken,
    trial: int,
) -> LearnedCounts:
    """Learn token counts at the locations of a schedule, for the budgets of a study.

    Args:
        model: A sparse model with the weights that schedules are evaluated with; it is changed.
        spec: The prepared study.
        schedule: The method at each location.
        seed: Seed of the order of the images.
        context: Backbone, data, device and precision.
        teacher: Provides targets.
        progress: Displays the steps.
        stop: Ends it between two steps; there is nothing to keep.
        trial: Number of the trial that this is for.

    Raises:
        StoppedError: The run is to stop.
    """
    assert spec.resolved is not None, "only prepared studies are run"
    geometry, space, price = spec.resolved.geometry, spec.resolved.space, study_price(spec)
    low, high = check_budget(geometry, space, budget=spec.budget, price=price)
    attach_(model, [(step.stage, step.block, step.phase, step.scorer, step.reducer) for step in schedule.steps])
    set_schedule_(model, schedule)
    shape = shape_of(schedule, geometry=geometry, monotone=space.monotone)
    count = num_steps(spec)
    size = min(BATCH, context.task.num_train)

    def go_on() -> None:
        bar.advance()
        if stop.check():
            stop.raise_if_set()

    with progress.bar("learning token counts", count, trial=trial, batch_size=size) as bar:
        return learn_counts(
            model,
            geometry,
            shape,
            low=low,
            high=high,
            batches=_batches(context.task, seed=seed, size=size),
            num_steps=count,
            teacher=teacher,
            arithmetic=context.arithmetic,
            price=price,
            after_step=go_on,
        )


def _batches(task: Task, *, seed: int, size: int) -> Iterator[Batch]:
    for epoch in itertools.count(1):
        yield from task.pool_epoch(Epoch(epoch, seed, size))
