"""`--with-paper`: published schedules of a paper next to a study."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from sparsesearch.analysis.view import StudyView
from sparsesearch.backbones.paper_backbones import family_geometry
from sparsesearch.console.streams import program
from sparsesearch.errors import SpecError
from sparsesearch.papers.overlay import PaperOverlay, paper_overlay
from sparsesearch.papers.results import paper_family
from sparsesearch.text import macs_text, percent_text

WithPaperOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Overlay a paper's schedules: deit_256, deit_s, deit_b, lvvit_s, lvvit_m, convnext_t, "
        "convnext_s, convnext_b, swin_t, swin_s or swin_b.",
    ),
]


def open_paper(name: str, view: StudyView) -> PaperOverlay:
    """Load the published schedules of a paper, to overlay them on a study.

    Raises:
        SpecError: The paper is unknown, or the study has no results yet.
    """
    family = paper_family(name)
    view_with_results(view)
    return paper_overlay(family, family_geometry(family), view.spec)


def view_with_results(view: StudyView) -> StudyView:
    """Return the view after checking that the study has results.

    Raises:
        SpecError: Nothing has been measured yet.
    """
    if not view.has_results:
        name = view.spec.name
        raise SpecError(f"study {name!r} has no results yet; show its progress with: {program()} status {name}")
    return view


def paper_table(paper: PaperOverlay) -> Table:
    """Format the schedules of a paper as a table, cheapest first."""
    title = f"{paper.family.title}, published schedules" + (" (not comparable)" if paper.caveat else "")
    table = Table(title=title, title_justify="left")
    for column in ("rho", "cost", "of dense", "published", "published top-1"):
        table.add_column(column, justify="right")
    table.add_column("tokens left before block")
    for point in paper.points:
        known = point.published
        table.add_row(
            f"{point.rho:g}",
            macs_text(point.macs),
            percent_text(point.share, digits=1),
            "" if known is None else f"{known.gflops:g} G",
            "" if known is None else percent_text(known.top1),
            point.tokens,
        )
    return table
