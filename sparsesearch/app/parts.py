"""Build what executes a study: a dispatcher and its evaluator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.evaluator import StudyEvaluator
from sparsesearch.evaluate.opening import portable_evaluator
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import Dispatcher, Evaluator
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Trial
from sparsesearch.training.cache import TrainingCache
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.kinds import TrainingContext


def open_execution(
    spec: StudySpec,
    settings: Settings,
    *,
    context: TrainingContext,
    deadline: Deadline,
    progress: Progress,
    on_trial: Callable[[Trial], None],
    on_progress: Callable[[Trial], None],
) -> tuple[Dispatcher, Evaluator]:
    """Create the dispatcher of a study and the evaluator to run with it.

    Args:
        spec: The prepared study.
        settings: Where checkpoints and shared trainings are.
        context: Backbone, data and arithmetic of the study.
        deadline: Deadline of the study.
        progress: Reports the progress of long tasks.
        on_trial: Called with every trial that ended.
        on_progress: Called with every trial that started or was measured.
    """
    storage, cache = storage_of(spec, settings), cache_of(spec, settings)
    if spec.dispatcher == "inline":
        evaluator = StudyEvaluator(
            spec,
            context=context,
            folder=CheckpointFolder(storage, spec.name),
            cache=TrainingCache(cache),
            deadline=deadline,
            progress=progress,
        )
        return InlineDispatcher(on_trial=on_trial, on_progress=on_progress), evaluator
    from sparsesearch.dispatch.tune import RayDispatcher  # Ray takes seconds to load

    device = context.arithmetic.device.type
    dispatcher = RayDispatcher(
        spec.resources,
        storage=storage,
        uses_gpu=device == "cuda",
        on_trial=on_trial,
        on_progress=on_progress,
        on_stopping=lambda: progress.line(
            "stopping after the current epochs, which are kept; press Ctrl-C again to stop immediately"
        ),
    )
    portable = portable_evaluator(
        spec.model_copy(update={"device": device}), storage=storage, cache=cache, elapsed_s=deadline.elapsed_s
    )
    return dispatcher, portable


def storage_of(spec: StudySpec, settings: Settings) -> Path:
    """Return the root folder of the checkpoints of a study."""
    return settings.storage if spec.storage is None else Path(spec.storage)


def cache_of(spec: StudySpec, settings: Settings) -> Path:
    """Return the folder of trainings that studies share: inside `spec.storage` if that is given."""
    return settings.cache if spec.storage is None else Path(spec.storage) / ".cache"
