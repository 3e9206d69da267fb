"""The front of a study on its page: the charts of the report, whose points lead to their trials."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from anyio import CapacityLimiter, to_thread
from markupsafe import Markup

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.front_description import FrontDescription, FrontPoint
from sparsesearch.analysis.view import StudyView
from sparsesearch.report.fronts import front_charts, hint
from sparsesearch.service.pages.depth import ScheduleCard
from sparsesearch.store.sql import SqlStore

_MOST = 32


@dataclass(frozen=True)
class ShownFront:
    """A front as its page shows it.

    Attributes:
        described: Its points, numbers and words.
        charts: The charts with their legend.
        best: The schedule of the best trial; None while nothing is within the budget.
        has_results: Whether there is a report.
        warnings: Warnings to show next to every accuracy.
    """

    described: FrontDescription
    charts: Markup
    best: ScheduleCard | None
    has_results: bool
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, view: StudyView) -> ShownFront:
        """That of a study."""
        described = describe_front(view)
        charts = Markup("")
        if described.fidelity is not None:
            points = [*described.points, *describe_front(view, axis="macs").points, *described.rows]
            charts = linked(front_charts(view), points, study=view.spec.name)
        best = None if view.best is None else ScheduleCard.of(view, view.best)
        return cls(described, charts, best, view.has_results, view.warnings)


class FrontCache:
    """The fronts of the studies that were looked at last, as long as no trial of theirs changes.

    Reading and drawing a front takes a good part of a second: all who watch a study see one drawing, and those who wait
    for it keep no thread.
    """

    def __init__(self) -> None:
        self._fronts: OrderedDict[str, tuple[object, ShownFront]] = OrderedDict()
        self._drawing = CapacityLimiter(1)

    async def front(self, store: SqlStore, study: str) -> ShownFront:
        """The front of a study as it is now. Raises `StudyNotFoundError`."""
        return await to_thread.run_sync(self._front, store, study, limiter=self._drawing)

    def _front(self, store: SqlStore, study: str) -> ShownFront:
        version = store.version(study)
        kept = self._fronts.pop(study, None)
        made = kept[1] if kept is not None and kept[0] == version else ShownFront.of(StudyView.of(store, study))
        self._fronts[study] = version, made
        while len(self._fronts) > _MOST:
            self._fronts.popitem(last=False)
        return made


def linked(charts: str, points: list[FrontPoint], *, study: str) -> Markup:
    """Charts whose marks of trials are links to these; those on the front and hand-crafted ones by keyboard as well.

    Args:
        charts: Charts with the tooltips of `report.fronts.hint`.
        points: The points that they may contain.
        study: Name of the study.
    """
    known: Mapping[str, FrontPoint] = {hint(point): point for point in points}
    tree = ElementTree.fromstring(f"<div>{charts}</div>")
    for chart in tree.iter("svg"):
        if _link_marks(chart, known, study=study):
            chart.set("role", "group")  # what is in a picture cannot be reached
    return Markup(ElementTree.tostring(tree, encoding="unicode", method="html"))


def _link_marks(chart: ElementTree.Element, known: Mapping[str, FrontPoint], *, study: str) -> bool:
    """Put links around the marks of a chart; return whether there are any."""
    count = 0
    for index, mark in enumerate(list(chart)):
        text = mark.findtext("title")
        point = None if text is None else known.get(text)
        if point is None:
            continue
        link = ElementTree.Element("a", {"href": f"/studies/{study}/trials/{point.trial.number}"})
        style = mark.get("class", "").split()
        if not ("ring" in style or ("baseline" in style and not point.on_front)):
            link.set("tabindex", "-1")
        link.append(mark)
        chart[index] = link
        count += 1
    return count > 0
