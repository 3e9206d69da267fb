"""Measuring the front of a study on its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparsesearch.analysis.study_front import study_front
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
    """Measure the front of a study on its target, and again what takes the place of schedules that miss the budget.

    On any other machine nothing is measured, and latencies stay predictions.

    Args:
        spec: The study, prepared.
        writer: It, open; the latencies are recorded there.
        progress: Where it shows itself.

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
            f"this is not the target ({differences[0]}): milliseconds stay predicted; "
            "confirm the winner there with: sparsesearch measure best.yaml"
        )
        return []
    measured: list[Trial] = []
    for _ in range(_ROUNDS):
        front = study_front(writer.trials(), axis="ms")
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
    _tell(measured, limit=spec.budget.high, progress=progress)
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
    """Measure schedules on this machine and show how far it is; arguments as for `confirm`."""
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
    """The backbone on this machine's device, and in what that differs from the target."""
    found = spec.resolved
    assert found is not None
    device = open_device(spec.device)
    target = Target(
        backbone=spec.backbone,
        device=device,
        batch_size=fit.conditions.batch_size,
        precision=fit.conditions.precision,
        compiled=fit.conditions.compiled,
        channels_last=fit.conditions.memory_format == "channels_last",
        image_size=found.geometry.image_size,
        num_classes=found.num_classes,
        in_chans=found.in_chans,
    )
    with torch_threads(fit.conditions.num_threads if device.type == "cpu" else None):
        return target, fit.conditions.differences(target.conditions())


def _tell(measured: Sequence[Trial], *, limit: float, progress: Progress) -> None:
    """What confirming showed."""
    latencies = [trial.confirmed for trial in measured if trial.confirmed is not None]
    if not latencies:
        return
    misses = [one for one in latencies if one.ms > limit]
    missed = f"; {len(misses)} of them over the budget" if misses else ""
    progress.line(f"measured {len(latencies)} schedules of the front on the target{missed}")
    drift = max(one.drift for one in latencies)
    if drift > _CLEAR_DRIFT or drift < 1.0 / _CLEAR_DRIFT:
        progress.line(
            f"the machine now takes {drift:.2f} times as long as when it was profiled; latencies are stated at the "
            "speed of the profile"
        )
