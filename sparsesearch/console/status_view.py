"""The status of a study, rendered for a terminal of 80 columns or more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sparsesearch.analysis.phases import Phase
from sparsesearch.analysis.status import RunningTrial, StudyStatus
from sparsesearch.analysis.words import accuracy_text, meaningful_text
from sparsesearch.console.sentences import clock_text, cost_text
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.trial import Fidelity
from sparsesearch.text import counted, human_time

MAX_RUNNING = 8
"""Maximum number of running trials that are listed."""

_WIDTH = 100
_HOW = {
    Fidelity.FINETUNE: "fine-tuned",
    Fidelity.SUPERNET: "on the shared supernet weights",
    Fidelity.UNTRAINED: "on the dense weights, untrained",
    Fidelity.RESCORED: "untrained, on images that did not rank it",
}
_STATE_STYLES = {StudyState.FINISHED: "green", StudyState.PAUSED: "yellow", StudyState.FAILED: "red"}


def status_view(status: StudyStatus, *, max_running: int = MAX_RUNNING, with_work: bool = True) -> RenderableType:
    """Render the status of a study.

    Args:
        status: The status.
        max_running: Maximum number of running trials that are listed.
        with_work: Whether bars of the work under way are included.
    """
    parts: list[RenderableType] = [_header(status), _phases(status)]
    if status.running and max_running > 0:
        parts += [Text(), _running(status, max_running=max_running)]
    if with_work and status.condition.work:
        parts += [Text(), work_view(status.condition.work[: max(1, max_running)])]
    facts = list(_facts(status))
    if facts:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in facts:
            grid.add_row(Text(name), Text(text))
        parts += [Text(), grid]
    return Constrain(Group(*parts), _WIDTH)


def _header(status: StudyStatus) -> RenderableType:
    spec = status.spec
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(Text(spec.name, style="bold"), Text(_time(status), style=_style(status.condition)))
    about = Text(f"{spec.backbone}, budget {spec.budget}, dispatcher {spec.dispatcher}", style="dim")
    about.no_wrap, about.overflow = True, "ellipsis"
    return Group(grid, about)


def _time(status: StudyStatus) -> str:
    elapsed = clock_text(status.elapsed_s)
    condition = status.condition
    if condition.state.is_active and condition.is_leased:
        words = [] if condition.state is StudyState.RUNNING else [condition.word]
        words += [elapsed] + ([] if status.left_s is None else [f"about {human_time(status.left_s)} left"])
        return ", ".join(words)
    if condition.state is StudyState.QUEUED:
        return condition.word
    return f"{condition.word} after {elapsed}"


def _style(condition: StudyCondition) -> str:
    return "yellow" if condition.is_interrupted else _STATE_STYLES.get(condition.state, "")


def _phases(status: StudyStatus) -> Table:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True)
    for phase in status.phases:
        bar = ProgressBar(total=1.0, completed=phase.share)
        grid.add_row(Text(phase.name), bar, Text(f"{phase.done} of {phase.total}"), Text(_epochs(phase), style="dim"))
    return grid


def _epochs(phase: Phase) -> str:
    if phase.epochs_total is None:
        return "schedules"
    word = "epoch" if phase.epochs_total == 1 else "epochs"
    return f"{phase.epochs_done} of {phase.epochs_total} {word}"


def work_view(work: Sequence[WorkProgress]) -> RenderableType:
    """Render the work under way: one bar each, with its speed and its remaining time."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(width=12)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(overflow="ellipsis")  # narrowed first
    for item in work:
        words = [] if item.images_per_s is None else [f"{item.images_per_s:,.0f} images/s"]
        words += [item.note] if item.note else []
        words += [] if item.left_s is None else [clock_text(item.left_s)]
        bar = ProgressBar(total=item.total, completed=item.done, pulse=item.total is None)
        steps = "" if item.total is None else f"{item.done} of {item.total}"
        label = item.label if item.trial is None or len(work) == 1 else f"trial {item.trial}: {item.label}"
        details = Text(", ".join(words), style="dim", no_wrap=True, overflow="ellipsis")
        grid.add_row(Text(label), bar, Text(steps), details)
    return grid


def _running(status: StudyStatus, *, max_running: int) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("running", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("epochs", no_wrap=True)
    table.add_column(status.spec.metric.short, justify="right", no_wrap=True)
    table.add_column("for", justify="right", no_wrap=True)
    for trial in status.running[:max_running]:
        accuracy = ""
        if trial.metric is not None:
            accuracy = meaningful_text(status.spec, trial.metric)
        epochs = "" if trial.epochs is None else f"{trial.epochs_done} of {trial.epochs}"
        row = (str(trial.number), _what(trial), epochs, accuracy, clock_text(trial.seconds))
        table.add_row(*(Text(cell) for cell in row))
    hidden = len(status.running) - max_running
    return Group(table, Text(f"and {hidden} more", style="dim")) if hidden > 0 else table


def _what(trial: RunningTrial) -> str:
    what = f"{trial.schedule} ({trial.label})" if trial.schedule else f"{trial.label} training"
    return what if trial.attempt == 1 else f"attempt {trial.attempt}: {what}"


def _facts(status: StudyStatus) -> Iterator[tuple[str, str]]:
    if status.dense is not None:
        accuracy = accuracy_text(status.spec, status.dense)
        yield "dense", f"{accuracy} at {cost_text(status.dense, dense=None)}"
    if status.best is not None and status.fidelity is not None:
        accuracy = accuracy_text(status.spec, status.best)
        yield "best", f"{accuracy} at {cost_text(status.best, dense=status.dense)}, {_HOW[status.fidelity]}"
        yield "", f"{status.best_schedule} ({status.best.label})"
    if status.front_size and status.hypervolume is not None:
        yield "front", f"{counted(status.front_size, 'schedule')}, hypervolume {status.hypervolume:.2f} %"
    if status.failed.count:
        yield "failed", f"{status.failed.count}, last {status.failed.last}"
    if status.condition.reason is not None:
        yield "reason", status.condition.reason
    if status.retried.count:
        yield "retried", f"{status.retried.count}, last {status.retried.last}"
