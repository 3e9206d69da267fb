"""Learning token counts by gradients: the budget is exact, gradients are those of the counts, and the loss falls."""

import pytest
import torch
from geometries import CONVNEXT_TINY, DEIT_PICO, DEIT_SMALL
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.transforms import attach_, set_schedule_, sparsify_
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.cost.separable import MACS
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import task_geometry
from sparsesearch.data.task import Batch, Epoch
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, NormScorer
from sparsesearch.space.countable import countable_methods, everywhere
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.encoding import shape_of
from sparsesearch.space.shape import Method, Shape
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.count_learning import FractionalCounts, learn_counts
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.loop import NonFiniteLossError
from sparsesearch.training.teacher import Teacher


def shape_everywhere(geometry, method=None):
    space = SearchSpace().resolve(geometry)
    method = method or countable_methods(space, has_trained_scorers=True)[0]
    return shape_of(everywhere(space, geometry, method), geometry=geometry, monotone=space.monotone)


@pytest.mark.parametrize("geometry", [DEIT_SMALL, DEIT_PICO, CONVNEXT_TINY])
@settings(max_examples=20)
@given(data=st.data())
def test_fractional_counts_cost_the_budget(geometry, data):
    shape = shape_everywhere(geometry)
    counts = FractionalCounts(geometry, shape)
    weights = torch.tensor(
        data.draw(st.lists(st.floats(0.01, 1.0), min_size=len(shape.steps), max_size=len(shape.steps)))
    )
    total = torch.tensor([float(geometry.stages[step.stage].num_tokens) for step in shape.steps])
    least, most = float(counts.price(torch.zeros(len(total)))), float(counts.price(total))
    limit = least + data.draw(st.floats(0.3, 0.9)) * (most - least)
    found = counts(weights, limit)
    assert float(counts.price(found)) == pytest.approx(limit, rel=1e-6)
    assert (found <= total).all()
    if shape.monotone:
        assert (found.diff() < 0).all()


def test_the_price_of_whole_counts_is_that_of_their_schedule():
    shape = Shape.at([1, 4, 9], method=Method(scorer=NormScorer()))
    schedule = shape.schedule([150 / 196, 99 / 196, 7 / 196])
    price = FractionalCounts(DEIT_SMALL, shape).price(torch.tensor([150.0, 99.0, 7.0], dtype=torch.float64))
    assert float(price) == AnalyticCost().estimate(DEIT_SMALL, schedule).macs


def test_the_derivative_is_that_along_the_budget():
    counts = FractionalCounts(DEIT_SMALL, shape_everywhere(DEIT_SMALL))
    weights = torch.linspace(0.2, 1.0, 11, dtype=torch.float64, requires_grad=True)
    worth = torch.linspace(1.0, 2.0, 11, dtype=torch.float64)
    limit = 0.6 * MACS.of(DEIT_SMALL, Schedule())
    (counts(weights, limit) @ worth).backward()
    for i in range(11):
        step = torch.zeros(11, dtype=torch.float64)
        step[i] = 1e-4
        with torch.no_grad():
            slope = (counts(weights + step, limit) - counts(weights - step, limit)) @ worth / 2e-4
        assert float(weights.grad[i]) == pytest.approx(float(slope), rel=0.02, abs=0.05)


@pytest.mark.parametrize("scorer", [ClassAttentionScorer(), NormScorer()])
def test_masked_by_whole_counts_is_gathered(context, scorer):
    """The function that is learned on is the one that schedules are evaluated with."""
    model = context.fresh_model()
    schedule = Schedule(
        steps=[
            Step(block=2, keep_ratio=40 / 64, scorer=scorer),
            Step(block=5, keep_ratio=17 / 64, scorer=scorer, phase="before_ffn"),
        ]
    )
    sparsify_(model, schedule)
    images = next(context.task.pool_epoch(Epoch(number=1, seed=0, batch_size=8, num_images=8))).images
    with torch.no_grad():
        gathered = model.eval()(images)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        counts = {"0_2": torch.tensor(40.0), "0_5_ffn": torch.tensor(17.0)}
        masked = model(images, call=new_call(model, mode="masked", counts=counts))
    torch.testing.assert_close(masked, gathered, rtol=1e-3, atol=1e-4)


