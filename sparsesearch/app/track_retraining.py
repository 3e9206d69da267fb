"""Show a retraining in MLflow while it trains, and its result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.app.retraining_log import EpochRow
from sparsesearch.app.tracker import mlflow_address
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.errors import one_line
from sparsesearch.files.durable import write_file
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.settings import Settings
from sparsesearch.tracking.progress_metrics import Point, milliseconds
from sparsesearch.tracking.retraining import RetrainingRecord, RetrainingRun

if TYPE_CHECKING:
    from sparsesearch.app.retrain import Retrained

logger = logging.getLogger(__name__)


class MlflowRetraining:
    """Logs a retraining to MLflow; what fails is reported in one line, and never raises.

    The id of the run is kept with the checkpoints, so that a training that goes on goes on in its run.

    Args:
        output: The file that is trained; its run is noted in `OUTPUT.checkpoints`.
        settings: Where MLflow is.
        report: Receives messages for the user.
    """

    def __init__(self, output: Path, *, settings: Settings, report: Callable[[str], None]) -> None:
        self._note = output.with_name(f"{output.name}.checkpoints") / "mlflow-run"
        self._settings = settings
        self._report = report
        self._started_at = time.time()
        self._run: RetrainingRun | None = None
        self._num_logged = 0
        self._has_failed = False

    def epochs(self, recipe: Recipe, geometry: BackboneGeometry, rows: Sequence[EpochRow]) -> None:
        """Log the rows of a training under way.

        Args:
            recipe: What is trained.
            geometry: The backbone.
            rows: All rows so far.
        """
        if self._has_failed:
            return
        try:
            self._log(recipe, geometry, rows)
        except Exception as error:  # no error of MLflow may end a training
            self._has_failed = True
            logger.debug("logging an epoch failed", exc_info=True)
            self._report(f"{one_line(error)}; the training goes on, its epochs are not logged to MLflow")

    def finish(self, trained: Retrained) -> None:
        """Log the result, with the file."""
        card = trained.card
        costs = {
            "gmacs": card.macs / 1e9,
            "dense_gmacs": trained.dense_macs / 1e9,
            "of_dense": card.macs / trained.dense_macs,
        }
        dense = {f"dense_{name}": value for name, value in trained.dense_metrics.items()}
        try:
            run = self._run or self._opened(trained.recipe, trained.geometry)
            run.finish(card.metrics | dense | costs, files=(trained.path,), end_ms=milliseconds(time.time()))
        except Exception as error:  # no error of MLflow may spoil a training that has ended
            logger.debug("logging a retraining failed", exc_info=True)
            self._report(f"{one_line(error)}; the model is saved, but not logged to MLflow")

    def _log(self, recipe: Recipe, geometry: BackboneGeometry, rows: Sequence[EpochRow]) -> None:
        if self._run is None:
            self._run = self._opened(recipe, geometry, earlier=self._earlier_run())
            write_file(self._note, self._run.id, is_private=True)
        self._run.log([point for row in rows[self._num_logged :] for point in _points(row)])
        self._num_logged = len(rows)

    def _earlier_run(self) -> str | None:
        return self._note.read_text(encoding="utf-8") if self._note.is_file() else None

    def _opened(self, recipe: Recipe, geometry: BackboneGeometry, *, earlier: str | None = None) -> RetrainingRun:
        provenance, schedule = recipe.provenance, recipe.schedule.describe(geometry)
        training = {f"train_{name}": str(value) for name, value in recipe.training.model_dump().items()}
        params = {"study": provenance.study, "trial": str(provenance.trial), "backbone": recipe.backbone}
        params |= {"schedule": schedule, "origin": provenance.label, "data": recipe.data.source}
        record = RetrainingRecord(
            study=provenance.study,
            name=f"retrain {schedule}",
            params=params | {"seed": str(recipe.seed)} | training,
            start_ms=milliseconds(self._started_at),
            warnings=(
                *([] if recipe.note is None else [recipe.note]),
                *([] if recipe.training_note is None else [recipe.training_note]),
                *([] if recipe.measured.accuracy == "ok" else [f"accuracy {recipe.measured.accuracy}"]),
            ),
        )
        return RetrainingRun(mlflow_address(self._settings), record, run=earlier)


def _points(row: EpochRow) -> list[Point]:
    """The metrics of a row; those of the dense training have the prefix `dense_`."""
    prefix = "" if row.training == "retraining" else "dense_"
    return [
        Point(f"{prefix}{name}", value, row.epoch, milliseconds(row.ended_at)) for name, value in row.metrics.items()
    ]
