"""All a study needs, as one document. Every flag of `sparsesearch run` is a field here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sparsesearch.errors import SpecError, one_line
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.latency_fit import LatencyFit
from sparsesearch.latency_record import PrecisionName
from sparsesearch.prior import Prior
from sparsesearch.space.definition import SearchSpace
from sparsesearch.trial import Axis

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"

SamplerName = Literal["evolution", "tpe", "nsga2", "gp", "random"]
BudgetUnit = Literal["gflops", "share", "ms"]
DispatcherName = Literal["inline", "ray"]
Strategy = Literal["supernet", "finetune", "training-free"]
DEFAULT_DISPATCHER: DispatcherName = "ray"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(_Value):
    """An upper limit of the cost of one image, or a range that asks for a front.

    Attributes:
        unit: `gflops` counts 10^9 multiply-adds (the literature's GFLOPs); `share` is a share of the dense cost; `ms`
            are milliseconds of one call on the target.
        low: Lower end of a range, None for a single budget.
        high: The limit.
    """

    unit: BudgetUnit = "share"
    low: float | None = None
    high: float = Field(gt=0.0)

    @model_validator(mode="after")
    def _ordered(self) -> Budget:
        if self.low is not None and not 0.0 < self.low < self.high:
            raise ValueError(f"a budget range needs 0 < LOW < HIGH, got {self.low:g}:{self.high:g}")
        return self

    @classmethod
    def parse(cls, text: str, unit: BudgetUnit) -> Budget:
        """Read `3.0`, `2.0:3.0` (gflops, ms) or `35%`, `20%:45%` (share of dense).

        Raises:
            SpecError: The text is not of that form.
        """
        percent = unit == "share"
        number = r"\s*([0-9]*\.?[0-9]+)\s*" + ("%" if percent else "") + r"\s*"
        match = re.fullmatch(f"(?:{number}:)?{number}", text)
        if match is None:
            example = "'35%' or '20%:45%'" if percent else "'3.0' or '2.0:3.0'"
            raise SpecError(f"cannot read the budget {text!r}; write {example}")
        scale = 100.0 if percent else 1.0
        low, high = match.groups()
        try:
            return cls(unit=unit, low=None if low is None else float(low) / scale, high=float(high) / scale)
        except ValidationError as error:
            raise SpecError(f"budget {text!r}: {one_line(error)}") from error

    @property
    def axis(self) -> Axis:
        """What it limits."""
        return "ms" if self.unit == "ms" else "macs"

    def limits(self, dense_macs: int) -> tuple[float | None, float]:
        """Lower end (None for a single budget) and limit, in multiply-adds or milliseconds."""
        return (self.low, self.high) if self.unit == "ms" else self.macs(dense_macs)

    def macs(self, dense_macs: int) -> tuple[int | None, int]:
        """Lower end (None for a single budget) and limit in multiply-adds; not for a budget of milliseconds."""
        assert self.unit != "ms", "milliseconds say nothing of multiply-adds"
        scale = 1e9 if self.unit == "gflops" else float(dense_macs)
        return (None if self.low is None else round(self.low * scale), round(self.high * scale))

    def __str__(self) -> str:
        if self.unit == "share":
            low = "" if self.low is None else f"{self.low:.4g}:".replace(f"{self.low:.4g}", f"{self.low * 100:.4g}%")
            return f"{low}{self.high * 100:.4g}% of dense"
        low = "" if self.low is None else f"{self.low:g}:"
        if self.unit == "ms":
            return f"{low}{self.high:g} ms"
        return f"{low}{self.high:g} GFLOPs (multiply-adds)"


class LatencySpec(_Value):
    """The target that milliseconds are counted on, and how models run there.

    What is left out is taken from the profile, or without one: batch size 1, float32, not compiled.

    Attributes:
        profile: Name of a profile in the database, or path of its file; null for this machine's `device`, which is
            profiled if it was not before.
        batch_size: Images of one call.
        precision: Type of weights and images.
        compiled: Whether models run through `torch.compile`.
        num_threads: Threads of torch on a CPU.
        profile_seconds: About how long it may take to profile this machine.
    """

    profile: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    precision: PrecisionName | None = None
    compiled: bool | None = None
    num_threads: int | None = Field(default=None, ge=1)
    profile_seconds: float = Field(default=300.0, gt=0.0)


class DataSpec(_Value):
    """What to train and evaluate on.

    Attributes:
        source: `digits` or `digits:hard` (bundled demo task); `folder:PATH` (PATH/train, PATH/val and, if there,
            PATH/test, each with a folder per class, or the class folders themselves); `torch/NAME:PATH` (torchvision,
            such as `torch/cifar10:PATH`); `hfds/OWNER/NAME` or `hfds:PATH` (Hugging Face datasets); `wds:PATH`
            (WebDataset shards). See docs/data.md.
        image_size: Pixels, or None for the backbone's own.
        val_share: Share of the training images held out for validation where the data has no test split besides.
        num_val_images: At most so many validation images are used per evaluation, None for all.
        workers: Loader processes for external data.
    """

    source: str = "digits"
    image_size: int | None = Field(default=None, ge=8)
    val_share: float = Field(default=0.1, gt=0.0, lt=1.0)
    num_val_images: int | None = Field(default=None, ge=1)
    workers: int = Field(default=0, ge=0)

    @property
    def is_demo(self) -> bool:
        """Whether this is the bundled demo task, whose schedules do not transfer to real data."""
        return self.source.partition(":")[0] == "digits"


class TrainSpec(_Value):
    """One training phase.

    Attributes:
        epochs: Epochs; a trial reports and checkpoints after each.
        images_per_epoch: Images of one epoch, None for the whole training split.
        batch_size: Images of one step.
        lr: Peak learning rate of the backbone.
        predictor_lr: Peak learning rate of predictors.
        weight_decay: AdamW weight decay; biases and one-dimensional parameters are exempt.
        warmup: Share of the steps over which the learning rate rises linearly from 0.
        clip_grad: Largest gradient norm.
        method: How a schedule is trained: `gathered` drops tokens in training too, and predictors learn from where
            the teacher looks; `masked` keeps them all and masks them, as the papers do it. See docs/training.md.
        grad_checkpointing: Compute activations again in the backward pass: slower, in much less memory.
    """

    epochs: int = Field(ge=1)
    images_per_epoch: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    lr: float = Field(default=5e-4, gt=0.0)
    predictor_lr: float = Field(default=2e-3, gt=0.0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    clip_grad: float = Field(default=1.0, gt=0.0)
    method: Literal["gathered", "masked"] = "gathered"
    grad_checkpointing: bool = False


class RungSpec(_Value):
    """Successive halving while candidates are fine-tuned: the worse ones are stopped early.

    With one budget the most accurate go on (ASHA); with a range of budgets those on or near the front of accuracy and
    cost, over all of its length (MO-ASHA).

    Attributes:
        first_epoch: Epochs before a candidate may be stopped.
        factor: At the first rung and at each later one (`factor` times as many epochs), 1 of `factor` goes on.
    """

    first_epoch: int = Field(default=1, ge=1)
    factor: int = Field(default=3, ge=2)


class FidelitySpec(_Value):
    """How candidates are evaluated, cheap before dear.

    Documents of older versions say `elastic: true` for `strategy: supernet` and `elastic: false` for
    `strategy: finetune`; that is still read.

    Attributes:
        strategy: What candidates are ranked by: `supernet` trains once for all of them and evaluates each on the shared
            weights; `finetune` trains each from the dense model; `training-free` evaluates each on the dense weights,
            with scores that need no training.
        evaluations: Candidates ranked (with `finetune`: candidates fine-tuned).
        finalists: Best candidates that are then fine-tuned; the front is made of these.
        dense: Training of the dense model where no pretrained weights fit.
        elastic_training: The elastic training.
        finetune: Fine-tuning of one candidate.
        retrain: Full training of an exported schedule.
        rungs: When fine-tunings of searched candidates are stopped early, None for never.
    """

    strategy: Strategy = "supernet"
    evaluations: int = Field(default=60, ge=1)
    finalists: int = Field(default=5, ge=1)
    dense: TrainSpec = TrainSpec(epochs=12, lr=2e-3, warmup=0.2)
    elastic_training: TrainSpec = TrainSpec(epochs=4, images_per_epoch=5376, lr=5e-4)
    finetune: TrainSpec = TrainSpec(epochs=2, images_per_epoch=2560, lr=3e-4, predictor_lr=1e-3)
    retrain: TrainSpec = TrainSpec(epochs=8, images_per_epoch=5376, lr=5e-4, predictor_lr=2e-3)
    rungs: RungSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, data: object) -> object:
        return with_strategy(data) if isinstance(data, Mapping) else data

    @property
    def elastic(self) -> bool:
        """Whether one elastic training serves all candidates."""
        return self.strategy == "supernet"

    @model_validator(mode="after")
    def _elastic_gathers(self) -> FidelitySpec:
        if self.elastic_training.method == "masked":
            raise ValueError(
                "elastic_training serves many schedules; masked training learns one share for each predictor, "
                "so set its method to gathered"
            )
        return self


def with_strategy(fidelity: Mapping[str, object]) -> dict[str, object]:
    """A fidelity document with `elastic`, as older versions wrote it, in the words of `strategy`.

    Args:
        fidelity: Part of a `FidelitySpec` as plain data.

    Raises:
        ValueError: It says both, and they contradict each other.
    """
    document = dict(fidelity)
    if "elastic" not in document or not isinstance(document["elastic"], bool | None):
        return document
    elastic = document.pop("elastic")
    if elastic is None:
        return document
    meant = "supernet" if elastic else "finetune"
    if document.setdefault("strategy", meant) != meant:
        raise ValueError(f"elastic: {str(elastic).lower()} is strategy {meant}, not {document['strategy']}; say one")
    return document


class ResourceSpec(_Value):
    """What trials may use under `dispatcher: ray`.

    Attributes:
        cpus_per_trial: CPU cores of one trial; the dense and the elastic training, which nothing runs beside, get
            `max_concurrent` times as many.
        gpus_per_trial: GPUs of one trial, also fractions such as 0.25; null for 1 on a GPU device and 0 on the CPU.
        max_concurrent: Most trials at a time, null for as many as the cluster has room for.
        ray_address: `auto` or HOST:PORT of a Ray cluster to join, null to start Ray on this machine.
        max_retries: How many times a trial is tried again from its last checkpoint after an error or a lost process.
    """

    cpus_per_trial: float = Field(default=1.0, gt=0.0)
    gpus_per_trial: float | None = Field(default=None, ge=0.0)
    max_concurrent: int | None = Field(default=None, ge=1)
    ray_address: str | None = None
    max_retries: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> ResourceSpec:
        if self.gpus_per_trial is not None and self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError(f"gpus_per_trial must be a whole number or a share of one GPU, got {self.gpus_per_trial}")
        if self.ray_address is not None and self.ray_address.startswith("ray://"):
            raise ValueError("ray:// (Ray client) is not supported; run on a machine of the cluster with 'auto'")
        return self


class Resolved(_Value):
    """Facts that were looked up when the study was prepared; a resumed study must find the same.

    Attributes:
        geometry: The backbone with the head and input of the task.
        num_classes: Classes of the data.
        in_chans: Image channels.
        data_fingerprint: Hash of the data and how it is prepared.
        planned_work: Share of the whole work that each phase of the plan is, for estimates of what is left. It follows
            from the document and the data alone; empty in studies of older versions.
        latency: What is known of latency on the target; null where nobody asked for milliseconds.
        priors: What the study of `warm_start` had found, so that it may be deleted.
    """

    geometry: BackboneGeometry
    num_classes: int
    in_chans: int
    data_fingerprint: str
    planned_work: dict[str, float] = {}
    latency: LatencyFit | None = None
    priors: tuple[Prior, ...] = ()


class StudySpec(_Value):
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
        baselines: Whether the hand families rho, rho^2, rho^3 are evaluated alongside.
        time_budget_s: Seconds the whole run may take, None for no limit.
        precision: Arithmetic of training and evaluation; `auto` measures which is faster.
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


def executed_by(spec: StudySpec, *, dispatcher: str | None, resources: Mapping[str, object]) -> StudySpec:
    """The study with another executor, which changes nothing of its results.

    Args:
        spec: The study as stored.
        dispatcher: Another dispatcher, or None.
        resources: Fields of `ResourceSpec`; those that are None stay.

    Raises:
        SpecError: A value is out of range, or the study needs its dispatcher.
    """
    document = spec.model_dump()
    document["dispatcher"] = dispatcher or spec.dispatcher
    document["resources"].update({key: value for key, value in resources.items() if value is not None})
    try:
        return StudySpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"study {spec.name!r} cannot be executed so: {one_line(error)}") from error


def read_document(path: Path) -> object:
    """A YAML or JSON document as plain data.

    Raises:
        SpecError: The file is missing or not readable as YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SpecError(f"no such file: {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise SpecError(f"{path} is not readable YAML: {one_line(error)}") from error
