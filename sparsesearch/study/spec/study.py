"""The study document. Every flag of `sparsesearch run` is a field here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.fitting import read_explicit
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.latency_fit import LatencyFit
from sparsesearch.study.machine import Machine
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.prior import Prior
from sparsesearch.study.spec.budget import Budget
from sparsesearch.study.spec.data import DataSpec
from sparsesearch.study.spec.fidelity import FidelitySpec
from sparsesearch.study.spec.latency import LatencySpec
from sparsesearch.study.spec.resources import ResourceSpec
from sparsesearch.value import Value

MAX_SEED = 2**63 - 1
"""The largest seed that torch, NumPy and the database all take."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
SamplerName = Literal["evolution", "gradients", "tpe", "nsga2", "gp", "random"]
PickName = Literal["one-se", "accuracy", "knee"]
DispatcherName = Literal["inline", "ray"]
DEFAULT_DISPATCHER: DispatcherName = "ray"


class Resolved(Value):
    """Facts that were determined when the study was resolved; a resumed study must find the same.

    Attributes:
        geometry: The backbone with the head and input of the task.
        space: The search space for this backbone, restricted to what the strategy can search.
        num_classes: Number of classes.
        in_chans: Image channels.
        data_fingerprint: Hash of the data and its preprocessing.
        planned_work: Fraction of the total work in each phase of the plan, for estimates of the remaining time. It
            depends on the document and the data only; empty in studies of older versions.
        more_finalists: Finalists that the time budget cut; they are fine-tuned last, while time is left.
        num_more_images: Images that rank the candidates nearest to the front again, before finalists are chosen; 0 in
            studies of older versions.
        latency: Latency profile of the target; null if milliseconds are not needed.
        proposal_batch: Number of proposals that are made before their results are known, and evaluated together; more
            than 1 where the prefix states of the validation images do not fit in memory.
        priors: Results of the study of `warm_start`, copied so that it may be deleted.
        machine: Where the study was prepared, for its report; null in studies of older versions.
    """

    geometry: BackboneGeometry
    space: ResolvedSpace
    num_classes: int
    in_chans: int
    data_fingerprint: str
    planned_work: dict[str, float] = Field(default_factory=dict)
    more_finalists: int = Field(default=0, ge=0)
    num_more_images: int = Field(default=0, ge=0)
    latency: LatencyFit | None = None
    proposal_batch: int = Field(default=1, ge=1)
    priors: tuple[Prior, ...] = ()
    machine: Machine | None = None

    @field_validator("planned_work", mode="before")
    @classmethod
    def _of_older_version(cls, work: object) -> object:
        if isinstance(work, dict) and "elastic" in work:
            return {{"elastic": "supernet_training"}.get(phase, phase): fraction for phase, fraction in work.items()}
        return work


class StudySpec(Value):
    """The complete definition of a study: running the document again gives the same study.

    Attributes:
        name: Name of the study in the store.
        backbone: Backbone name as typed: `deit_s`, `deit_pico`, or any timm VisionTransformer.
        budget: The limit, or the range to find a front for.
        latency: The target of a budget in milliseconds; with another budget, latency is predicted in addition.
        data: Data source.
        weights: `pretrained` (timm's, if available), `scratch`, or the path of a checkpoint.
        space: The search space.
        sampler: The sampler: `evolution`, guided by a predictor; `gradients`, the same from token counts that gradients
            learned first; or one of Optuna's, `tpe`, `nsga2`, `gp` (slow) and `random`. See docs/search.md.
        warm_start: Name of another study (other budget, data or backbone) whose results `evolution` starts from.
        seed: The only source of randomness.
        fidelity: How candidates are evaluated.
        baselines: Whether the hand-crafted baselines rho, rho^2, rho^3 are evaluated alongside.
        pick: Which schedule within the budget is the best: `one-se`, the cheapest that is not worse than the most
            accurate by more than one standard error of the difference; `accuracy`, the most accurate; `knee`, where
            more cost begins to gain little.
        time_budget_s: Time limit of the whole run in seconds; None for no limit.
        precision: Precision of training and evaluation; `auto` is bfloat16 on a GPU that has it in hardware and float16
            (with a scaled loss) on others, and the faster of float32 and bfloat16 on a CPU.
        compile: Whether the frozen teacher is compiled with `torch.compile`, if it has a class token: a minute at the
            start of each training, and faster steps.
        device: `auto`, `cpu` or `cuda[:N]`.
        dispatcher: How trials are executed: `inline` sequentially in this process, `ray` in parallel.
        resources: Resources of trials under `dispatcher: ray`.
        storage: Folder for checkpoints, shared by all machines; null for a folder next to the database.
        cost_rule: Version of the counting rule of multiply-adds.
        meaningful: False if the plan cannot train the backbone enough for its accuracy to be meaningful.
        resolved: Set when the study is resolved; None in documents written by users.
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
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    fidelity: FidelitySpec = FidelitySpec()
    baselines: bool = True
    pick: PickName = "one-se"
    time_budget_s: float | None = Field(default=None, gt=0.0)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dispatcher: DispatcherName = DEFAULT_DISPATCHER
    resources: ResourceSpec = ResourceSpec()
    storage: str | None = None
    cost_rule: Literal[1] = 1
    meaningful: bool = True
    resolved: Resolved | None = None

    @property
    def metric(self) -> Metric:
        """The metric to optimise, which follows from the task of the data: so far always classification."""
        return VAL_TOP1

    @property
    def proposal_batch(self) -> int:
        """Number of proposals that are made before their results are known; 1 if the study is not resolved."""
        return 1 if self.resolved is None else self.resolved.proposal_batch

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, document: object) -> object:
        """Studies of older versions have their resolved space in place of the one that was requested."""
        if not isinstance(document, dict):
            return document
        resolved = document.get("resolved")
        if not isinstance(resolved, dict) or "space" in resolved:
            return document
        space = read_explicit(SearchSpace.model_validate(document.get("space", {})))
        return {**document, "resolved": {**resolved, "space": space}}

    @model_validator(mode="after")
    def _executable(self) -> StudySpec:
        if self.storage is not None and "://" in self.storage:
            raise ValueError(
                f"storage must be a path, got {self.storage!r}; mount the storage, for example as a network filesystem"
            )
        if self.warm_start is not None and self.sampler != "evolution":
            raise ValueError(
                f"warm_start requires sampler: evolution; {self.sampler} cannot use the results of another study"
            )
        if self.fidelity.rungs is not None and self.dispatcher != "ray":
            raise ValueError("fidelity.rungs stops trials that run in parallel; it requires dispatcher: ray")
        return self
