"""One-line messages about the events of a trial and the progress of a study."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sparsesearch.analysis.phases import Phase
from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.words import accuracy_text, latency_cell, of_dense_text
from sparsesearch.console.rich_tables import schedule_text
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Trial, TrialState
from sparsesearch.text import human_time, macs_text


def started_line(spec: StudySpec, trial: Trial) -> str | None:
    """Return the message for a training that started; None for an evaluation, of which there are many."""
    if not trial.fidelity.is_training:
        return None
    what = f"{trial.fidelity.training_name} started"
    if trial.fidelity is Fidelity.FINETUNE:
        what = f"fine-tuning of {schedule_text(spec, trial)} ({trial.label}) started"
    if trial.fidelity is Fidelity.COUNTS:
        what = f"learning of {trial.label} started"
    if trial.attempt > 1:
        what += f" again, attempt {trial.attempt}"
    if trial.epochs_done:
        what += f", after epoch {trial.epochs_done}"
    return f"trial {trial.number}: {what}" + (f" ({trial.reason})" if trial.attempt > 1 and trial.reason else "")


def ended_line(spec: StudySpec, trial: Trial) -> str | None:
    """Return the message for a training that ended or a trial that failed; None for an evaluation."""
    if trial.state is TrialState.FAILED:
        return f"trial {trial.number} failed: {trial.reason}"
    if not trial.fidelity.is_training:
        return None
    what = trial.label
    if trial.fidelity is Fidelity.FINETUNE:
        what = f"{schedule_text(spec, trial)} ({trial.label}) at {macs_text(trial.cost.macs)} fine-tuned"
    if trial.fidelity is Fidelity.COUNTS:
        return f"trial {trial.number}: {what} learned"
    return f"trial {trial.number}: {what}, {accuracy_text(spec, trial)}"


def search_line(status: StudyStatus, phase: Phase) -> str:
    """Format search progress: `31 of 60 schedules, best 94.90 % at 7.42 MMACs, about 2 min left`."""
    words = [f"{phase.done} of {phase.total} schedules"]
    if status.best is not None:
        accuracy = accuracy_text(status.spec, status.best)
        words.append(f"best {accuracy} at {macs_text(status.best.cost.macs)}")
    if status.left_s is not None:
        words.append(f"about {human_time(status.left_s)} left")
    return ", ".join(words)


def work_line(work: Sequence[WorkProgress], status: StudyStatus | None) -> str:
    """Format the work under way: `14:03:22  fine-tuning, epoch 2 of 5: step 40 of 120, 810 images/s, ...`.

    Args:
        work: The work.
        status: The study that it belongs to, if there is one.
    """
    parts = [f"{time.strftime('%H:%M:%S')}  {'; '.join(map(work_text, work)) or 'working'}"]
    if status is not None:
        phase = status.phase
        if phase is not None and not work:
            parts = [f"{time.strftime('%H:%M:%S')}  {phase.name}: {phase.done} of {phase.total} trials"]
        if status.left_s is not None:
            parts.append(f"study: about {human_time(status.left_s)} left")
    return "; ".join(parts)


def work_text(item: WorkProgress) -> str:
    """Format how far a piece of work is: `fine-tuning, epoch 2 of 5: step 40 of 120, 810 images/s, about 3 s left`."""
    what = item.label if item.trial is None else f"trial {item.trial}: {item.label}"
    if item.total is None:
        return what
    words = [f"step {item.done} of {item.total}"]
    if item.images_per_s is not None:
        words.append(f"{item.images_per_s:,.0f} images/s")
    if item.note:
        words.append(item.note)
    if item.left_s is not None:
        words.append(f"about {human_time(item.left_s)} left")
    return f"{what}: {', '.join(words)}"


def cost_text(trial: Trial, *, dense: Trial | None) -> str:
    """Format the cost of a trial: `7.42 MMACs (34.8 % of dense)`."""
    of_dense = "" if dense is None else f" ({of_dense_text(trial.cost.macs, dense.cost.macs)} of dense)"
    latency = "" if trial.cost.ms is None else f", {latency_cell(trial)} ms"
    return f"{macs_text(trial.cost.macs)}{of_dense}{latency}"


def clock_text(seconds: float) -> str:
    """Format a duration as `3:05` or `1:03:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
