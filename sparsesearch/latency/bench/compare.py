"""Build the dense and the sparse model of a reference, and time them at every batch size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsesearch.artifacts.model_reference import ModelReference
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.errors import SpecError
from sparsesearch.latency.bench.bench_plan import BenchPlan
from sparsesearch.latency.bench.comparison import BatchLatencies, Comparison
from sparsesearch.latency.device import conditions_here, open_device, torch_threads
from sparsesearch.latency.timer import NUM_WARMUP, measure
from sparsesearch.schedule import Schedule
from sparsesearch.study.progress import Progress, Silent

__all__ = ["compare"]

_IN_CHANS = 3


def compare(reference: ModelReference, plan: BenchPlan, *, progress: Progress | None = None) -> Comparison:
    """Time the dense timm model and the sparse one, interleaved, at every batch size.

    Weights and images are random, which does not affect latency.

    Args:
        reference: Backbone and schedule.
        plan: Options of the comparison.
        progress: Displays progress.

    Raises:
        SpecError: The device does not exist, or no batch size fits into its memory.
        ScheduleError: The schedule does not fit the backbone.
    """
    shown = progress or Silent()
    device = open_device(plan.device)
    shape = reference.geometry
    cost = AnalyticCost()
    dense, sparse = (_on_device(model, plan, device=device) for model in _models(reference))
    batches, left_out = [], []
    with torch_threads(plan.threads):
        for batch_size in plan.batch_sizes:
            try:
                batches.append(
                    _at(
                        dense, sparse, plan=plan, reference=reference, batch_size=batch_size, device=device, shown=shown
                    )
                )
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                left_out.append(batch_size)
    if not batches:
        raise SpecError(f"no batch size of {plan.batch_size} fits into the memory of {device}; use smaller ones")
    return Comparison(
        backbone=reference.backbone,
        image_size=shape.image_size,
        schedule=reference.schedule.canonical(shape),
        described=reference.schedule.describe(shape),
        macs=cost.estimate(shape, reference.schedule).macs,
        dense_macs=cost.estimate(shape, Schedule()).macs,
        weight_bytes=(_bytes(dense), _bytes(sparse)),
        batches=tuple(batches),
        left_out=tuple(left_out),
    )


def _models(reference: ModelReference) -> tuple[nn.Module, nn.Module]:
    """The unmodified timm model, and the sparse one, which records no trace."""
    dense, sparse = reference.dense_model(), reference.dense_model()
    sparsify_(sparse, reference.schedule)
    sparsity_of(sparse).state.record = False
    return dense, sparse


def _on_device(model: nn.Module, plan: BenchPlan, *, device: torch.device) -> nn.Module:
    model = model.eval().requires_grad_(False).to(device=device, dtype=_dtype(plan))
    if plan.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model


def _at(
    dense: nn.Module,
    sparse: nn.Module,
    *,
    plan: BenchPlan,
    reference: ModelReference,
    batch_size: int,
    device: torch.device,
    shown: Progress,
) -> BatchLatencies:
    """Time both models at one batch size; recompiled, so that no shape is dynamic."""
    images = _images(reference, plan, batch_size=batch_size, in_chans=_in_chans(reference, dense), device=device)
    if plan.compile:
        torch.compiler.reset()
    run_dense, run_sparse = (
        torch.compile(model, dynamic=False) if plan.compile else model for model in (dense, sparse)
    )
    seconds = plan.seconds_on(device.type)
    with torch.inference_mode(), shown.bar(f"batch size {batch_size}", NUM_WARMUP + plan.runs) as bar:
        measured = measure(
            {"dense": lambda: run_dense(images), "sparse": lambda: run_sparse(images)},
            device=device,
            num_runs=plan.runs,
            seconds=seconds,
            on_round=lambda: bar.advance(),
        )
    return BatchLatencies(
        conditions=conditions_here(
            device,
            precision=plan.precision_name,
            batch_size=batch_size,
            compiled=plan.compile,
            memory_format=plan.memory_format,
        ),
        dense=measured.latencies["dense"],
        sparse=measured.latencies["sparse"],
        num_attempts=measured.num_attempts,
    )


def _dtype(plan: BenchPlan) -> torch.dtype:
    found: torch.dtype = getattr(torch, plan.precision_name)
    return found


def _images(
    reference: ModelReference, plan: BenchPlan, *, batch_size: int, in_chans: int, device: torch.device
) -> Tensor:
    shape = (batch_size, in_chans, *reference.geometry.image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device=device, dtype=_dtype(plan))
    return images.to(memory_format=torch.channels_last) if plan.channels_last else images


def _in_chans(reference: ModelReference, model: nn.Module) -> int:
    """Image channels: those of the first convolution, which belongs to the stem."""
    if reference.in_chans is not None:
        return reference.in_chans
    return next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), _IN_CHANS)


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
