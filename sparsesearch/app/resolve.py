"""Resolve a study: open its data and device, measure training speed, and plan it."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.app.at_once import devices_at_once
from sparsesearch.app.storage import cache_of
from sparsesearch.app.study_space import space_for
from sparsesearch.app.target_lookup import find_latency
from sparsesearch.artifacts.output_files import check_folder
from sparsesearch.backbones.lookup import own_classes, resolve_name
from sparsesearch.backbones.registry import BUNDLED
from sparsesearch.budget.price import study_price
from sparsesearch.budget.solve import check_budget
from sparsesearch.budget.study_baselines import baseline_families, num_baselines
from sparsesearch.data.inputs import open_task, task_geometry
from sparsesearch.errors import SpaceError, SpecError
from sparsesearch.evaluate.evaluation_memory import EvaluationMemory
from sparsesearch.evaluate.loading_speed import with_loading
from sparsesearch.evaluate.opening import device_here
from sparsesearch.evaluate.plan import CACHED, GIVEN, make_plan
from sparsesearch.evaluate.rates import Rates
from sparsesearch.evaluate.reference_keys import reference_keys
from sparsesearch.evaluate.throughput import choose_arithmetic
from sparsesearch.files.user_path import user_path
from sparsesearch.latency.device import machine_here
from sparsesearch.search.samplers.priors import collect_priors
from sparsesearch.settings import Settings
from sparsesearch.store.profiles import SqlProfiles
from sparsesearch.study.learned_counts import BATCH, counted_schedules, num_steps
from sparsesearch.study.prior import Prior
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import Resolved, StudySpec
from sparsesearch.study.trial import Fidelity
from sparsesearch.text import human_time
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.cache import TrainingCache
from sparsesearch.training.recipes import chosen_retraining
from sparsesearch.training.weights import check_weights

_DEMO = "No --data given; using the bundled demo: real handwritten digits on a cluttered canvas."
_OTHER_DEMOS = {
    "digits:hard": "Using the harder bundled demo: the larger of two handwritten digits on a cluttered canvas.",
    "digits:four": "Using a bundled demo: the largest of four handwritten digits on a canvas.",
}


_CLASS_ORDER = (
    "The class names sort differently in natural order (timm's: class2 before class10) and in alphabetical order "
    "(torchvision's): weights with a head need the order that they were trained with, see --class-order."
)

_SEEN = (
    "Validation images are held out of the training split, all of which these weights may have been trained on, as "
    "ImageNet's published weights were: their accuracies are then too high. --val half takes half of the validation "
    "split instead, and tests on the other half."
)


def resolve(
    spec: StudySpec,
    *,
    progress: Progress,
    store: StudyRecords | None = None,
    profiles: SqlProfiles | None = None,
    settings: Settings | None = None,
) -> StudySpec:
    """Resolve a study on the machine that will run it, and plan it; invalid requests fail here, before any training.

    Args:
        spec: The requested study.
        progress: Receives the plan and warnings as lines, and long measurements as bars.
        store: The store of the study to warm-start from, if there is one.
        profiles: The stored latency profiles; required for studies with a latency target.
        settings: Where shared trainings are, which the plan leaves out; None if it is to count them.

    Returns:
        The study as it will run: names resolved, the space and other facts in `resolved`, precision chosen, and phases
        cut to the time budget.

    Raises:
        UserInputError: The document asks for something that is not possible.
    """
    backbone = resolve_name(spec.backbone)
    storage = None if spec.storage is None else str(user_path(spec.storage))
    if storage is not None:
        check_folder(Path(storage))
    priors: tuple[Prior, ...] = ()
    if spec.warm_start is not None:
        if store is None:
            raise SpecError(f"no database given to read study {spec.warm_start!r} from; leave warm_start out")
        priors = collect_priors(store.spec(spec.warm_start), store.trials(spec.warm_start))
        progress.line(f"Starting from {len(priors)} results of study {spec.warm_start!r}.")
    device = device_here(spec)
    task = open_task(spec.data, backbone=backbone, progress=progress)
    geometry = task_geometry(backbone, task)
    space = space_for(spec, geometry)
    if spec.budget.axis == "macs":
        check_budget(geometry, space, budget=spec.budget)
    weights = check_weights(spec.weights, backbone=backbone, task=task)
    may_have_head = spec.weights not in ("pretrained", "scratch") or own_classes(backbone) == task.num_classes
    if task.orders_differ and spec.weights != "scratch" and may_have_head:
        progress.line(_CLASS_ORDER)
    if task.val_is_of_train and spec.weights != "scratch" and may_have_head:
        progress.line(_SEEN)
    if spec.data.is_demo:
        progress.line(_OTHER_DEMOS.get(spec.data.source, _DEMO))
        progress.line("Its accuracies and its schedule do not transfer to other data.")
    progress.line(weights.loaded)
    families, left_out = baseline_families(spec.fidelity.strategy, geometry, space)
    for label in left_out if spec.baselines else ():
        progress.line(f"The baseline {label} is left out: the search space has no step at one of its blocks.")
    retrain = chosen_retraining(
        spec.fidelity.retrain,
        backbone,
        weights=spec.weights,
        num_train=task.num_train,
        is_demo=spec.data.is_demo,
    )
    resolved = spec.model_copy(
        update={
            "backbone": backbone,
            "fidelity": spec.fidelity.model_copy(update={"retrain": retrain}),
            "resolved": Resolved(
                geometry=geometry,
                space=space,
                num_classes=task.num_classes,
                in_chans=task.in_chans,
                data_fingerprint=task.fingerprint,
                priors=priors,
                machine=machine_here(device),
            ),
        }
    )
    counted = counted_schedules(resolved)
    if spec.sampler == "gradients" and not counted:
        raise SpaceError(
            "the sampler gradients learns how many tokens to keep by a ranking of tokens, and this search space has "
            f"none that works with strategy: {spec.fidelity.strategy}; use sampler: evolution, or add a scorer such as "
            "class_attention or norm to the space"
        )
    if spec.latency is not None or spec.budget.axis == "ms":
        resolved = _with_latency(resolved, profiles=profiles, progress=progress)
    with progress.bar("measuring training speed", None):
        arithmetic, speeds = choose_arithmetic(
            spec.precision, device=device, backbone=backbone, geometry=geometry, task=task
        )
    with progress.bar("measuring loading speed", None):
        speeds = with_loading(speeds, task, spec, device=device)
    at_once = devices_at_once(spec, device=device)
    plan = make_plan(
        resolved,
        Rates.of(speeds, windowed=task.curriculum_fraction > 0.0, at_once=at_once),
        task=task,
        num_val=task.num_val,
        windowed=task.curriculum_fraction > 0.0,
        num_baselines=num_baselines(resolved),
        num_counted=len(counted) * num_steps(resolved) * BATCH,
        found=_found(resolved, arithmetic, has_head=weights.has_head, settings=settings),
    )
    progress.line(plan.describe(speeds, device=device.type, precision=arithmetic.precision))
    memory = EvaluationMemory.here(plan.spec, geometry, num_images=plan.num_val, device=device)
    progress.line(memory.describe(plan.spec.fidelity))
    if plan.num_baselines:
        progress.line(f"hand-crafted baselines: {'; '.join(family.label for family in families)}")
    cuts = plan.cuts()
    if cuts:
        progress.line(f"cut to fit the time budget of {human_time(spec.time_budget_s or 0.0)}: {', '.join(cuts)}")
    if not plan.spec.meaningful:
        ways = "--weights PATH or more time"
        if backbone not in BUNDLED:
            ways = "--weights PATH, more time, or a smaller backbone (--backbone deit_pico is made for trying out)"
        progress.line(
            f"the time is too short to train {backbone}: full training would take about "
            f"{human_time(plan.full_seconds)} on this {device.type.upper()}; use {ways}. "
            "The accuracies of this study are marked 'not meaningful'."
        )
    found = plan.spec.resolved
    assert found is not None, "it was filled in above"
    facts = {
        "planned_work": plan.work_by_phase,
        "more_finalists": spec.fidelity.finalists - plan.spec.fidelity.finalists,
        "num_more_images": plan.num_more,
        "proposal_batch": memory.proposal_batch(plan.spec.fidelity),
    }
    found = found.model_copy(update=facts)
    # What workers of a cluster are fastest in, they find out themselves.
    precision = spec.precision if spec.resources.ray_address is not None else arithmetic.precision
    return plan.spec.model_copy(update={"precision": precision, "storage": storage, "resolved": found})


def _found(spec: StudySpec, arithmetic: Arithmetic, *, has_head: bool, settings: Settings | None) -> dict[str, str]:
    """The trainings of a study that will not run, and where their result comes from."""
    found = {Fidelity.DENSE.value: GIVEN} if has_head else {}
    if settings is not None:
        cache = TrainingCache(cache_of(spec, settings))
        keys = reference_keys(spec, arithmetic=arithmetic)
        found |= {fidelity.value: CACHED for fidelity, key in keys.items() if cache.has(key)}
    return found


def _with_latency(spec: StudySpec, *, profiles: SqlProfiles | None, progress: Progress) -> StudySpec:
    """Add the latency model of the target to a study, and check that its budget is feasible there."""
    found = spec.resolved
    assert found is not None, "it is filled in before"
    assert profiles is not None, "a study with a latency target needs the stored profiles"
    fit = find_latency(
        spec,
        found.geometry,
        found.space,
        profiles=profiles,
        num_classes=found.num_classes,
        in_chans=found.in_chans,
        progress=progress,
    )
    made = spec.model_copy(update={"resolved": found.model_copy(update={"latency": fit})})
    check_budget(found.geometry, found.space, budget=made.budget, price=study_price(made))
    return made
