"""Retrain a recipe on the devices there are."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from sparsesearch.app.retrain import Follow, Retrained, retrain
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.errors import SpecError
from sparsesearch.settings import Settings
from sparsesearch.study.work_board import WorkBoard


def retrain_on_devices(
    recipe: Recipe,
    path: Path,
    *,
    settings: Settings,
    board: WorkBoard,
    device: str = "auto",
    restart: bool = False,
    workers: int | None = None,
    ray_address: str | None = None,
    follow: Follow | None = None,
) -> Retrained:
    """Retrain in this process; on Ray if several processes or a cluster are asked for, or if there are several GPUs.

    Args:
        recipe: What to train.
        path: Output safetensors file.
        settings: Where shared trainings are.
        board: Reports progress.
        device: `auto`, `cpu` or `cuda[:N]`.
        restart: Whether to begin anew, without the checkpoints of an earlier call.
        workers: Number of processes; None for one on each GPU, or one on CPUs.
        ray_address: Address of a Ray cluster; None for this machine.
        follow: Told of every epoch.

    Raises:
        SpecError: `torchrun` has started the processes, and others are asked for.
        SparseSearchError: As `retrain` and `retrain_on_ray` raise it.
    """
    if dist.is_torchelastic_launched() and (workers or ray_address):
        raise SpecError("torchrun has started the processes; leave out --workers-per-training and --ray-address")
    num_gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    is_single = ray_address is None and (workers or num_gpus) <= 1
    if is_single or dist.is_torchelastic_launched():
        return retrain(recipe, path, settings=settings, progress=board, device=device, restart=restart, follow=follow)
    from sparsesearch.app.retrain_on_ray import retrain_on_ray  # Ray takes seconds to load

    return retrain_on_ray(
        recipe,
        path,
        settings=settings,
        board=board,
        device=device,
        restart=restart,
        workers=workers,
        ray_address=ray_address,
        follow=follow,
    )