FLOAT32 = Arithmetic(torch.device("cpu"), torch.float32)


def batches(model, context, *, seed):
    """Random images, labelled by a model."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        images = torch.randn(16, 1, *context.geometry.image_size, generator=generator)
        with torch.no_grad():
            labels = model(images).argmax(-1)
        yield Batch(images=images, labels=labels)


def decided(context):
    """The dense model with initial weights, whose classes are far apart."""
    model = context.fresh_model().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == 10:
            module.weight.data *= 30.0
    return model


def ready(backbone):
    """A model with a step everywhere, its context and its shape."""
    task = DigitsTask(image_size=32, in_chans=1, num_val_images=24)
    context = TrainingContext(backbone, task_geometry(backbone, task), task, FLOAT32, seed=0)
    space = SearchSpace(scorers=(NormScorer(),)).resolve(context.geometry)
    (method,) = countable_methods(space, has_trained_scorers=False)
    schedule = everywhere(space, context.geometry, method)
    model = decided(context)
    attach_(model, [(s.stage, s.block, s.phase, s.scorer, s.reducer) for s in schedule.steps])
    set_schedule_(model, schedule)
    return context, model, shape_of(schedule, geometry=context.geometry, monotone=space.monotone)


@pytest.mark.parametrize("backbone", ["deit_pico", "lvvit_pico", "convnext_pico", "swin_pico"])
@pytest.mark.parametrize("low", [None, 0.6])
def test_every_family_learns_and_its_weights_stay(backbone, low):
    context, model, shape = ready(backbone)
    dense_model = decided(context)
    dense = MACS.of(context.geometry, Schedule())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    calls = []
    learned = learn_counts(
        model,
        context.geometry,
        shape,
        low=None if low is None else low * dense,
        high=0.8 * dense,
        batches=batches(dense_model, context, seed=1),
        num_steps=6,
        teacher=Teacher(decided(context), context.task, arithmetic=FLOAT32, use_pool=False),
        arithmetic=FLOAT32,
        after_step=lambda: calls.append(1),
    )
    assert len(calls) == 6
    assert learned.blocks == tuple((step.stage, step.block) for step in shape.steps)
    assert any(level != 0.0 for level in learned.levels)
    assert all(trend == 0.0 for trend in learned.trends) == (low is None)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_tokens_are_kept_where_the_model_uses_them():
    """The second half of the blocks does nothing, so tokens are useless there, and only there."""
    context, model, shape = ready("deit_pico")
    dense_model = decided(context)
    for each in (model, dense_model):
        for block in each.blocks[4:]:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.data.zero_()
                layer.bias.data.zero_()
    limit = 0.6 * MACS.of(context.geometry, Schedule())
    learned = learn_counts(
        model,
        context.geometry,
        shape,
        low=None,
        high=limit,
        batches=batches(dense_model, context, seed=1),
        num_steps=40,
        teacher=Teacher(dense_model, context.task, arithmetic=FLOAT32, use_pool=False),
        arithmetic=FLOAT32,
    )
    counts = FractionalCounts(context.geometry, shape)
    even, found = (counts(torch.tensor(weights), limit) for weights in ([1.0] * 7, learned.weights(0.0)))
    assert float(found[2]) > 1.15 * float(even[2])  # before block 3
    assert float(found[3] / found[2]) < 0.85 * float(even[3] / even[2])  # at block 4
    assert float(found[-1]) < float(even[-1])


def test_a_loss_that_is_not_finite_is_an_error_and_no_result():
    context, model, shape = ready("deit_pico")
    teacher = Teacher(decided(context), context.task, arithmetic=FLOAT32, use_pool=False)
    model.head.bias.data[0] = torch.nan
    with pytest.raises(NonFiniteLossError, match="at step 0 of learning token counts"):
        learn_counts(
            model,
            context.geometry,
            shape,
            low=None,
            high=0.6 * MACS.of(context.geometry, Schedule()),
            batches=batches(decided(context), context, seed=1),
            num_steps=2,
            teacher=teacher,
            arithmetic=FLOAT32,
        )
