"""A real GPU computes what a CPU does: training, evaluation, scoring, latency profiles and retraining of deit_pico."""

import copy
import math

import pytest
import torch

from sparsesearch.app.retrain import retrain
from sparsesearch.artifacts.checkpoint import load
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import task_geometry
from sparsesearch.latency.profile.profile_plan import ProfilePlan, run_plan
from sparsesearch.schedule import Schedule
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic, full_precision, short_type
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.scoring import PrefixCachedScorer, evaluate_model
from tests.sample_recipe import sample_recipe
from tests.train_together import SCHEDULE, training_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
PICO = "deit_pico"
SHORT = TrainSpec(epochs=1, images_per_epoch=320, batch_size=32, lr=3e-4)
TOLERANCES = {"float32": 5e-3, "short": 5e-2}
"""Relative tolerance of losses: training multiplies float32 in TF32 on a GPU, with 10 bits of mantissa."""


@pytest.fixture(scope="module")
def task():
    return DigitsTask(image_size=32, in_chans=1, num_val_images=240)


def on(device, task, precision="float32"):
    dtype = torch.float32 if precision == "float32" else short_type(device)
    return TrainingContext(PICO, task_geometry(PICO, task), task, Arithmetic(device, dtype), seed=0)


def loss_of_training(kind, context):
    training = training_of(kind, context, SHORT)
    run = TrainingRun(training.model, training.spec, steps_per_epoch=10, arithmetic=context.arithmetic)
    with Silent().bar("", total=10) as bar:
        return run.epoch(training.batches(1), training.objective, seed=0, bar=bar)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("kind", ["dense", "supernet", "gathered", "masked"])
def test_training(kind, precision, task):
    expected = loss_of_training(kind, on(CPU, task))
    assert loss_of_training(kind, on(GPU, task, precision)) == pytest.approx(expected, rel=TOLERANCES[precision])


@pytest.mark.parametrize("precision", TOLERANCES)
def test_evaluation_and_scoring(precision, task):
    model = on(CPU, task).fresh_model()
    sparsify_(model, SCHEDULE)
    expected = evaluate_model(model, task.val("screen", batch_size=120), arithmetic=on(CPU, task).arithmetic)
    context = on(GPU, task, precision)
    there = context.arithmetic.placed(copy.deepcopy(model))
    with full_precision():
        evaluated = evaluate_model(there, task.val("screen", batch_size=120), arithmetic=context.arithmetic)
        scorer = PrefixCachedScorer(there, task.val("screen", batch_size=120), arithmetic=context.arithmetic)
        scored = scorer.score(SCHEDULE)
    loss, tolerance = expected.metrics("val")["val_loss"], {"float32": 1e-4, "short": 2e-2}[precision]
    assert evaluated.metrics("val")["val_loss"] == pytest.approx(loss, rel=tolerance)
    assert scored["val_loss"] == pytest.approx(loss, rel=tolerance)


def test_profile():
    plan = ProfilePlan(backbone=PICO, device=str(GPU), batch_size=8, schedules=12, held_out=4, seconds=30.0)
    profile = run_plan(plan)
    assert profile.conditions.device == GPU.type
    assert profile.timings
    assert all(timing.latency.median_ms > 0.0 for timing in profile.timings)


def test_retraining(tmp_path):
    recipe = sample_recipe(
        dense=TrainSpec(epochs=2, images_per_epoch=640, batch_size=32, lr=2e-3, warmup=0.2),
        training=TrainSpec(epochs=1, images_per_epoch=320, batch_size=32),
    )
    made = {}
    for device in (CPU, GPU):
        settings = Settings(home=tmp_path / device.type, database_url=f"sqlite:///{tmp_path}/studies.db")
        path = tmp_path / f"{device.type}.safetensors"
        made[device] = retrain(recipe, path, settings=settings, progress=Silent(), device=str(device))
    # The trainings differ in their last bits from the first step on: five standard errors, and five points.
    one, other = (made[device].card.metrics["test_top1"] for device in (CPU, GPU))
    images = made[CPU].card.metrics["test_images"]
    assert abs(one - other) < 5 * math.sqrt(0.5 / images) + 0.05
    model = load(made[GPU].path)
    assert model.sparsity.schedule != Schedule()
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
