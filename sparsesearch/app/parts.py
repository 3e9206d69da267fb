"""Build what executes a study: a dispatcher and its evaluator."""

from __future__ import annotations

from uuid import uuid4

from sparsesearch.app.storage import cache_of, storage_of
from sparsesearch.dispatch.fault_pause import FaultPause
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.evaluator import StudyEvaluator
from sparsesearch.evaluate.opening import portable_evaluator
from sparsesearch.evaluate.stop_file import StopFile
from sparsesearch.evaluate.work_files import WorkFiles
from sparsesearch.settings import Settings
from sparsesearch.study.observer import StudyObserver
from sparsesearch.study.protocols import Dispatcher, Evaluator
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.stop import StopToken
from sparsesearch.study.work_board import WorkBoard
from sparsesearch.training.cache import TrainingCache
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.kinds import TrainingContext


def open_execution(
    spec: StudySpec,
    settings: Settings,
    *,
    folder: CheckpointFolder,
    context: TrainingContext,
    deadline: Deadline,
    board: WorkBoard,
    observer: StudyObserver,
    stop: StopToken,
) -> tuple[Dispatcher, Evaluator]:
    """Create the dispatcher of a study and the evaluator to run with it.

    Args:
        spec: The prepared study.
        settings: Where checkpoints and shared trainings are.
        folder: Checkpoints of the study.
        context: Backbone, data and arithmetic of the study.
        deadline: Deadline of the study.
        board: Shows the progress of long work, also of that in other processes.
        observer: Told every stored change of a trial.
        stop: Stops the dispatcher, and at a lost lease also the training under way.

    Raises:
        OSError: The folder of the checkpoints cannot be created.
    """
    storage, cache = storage_of(spec, settings), cache_of(spec, settings)
    folder.create()
    pause = FaultPause(spec.resources.patience_s, stop=stop, progress=board)
    if spec.dispatcher == "inline":
        evaluator = StudyEvaluator(
            spec,
            context=context,
            folder=folder,
            cache=TrainingCache(cache, report=board.line),
            deadline=deadline,
            progress=board,
            stop=stop,
        )
        return InlineDispatcher(observer=observer, stop=stop, logs=folder.log_folder, pause=pause), evaluator
    from sparsesearch.dispatch.tune import RayDispatcher  # Ray takes seconds to load

    run, work = uuid4().hex, WorkFiles(folder.work_folder)
    dispatcher = RayDispatcher(
        spec.resources,
        storage=storage,
        device=spec.device,
        observer=observer,
        stop=stop,
        stop_file=StopFile(folder.work_folder, run=run),
        progress=board,
        work=work.read,
        work_folder=folder.work_folder,
        pause=pause,
    )
    board.include(work.read)
    portable = portable_evaluator(
        spec,
        uid=folder.uid,
        storage=storage,
        cache=cache,
        elapsed_s=deadline.elapsed_s,
        run=run,
        data_state=context.task.state,
        folder_exists=True,
    )
    return dispatcher, portable
