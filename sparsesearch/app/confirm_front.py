"""Measure the front of a study on its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparsesearch.analysis.study_front import study_front
from sparsesearch.deploy.timed_calls import ready_in
from sparsesearch.latency.confirm import confirm
from sparsesearch.latency.device import open_device, torch_threads
from sparsesearch.latency.target import Target
from sparsesearch.schedule import Schedule
from sparsesearch.study.events import Confirmed
from sparsesearch.study.latency_fit import LatencyFit
from sparsesearch.study.latency_record import Conditions, ConfirmedLatency
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Trial, TrialState

CONFIRM_SECONDS = 60.0
_CLEAR_DRIFT = 1.1
_ROUNDS = 5


def confirm_front(spec: StudySpec, writer: StudyWriter, *, progress: Progress) -> list[Trial]:
    """Measure the front of a study on its target, including schedules that join the front as others miss the budget.

    On any other machine, nothing is measured and latencies stay predicted.

    Args:
        spec: The prepared study.
        writer: The open study, where latencies are recorded.
        progress: Reports progress.

    Returns:
        The trials that were measured.
    """
    found = spec.resolved
    if found is None or found.latency is None or spec.budget.axis != "ms":
        return []
    fit = found.latency
    target, differences = _target_here(spec, fit)
    if differences:
        progress.line(
            f"this machine is not the target ({differences[0]}), so latencies stay predicted; "
            "measure the best schedule on the target with: sparsesearch measure best.yaml"
        )
        return []
    measured: list[Trial] = []
    for _ in range(_ROUNDS):
        front = study_front(writer.trials(), axis="ms", metric=spec.metric)
        waiting = [trial for trial in front.points if trial.confirmed is None and trial.state is TrialState.COMPLETE]
        if not waiting:
            break
        named = {str(trial.number): trial.schedule for trial in waiting}
        latencies = measure_here(
            target, named, conditions=fit.conditions, reference_ms=fit.dense_ms, progress=progress, label="confirming"
        )
        measured += [
            writer.record(Confirmed(trial=trial.number, attempt=trial.attempt, latency=latencies[str(trial.number)]))
            for trial in waiting
        ]
    _report(measured, limit=spec.budget.high, progress=progress)
    return measured


def measure_here(
    target: Target,
    schedules: Mapping[str, Schedule],
    *,
    conditions: Conditions,
    reference_ms: float | None,
    progress: Progress,
    label: str,
    seconds: float = CONFIRM_SECONDS,
) -> dict[str, ConfirmedLatency]:
    """Measure schedules on this machine with a progress bar; see `confirm` for the arguments."""
    with progress.bar(f"{label}, %", 100) as bar:
        return confirm(
            target,
            schedules,
            reference_ms=reference_ms,
            seconds=seconds,
            threads=conditions.num_threads if conditions.device == "cpu" else None,
            on_percent=bar.advance,
        )


def _target_here(spec: StudySpec, fit: LatencyFit) -> tuple[Target, list[str]]:
    """Return the backbone on this machine's device, and how that differs from the target."""
    found = spec.resolved
    assert found is not None
    device = open_device(spec.device)
    target = Target(
        backbone=spec.backbone,
        device=device,
        batch_size=fit.conditions.batch_size,
        precision=fit.conditions.precision,
        compiled=fit.conditions.compiled,
        runtime=fit.conditions.runtime,
        ready=ready_in(fit.conditions.runtime),
        channels_last=fit.conditions.memory_format == "channels_last",
        image_size=found.geometry.image_size,
        num_classes=found.num_classes,
        in_chans=found.in_chans,
    )
    with torch_threads(fit.conditions.num_threads if device.type == "cpu" else None):
        return target, fit.conditions.differences(target.conditions())


def _report(measured: Sequence[Trial], *, limit: float, progress: Progress) -> None:
    """Report the measured latencies."""
    latencies = [trial.confirmed for trial in measured if trial.confirmed is not None]
    if not latencies:
        return
    misses = [one for one in latencies if one.ms > limit]
    missed = f"; {len(misses)} of them exceed the budget" if misses else ""
    progress.line(f"measured {len(latencies)} schedules of the front on the target{missed}")
    drift = max(one.drift for one in latencies)
    if drift > _CLEAR_DRIFT or drift < 1.0 / _CLEAR_DRIFT:
        progress.line(
            f"the machine now takes {drift:.2f} times as long as when it was profiled; latencies are scaled to the "
            "speed of the profile"
        )
