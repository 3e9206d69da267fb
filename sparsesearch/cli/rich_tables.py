"""Tables of trials and studies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sparsesearch.analysis.study_front import StudyFront
from sparsesearch.analysis.words import accuracy_text, of_dense_text
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Trial
from sparsesearch.text import macs_text


def accuracy_warning(spec: StudySpec) -> dict[str, str]:
    """Return the key to add to JSON documents of a study whose accuracies are not meaningful."""
    return {} if spec.meaningful else {"accuracy": "not meaningful"}


def schedule_text(spec: StudySpec, trial: Trial) -> str:
    """Format a schedule as one short line: `3:137 6:96` means 137 tokens left before block 3, and so on."""
    return trial.schedule.describe(spec.resolved.geometry) if spec.resolved else ""


def front_table(
    spec: StudySpec, front: StudyFront, *, best: Trial | None = None, points: Sequence[Trial] | None = None
) -> Table:
    """Format a Pareto front as a table: the dense model, then the front, cheapest first.

    Args:
        spec: The study.
        front: Its front.
        best: The trial to mark as best.
        points: Trials to list instead of those of the front.
    """
    fidelity = front.fidelity.value if front.fidelity else "nothing finished yet"
    table = Table(title=f"Pareto front of {spec.name} ({fidelity})", title_justify="left")
    for column, justify in (("", "left"), ("trial", "right"), ("cost", "right"), ("of dense", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    timed = any(trial.cost.ms is not None for trial in points or front.points)
    if timed:
        table.add_column("ms", justify="right")
    table.add_column("val accuracy", justify="right")
    table.add_column("origin")
    table.add_column("tokens left before block")
    dense = front.reference
    if dense is not None:
        accuracy = accuracy_text(dense, meaningful=spec.meaningful)
        latency = [latency_cell(dense)] if timed else []
        table.add_row("", str(dense.number), macs_text(dense.cost.macs), "100.0 %", *latency, accuracy, "dense", "")
    for trial in points or front.points:
        of_dense = of_dense_text(trial.cost.macs, dense.cost.macs) if dense is not None else ""
        table.add_row(
            "best" if best is not None and trial.number == best.number else "",
            str(trial.number),
            macs_text(trial.cost.macs),
            of_dense,
            *([latency_cell(trial)] if timed else []),
            accuracy_text(trial, meaningful=spec.meaningful),
            trial.label,
            schedule_text(spec, trial),
        )
    return table


def latency_cell(trial: Trial) -> str:
    """Format the latency of a call in milliseconds: `2.41` if measured, `~2.41` if predicted."""
    if trial.cost.ms is None:
        return ""
    return f"{'~' if trial.cost.latency_ms is None else ''}{trial.cost.ms:.4g}"


def trials_table(spec: StudySpec, trials: Sequence[Trial]) -> Table:
    """Format trials as a table, ordered by number."""
    table = Table(title=f"Trials of {spec.name}", title_justify="left")
    for column in ("id", "state", "fidelity", "cost", "val accuracy", "origin", "tokens left before block", "note"):
        table.add_column(column, justify="right" if column in ("id", "cost", "val accuracy") else "left")
    for trial in trials:
        is_model = trial.fidelity not in (Fidelity.DENSE, Fidelity.SUPERNET_TRAINING)
        table.add_row(
            str(trial.number),
            trial.state.value,
            trial.fidelity.value,
            macs_text(trial.cost.macs),
            accuracy_text(trial, meaningful=spec.meaningful),
            trial.label if is_model else "",
            schedule_text(spec, trial) if is_model else "",
            trial.reason or "",
        )
    return table
