"""What tests of several packages share: geometries, trials, and a task of a few seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.spec import Budget, DataSpec, FidelitySpec, Resolved, StudySpec, TrainSpec
from sparsesearch.study.trial import Fidelity, Measurement, Origin, Proposal, Trial, TrialState

if TYPE_CHECKING:
    from sparsesearch.data.digits_task import DigitsTask
    from sparsesearch.training.kinds import TrainingContext


@pytest.fixture
def deit_small() -> BackboneGeometry:
    return BackboneGeometry(
        name="deit_small_patch16_224",
        image_size=(224, 224),
        stages=(StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14)),),
        stem_macs=196 * 768 * 384,
        head_macs=384 * 1000,
        params=22_050_664,
    )


@pytest.fixture
def tiny() -> BackboneGeometry:
    """Four blocks over four tokens: a space that is soon exhausted."""
    return BackboneGeometry(
        name="tiny",
        image_size=(8, 8),
        stages=(StageGeometry(depth=4, dim=8, attn_dim=8, num_heads=1, mlp_dim=16, grid=(2, 2)),),
        stem_macs=1000,
        head_macs=80,
        params=5000,
    )


@pytest.fixture
def convnext_like() -> BackboneGeometry:
    """Three stages of convolutions, the second the deepest."""
    stages = tuple(
        StageGeometry(
            depth=depth,
            dim=dim,
            attn_dim=0,
            num_heads=0,
            mlp_dim=4 * dim,
            grid=(grid, grid),
            num_prefix_tokens=0,
            has_class_token=False,
            mixer="convolution",
            mixer_macs=49 * dim * grid * grid,
            entry_macs=1000 if index else 0,
        )
        for index, (depth, dim, grid) in enumerate([(2, 16, 16), (6, 32, 8), (2, 64, 4)])
    )
    return BackboneGeometry(
        name="convnext_like", image_size=(64, 64), stages=stages, stem_macs=10_000, head_macs=640, params=100_000
    )


MakeTrial = Callable[..., Trial]


@pytest.fixture
def make_trial() -> MakeTrial:
    def make(
        geometry: BackboneGeometry,
        *,
        number: int,
        schedule: Schedule,
        top1: float | None,
        proposal: Proposal | None = None,
        budget_macs: int | None = None,
        state: TrialState = TrialState.COMPLETE,
        fidelity: Fidelity = Fidelity.SUPERNET,
        origin: Origin = Origin.SEARCH,
        macs: int | None = None,
    ) -> Trial:
        metrics = {} if top1 is None else {"val_top1": top1}
        measured = Measurement(step=0, attempt=1, fidelity=fidelity, metrics=metrics, seconds=0.0, seed=0)
        cost = AnalyticCost().estimate(geometry, schedule)
        return Trial(
            number=number,
            fidelity=fidelity,
            origin=origin,
            label="search",
            schedule=schedule,
            key=schedule.key(geometry),
            cost=cost if macs is None else cost.model_copy(update={"macs": macs}),
            seed=0,
            proposal=proposal,
            budget_macs=budget_macs,
            study="study",
            state=state,
            attempt=1,
            measurements=() if top1 is None else (measured,),
        )

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for torch, in tests that use it: how sums are split over threads changes their last bits."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def task() -> DigitsTask:
    from sparsesearch.data.digits_task import DigitsTask

    return DigitsTask(image_size=32, in_chans=1, num_val_images=96)


@pytest.fixture(scope="session")
def context(task: DigitsTask) -> TrainingContext:
    import torch

    from sparsesearch.backbones.registry import PICO
    from sparsesearch.data.inputs import task_geometry
    from sparsesearch.training.arithmetic import Arithmetic
    from sparsesearch.training.kinds import TrainingContext

    arithmetic = Arithmetic(torch.device("cpu"), torch.float32)
    return TrainingContext(PICO, task_geometry(PICO, task), task, arithmetic, seed=0)


@pytest.fixture(scope="session")
def spec(task: DigitsTask, context: TrainingContext) -> StudySpec:
    """A prepared study of a few seconds."""
    short = TrainSpec(epochs=1, images_per_epoch=64, batch_size=32)
    space = SearchSpace(blocks=(1, 3, 5), max_predictors=2)
    return StudySpec(
        name="tiny",
        backbone="deit_pico",
        budget=Budget(high=0.4),
        data=DataSpec(num_val_images=96),
        weights="scratch",
        space=space,
        seed=1,
        fidelity=FidelitySpec(
            evaluations=3,
            finalists=1,
            dense=short.model_copy(update={"epochs": 2}),
            supernet_training=short,
            finetune=short,
        ),
        baselines=False,
        precision="float32",
        device="cpu",
        dispatcher="inline",
        resolved=Resolved(
            geometry=context.geometry,
            space=space.resolve(context.geometry),
            num_classes=task.num_classes,
            in_chans=task.in_chans,
            data_fingerprint=task.fingerprint,
        ),
    )
