"""Runs one tiny study again and again, each time in a process of its own that may be killed at a given point.

Reads one job a line on standard input, as JSON: `home`, `verb` (`run` or `resume`), `kill`, the point or None, and
`save_every_s`, the seconds between two checkpoints within an epoch. Each job is a fork of this process, which has
imported everything and computed nothing. Answers with the exit code of the fork; -9 is the kill.

A point is `KIND:N`; the kill comes at the Nth time of

    step                  an optimizer step has been taken
    before-KIND           an event (or `added`, `claimed`) is about to be recorded; of a checkpoint, its file is written
    after-KIND            it has been recorded
    KIND and a fidelity   `after-claimed-supernet` counts the trials of one fidelity only
    writing               the content of a checkpoint has been written, but it has not got its name

Begun and finished epochs are noted in `HOME/epochs.txt`, optimizer steps in `HOME/steps.txt`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import sklearn.datasets

from sparsesearch.app.complete import complete
from sparsesearch.app.resolve import resolve
from sparsesearch.app.run_study import run_study
from sparsesearch.app.workspace import Workspace
from sparsesearch.settings import Settings
from sparsesearch.store.sql import open_store
from sparsesearch.study.events import Event
from sparsesearch.study.progress import Bar, Silent
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import NewTrial, Trial, TrialState
from sparsesearch.study.work_board import WorkBoard
from sparsesearch.training.step_files import StepFiles
from sparsesearch.training.updates import Updates

DOCUMENT = {
    "name": "tiny",
    "backbone": "deit_pico",
    "budget": {"unit": "fraction", "low": 0.25, "high": 0.45},
    "data": {"num_val_images": 120},
    "precision": "float32",
    "device": "cpu",
    "dispatcher": "inline",
    "fidelity": {
        "evaluations": 4,
        "finalists": 2,
        "dense": {"epochs": 2, "images_per_epoch": 72, "batch_size": 24},
        "supernet_training": {"epochs": 2, "images_per_epoch": 72, "batch_size": 24},
        "finetune": {"epochs": 2, "images_per_epoch": 48, "batch_size": 24},
    },
}


class Fate:
    """Counts what happens, and kills this process when the count of its point is reached."""

    def __init__(self, point: str | None) -> None:
        self._kind, _, count = (point or ":0").partition(":")
        self._left = int(count)

    def meet(self, *kinds: str) -> None:
        """One of these has happened."""
        if self._kind in kinds:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class FatalWriter(StudyWriter):
    """A writer that lets its fate meet everything just before and just after it is written."""

    def __init__(self, writer: StudyWriter, fate: Fate) -> None:
        self.spec: StudySpec = writer.spec
        self._writer = writer
        self._fate = fate
        self._fidelity = {trial.number: trial.fidelity.value for trial in writer.trials()}

    def add_trials(self, trials: Sequence[NewTrial]) -> list[Trial]:
        self._fidelity |= {trial.number: trial.fidelity.value for trial in trials}
        self._meet("before-added", [trial.number for trial in trials])
        added = self._writer.add_trials(trials)
        self._meet("after-added", [trial.number for trial in trials])
        return added

    def claim_all(self, numbers: Sequence[int]) -> list[Trial]:
        self._meet("before-claimed", numbers)
        claimed = self._writer.claim_all(numbers)
        self._meet("after-claimed", numbers)
        return claimed

    def claim(self, number: int, *, retry: bool = False, reason: str | None = None) -> Trial:
        return self._writer.claim(number, retry=retry, reason=reason)

    def record(self, event: Event) -> Trial:
        return self.record_all([event])[0]

    def record_all(self, events: Sequence[Event]) -> list[Trial]:
        for event in events:
            self._meet(f"before-{event.kind}", [event.trial])
        recorded = self._writer.record_all(events)
        for event in events:
            self._meet(f"after-{event.kind}", [event.trial])
        return recorded

    def trials(self, states: Collection[TrialState] | None = None) -> Sequence[Trial]:
        return self._writer.trials(states)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def close(self) -> None:
        self._writer.close()

    def _meet(self, kind: str, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._fate.meet(kind, f"{kind}-{self._fidelity[number]}")


class FatalBar:
    """Notes epochs, and lets the fate meet every optimizer step."""

    def __init__(self, label: str, notes: Path, fate: Fate) -> None:
        self._label = label
        self._notes = notes
        self._fate = fate

    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        if not self._label.startswith(("validating", "evaluating")):
            self._fate.meet("step")

    def __enter__(self) -> FatalBar:
        self._note("begun")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._note("finished")

    def _note(self, what: str) -> None:
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(f"{what} {self._label}\n")


class FatalBoard(WorkBoard):
    """Gives such bars."""

    def __init__(self, notes: Path, fate: Fate) -> None:
        super().__init__(lambda text: None)
        self._notes = notes
        self._fate = fate

    def bar(self, label: str, total: int | None, *, trial: int | None = None, batch_size: int | None = None) -> Bar:
        return super().bar(label, total) if trial is None else FatalBar(label, self._notes, self._fate)


def watch_writing(fate: Fate) -> None:
    """Let the fate meet the writing of every checkpoint."""
    synced = os.fsync

    def watched(descriptor: int) -> None:
        if ".safetensors" in os.readlink(f"/proc/self/fd/{descriptor}"):
            fate.meet("writing")
        synced(descriptor)

    os.fsync = watched  # type: ignore[assignment]


def note_steps(notes: Path) -> None:
    """Note every optimizer step."""
    update = Updates.update

    def noted(*arguments: Any, **options: Any) -> Any:
        with notes.open("a", encoding="utf-8") as file:
            file.write("step\n")
        return update(*arguments, **options)

    Updates.update = noted  # type: ignore[method-assign]


def work(job: dict[str, Any]) -> None:
    """Run the study of a job from its start, or go on with it, as `sparsesearch run` and `resume` do."""
    home = Path(str(job["home"]))
    assert StepFiles.__init__.__kwdefaults__ is not None
    StepFiles.__init__.__kwdefaults__["every_s"] = job["save_every_s"]
    os.environ["SPARSESEARCH_HOME"] = str(home)
    settings = Settings.from_environment()
    store = open_store(settings.database_url)
    if job["verb"] == "run":
        writer = store.create_study(resolve(complete(DOCUMENT, progress=Silent()), progress=Silent()))
    else:
        writer = store.open_study(str(DOCUMENT["name"]), resume=True)
    fate = Fate(job["kill"])
    watch_writing(fate)
    note_steps(home / "steps.txt")
    run_study(Workspace(settings, store), FatalWriter(writer, fate), board=FatalBoard(home / "epochs.txt", fate))


def in_a_fork(job: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work(job)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sklearn.datasets.load_digits()
    for line in sys.stdin:
        sys.stdout.write(f"{in_a_fork(json.loads(line))}\n")
        sys.stdout.flush()
