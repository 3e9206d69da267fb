"""The words in which a study is requested, by the command line and in Python alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from sparsesearch.app.study_request import overridden
from sparsesearch.errors import SpecError
from sparsesearch.study.latency_record import parse_precision, parse_runtime
from sparsesearch.study.spec import Budget


class RunArguments(TypedDict, total=False):
    """What `sparsesearch run` and `sparsesearch.run` accept; an option that is None or missing has its default.

    Attributes:
        backbone: Name of the backbone: `deit_s`, `deit_pico`, or any supported model of timm.
        budget_gflops: Budget in 10^9 multiply-adds: 3.0, or a range `"2.0:3.5"`.
        budget: Budget as a fraction of the dense cost: `"35%"`, or a range `"20%:45%"`.
        budget_ms: Budget in milliseconds per call on the target: 2.5, or a range `"2:4"`.
        device_profile: Latency profile of the target: a name or a file.
        latency_batch_size: Images per call on the target.
        latency_precision: `float32`, `bf16` or `fp16` on the target.
        latency_compile: Whether the models are compiled on the target.
        latency_runtime: What runs the models on the target: `torch`, `onnx`, `aoti` or `cuda-graph`.
        latency_threads: CPU threads on the target.
        data: The images: `folder:PATH`, `hfds/OWNER/NAME`, `torch/NAME:PATH`, `wds:PATH`, `digits:four`.
        image_size: Image size in pixels: 224, or height and width: `"256x192"`, `(256, 192)`.
        class_order: Order of class folders: `natural` or `alphabetical`.
        val: Where the images that rank schedules come from: `train` or `half` (of the validation split).
        on_broken: What a broken image does: `stop` or `skip`.
        data_workers: Processes that decode images, for each training or evaluation.
        weights: Initial weights of the dense model: `pretrained`, `scratch`, or the path of a checkpoint.
        space: Name or path of the search space.
        time_budget: Limit of the study: seconds, or `"90s"`, `"10m"`, `"1h30m"`.
        evaluations: Schedules to evaluate.
        finalists: Best schedules to fine-tune.
        strategy: How schedules are ranked: `supernet`, `finetune` or `training-free`.
        sampler: `evolution`, `gradients`, `tpe`, `nsga2`, `gp` or `random`.
        warm_start: Name of a study whose results are used.
        baselines: Whether hand-crafted baselines are evaluated too.
        pick: Which schedule is the best: `one-se`, `accuracy` or `knee`.
        seed: Random seed.
        precision: Precision of training: `auto`, `float32`, `bf16` or `fp16`.
        compile: Whether teachers are compiled with `torch.compile`.
        device: `auto`, `cpu` or `cuda[:N]`.
        dispatcher: `inline` (in this process) or `ray`.
        cpus_per_trial: CPU cores per trial, on Ray.
        gpus_per_trial: GPUs per trial, on Ray.
        workers_per_training: Processes that train the dense model or the supernet together, on Ray.
        max_concurrent: Maximum number of concurrent trials, on Ray.
        max_retries: Retries of a trial that failed or was lost, on Ray.
        patience: How long a failing disk, database or machine is waited for: seconds, or `"10m"`.
        worker_timeout: After what time without a sign of life a worker is replaced, on Ray: seconds, or `"10m"`.
        ray_address: Address of a Ray cluster.
        storage: Folder of checkpoints, shared by all machines.
        study: Name of the study.
    """

    backbone: str | None
    budget_gflops: float | str | None
    budget: str | None
    budget_ms: float | str | None
    device_profile: str | None
    latency_batch_size: int | None
    latency_precision: str | None
    latency_compile: bool | None
    latency_runtime: str | None
    latency_threads: int | None
    data: str | None
    image_size: int | str | tuple[int, int] | None
    class_order: str | None
    val: str | None
    on_broken: str | None
    data_workers: int | None
    weights: str | Path | None
    space: str | Path | None
    time_budget: float | str | None
    evaluations: int | None
    finalists: int | None
    strategy: str | None
    sampler: str | None
    warm_start: str | None
    baselines: bool | None
    pick: str | None
    seed: int | None
    precision: str | None
    compile: bool | None
    device: str | None
    dispatcher: str | None
    cpus_per_trial: float | None
    gpus_per_trial: float | None
    workers_per_training: int | None
    max_concurrent: int | None
    max_retries: int | None
    patience: float | str | None
    worker_timeout: float | str | None
    ray_address: str | None
    storage: str | Path | None
    study: str | None


_RESOURCES = (
    "cpus_per_trial",
    "gpus_per_trial",
    "workers_per_training",
    "max_concurrent",
    "max_retries",
    "ray_address",
)
_DATA = ("image_size", "class_order", "val", "on_broken")
_FIDELITY = ("evaluations", "finalists", "strategy")
_AS_THEY_ARE = (
    "backbone",
    "weights",
    "space",
    "sampler",
    "warm_start",
    "seed",
    "baselines",
    "pick",
    "device",
    "dispatcher",
    "compile",
)


def requested_document(document: Mapping[str, Any], options: RunArguments) -> dict[str, Any]:
    """Lay options over a study document.

    Args:
        document: A study document as plain data; empty if there is none.
        options: The options.

    Raises:
        SpecError: An option is malformed, or several budgets are given.
    """
    limit = parse_budget(options.get("budget_gflops"), options.get("budget"), options.get("budget_ms"))
    precision, latency_precision = options.get("precision"), options.get("latency_precision")
    runtime = options.get("latency_runtime")
    storage = options.get("storage")
    given = dict(document)
    if options.get("strategy") is not None and isinstance(given.get("fidelity"), dict):
        # The former key of what this option overrides.
        given["fidelity"] = {key: value for key, value in given["fidelity"].items() if key != "elastic"}
    laid: dict[str, Any] = {
        **{key: _plain(options.get(key)) for key in _AS_THEY_ARE},
        "name": options.get("study"),
        "budget": None if limit is None else limit.model_dump(),
        "data": {
            "source": options.get("data"),
            "workers": options.get("data_workers"),
            **{key: options.get(key) for key in _DATA},
        },
        "time_budget_s": _seconds(options.get("time_budget")),
        "precision": precision if precision in (None, "auto") else parse_precision(str(precision)),
        "fidelity": {key: options.get(key) for key in _FIDELITY},
        "resources": {
            **{key: options.get(key) for key in _RESOURCES},
            "patience_s": _seconds(options.get("patience")),
            "worker_timeout_s": _seconds(options.get("worker_timeout")),
        },
        "storage": None if storage is None else str(storage),
        "latency": {
            "profile": options.get("device_profile"),
            "batch_size": options.get("latency_batch_size"),
            "compiled": options.get("latency_compile"),
            "num_threads": options.get("latency_threads"),
            "runtime": None if runtime is None else parse_runtime(runtime),
            "precision": None if latency_precision is None else parse_precision(latency_precision),
        },
    }
    return overridden(given, laid)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def parse_budget(gflops: float | str | None, fraction: str | None, ms: float | str | None = None) -> Budget | None:
    """Parse `--budget-gflops`, `--budget` or `--budget-ms`; return None if none is given.

    Raises:
        SpecError: Several are given, or one is malformed.
    """
    given = {"--budget-gflops": gflops, "--budget": fraction, "--budget-ms": ms}
    named = [flag for flag, value in given.items() if value is not None]
    if len(named) > 1:
        raise SpecError(f"give either {' or '.join(named)}, not both")
    if ms is not None:
        return Budget.parse(str(ms), "ms")
    if gflops is not None:
        return Budget.parse(str(gflops), "gflops")
    return None if fraction is None else Budget.parse(fraction, "fraction")


def _seconds(duration: float | str | None) -> float | None:
    return None if duration is None else parse_duration(duration)


def parse_duration(duration: float | str) -> float:
    """Parse a duration such as `90s`, `10m`, `1h30m`, `30d`, or a plain number of seconds; return seconds.

    Raises:
        SpecError: The duration is malformed or not positive.
    """
    text = str(duration).strip()
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    if not text or match is None:
        raise SpecError(f"invalid duration {text!r}; use a form such as 90s, 10m or 1h30m")
    days, hours, minutes, seconds = (float(part or 0.0) for part in match.groups())
    total = days * 86_400 + hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise SpecError(f"invalid duration {text!r}; it must be positive")
    return total
