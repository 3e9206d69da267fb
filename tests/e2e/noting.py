"""The evaluator of a real study that notes which process ran which epoch of which trial, and when."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from sparsesearch.evaluate.opening import open_evaluator, portable_evaluator
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.study.events import Event
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Trial

STARTED = "started"


@dataclass(frozen=True)
class Note:
    """`what` is `started`, or the kind of an event about to be reported; `replayed` if it was measured before."""

    what: str
    trial: int
    fidelity: str
    attempt: int
    step: int
    pid: int
    node: str
    at: float


class NotingEvaluator:
    """Passes the events of another evaluator on; fine-tunings begin once two processes have one.

    Tune gives a trial that waits for its process to the first process that comes free, and does without the new one.
    So trials that are much shorter than a process takes to start, as those of a test, all end up in one.
    """

    def __init__(self, evaluator: Evaluator, folder: Path, *, meet_s: float) -> None:
        self._evaluator = evaluator
        self._meet_s = meet_s
        self._folder = folder
        self._node = ray.get_runtime_context().get_node_id()

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run the trial from where its record stands to its end."""
        self._note(STARTED, trial, trial.epochs_done)
        deadline = time.time() + self._meet_s
        while trial.fidelity is Fidelity.FINETUNE and time.time() < deadline and self._num_finetuning() < 2:
            time.sleep(0.1)
        for event in self._evaluator.evaluate(trial):
            if event.kind == "measured":
                is_new = event.measurement.seconds > 0.0  # else read from the history of a training that is done
                self._note("measured" if is_new else "replayed", trial, event.measurement.step)
            else:
                self._note(event.kind, trial, -1)
            yield event

    def _num_finetuning(self) -> int:
        return len({note.pid for note in read_notes(self._folder) if note.fidelity == Fidelity.FINETUNE.value})

    def _note(self, what: str, trial: Trial, step: int) -> None:
        fidelity = trial.fidelity.value
        note = Note(what, trial.number, fidelity, trial.attempt, step, os.getpid(), self._node, time.time())
        with (self._folder / f"notes-{os.getpid()}.txt").open("a") as file:
            file.write(json.dumps(vars(note)) + "\n")


def noting(spec: StudySpec, *, storage: Path, cache: Path, notes: Path, meet_s: float) -> PortableEvaluator:
    """The evaluator of a prepared study, noting into a folder."""
    inner = portable_evaluator(spec, storage=storage, cache=cache, elapsed_s=0.0)
    document = {"inner": inner.document, "notes": str(notes), "meet_s": meet_s}
    return PortableEvaluator(factory="noting:open_noting", document=document)


def open_noting(document: dict[str, Any]) -> NotingEvaluator:
    """The factory."""
    return NotingEvaluator(open_evaluator(document["inner"]), Path(document["notes"]), meet_s=document["meet_s"])


def read_notes(folder: Path) -> list[Note]:
    """All notes in order of time; a last line cut short by a kill is left out."""
    notes = []
    for path in folder.glob("notes-*.txt"):
        notes += [Note(**json.loads(line)) for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"]
    return sorted(notes, key=lambda note: note.at)
