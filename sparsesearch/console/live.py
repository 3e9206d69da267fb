"""A view of the running study that is redrawn in place, for terminals."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from sparsesearch.console.reporter import Reporter
from sparsesearch.console.sentences import ended_line
from sparsesearch.console.status_view import MAX_RUNNING, status_view, work_view
from sparsesearch.console.streams import err, say
from sparsesearch.console.watch import StudyWatch
from sparsesearch.study.trial import Trial

_REFRESHES_A_SECOND = 4
_OTHER_LINES = 18
"""Lines of the view other than its running trials."""

_MAX_RENDER_FRACTION = 0.02
"""Largest fraction of the time that goes into rendering the view."""


class LiveReporter(Reporter):
    """Shows the study, its running trials, the best result so far and progress bars; permanent lines go above.

    Everything is drawn from reported trials; the database is not queried. On exit, only the permanent lines remain.
    """

    prints_summary = True

    def __init__(self) -> None:
        super().__init__()
        self._view: RenderableType | None = None
        self._due = 0.0
        self._idle = Spinner("dots", Text("starting", style="dim"))
        self._live = Live(
            console=err,
            get_renderable=self._draw,
            refresh_per_second=_REFRESHES_A_SECOND,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # results that go to a file must not be redirected
        )

    def line(self, text: str) -> None:
        """Print a permanent line above the view."""
        say(text)

    def trial_ended(self, watch: StudyWatch, trial: Trial) -> None:
        """Print a line for a training that ended or a trial that failed."""
        text = ended_line(watch.spec, trial)
        if text is not None:
            self.line(text)

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._watch is not None:
            parts += [Text(), self._study(self._watch)]
        work = self.board.work()
        if work:
            parts += [Text(), work_view(work)]
        return Group(*parts or [self._idle])

    def _study(self, watch: StudyWatch) -> RenderableType:
        """Render the study, less often if it has many trials, so that rendering does not slow down the run."""
        began = time.thread_time()
        if self._view is None or time.monotonic() >= self._due:
            num_lines = err.height - _OTHER_LINES
            self._view = status_view(watch.status(), max_running=max(1, min(MAX_RUNNING, num_lines)), with_work=False)
            self._due = time.monotonic() + (time.thread_time() - began) / _MAX_RENDER_FRACTION
        return self._view

    def __enter__(self) -> LiveReporter:
        super().__enter__()
        self._live.start(refresh=True)
        _log_to_standard_error()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        _log_to_standard_error()
        super().__exit__(kind, error, trace)


def _log_to_standard_error() -> None:
    """Send log messages to the current standard error, which is above the view while it is shown."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)
