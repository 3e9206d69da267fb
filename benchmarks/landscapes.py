"""Accuracies of schedules that searches are compared on: made up, tabulated, or those of a trained supernet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import stand_in

from sparsesearch.geometry import BackboneGeometry
from sparsesearch.schedule import Schedule
from sparsesearch.space.definition import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Landscape(ABC):
    """What is searched, and what comes out.

    Attributes:
        name: Short name.
        geometry: The backbone.
        space: The space.
        low: Lower end of the range of budgets in multiply-adds.
        high: Upper end; what costs more does not count.
        reference_top1: Accuracy in percent at or below which nothing counts.
        reachable: Hypervolume in percent x multiply-adds that the best schedules reach.
    """

    name: str
    geometry: BackboneGeometry
    space: SearchSpace
    low: int
    high: int
    reference_top1: float
    reachable: float

    is_stand_in = False

    @abstractmethod
    def accuracy(self, schedule: Schedule) -> float:
        """Accuracy in percent."""

    @abstractmethod
    def hand_family(self) -> list[Schedule]:
        """What people would try."""

    @abstractmethod
    def describe(self) -> str:
        """One line on what it is and what its values are shares of."""


class StandIn(Landscape):
    """The fixed made-up landscape; see `stand_in`."""

    is_stand_in = True

    def accuracy(self, schedule: Schedule) -> float:
        """Made-up accuracy."""
        return stand_in.accuracy(schedule)

    def hand_family(self) -> list[Schedule]:
        """Equal ratios before blocks 3, 6, 9."""
        return stand_in.hand_family()

    def describe(self) -> str:
        """One line."""
        grid = stand_in.REACHABLE_ON_GRID / stand_in.REACHABLE
        return f"share of what any token counts reach; the grid of the stock methods alone reaches {grid:.3f}"


def open_landscape(name: str) -> Landscape:
    """A landscape by name or path."""
    return StandIn(
        name="stand-in",
        geometry=stand_in.GEOMETRY,
        space=stand_in.SPACE,
        low=1_500_000_000,
        high=stand_in.LIMIT_MACS,
        reference_top1=stand_in.REFERENCE[0],
        reachable=stand_in.REACHABLE * 1e9,
    )
