"""All a study needs, as one document. Every flag of `sparsesearch run` is a field here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.latency_fit import LatencyFit
from sparsesearch.study.prior import Prior
from sparsesearch.study.spec.budget import Budget
from sparsesearch.study.spec.data import DataSpec
from sparsesearch.study.spec.fidelity import FidelitySpec
from sparsesearch.study.spec.latency import LatencySpec
from sparsesearch.study.spec.resources import ResourceSpec
from sparsesearch.value import Value

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
SamplerName = Literal["evolution", "tpe", "nsga2", "gp", "random"]
DispatcherName = Literal["inline", "ray"]
DEFAULT_DISPATCHER: DispatcherName = "ray"


class Resolved(Value):
    """Facts that were looked up when the study was prepared; a resumed study must find the same.

    Attributes:
        geometry: The backbone with the head and input of the task.
        num_classes: Classes of the data.
        in_chans: Image channels.
        data_fingerprint: Hash of the data and how it is prepared.
        planned_work: Fraction of the whole work that each phase of the plan is, for estimates of what is left. It
            follows from the document and the data alone; empty in studies of older versions.
        latency: What is known of latency on the target; null where nobody asked for milliseconds.
        priors: What the study of `warm_start` had found, so that it may be deleted.
    """

    geometry: BackboneGeometry
    num_classes: int
    in_chans: int
    data_fingerprint: str
    planned_work: dict[str, float] = Field(default_factory=dict)
    latency: LatencyFit | None = None
    priors: tuple[Prior, ...] = ()

    @field_validator("planned_work", mode="before")
    @classmethod
    def _of_older_version(cls, work: object) -> object:
        if isinstance(work, dict) and "elastic" in work:
            return {{"elastic": "supernet_training"}.get(phase, phase): fraction for phase, fraction in work.items()}
        return work


class StudySpec(Value):
    """A study, complete: run it again from this document and it is the same study.

    Attributes:
        name: Name of the study in the store.
        backbone: Backbone name as typed: `deit_s`, `deit_pico`, or any timm VisionTransformer.
        budget: The limit, or the range a front is wanted for.
        latency: The target of a budget of milliseconds; with another budget, milliseconds are predicted besides.
        data: Data source.
        weights: `pretrained` (timm's, where they can be had), `scratch`, or the path of a checkpoint.
        space: The search space, spelled out.
        sampler: What proposes shapes: `evolution`, guided by a predictor, or one of Optuna's, `tpe`, `nsga2`, `gp`
            (slow) and `random`. See docs/search.md.
        warm_start: Name of another study (other budget, data or backbone) whose results `evolution` begins with.
        seed: The only source of randomness.
        fidelity: How candidates are evaluated.
        baselines: Whether the hand-crafted baselines rho, rho^2, rho^3 are evaluated alongside.
        time_budget_s: Seconds the whole run may take, None for no limit.
        precision: Precision of training and evaluation; `auto` is bfloat16 on a GPU, and on a CPU whichever is measured
            to be faster.
        device: `auto`, `cpu` or `cuda[:N]`.
        dispatcher: What executes trials: `inline` one after the other in this process, `ray` in parallel.
        resources: What trials may use under `dispatcher: ray`.
        storage: Folder for checkpoints, seen by every machine that takes part; null for a folder beside the database.
        cost_rule: Version of the counting rule of multiply-adds.
        meaningful: False where the plan cannot train the backbone enough for its accuracy to mean anything.
        resolved: Filled in when the study is prepared, None in a document for people.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    backbone: str
    budget: Budget
    latency: LatencySpec | None = None
    data: DataSpec = DataSpec()
    weights: str = "pretrained"
    space: SearchSpace = SearchSpace()
    sampler: SamplerName = "evolution"
    warm_start: str | None = None
    seed: int = Field(default=0, ge=0)
    fidelity: FidelitySpec = FidelitySpec()
    baselines: bool = True
    time_budget_s: float | None = Field(default=None, gt=0.0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dispatcher: DispatcherName = DEFAULT_DISPATCHER
    resources: ResourceSpec = ResourceSpec()
    storage: str | None = None
    cost_rule: Literal[1] = 1
    meaningful: bool = True
    resolved: Resolved | None = None

    @model_validator(mode="after")
    def _executable(self) -> StudySpec:
        if self.storage is not None and "://" in self.storage:
            raise ValueError(f"storage must be a path, got {self.storage!r}; mount it, e.g. with a network filesystem")
        if self.warm_start is not None and self.sampler != "evolution":
            raise ValueError(f"warm_start is for sampler evolution; {self.sampler} cannot use another study's results")
        if self.fidelity.rungs is not None and self.dispatcher != "ray":
            raise ValueError("fidelity.rungs stops trials that run in parallel; it needs dispatcher: ray")
        return self
