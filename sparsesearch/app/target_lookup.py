"""Find or create the latency profile of a study's target."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.cost.latency_model import LatencyModel
from sparsesearch.deploy.timed_calls import ready_in
from sparsesearch.errors import ProfileError
from sparsesearch.latency.device import open_device, torch_threads
from sparsesearch.latency.profile.document import Profile, read_profile
from sparsesearch.latency.profile.profiled_methods import default_methods
from sparsesearch.latency.profile.profiling import profile_backbone
from sparsesearch.latency.target import Target
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.image_size import ImageSize, as_image_size, size_text
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Method, ShapeStep
from sparsesearch.store.profiles import SqlProfiles
from sparsesearch.study.latency_fit import LatencyFit, shape_of_stages
from sparsesearch.study.latency_record import Conditions
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import LatencySpec, StudySpec

_PROFILING_FRACTION = 0.3
"""Largest fraction of a time budget that goes into profiling."""


def find_latency(
    spec: StudySpec,
    geometry: BackboneGeometry,
    space: ResolvedSpace,
    *,
    profiles: SqlProfiles,
    num_classes: int,
    in_chans: int,
    progress: Progress,
) -> LatencyFit:
    """Return the latency fit of a study's target; profile this machine if it is the target and has no profile yet.

    Args:
        spec: The study, with its backbone resolved.
        geometry: The backbone with the head and input of the task.
        space: The search space.
        profiles: The stored profiles.
        num_classes: Classes of the head.
        in_chans: Image channels.
        progress: Reports the progress of profiling.

    Raises:
        ProfileError: The profile does not exist, or does not match the requested target.
        SpecError: The device does not exist.
    """
    requested = spec.latency or LatencySpec()
    if requested.profile is not None:
        profile = load_profile(requested.profile, profiles)
        _check_requested(profile, spec, requested)
        progress.line(f"target: {profile.conditions.describe()} (profile {requested.profile})")
    else:
        target = _target_model_here(spec, requested, geometry, num_classes=num_classes, in_chans=in_chans)
        limit_s = float("inf") if spec.time_budget_s is None else _PROFILING_FRACTION * spec.time_budget_s
        requested = requested.model_copy(update={"profile_seconds": min(requested.profile_seconds, limit_s)})
        profile = _profile_here(target, geometry, space, requested=requested, profiles=profiles, progress=progress)
    _check_methods(profile.fit, geometry, space)
    return profile.fit


def load_profile(name: str, profiles: SqlProfiles) -> Profile:
    """Load a profile by its name in the database, or from a file.

    Raises:
        ProfileError: The profile does not exist.
    """
    path = Path(name)
    if path.suffix == ".json" or "/" in name:
        return read_profile(path)
    return profiles.get(name)


def profile_name(profile: Profile) -> str:
    """Return the default name of a profile: its target and its fingerprint."""
    at, size = profile.conditions, as_image_size(profile.geometry.image_size)
    parts = [
        profile.geometry.name, size_text(size), at.device, f"b{at.batch_size}", at.precision,
        *(["compiled"] if at.compiled else []), *([] if at.runtime == "torch" else [at.runtime]), at.fingerprint[:6],
    ]  # fmt: skip
    return "-".join(parts)


def target_for(conditions: Conditions, backbone: str, *, device: str, image_size: ImageSize | None) -> Target:
    """Create the target for a backbone on a device of this machine, under given conditions.

    Raises:
        SpecError: The device does not exist.
    """
    return Target(
        backbone=backbone,
        device=open_device(device),
        batch_size=conditions.batch_size,
        precision=conditions.precision,
        compiled=conditions.compiled,
        channels_last=conditions.memory_format == "channels_last",
        image_size=image_size,
        clock=conditions.clock,
        runtime=conditions.runtime,
        ready=ready_in(conditions.runtime),
    )


def _target_model_here(
    spec: StudySpec, requested: LatencySpec, geometry: BackboneGeometry, *, num_classes: int, in_chans: int
) -> Target:
    return Target(
        backbone=spec.backbone,
        device=open_device(spec.device),
        batch_size=requested.batch_size or 1,
        precision=requested.precision or "float32",
        compiled=bool(requested.compiled),
        runtime=requested.runtime or "torch",
        ready=ready_in(requested.runtime or "torch"),
        image_size=geometry.image_size,
        num_classes=num_classes,
        in_chans=in_chans,
    )


def _profile_here(
    target: Target,
    geometry: BackboneGeometry,
    space: ResolvedSpace,
    *,
    requested: LatencySpec,
    profiles: SqlProfiles,
    progress: Progress,
) -> Profile:
    """Return the newest usable profile of this machine, or create and save a new one."""
    with torch_threads(requested.num_threads):
        conditions = target.conditions()
    for name, profile in profiles.find(shape=shape_of_stages(geometry), conditions=conditions):
        if _is_usable(profile.fit, geometry, space):
            progress.line(f"target: {conditions.describe()} (profile {name})")
            return profile
    methods = dict.fromkeys((*_methods(space), *default_methods(geometry)))
    stages = sorted({stage for stage, _ in space.locations})
    with progress.bar("profiling, %", 100) as bar:
        made = profile_backbone(
            target,
            methods=tuple(methods),
            stages=stages,
            seconds=requested.profile_seconds,
            threads=requested.num_threads,
            on_percent=bar.advance,
        )
    name = profile_name(made)
    profiles.save(name, made, replace=True)
    for line in made.sentences():
        progress.line(line)
    progress.line(f"saved as profile {name}")
    return made


def _methods(space: ResolvedSpace) -> list[Method]:
    """Return the methods that the steps of a space may use."""
    return [*space.methods, *space.merges]


def _example_steps(space: ResolvedSpace) -> list[ShapeStep]:
    """Return one step of each method and stage of a space, at a location where it is possible."""
    return [
        ShapeStep(stage=stage, block=block, phase=method.phase, reducer=method.reducer, scorer=method.scorer)
        for stage, block in {stage: (stage, block) for stage, block in space.locations}.values()
        for method in _methods(space)
        if method.is_possible_at((stage, block))
    ]


def _is_usable(fit: LatencyFit, geometry: BackboneGeometry, space: ResolvedSpace) -> bool:
    try:
        _check_methods(fit, geometry, space)
    except ProfileError:
        return False
    return True


def _check_methods(fit: LatencyFit, geometry: BackboneGeometry, space: ResolvedSpace) -> None:
    LatencyModel(fit).check_methods(geometry, _example_steps(space))


def _check_requested(profile: Profile, spec: StudySpec, requested: LatencySpec) -> None:
    """Check that a profile is of the requested target."""
    profiled = profile.conditions
    given: dict[str, object] = {
        "batch_size": requested.batch_size,
        "precision": requested.precision,
        "compiled": requested.compiled,
        "runtime": requested.runtime,
        "clock": "wall",
        "num_threads": requested.num_threads,
    }
    expected = profiled.model_copy(update={name: value for name, value in given.items() if value is not None})
    if spec.device != "auto":
        here = target_for(expected, spec.backbone, device=spec.device, image_size=None).conditions()
        expected = expected.model_copy(update={"device": here.device, "device_name": here.device_name})
    differences = profiled.differences(expected)
    if differences:
        command = f"sparsesearch profile --backbone {spec.backbone} --device {expected.device} --batch-size "
        command += f"{expected.batch_size} --precision {expected.precision}{' --compile' * expected.compiled}"
        command += f" --runtime {expected.runtime}" * (expected.runtime != "torch")
        raise ProfileError(
            f"profile {requested.profile} was measured on another target ({', '.join(differences)}); profile the "
            f"requested target with: {command}"
        )
