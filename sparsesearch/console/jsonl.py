"""Report every event as one line of JSON on standard output, for programs that run studies."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sparsesearch.analysis.words import accuracy_warning
from sparsesearch.console.heartbeat import Heartbeat
from sparsesearch.console.reporter import Reporter
from sparsesearch.console.watch import StudyWatch
from sparsesearch.redact import without_password
from sparsesearch.study.trial import Trial

_PLAN = "plan: "


class JsonLinesReporter(Reporter):
    """Writes one JSON object for each event.

    Each has `time` (ISO 8601, UTC), `event` and `study` (null until the study has a name), and

    - `plan` and `note`: `text`;
    - `started`, `measured` and `ended`: the fields of `trials --json`, and `epochs_done`;
    - `progress`, at least every 12 s: `work`, the list of what is under way, with steps, images per second and the
      estimated remaining seconds; and `left_s`, that of the study;
    - `result`, the last event: the fields of the command's `--json`.

    Args:
        clock: Seconds since 1970.
    """

    prints_result = True

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self.heartbeat = Heartbeat(self._beat)

    def line(self, text: str) -> None:
        """Write a `plan` or `note` event, without passwords."""
        text = without_password(text)
        if text.startswith(_PLAN):
            self._write("plan", text=text.removeprefix(_PLAN))
        else:
            self._write("note", text=text)

    def trial_started(self, watch: StudyWatch, trial: Trial) -> None:
        """Write a `started` event."""
        self._write_trial("started", watch, trial)

    def trial_measured(self, watch: StudyWatch, trial: Trial) -> None:
        """Write a `measured` event."""
        self._write_trial("measured", watch, trial)

    def trial_ended(self, watch: StudyWatch, trial: Trial) -> None:
        """Write an `ended` event."""
        self._write_trial("ended", watch, trial)

    def result(self, document: dict[str, object]) -> None:
        """Write the `result` event, the last one."""
        self._write("result", **document)

    def _beat(self) -> None:
        left_s = None if self._watch is None else self._watch.status().left_s
        work = [item.model_dump() for item in self.board.work()]
        self._write("progress", work=work, left_s=None if left_s is None else round(left_s, 1))

    def _write_trial(self, event: str, watch: StudyWatch, trial: Trial) -> None:
        fields = {**trial.public(), "epochs_done": trial.epochs_done, **accuracy_warning(watch.spec)}
        self._write(event, **fields)

    def _write(self, event: str, **fields: object) -> None:
        timestamp = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        study = None if self._watch is None else self._watch.spec.name
        text = json.dumps({"time": timestamp, "event": event, "study": study, **fields})
        self.said()
        with self._lock:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
