"""What each epoch of a retraining gave: on the console, and in `FILE.log.jsonl`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from sparsesearch.files.durable import write_file
from sparsesearch.study.progress import Progress
from sparsesearch.training.loop import TrainingRun
from sparsesearch.value import Value


class EpochRow(Value):
    """An epoch of a training.

    Attributes:
        training: Which training: `dense training` or `retraining`.
        epoch: Number of the epoch, from 1.
        epochs: Number of all epochs.
        metrics: `train_loss`, and of the sparse model the accuracy on some images: `val_top1`, or `train_top1` if the
            validation images are trained on; with the prefix `average_` that of the moving average of the weights.
        seconds: Duration, without the time before a stop.
        ended_at: When it ended, in Unix seconds.
    """

    training: str
    epoch: int
    epochs: int
    metrics: dict[str, float]
    seconds: float
    ended_at: float

    def line(self) -> str:
        """The row for the console."""
        parts = [f"loss {self.metrics['train_loss']:.4f}"]
        for name, value in self.metrics.items():
            if name.endswith("_top1"):
                words = {"val": "validation accuracy", "train": "accuracy on training images"}
                part, _, what = name.removesuffix("_top1").rpartition("_")
                parts.append(f"{words[what]}{' of the average' if part else ''} {value:.2%}")
        return f"{self.training}, epoch {self.epoch} of {self.epochs}: {', '.join(parts)}"


class RetrainingLog:
    """Reports every epoch of a retraining, and keeps its rows in a file, one JSON object a line.

    An epoch that is trained again, since its checkpoint was lost, replaces what is in the file from there on.

    Args:
        path: The file.
        progress: Receives a line for each epoch.
        follow: Receives all rows after each epoch.
    """

    def __init__(self, path: Path, *, progress: Progress, follow: Callable[[Sequence[EpochRow]], None]) -> None:
        self._path = path
        self._progress = progress
        self._follow = follow

    def add(
        self, training: str, run: TrainingRun, loss: float, seconds: float, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Report the last epoch of a training.

        Args:
            training: Which training.
            run: The training.
            loss: Mean loss of the epoch.
            seconds: Duration.
            metrics: Accuracies.
        """
        row = EpochRow(
            training=training,
            epoch=run.epochs_done,
            epochs=run.spec.epochs,
            metrics={"train_loss": loss, **(metrics or {})},
            seconds=round(seconds, 3),
            ended_at=time.time(),
        )
        rows = [*(old for old in self._rows() if old.training != row.training or old.epoch < row.epoch), row]
        write_file(self._path, "".join(f"{each.model_dump_json()}\n" for each in rows), is_private=True)
        self._progress.line(row.line())
        self._follow(rows)

    def clear(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)

    def _rows(self) -> list[EpochRow]:
        """The rows of the file, without those that cannot be read."""
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else ():
            try:
                found.append(EpochRow.model_validate_json(line))
            except ValidationError:
                continue
        return found
