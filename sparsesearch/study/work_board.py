"""A board of the work under way, which views draw and other processes can read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from sparsesearch.study.progress import Bar, WorkProgress


class BoardBar:
    """The bar of one piece of work. Only its own thread advances it.

    Args:
        label: What the work is.
        total: All steps; None if unknown.
        trial: Number of its trial; None for work of a study as a whole.
        batch_size: Images trained in each step; None if no images are trained.
        on_change: Called with whether the bar is still shown, whenever it changes.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        trial: int | None,
        batch_size: int | None,
        on_change: Callable[[BoardBar, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label, self._total, self._trial, self._batch_size = label, total, trial, batch_size
        self._on_change = on_change
        self._clock = clock
        self._done = 0
        self._note = ""
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None

    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        """Advance the bar."""
        self._done += amount
        self._note = note or ""
        self._last = (self._done, self._clock())
        self._first = self._first or self._last  # the first step is slower, so speed is counted from its end
        self._on_change(self, True)

    @property
    def progress(self) -> WorkProgress:
        """How far the work is."""
        per_s = None
        if self._first is not None and self._last is not None and self._last[1] > self._first[1]:
            per_s = (self._last[0] - self._first[0]) / (self._last[1] - self._first[1])
        left = None if self._total is None or not per_s else max(0.0, (self._total - self._done) / per_s)
        images = None if self._batch_size is None or per_s is None else per_s * self._batch_size
        return WorkProgress(
            label=self._label,
            done=self._done,
            total=self._total,
            trial=self._trial,
            images_per_s=None if images is None else round(images, 1),
            left_s=None if left is None else round(left, 1),
            note=self._note,
        )

    def __enter__(self) -> BoardBar:
        self._on_change(self, True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_change(self, False)


class WorkBoard:
    """Keeps the bars that are shown; see `Progress`. Thread-safe.

    Args:
        on_line: Prints a permanent line.
        clock: Monotonic clock, in seconds.
    """

    def __init__(self, on_line: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_line = on_line
        self._clock = clock
        self._bars: list[BoardBar] = []
        self._sources: list[Callable[[], Sequence[WorkProgress]]] = []
        self._lock = threading.Lock()

    def bar(self, label: str, total: int | None, *, trial: int | None = None, batch_size: int | None = None) -> Bar:
        """Make a bar, which is on the board while its block runs."""
        return BoardBar(label, total, trial=trial, batch_size=batch_size, on_change=self._change, clock=self._clock)

    def line(self, text: str) -> None:
        """Print one permanent line."""
        self._on_line(text)

    def include(self, source: Callable[[], Sequence[WorkProgress]]) -> None:
        """Also show the work that a function returns, for work in other processes."""
        self._sources.append(source)

    def work(self) -> tuple[WorkProgress, ...]:
        """The work under way, in the order in which it was started."""
        with self._lock:
            own = tuple(bar.progress for bar in self._bars)
        return own + tuple(item for source in self._sources for item in source())

    def _change(self, bar: BoardBar, is_shown: bool) -> None:
        with self._lock:
            if is_shown and bar not in self._bars:
                self._bars.append(bar)
            elif not is_shown and bar in self._bars:
                self._bars.remove(bar)
