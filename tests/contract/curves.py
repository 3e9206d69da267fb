"""An evaluator for tests of dispatchers: learning curves by formula, with mishaps where a test wants them.

Every epoch leaves a note in a folder, `BEGUN` and `DONE` lines with trial, attempt, epoch, process, clock and number of
evaluations that follow in the same process, so that a test sees what really was executed, and by whom.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsesearch.errors import DataError
from sparsesearch.study.events import Checkpointed, Ended, Event, Measured
from sparsesearch.study.trial import CheckpointRef, Fidelity, FinalState, Measurement, Origin, Trial, TrialState


@dataclass(frozen=True)
class Note:
    """One line."""

    what: str
    trial: int
    fidelity: str
    attempt: int
    epoch: int
    pid: int
    at: float
    followed_by: int


def read_notes(folder: Path) -> list[Note]:
    """All notes in order of time."""
    lines = [line for path in folder.glob("notes-*.txt") for line in path.read_text().splitlines()]
    return sorted((Note(**json.loads(line)) for line in lines), key=lambda note: note.at)


class CurveEvaluator:
    """See the module.

    Args:
        folder: For notes and checkpoints.
        epochs: Of every training.
        seconds: Of every epoch.
        meet_s: How long a fine-tuning waits for one in another process before it begins; a trial that waits for its
            process to start goes to the first one that comes free, so that short ones all end up in one.
        mishaps: Trial number to what happens, in which attempts (all if left out), in which epoch.
    """

    def __init__(
        self, folder: Path, *, epochs: int, seconds: float, meet_s: float, mishaps: dict[str, dict[str, Any]]
    ) -> None:
        self._folder = folder
        self._epochs = epochs
        self._seconds = seconds
        self._meet_s = meet_s
        self._mishaps = mishaps

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run the trial from where its record stands to its end."""
        first = 0 if trial.fidelity is Fidelity.SUPERNET else 1
        last = 0 if trial.fidelity is Fidelity.SUPERNET else self._epochs
        if trial.checkpoint is not None:
            first = int((self._folder / trial.checkpoint.uri).read_text()) + 1
        for epoch in range(first, last + 1):
            self._note("BEGUN", trial, epoch)
            self._meet(trial)
            time.sleep(self._seconds)
            if self._mishap(trial, epoch) == "nan":
                yield Ended(trial=trial.number, attempt=trial.attempt, state=TrialState.FAILED, reason="loss is NaN")
                return
            self._note("DONE", trial, epoch)
            yield self._measured(trial, epoch)
            if epoch > 0:
                yield self._checkpoint(trial, epoch)
        done: FinalState = TrialState.REFERENCE if trial.origin is Origin.REFERENCE else TrialState.COMPLETE
        yield Ended(trial=trial.number, attempt=trial.attempt, state=done)

    def _meet(self, trial: Trial) -> None:
        deadline = time.time() + self._meet_s
        while trial.fidelity is Fidelity.FINETUNE and time.time() < deadline:
            if len({note.pid for note in read_notes(self._folder) if note.fidelity == Fidelity.FINETUNE}) > 1:
                return
            time.sleep(0.1)

    def _mishap(self, trial: Trial, epoch: int) -> str | None:
        mishap = self._mishaps.get(str(trial.number))
        if mishap is None or trial.attempt not in mishap.get("attempts", [trial.attempt]) or mishap["epoch"] != epoch:
            return None
        if mishap["how"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if mishap["how"] == "raise":
            raise RuntimeError("something broke\nin two lines")
        if mishap["how"] == "refuse":
            raise DataError("the data is gone; put it back")
        return str(mishap["how"])

    def _measured(self, trial: Trial, epoch: int) -> Measured:
        level = int(hashlib.sha256(trial.key.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        top1 = 0.5 * level + 0.3 * (1 - 2.0**-epoch)
        measurement = Measurement(
            step=epoch,
            attempt=trial.attempt,
            fidelity=trial.fidelity,
            metrics={"val_top1": top1, "val_loss": float("nan")},
            seconds=self._seconds,
            seed=trial.seed,
        )
        return Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement)

    def _checkpoint(self, trial: Trial, epoch: int) -> Checkpointed:
        path = self._folder / f"trial-{trial.number}-{epoch}.txt"
        path.write_text(str(epoch))
        ref = CheckpointRef(uri=path.name, sha256="0" * 64, step=epoch)
        return Checkpointed(trial=trial.number, attempt=trial.attempt, checkpoint=ref)

    def _note(self, what: str, trial: Trial, epoch: int) -> None:
        followed_by = len(trial.followed_by)
        note = Note(
            what, trial.number, trial.fidelity.value, trial.attempt, epoch, os.getpid(), time.time(), followed_by
        )
        with (self._folder / f"notes-{os.getpid()}.txt").open("a") as file:
            file.write(json.dumps(vars(note)) + "\n")


def open_curves(document: dict[str, Any]) -> CurveEvaluator:
    """The factory."""
    return CurveEvaluator(
        Path(document["folder"]),
        epochs=document["epochs"],
        seconds=document["seconds"],
        meet_s=document["meet_s"],
        mishaps=document["mishaps"],
    )
