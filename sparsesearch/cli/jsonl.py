"""Every event as one line of JSON on standard output: for programs that run studies."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sparsesearch.cli.reporter import Reporter
from sparsesearch.cli.rich_tables import accuracy_warning
from sparsesearch.cli.watch import StudyWatch
from sparsesearch.study.trial import Trial

_PLAN = "plan: "


class JsonLinesReporter(Reporter):
    """Writes an object for everything that happens.

    Each has `time` (ISO 8601, UTC), `event` and `study` (null until it has a name), and besides

    - `plan` and `note`: `text`;
    - `started`, `measured` and `ended`: the fields of `trials --json`, and `epochs_done`;
    - `result`, the last: the fields of the command's `--json`.

    Args:
        clock: Seconds since 1970.
    """

    tells_result = True

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        """A line that stays."""
        if text.startswith(_PLAN):
            self._write("plan", text=text.removeprefix(_PLAN))
        else:
            self._write("note", text=text)

    def started(self, watch: StudyWatch, trial: Trial) -> None:
        """An attempt of a trial began."""
        self._write_trial("started", watch, trial)

    def measured(self, watch: StudyWatch, trial: Trial) -> None:
        """A trial was measured once more."""
        self._write_trial("measured", watch, trial)

    def ended(self, watch: StudyWatch, trial: Trial) -> None:
        """A trial reached a final state."""
        self._write_trial("ended", watch, trial)

    def result(self, document: dict[str, object]) -> None:
        """The last of all: what came out."""
        self._write("result", **document)

    def _write_trial(self, event: str, watch: StudyWatch, trial: Trial) -> None:
        fields = {**trial.public(), "epochs_done": trial.epochs_done, **accuracy_warning(watch.spec)}
        self._write(event, **fields)

    def _write(self, event: str, **fields: object) -> None:
        moment = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        study = None if self._watch is None else self._watch.spec.name
        text = json.dumps({"time": moment, "event": event, "study": study, **fields})
        with self._lock:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
