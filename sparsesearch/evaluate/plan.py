"""Estimate the duration of a study, and shorten it to its time budget."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sparsesearch.data.task import Task
from sparsesearch.evaluate.throughput import Speeds
from sparsesearch.study.spec import FidelitySpec, StudySpec, TrainSpec
from sparsesearch.text import counted, human_time

# Work of a phase relative to one dense pass over its images. The windowed part of dense training is cheap; a supernet
# step runs two schedules, one of them sometimes dense; a screened schedule resumes from a cached prefix.
_DENSE_WINDOWED, _SUPERNET, _SCREEN, _SPARSE = 0.55, 1.6, 0.6, 0.7
_FIXED_S = 8.0
_USABLE = 0.72
_FRACTIONS = {"dense": 0.40, "supernet_training": 0.25, "screen": 0.10, "finetune": 0.25}
_MIN_IMAGES, _MIN_VAL, _MIN_EVALUATIONS, _MIN_FINALISTS, _MIN_BATCH = 64, 64, 6, 3, 16
_MEANINGFUL_FRACTION = 0.3
_TRAININGS = {"dense": "dense", "supernet_training": "supernet", "finetune": "fine-tuning"}
_TYPICAL = Speeds(train_s=1.0, infer_s=0.3)
_FINETUNED_BASELINES = 5  # time is kept for so many


@dataclass(frozen=True)
class Plan:
    """A study shortened to its time budget.

    Attributes:
        spec: The study as it will run.
        requested: The study as requested.
        num_baselines: Number of its hand-crafted baselines, which are evaluated and fine-tuned like proposals.
        seconds: Estimated duration on this machine.
        full_seconds: Estimated duration of the study without a time budget.
        seconds_by_phase: `seconds`, broken down by phase.
        work_by_phase: Fraction of the work in each phase. It is stored with the study and therefore does not depend on
            the speed of the machine.
    """

    spec: StudySpec
    requested: StudySpec
    num_baselines: int
    seconds: float
    full_seconds: float
    seconds_by_phase: dict[str, float]
    work_by_phase: dict[str, float]

    def describe(self, speeds: Speeds, *, device: str, precision: str) -> str:
        """Phases and estimated duration in one line."""
        fidelity = self.spec.fidelity
        also = f" and {counted(self.num_baselines, 'hand-crafted baseline')}" if self.num_baselines else ""
        schedules = counted(fidelity.evaluations, "schedule")
        parts = [f"dense {fidelity.dense.epochs} x {_images(fidelity.dense)} images"]
        if fidelity.trains_supernet:
            parts.append(f"supernet {fidelity.supernet_training.epochs} x {_images(fidelity.supernet_training)}")
        if _is_screened(fidelity):
            parts.append(f"{schedules}{also} evaluated")
            finalists = counted(min(fidelity.finalists, fidelity.evaluations), "finalist")
            parts.append(f"{finalists}{also} fine-tuned")
        else:
            parts.append(f"{schedules}{also} fine-tuned")
        return (
            f"plan: {', '.join(parts)}; {self._duration()} on {device} in {precision} "
            f"({1 / speeds.train_s:.0f} images/s training, {1 / speeds.infer_s:.0f} evaluating)"
        )

    def cuts(self) -> list[str]:
        """What the time budget cut, each as `dense epochs 60 to 20`; empty if nothing."""
        before, after = self.requested.fidelity, self.spec.fidelity
        counts: list[tuple[str, int | None, int | None]] = []
        for name in ("dense", "supernet_training", "finetune"):
            old, new = getattr(before, name), getattr(after, name)
            what = _TRAININGS[name]
            counts += [
                (f"{what} epochs", old.epochs, new.epochs),
                (f"{what} images per epoch", old.images_per_epoch, new.images_per_epoch),
            ]
        counts += [
            ("schedules", before.evaluations, after.evaluations),
            ("finalists", before.finalists, after.finalists),
            ("validation images", self.requested.data.num_val_images, self.spec.data.num_val_images),
        ]
        texts = {
            name: ("all" if old is None else f"{old:,}", f"{new:,}") for name, old, new in counts if new is not None
        }
        return [f"{name} {old} to {new}" for name, (old, new) in texts.items() if old != new]

    def _duration(self) -> str:
        limit = self.spec.time_budget_s
        if limit is not None and self.seconds > limit:
            return f"at most {human_time(limit)}, stopped early if necessary,"
        return f"about {human_time(self.seconds)}"


def estimate(
    fidelity: FidelitySpec, speeds: Speeds, *, task: Task, num_val: int, num_baselines: int, windowed: bool
) -> dict[str, float]:
    """Estimate the seconds of each phase."""
    train, infer = speeds.train_s, speeds.infer_s

    def used(spec: TrainSpec) -> int:
        return spec.epochs * min(spec.images_per_epoch or task.num_train, task.num_train)

    dense = used(fidelity.dense) * train * (_DENSE_WINDOWED if windowed else 1.0)
    one_finetune = used(fidelity.finetune) * (train * _SPARSE + infer) + num_val * infer * _SPARSE
    if not _is_screened(fidelity):
        return {"dense": dense, "finetune": one_finetune * (fidelity.evaluations + num_baselines)}
    supernet = used(fidelity.supernet_training) * (train * _SUPERNET + infer)
    return {
        "dense": dense + fidelity.dense.epochs * min(num_val, 960) * infer,
        **({"supernet_training": supernet} if fidelity.trains_supernet else {}),
        "screen": (fidelity.evaluations + num_baselines) * num_val * infer * _SCREEN,
        "finetune": one_finetune * (fidelity.finalists + num_baselines),
    }


def _is_screened(fidelity: FidelitySpec) -> bool:
    """Whether candidates are evaluated before the best ones are trained."""
    return fidelity.strategy != "finetune"


def make_plan(
    spec: StudySpec,
    speeds: Speeds,
    *,
    task: Task,
    num_val: int,
    windowed: bool,
    num_baselines: int,
) -> Plan:
    """Shorten a study to its time budget; without one, only estimate its duration.

    Every phase that needs more than its fraction of the time is shortened; time left over by other phases goes to the
    dense training, on which everything else depends.

    Args:
        spec: The study as requested.
        speeds: Measured speeds of the dense model.
        task: Training data.
        num_val: Validation images of one evaluation.
        windowed: Whether dense training has the crop curriculum.
        num_baselines: Number of hand-crafted baselines of the study.
    """
    work = partial(_work, task=task, num_baselines=num_baselines, windowed=windowed)
    full = estimate(spec.fidelity, speeds, task=task, num_val=num_val, num_baselines=num_baselines, windowed=windowed)
    full_s = sum(full.values()) + _FIXED_S
    if spec.time_budget_s is None or full_s <= _USABLE * spec.time_budget_s:
        return Plan(spec, spec, num_baselines, full_s, full_s, full, work(spec.fidelity, num_val=num_val))
    available = max(1.0, _USABLE * spec.time_budget_s - _FIXED_S)
    cut_val = _fewer_val(speeds, available=available, num_val=num_val)
    fidelity = _cut(
        spec.fidelity,
        full,
        speeds,
        available=available,
        task=task,
        num_val=cut_val,
        num_baselines=num_baselines,
        windowed=windowed,
    )
    seconds = estimate(fidelity, speeds, task=task, num_val=cut_val, num_baselines=num_baselines, windowed=windowed)
    trained = fidelity.dense.epochs * _count(fidelity.dense, task)
    requested = spec.fidelity.dense.epochs * _count(spec.fidelity.dense, task)
    planned = spec.model_copy(
        update={
            "fidelity": fidelity,
            "data": spec.data.model_copy(update={"num_val_images": cut_val}),
            "meaningful": spec.meaningful and trained >= _MEANINGFUL_FRACTION * requested,
        }
    )
    return Plan(
        planned, spec, num_baselines, sum(seconds.values()) + _FIXED_S, full_s, seconds, work(fidelity, num_val=cut_val)
    )


def _work(fidelity: FidelitySpec, *, task: Task, num_val: int, num_baselines: int, windowed: bool) -> dict[str, float]:
    """Fraction of the work of a study in each phase."""
    work = estimate(fidelity, _TYPICAL, task=task, num_val=num_val, num_baselines=num_baselines, windowed=windowed)
    return {phase: round(units / sum(work.values()), 6) for phase, units in work.items()}


def _cut(
    fidelity: FidelitySpec,
    full: dict[str, float],
    speeds: Speeds,
    *,
    available: float,
    task: Task,
    num_val: int,
    num_baselines: int,
    windowed: bool,
) -> FidelitySpec:
    fractions = dict(_FRACTIONS)
    if not _is_screened(fidelity):
        fractions["finetune"] += fractions.pop("screen")
    if not fidelity.trains_supernet:
        fractions["finetune"] += fractions.pop("supernet_training")
    spare = sum(
        max(0.0, fraction * available - full[phase]) for phase, fraction in fractions.items() if phase != "dense"
    )
    if _is_screened(fidelity):
        trials = _MIN_FINALISTS + _FINETUNED_BASELINES  # baselines are fine-tuned last, while there is time
    else:
        trials = min(fidelity.evaluations, _MIN_EVALUATIONS) + num_baselines
    dense_images = (fractions["dense"] * available + spare) / (speeds.train_s * (_DENSE_WINDOWED if windowed else 1.0))
    finetune_s = fractions["finetune"] * available / trials - num_val * speeds.infer_s * _SPARSE
    finetune_images = finetune_s / (speeds.train_s * _SPARSE + speeds.infer_s)
    update: dict[str, object] = {
        "dense": _shorter(fidelity.dense, dense_images, task=task),
        "finetune": _shorter(fidelity.finetune, finetune_images, task=task),
        "finalists": min(fidelity.finalists, _MIN_FINALISTS),
    }
    if fidelity.trains_supernet:
        supernet_images = fractions["supernet_training"] * available / (speeds.train_s * _SUPERNET + speeds.infer_s)
        update["supernet_training"] = _shorter(fidelity.supernet_training, supernet_images, task=task)
    if _is_screened(fidelity):
        one_screen_s = num_val * speeds.infer_s * _SCREEN
        affordable = int(fractions["screen"] * available / max(one_screen_s, 1e-9)) - num_baselines
        update["evaluations"] = min(fidelity.evaluations, max(_MIN_EVALUATIONS, affordable))
    else:
        update["evaluations"] = min(fidelity.evaluations, _MIN_EVALUATIONS)
    return fidelity.model_copy(update=update)


def _fewer_val(speeds: Speeds, *, available: float, num_val: int) -> int:
    """Number of validation images with which enough schedules can be screened in the available time."""
    passes = _MIN_EVALUATIONS * 2 + _FINETUNED_BASELINES
    affordable = int(_FRACTIONS["screen"] * available / (passes * speeds.infer_s * _SCREEN))
    return max(min(_MIN_VAL, num_val), min(num_val, affordable))


def _shorter(spec: TrainSpec, images: float, *, task: Task) -> TrainSpec:
    """Limit a training to `images` in total: first fewer epochs, then shorter ones, then smaller batches."""
    per_epoch = _count(spec, task)
    total = max(_MIN_IMAGES, int(images))
    if total >= spec.epochs * per_epoch:
        return spec
    epochs = max(1, min(spec.epochs, total // per_epoch))
    size = min(per_epoch, total // epochs)
    batch = min(spec.batch_size, max(_MIN_BATCH, size // _MIN_BATCH))
    return spec.model_copy(update={"epochs": epochs, "images_per_epoch": max(batch, size), "batch_size": batch})


def _count(spec: TrainSpec, task: Task) -> int:
    return min(spec.images_per_epoch or task.num_train, task.num_train)


def _images(spec: TrainSpec) -> str:
    return "all" if spec.images_per_epoch is None else f"{spec.images_per_epoch:,}"
