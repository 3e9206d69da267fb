"""Tables of trials and studies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sparsesearch.analysis.study_front import StudyFront
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Trial


def accuracy_text(trial: Trial, *, meaningful: bool) -> str:
    """Validation accuracy of a trial; see `percent_text`."""
    return percent_text(trial.metrics.get("val_top1"), meaningful=meaningful)


def percent_text(accuracy: float | None, *, meaningful: bool) -> str:
    """`95.30 %`, or `(95.3 % not meaningful)` where the plan could not train the backbone."""
    if accuracy is None:
        return ""
    return f"{100 * accuracy:.2f} %" if meaningful else f"({100 * accuracy:.1f} % not meaningful)"


def share_text(share: float) -> str:
    """`34.8 %`."""
    return f"{100 * share:.1f} %"


def accuracy_warning(spec: StudySpec) -> dict[str, str]:
    """What documents hold besides, where accuracies say nothing."""
    return {} if spec.meaningful else {"accuracy": "not meaningful"}


def schedule_text(spec: StudySpec, trial: Trial) -> str:
    """The schedule in one short line: `3:137 6:96` means 137 tokens left before block 3, and so on."""
    return trial.schedule.describe(spec.resolved.geometry) if spec.resolved else ""


def front_table(
    spec: StudySpec, front: StudyFront, *, best: Trial | None = None, points: Sequence[Trial] | None = None
) -> Table:
    """The front, cheapest first, under the dense model.

    Args:
        spec: The study.
        front: Its front.
        best: The trial to mark.
        points: Other trials to list than those of the front.
    """
    fidelity = front.fidelity.value if front.fidelity else "nothing finished yet"
    table = Table(title=f"Pareto front of {spec.name} ({fidelity})", title_justify="left")
    for column, justify in (("", "left"), ("trial", "right"), ("GMACs", "right"), ("of dense", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    timed = any(trial.cost.ms is not None for trial in points or front.points)
    if timed:
        table.add_column("ms", justify="right")
    table.add_column("val accuracy", justify="right")
    table.add_column("found by")
    table.add_column("tokens left before block")
    dense = front.reference
    if dense is not None:
        accuracy = accuracy_text(dense, meaningful=spec.meaningful)
        latency = [ms_text(dense)] if timed else []
        table.add_row("", str(dense.number), gmacs(dense.cost.macs), "100.0 %", *latency, accuracy, "dense", "")
    for trial in points or front.points:
        share = share_text(trial.cost.macs / dense.cost.macs) if dense is not None else ""
        table.add_row(
            "best" if best is not None and trial.number == best.number else "",
            str(trial.number),
            gmacs(trial.cost.macs),
            share,
            *([ms_text(trial)] if timed else []),
            accuracy_text(trial, meaningful=spec.meaningful),
            trial.label,
            schedule_text(spec, trial),
        )
    return table


def ms_text(trial: Trial) -> str:
    """Milliseconds of a call: `2.41` measured, `~2.41` predicted."""
    if trial.cost.ms is None:
        return ""
    return f"{'~' if trial.cost.latency_ms is None else ''}{trial.cost.ms:.4g}"


def trials_table(spec: StudySpec, trials: Sequence[Trial]) -> Table:
    """Every trial by number."""
    table = Table(title=f"Trials of {spec.name}", title_justify="left")
    for column in ("id", "state", "fidelity", "GMACs", "val accuracy", "from", "tokens left before block", "note"):
        table.add_column(column, justify="right" if column in ("id", "GMACs", "val accuracy") else "left")
    for trial in trials:
        is_model = trial.fidelity not in (Fidelity.DENSE, Fidelity.SUPERNET_TRAINING)
        table.add_row(
            str(trial.number),
            trial.state.value,
            trial.fidelity.value,
            gmacs(trial.cost.macs),
            accuracy_text(trial, meaningful=spec.meaningful),
            trial.label if is_model else "",
            schedule_text(spec, trial) if is_model else "",
            trial.reason or "",
        )
    return table


def gmacs(macs: int) -> str:
    """10^9 multiply-adds, with the digits that matter."""
    value = macs / 1e9
    return f"{value:.3f}" if value >= 0.1 else f"{value:.5f}"
