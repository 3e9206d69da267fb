"""The prefix states of one batch of images: what schedules that agree on their first blocks compute only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from torch import Tensor, nn

from sparsesearch.backbones.segments import PrefixState, advance, complete

Route = Sequence[tuple[int, Hashable]]
"""The blocks before which a pass under a schedule is stored, from the first on, each with its `done_before`."""


class PrefixCache:
    """Prefix states of one batch of images before each block; the least recently used are evicted.

    Args:
        model: A sparse model.
        embedded: The state before the first block, which is never evicted.
        max_bytes: Size limit of all other states.
    """

    def __init__(self, model: nn.Module, embedded: PrefixState, *, max_bytes: int) -> None:
        self._model = model
        self._embedded = embedded
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[int, Hashable], PrefixState] = OrderedDict()
        self.num_bytes = 0

    def logits(self, route: Route) -> Tensor:
        """Logits under the schedule that the model has, `B x` classes, resumed from the longest stored prefix.

        Args:
            route: That of the schedule.
        """
        start = max((index for index, key in enumerate(route) if key in self._kept), default=0)
        prefix_state = self._kept.get(route[start], self._embedded)
        if start:
            self._kept.move_to_end(route[start])
        for index in range(start, len(route) - 1):
            prefix_state = advance(self._model, prefix_state, index, index + 1)
            self._keep(route[index + 1], prefix_state)
        return complete(self._model, prefix_state, len(route) - 1)

    def _keep(self, key: tuple[int, Hashable], prefix_state: PrefixState) -> None:
        size = prefix_state.num_bytes
        while self._kept and self.num_bytes + size > self._max_bytes:
            self.num_bytes -= self._kept.popitem(last=False)[1].num_bytes
        if self.num_bytes + size <= self._max_bytes:
            self._kept[key] = prefix_state
            self.num_bytes += size
