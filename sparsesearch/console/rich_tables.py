"""Tables of trials and studies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sparsesearch.analysis.front_description import WORD_COLUMNS, FrontDescription
from sparsesearch.analysis.words import accuracy_text
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Trial
from sparsesearch.text import macs_text


def schedule_text(spec: StudySpec, trial: Trial) -> str:
    """Format a schedule as one short line: `3:137 6:96` means 137 tokens left before block 3, and so on."""
    return trial.schedule.describe(spec.resolved.geometry) if spec.resolved else ""


def front_table(front: FrontDescription) -> Table:
    """Format a Pareto front as a table: the dense model, then the front, cheapest first."""
    fidelity = front.fidelity.value if front.fidelity else "nothing finished yet"
    notes = "\n".join(front.warnings) or None
    table = Table(
        "",
        title=f"Pareto front of {front.study} ({fidelity})",
        title_justify="left",
        caption=notes,
        caption_justify="left",
    )
    for column in front.head:
        table.add_column(column, justify="left" if column in WORD_COLUMNS else "right")
    for point in front.rows:
        table.add_row("best" if point.is_best else "", *front.cells(point))
    return table


def trials_table(spec: StudySpec, trials: Sequence[Trial]) -> Table:
    """Format trials as a table, ordered by number."""
    table = Table(title=f"Trials of {spec.name}", title_justify="left")
    for column in ("id", "state", "fidelity", "cost", spec.metric.short, "origin", "tokens left before block", "note"):
        table.add_column(column, justify="right" if column in ("id", "cost", spec.metric.short) else "left")
    for trial in trials:
        is_model = trial.fidelity not in (Fidelity.DENSE, Fidelity.SUPERNET_TRAINING)
        is_schedule = is_model and trial.fidelity is not Fidelity.COUNTS
        table.add_row(
            str(trial.number),
            trial.state.value,
            trial.fidelity.value,
            macs_text(trial.cost.macs),
            accuracy_text(spec, trial),
            trial.label if is_model else "",
            schedule_text(spec, trial) if is_schedule else "",
            trial.reason or "",
        )
    return table
