"""Estimate the duration of a study, and shorten it to its time budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from sparsesearch.analysis.phases import num_rescored
from sparsesearch.data.task import Task
from sparsesearch.data.validation_size import num_more_images
from sparsesearch.evaluate.estimate import estimate, is_screened, more_finalists_s, num_compared
from sparsesearch.evaluate.rates import Rates
from sparsesearch.evaluate.throughput import Speeds
from sparsesearch.study.spec import FidelitySpec, StudySpec, TrainSpec
from sparsesearch.text import counted, human_time

_FIXED_S = 8.0
_USABLE = 0.72
_FRACTIONS = {"dense": 0.40, "supernet_training": 0.25, "screen": 0.10, "finetune": 0.25}
_MIN_IMAGES, _MIN_VAL, _MIN_EVALUATIONS, _MIN_FINALISTS, _MIN_BATCH = 64, 64, 6, 3, 16
_MEANINGFUL_FRACTION = 0.3
GIVEN, CACHED = "given", "in the cache"
_TRAININGS = {"dense": "dense", "supernet_training": "supernet", "finetune": "fine-tuning"}
_TYPICAL = Speeds(train_s=1.0, infer_s=0.3)
_FINETUNED_BASELINES = 5  # time is kept for so many


@dataclass(frozen=True)
class Plan:
    """A study shortened to its time budget.

    Attributes:
        spec: The study as it will run.
        requested: The study as requested.
        num_val: Validation images of an evaluation.
        num_more: Other images that rank the best of them again.
        requested_num_val: Validation images of an evaluation as requested.
        num_baselines: Number of its hand-crafted baselines, which are evaluated and fine-tuned like proposals.
        found: Trainings that will not run, and where their result comes from: `given`, or `in the cache`.
        seconds: Estimated duration on this machine.
        full_seconds: Estimated duration of the study without a time budget.
        seconds_by_phase: `seconds`, broken down by phase.
        work_by_phase: Fraction of the work in each phase. It is stored with the study and therefore does not depend on
            the speed of the machine.
    """

    spec: StudySpec
    requested: StudySpec
    num_val: int
    num_more: int
    requested_num_val: int
    num_baselines: int
    found: Mapping[str, str]
    seconds: float
    full_seconds: float
    seconds_by_phase: dict[str, float]
    work_by_phase: dict[str, float]

    def describe(self, speeds: Speeds, *, device: str, precision: str) -> str:
        """Phases and estimated duration in one line."""
        fidelity = self.spec.fidelity
        also = f" and {counted(self.num_baselines, 'hand-crafted baseline')}" if self.num_baselines else ""
        schedules = counted(fidelity.evaluations, "schedule")
        parts = [self._training("dense", fidelity.dense, unit=" images")]
        if fidelity.trains_supernet:
            parts.append(self._training("supernet_training", fidelity.supernet_training))
        if "counts" in self.seconds_by_phase:
            parts.append("token counts learned")
        if is_screened(fidelity):
            parts.append(f"{schedules}{also} evaluated")
        if "rescore" in self.seconds_by_phase:
            rescored = num_rescored(fidelity, num_more_images=self.num_more)
            parts.append(f"the best {rescored}{'' if fidelity.finalists else also} again on other images")
        if is_screened(fidelity) and fidelity.finalists:
            finalists = counted(min(fidelity.finalists, fidelity.evaluations), "finalist")
            more = self.requested.fidelity.finalists - fidelity.finalists
            parts.append(f"{finalists}{also} fine-tuned" + (f", then {more} more while time is left" if more else ""))
        if not is_screened(fidelity):
            parts.append(f"{schedules}{also} fine-tuned")
        loading = f", {_rate(speeds.load_s)} loading" if speeds.load_s else ""
        return (
            f"plan: {', '.join(parts)}; {self._duration()} on {device} in {precision} "
            f"({_rate(speeds.train_s)} images/s training, {_rate(speeds.infer_s)} evaluating{loading})"
        )

    def _training(self, phase: str, spec: TrainSpec, *, unit: str = "") -> str:
        name = _TRAININGS[phase]
        if phase in self.found:
            return f"{name} {self.found[phase]}"
        return f"{name} {spec.epochs} x {_images(spec)}{unit}"

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
            ("validation images", self.requested_num_val, self.num_val),
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


def make_plan(
    spec: StudySpec,
    rates: Rates,
    *,
    task: Task,
    num_val: int,
    windowed: bool,
    num_baselines: int,
    num_counted: int = 0,
    found: Mapping[str, str] | None = None,
) -> Plan:
    """Shorten a study to its time budget; without one, only estimate its duration.

    Every phase that needs more than its fraction of the time is shortened; time left over by other phases goes to the
    dense training, on which everything else depends.

    Args:
        spec: The study as requested.
        rates: How long an image takes in each phase.
        task: Training data.
        num_val: Validation images of one evaluation.
        windowed: Whether dense training has the crop curriculum.
        num_baselines: Number of hand-crafted baselines of the study.
        num_counted: Images from which token counts are learned, before schedules are proposed.
        found: Trainings that will not run, and where their result comes from.
    """
    found = found or {}
    more = partial(num_more_images, task.num_ranking)
    seconds_of = partial(estimate, task=task, num_baselines=num_baselines, num_counted=num_counted)
    work = partial(_work, seconds_of, windowed=windowed, found=[phase for phase, how in found.items() if how == GIVEN])
    full = seconds_of(spec.fidelity, rates, num_val=num_val, found=found)
    full_s = sum(full.values()) + _FIXED_S
    if spec.time_budget_s is None or full_s <= _USABLE * spec.time_budget_s:
        shares = work(spec.fidelity, num_val=num_val)
        return Plan(spec, spec, num_val, more(num_val), num_val, num_baselines, found, full_s, full_s, full, shares)
    available = max(1.0, _USABLE * spec.time_budget_s - _FIXED_S - full.get("counts", 0.0))
    cut_val = _fewer_val(rates, available=available, num_val=num_val)
    fidelity = _cut(
        spec.fidelity,
        full,
        rates,
        available=available,
        task=task,
        num_val=cut_val,
        num_baselines=num_baselines,
        found=found,
    )
    seconds = seconds_of(fidelity, rates, num_val=cut_val, found=found)
    trained = fidelity.dense.epochs * _count(fidelity.dense, task)
    requested = spec.fidelity.dense.epochs * _count(spec.fidelity.dense, task)
    planned = spec.model_copy(
        update={
            "fidelity": fidelity,
            "data": spec.data.model_copy(update={"num_val_images": cut_val}),
            "meaningful": spec.meaningful and trained >= _MEANINGFUL_FRACTION * requested,
        }
    )
    shares = work(fidelity, num_val=cut_val)
    left_s = spec.time_budget_s - sum(seconds.values()) - _FIXED_S
    seconds["finetune"] += more_finalists_s(
        spec.fidelity, fidelity, seconds, num_baselines=num_baselines, left_s=left_s
    )
    cut_s = sum(seconds.values()) + _FIXED_S
    return Plan(planned, spec, cut_val, more(cut_val), num_val, num_baselines, found, cut_s, full_s, seconds, shares)


def _work(
    seconds_of: Callable[..., dict[str, float]],
    fidelity: FidelitySpec,
    *,
    num_val: int,
    windowed: bool,
    found: Collection[str],
) -> dict[str, float]:
    """Fraction of the work of a study in each phase."""
    work = seconds_of(fidelity, Rates.of(_TYPICAL, windowed=windowed), num_val=num_val, found=found)
    return {phase: round(units / sum(work.values()), 6) for phase, units in work.items()}


def _cut(
    fidelity: FidelitySpec,
    full: dict[str, float],
    rates: Rates,
    *,
    available: float,
    task: Task,
    num_val: int,
    num_baselines: int,
    found: Collection[str],
) -> FidelitySpec:
    fractions = dict(_FRACTIONS)
    if not is_screened(fidelity):
        fractions["finetune"] += fractions.pop("screen")
    if not fidelity.trains_supernet:
        fractions["finetune"] += fractions.pop("supernet_training")
    if is_screened(fidelity) and not fidelity.finalists:
        fractions["screen"] += fractions.pop("finetune")
    spare = {phase: max(0.0, fraction * available - full[phase]) for phase, fraction in fractions.items()}
    last = "dense"
    if "dense" in found:
        last = "finetune" if "finetune" in fractions else "screen"
    fractions[last] += sum(seconds for phase, seconds in spare.items() if phase != last) / available
    if is_screened(fidelity):
        trials = _MIN_FINALISTS + _FINETUNED_BASELINES  # baselines are fine-tuned last, while there is time
    else:
        trials = min(fidelity.evaluations, _MIN_EVALUATIONS) + num_compared(num_baselines)
    update: dict[str, object] = {"finalists": min(fidelity.finalists, _MIN_FINALISTS)}
    if "finetune" in fractions:
        finetune_s = fractions["finetune"] * available / trials - num_val * rates.validate_sparse
        update["finetune"] = _shorter(fidelity.finetune, finetune_s / rates.finetune, task=task)
    if "dense" not in found:
        update["dense"] = _shorter(fidelity.dense, fractions["dense"] * available / rates.dense, task=task)
    if fidelity.trains_supernet and "supernet_training" not in found:
        supernet_images = fractions["supernet_training"] * available / rates.supernet
        update["supernet_training"] = _shorter(fidelity.supernet_training, supernet_images, task=task)
    if is_screened(fidelity):
        affordable = int(fractions["screen"] * available / max(num_val * rates.screen, 1e-9)) - num_baselines
        fewer = fidelity.model_copy(update={"finalists": update["finalists"]})
        affordable -= num_rescored(fewer, num_more_images=num_more_images(task.num_ranking, num_val))
        affordable -= 0 if fidelity.finalists else num_baselines
        update["evaluations"] = min(fidelity.evaluations, max(_MIN_EVALUATIONS, affordable))
    else:
        update["evaluations"] = min(fidelity.evaluations, _MIN_EVALUATIONS)
    return fidelity.model_copy(update=update)


def _fewer_val(rates: Rates, *, available: float, num_val: int) -> int:
    """Number of validation images with which enough schedules can be screened in the available time."""
    passes = _MIN_EVALUATIONS * 2 + _FINETUNED_BASELINES
    affordable = int(_FRACTIONS["screen"] * available / (passes * rates.screen))
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


def _rate(seconds: float) -> str:
    return f"{1 / seconds:.3g}" if seconds > 0.01 else f"{1 / seconds:.0f}"
