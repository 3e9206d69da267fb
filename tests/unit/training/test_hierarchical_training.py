"""Hierarchical backbones are trained as ViTs are: dense, gathered and masked."""

import math

import pytest
import torch

from sparsesearch.data.inputs import task_geometry
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import FastSlow
from sparsesearch.sparsify.draws import Draws
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.kinds import TrainingContext, dense_training, sparse_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.objectives import _cropped
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import TrainingStep

FLOAT32 = Arithmetic(torch.device("cpu"), torch.float32)
NAMES = ("convnext_pico", "swin_pico")


@pytest.fixture(params=NAMES)
def grid_setting(request, task):
    return TrainingContext(request.param, task_geometry(request.param, task), task, FLOAT32, seed=0)


def one_epoch(training):
    run = TrainingRun(training.model, training.spec, steps_per_epoch=training.steps_per_epoch, arithmetic=FLOAT32)
    with Silent().bar("", total=training.steps_per_epoch) as bar:
        return run.epoch(training.batches(1), training.objective, seed=0, bar=bar)


def test_dense(grid_setting):
    spec = TrainSpec(epochs=2, images_per_epoch=64, batch_size=16)
    assert math.isfinite(one_epoch(dense_training(grid_setting, spec, weights="scratch", seed=0)))


@pytest.mark.parametrize("method", ["gathered", "masked"])
def test_sparse(grid_setting, method):
    spec = TrainSpec(epochs=1, images_per_epoch=64, batch_size=16, method=method)
    dense = grid_setting.fresh_model()
    training = sparse_training(
        grid_setting,
        spec,
        schedule=paper_schedule(grid_setting.geometry, 0.7),
        start=dense.state_dict(),
        teacher=Teacher(dense, grid_setting.task, arithmetic=FLOAT32, use_pool=False),
        seed=0,
        label=method,
    )
    new = {n: p.detach().clone() for n, p in training.model.named_parameters() if n.startswith("sparsity.")}
    assert math.isfinite(one_epoch(training))
    still = {n for n, p in training.model.named_parameters() if n in new and torch.equal(p, new[n])}
    assert {name.split(".")[1] for name in new} == {"predictors", "fast_paths"}
    assert not still, "predictors and fast paths all learn"


@pytest.mark.parametrize("ratios", [(1.0, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_a_step_that_keeps_all_positions_slow_has_no_share_to_learn(grid_setting, ratios):
    stage = grid_setting.geometry.deepest_stage
    steps = [Step(stage=stage, block=i + 1, keep_ratio=ratio, reducer=FastSlow()) for i, ratio in enumerate(ratios)]
    dense = grid_setting.fresh_model()
    training = sparse_training(
        grid_setting,
        TrainSpec(epochs=1, images_per_epoch=32, batch_size=16, method="masked"),
        schedule=Schedule(steps=tuple(steps)),
        start=dense.state_dict(),
        teacher=Teacher(dense, grid_setting.task, arithmetic=FLOAT32, use_pool=False),
        seed=0,
        label="",
    )
    loss = training.objective(next(iter(training.batches(1))), TrainingStep(0, Draws(0)))
    loss.backward()
    assert math.isfinite(loss.item())
    taught = {n.split(".")[2] for n, p in training.model.named_parameters() if "predictors" in n and p.grad is not None}
    assert len(taught) == ratios.count(0.5)


def test_windows_of_pixels():
    images = torch.arange(2 * 64.0).reshape(2, 1, 8, 8)
    crops = _cropped(images, torch.tensor([0, 5]), grid=(4, 4))
    assert torch.equal(crops[0], images[0, :, :4, :4])
    assert torch.equal(crops[1], images[1, :, 2:6, 2:6])
