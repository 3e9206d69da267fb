"""The choice of finalists of one study, from what its spec says."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.challengers import challengers
from sparsesearch.search.finalists import choose_finalists, nearest_to_front
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Trial


class FinalistChoice:
    """Selects candidates of a study; each hand-crafted schedule has a challenger among them (`challengers`).

    Args:
        spec: The prepared study.
        geometry: The backbone.
        low: Lower end of the range of budgets; None for a single budget.
        high: The budget, or the upper end of the range.
    """

    def __init__(self, spec: StudySpec, geometry: BackboneGeometry, *, low: float | None, high: float) -> None:
        self._spec = spec
        self._geometry = geometry
        self._low, self._high = low, high

    def finalists(self, searched: Sequence[Trial], baselines: Sequence[Trial], *, count: int) -> list[Trial]:
        """The candidates to fine-tune; see `choose_finalists`."""
        return choose_finalists(
            searched,
            count=count,
            required=self._challengers(searched, baselines),
            low=self._low,
            high=self._high,
            axis=self._spec.budget.axis,
            metric=self._spec.metric,
        )

    def more_finalists(
        self, searched: Sequence[Trial], baselines: Sequence[Trial], planned: Sequence[Trial]
    ) -> list[Trial]:
        """The finalists for which the plan had no time, the best first."""
        assert self._spec.resolved is not None, "only resolved studies are run"
        count = self._spec.resolved.more_finalists
        if count == 0:
            return []
        known = {trial.number for trial in planned}
        chosen = self.finalists(searched, baselines, count=len(planned) + count)
        return [trial for trial in chosen if trial.number not in known][:count]

    def nearest_to_front(self, searched: Sequence[Trial], baselines: Sequence[Trial], *, count: int) -> list[Trial]:
        """The candidates to evaluate once more; see `finalists.nearest_to_front`."""
        return nearest_to_front(
            searched,
            count=count,
            high=self._high,
            axis=self._spec.budget.axis,
            metric=self._spec.metric,
            required=self._challengers(searched, baselines),
        )

    def _challengers(self, searched: Sequence[Trial], baselines: Sequence[Trial]) -> list[Trial]:
        return challengers(
            searched, baselines, geometry=self._geometry, metric=self._spec.metric, axis=self._spec.budget.axis
        )
