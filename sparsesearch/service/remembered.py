"""Answers that are kept as long as they are true: many look at the same fronts, and they change seldom."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

MAX_BYTES = 64 * 2**20


class Remembered:
    """Answers by what they depend on: the oldest are forgotten when they take more memory than allowed. Thread-safe.

    An answer is made once, however many ask for it at the same time.

    Args:
        max_bytes: Memory of all answers.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._found: OrderedDict[Hashable, bytes] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The answer of a key.

        Args:
            key: All that the answer depends on.
            make: Makes it.
        """
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
                return found
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                found = self._found.get(key)
            if found is None:
                try:
                    found = make()
                    self._keep(key, found)
                finally:
                    with self._lock:
                        self._making.pop(key, None)
        return found

    def _keep(self, key: Hashable, answer: bytes) -> None:
        with self._lock:
            if len(answer) > self._max_bytes // 4:
                return
            self._found[key] = answer
            self._bytes += len(answer)
            while self._bytes > self._max_bytes:
                _, old = self._found.popitem(last=False)
                self._bytes -= len(old)
