"""Build the MLflow tracker and the sync of a study."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.analysis.view import StudyView
from sparsesearch.app.storage import storage_of
from sparsesearch.app.write_results import write_front_files
from sparsesearch.errors import one_line
from sparsesearch.settings import Settings
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.tracking.connection import Address
from sparsesearch.tracking.file_lock import FileLock
from sparsesearch.tracking.mlflow_tracker import SYNC_COMMAND, MlflowTracker
from sparsesearch.tracking.progress_metrics import milliseconds
from sparsesearch.tracking.retraining import RetrainingRecord, log_retraining
from sparsesearch.tracking.sync import StudySync
from sparsesearch.visualize.best import write_best_picture

if TYPE_CHECKING:
    from sparsesearch.app.retrain import Retrained

logger = logging.getLogger(__name__)


def mlflow_address(settings: Settings) -> Address:
    """Return the address of the MLflow in the settings."""
    is_ours = settings.mlflow_tracking_uri is None
    return Address(uri=settings.mlflow_uri, artifacts=settings.mlflow_artifacts, is_ours=is_ours)


def study_sync(records: StudyRecords, settings: Settings, study: str) -> StudySync:
    """Create the MLflow sync of one study."""

    def write_picture(view: StudyView, folder: Path) -> None:
        write_best_picture(view, folder, storage=storage_of(view.spec, settings))

    return StudySync(
        records,
        study,
        address=mlflow_address(settings),
        lock=FileLock(settings.home / "mlflow-turns" / f"{study}.lock"),
        write_files=write_front_files,
        write_last=write_picture,
    )


def log_retrained(trained: Retrained, settings: Settings, *, report: Callable[[str], None], started_at: float) -> None:
    """Log a retraining to MLflow, or report in one line why that failed; it never raises.

    Args:
        trained: The result.
        settings: Where MLflow is.
        report: Receives messages for the user.
        started_at: When the retraining began, in Unix seconds.
    """
    card, recipe = trained.card, trained.recipe
    provenance = recipe.provenance
    schedule = card.schedule.describe(trained.geometry)
    training = {f"train_{name}": str(value) for name, value in recipe.training.model_dump().items()}
    params = {"study": provenance.study, "trial": str(provenance.trial), "backbone": card.backbone}
    params |= {"schedule": schedule, "origin": provenance.label, "data": recipe.data.source, "seed": str(recipe.seed)}
    costs = {
        "gmacs": card.macs / 1e9,
        "dense_gmacs": trained.dense_macs / 1e9,
        "of_dense": card.macs / trained.dense_macs,
    }
    dense = {f"dense_{name}": value for name, value in trained.dense_metrics.items()}
    record = RetrainingRecord(
        study=provenance.study,
        name=f"retrain {schedule}",
        params=params | training,
        metrics=card.metrics | dense | costs,
        files=(trained.path,),
        start_ms=milliseconds(started_at),
        end_ms=milliseconds(time.time()),
        warnings=(
            *([] if recipe.note is None else [recipe.note]),
            *([] if recipe.measured.accuracy == "ok" else [f"accuracy {recipe.measured.accuracy}"]),
        ),
    )
    try:
        log_retraining(mlflow_address(settings), record)
    except Exception as error:  # no error of MLflow may spoil a training that has ended
        logger.debug("logging a retraining failed", exc_info=True)
        report(f"{one_line(error)}; the model is saved, but not logged to MLflow")


def mlflow_tracker(
    records: StudyRecords, settings: Settings, *, report: Callable[[str], None], sync_command: str = SYNC_COMMAND
) -> MlflowTracker:
    """Create a tracker that logs running studies to MLflow.

    Args:
        records: The store.
        settings: Where MLflow is.
        report: Receives messages for the user.
        sync_command: The command that syncs a study, without the name of the study.
    """
    return MlflowTracker(lambda study: study_sync(records, settings, study), report=report, sync_command=sync_command)
