"""Training with masks: the papers' loss, at low rates too, and what it refuses."""

import math

import pytest
import torch
from torch.nn import functional as F

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.inputs import task_geometry
from sparsesearch.data.task import Epoch
from sparsesearch.errors import ScheduleError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, Fuse, Merge
from sparsesearch.sparsify.draws import Draws
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import FidelitySpec, TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.kinds import TrainingContext, sparse_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.masked import MaskedObjective
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import TrainingStep


@pytest.fixture
def teacher(context):
    return Teacher(context.fresh_model(), context.task, arithmetic=context.arithmetic, use_pool=False)


def one_batch(context):
    return next(context.task.pool_epoch(Epoch(number=1, seed=0, batch_size=16, num_images=16)))


@pytest.mark.parametrize("blocks", [[4], [2, 4], [1, 3, 5, 7]])
def test_the_loss_is_the_papers(context, teacher, blocks):
    """With any number of predictors the ratio term is their mean; the published code always divides by three."""
    model = context.fresh_model()
    ratios = [0.7 ** (i + 1) for i in range(len(blocks))]
    sparsify_(model, Schedule.at(blocks, ratios))
    objective = MaskedObjective(model.train(), teacher, arithmetic=context.arithmetic)
    batch = one_batch(context)
    loss = objective(batch, TrainingStep(0, Draws(3)))
    call = new_call(model, generator=Draws(3), mode="masked", keep_final_tokens=True)
    for (
        module
    ) in model.modules():  # what the first pass added to the running statistics makes no difference in training
        assert module.training
    logits = model(batch.images, call=call)
    targets = teacher.targets(batch, tokens=True)
    decisions = [step.decision_BN for step in call.trace.steps]
    ratio = sum(((d.mean(1) - r) ** 2).mean() for d, r in zip(decisions, ratios, strict=True)) / len(blocks)
    kept = decisions[-1] > 0.5
    token = (call.trace.final_tokens_BNC[kept] - targets.tokens_BNC[kept]).square().mean()
    kl = F.kl_div(logits.log_softmax(-1), targets.log_probs_BK, log_target=True, reduction="batchmean")
    expected = F.cross_entropy(logits, batch.labels) + 2.0 * ratio + 0.5 * kl + 0.5 * token
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_lvvit_learns_the_logits_of_tokens(task):
    arithmetic = Arithmetic(torch.device("cpu"), torch.float32)
    context = TrainingContext("lvvit_pico", task_geometry("lvvit_pico", task), task, arithmetic, seed=0)
    teacher_model = context.fresh_model()
    with torch.no_grad():
        teacher_model.aux_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    teacher = Teacher(teacher_model, task, arithmetic=arithmetic, use_pool=False)
    for method in ("masked", "gathered"):
        spec = TrainSpec(epochs=1, images_per_epoch=32, batch_size=16, method=method)
        training = sparse_training(
            context,
            spec,
            schedule=Schedule.at([2, 4], [0.6, 0.3]),
            start=context.fresh_model().state_dict(),
            teacher=teacher,
            seed=0,
            label=method,
        )
        loss = training.objective(one_batch(context), TrainingStep(0, Draws(0)))
        loss.backward()
        assert math.isfinite(loss.item())
        assert training.model.aux_head.weight.grad.abs().sum() > 0, method


@pytest.mark.parametrize("reducer", [Fuse(), Merge()])
def test_what_has_no_mask_is_refused(context, teacher, reducer):
    model = context.fresh_model()
    scorer = None if isinstance(reducer, Merge) else ClassAttentionScorer()
    sparsify_(model, Schedule(steps=(Step(block=3, keep_ratio=0.6, reducer=reducer, scorer=scorer),)))
    with pytest.raises(ScheduleError, match=f"masked training does not support {reducer.kind}; use method: gathered"):
        MaskedObjective(model, teacher, arithmetic=context.arithmetic)


def test_supernet_training_cannot_be_masked():
    with pytest.raises(ValueError, match="set its method to gathered"):
        FidelitySpec(supernet_training=TrainSpec(epochs=1, method="masked"))


def test_an_image_that_loses_every_token_stays_finite(context):
    model = context.fresh_model()
    sparsify_(model, Schedule.at([2, 4, 6], [0.3, 0.2, 0.1]))
    call = new_call(model.train(), mode="masked", forced={"0_2": torch.zeros(16, 64)})
    model(one_batch(context).images, call=call).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["masked", "gathered"])
@pytest.mark.parametrize("seed", range(10))
def test_low_rates_give_no_nan(context, teacher, method, seed):
    """A complaint of users of the published code, at keep ratio 0.3."""
    spec = TrainSpec(epochs=1, images_per_epoch=640, batch_size=32, lr=1e-3, predictor_lr=4e-3, method=method)
    training = sparse_training(
        context,
        spec,
        schedule=paper_schedule(context.geometry, 0.3),
        start=context.fresh_model().state_dict(),
        teacher=teacher,
        seed=seed,
        label=method,
    )
    run = TrainingRun(training.model, spec, steps_per_epoch=20, arithmetic=context.arithmetic)
    with Silent().bar("", total=20) as bar:
        assert math.isfinite(run.epoch(training.batches(1), training.objective, seed=seed, bar=bar))
    assert all(parameter.isfinite().all() for parameter in training.model.parameters())
