"""The front of a stored study, as its commands and the service show it."""

from __future__ import annotations

from typing import Literal

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.front_description import FrontDescription
from sparsesearch.analysis.read_view import read_view
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import accuracy_warning
from sparsesearch.errors import SpecError
from sparsesearch.papers.overlay import PaperOverlay
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Axis

FrontAxis = Literal["macs", "ms", "both"]


def view_of_front(
    records: StudyRecords, study: str, x: FrontAxis | None = None, *, is_whole: bool = False
) -> StudyView:
    """Read what a front shows of a study.

    Args:
        records: The store.
        study: Name of the study.
        x: The cost axis; None for the unit of the budget.
        is_whole: Whether all candidates are shown, not only the front.

    Raises:
        StudyNotFoundError: There is no study of that name.
        SpecError: Milliseconds are asked for, but the study has no target.
    """
    axes: tuple[Axis, ...] = () if x is None or x == "both" else (x,)
    # A front of three objectives may have points that are on no other front.
    view = StudyView.of(records, study) if is_whole or x == "both" else read_view(records, study, axes=axes)
    if x in ("ms", "both") and (view.spec.resolved is None or view.spec.resolved.latency is None):
        raise SpecError(
            f"study {study!r} has no latency target, so no milliseconds; run one with --device-profile or --budget-ms"
        )
    return view


def shown_axis(spec: StudySpec, x: FrontAxis | None) -> Axis:
    """The cost axis of a picture or a table."""
    return spec.budget.axis if x is None else ("ms" if x == "ms" else "macs")


def described(view: StudyView, x: FrontAxis | None = None, *, paper: PaperOverlay | None = None) -> FrontDescription:
    """The front as it is shown."""
    axis = shown_axis(view.spec, x)
    return describe_front(view, axis=axis, joint=x == "both", paper=paper if axis == "macs" else None)


def front_document(
    view: StudyView, x: FrontAxis | None = None, *, paper: PaperOverlay | None = None
) -> dict[str, object]:
    """The object that `front --json` prints."""
    shown = described(view, x, paper=paper)
    warning = accuracy_warning(view.spec)
    return {
        "fidelity": shown.fidelity.value if shown.fidelity else None,
        "reference": None if shown.dense is None else shown.dense.trial.public(),
        "x": x or shown_axis(view.spec, x),
        "points": [{**point.trial.public(), **warning} for point in shown.front],
        **warning,
        **({} if paper is None else {"paper": paper.document()}),
    }
