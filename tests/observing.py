"""An observer made of functions."""

from __future__ import annotations

from collections.abc import Callable

from sparsesearch.study.observer import NoObserver
from sparsesearch.study.trial import Trial


def _ignore(trial: Trial) -> None:
    return


class Telling(NoObserver):
    """Passes trials on.

    Args:
        on_trial: Called with every trial that ended.
        on_progress: Called with every other change of a trial.
    """

    def __init__(
        self, on_trial: Callable[[Trial], object] = _ignore, on_progress: Callable[[Trial], object] = _ignore
    ) -> None:
        self._on_trial = on_trial
        self._on_progress = on_progress

    def changed(self, trial: Trial) -> None:
        """Call one of the functions."""
        (self._on_trial if trial.state.is_final else self._on_progress)(trial)
