"""One training serves every family, scorer and reduction, and can be left and taken up at every epoch."""

import math

import pytest
import torch

from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import task_geometry
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    KeyNormScorer,
    Merge,
    NormScorer,
    Prune,
    SpotScorer,
)
from sparsesearch.seeds import derive_seed
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.supernet_schedules import with_fixed_windows
from sparsesearch.sparsify.draws import Draws
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.kinds import TrainingContext, supernet_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import TrainingStep

FLOAT32 = Arithmetic(torch.device("cpu"), torch.float32)
SPEC = TrainSpec(epochs=2, images_per_epoch=96, batch_size=4)
TOKENS = SearchSpace(
    reducers=(Prune(), Fuse(), Merge()),
    scorers=(DynamicVitScorer(), SpotScorer(), ClassAttentionScorer(), KeyNormScorer(), NormScorer()),
    phases=("before_block", "before_ffn"),
    methods_per="location",
    merge_after_prune=True,
)
PATHS = SearchSpace(
    stages=({"stage": 0, "blocks": [0]}, {"stage": 1}, {"stage": 2}),
    reducers=tuple(FastSlow(fast_path=path) for path in ("linear", "bottleneck", "identity")),
    scorers=(DynamicVitScorer(), NormScorer()),
    methods_per="location",
    max_predictors=4,
)
SPACES = {"deit_pico": TOKENS, "lvvit_pico": TOKENS, "convnext_pico": PATHS, "swin_pico": PATHS}


@pytest.fixture(scope="module", params=SPACES)
def case(request):
    task = DigitsTask(image_size=32, in_chans=1, num_val_images=24)
    context = TrainingContext(request.param, task_geometry(request.param, task), task, FLOAT32, seed=0)
    space = SPACES[request.param].resolve(context.geometry)
    return context, with_fixed_windows(space, context.geometry)


def start(case):
    context, space = case
    dense = context.fresh_model()
    teacher = Teacher(dense, context.task, arithmetic=FLOAT32, use_pool=False)
    training = supernet_training(context, SPEC, space=space, dense=dense.state_dict(), teacher=teacher, seed=0)
    run = TrainingRun(training.model, SPEC, steps_per_epoch=training.steps_per_epoch, arithmetic=FLOAT32)
    return training, run


def one_epoch(training, run):
    epoch = run.epochs_done + 1
    with Silent().bar("", total=training.steps_per_epoch) as bar:
        return run.epoch(training.batches(epoch), training.objective, seed=derive_seed(0, "epoch", epoch), bar=bar)


def test_all_that_the_space_may_do_is_trained_together(case):
    training, run = start(case)
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    losses = [one_epoch(training, run) for _ in range(2)]
    assert all(math.isfinite(loss) for loss in losses)
    still = [name for name, p in training.model.named_parameters() if torch.equal(p, before[name])]
    assert not still
    state = sparsity_of(training.model).state
    assert not state.probe, "probing is over with the step"


def test_an_supernet_training_that_was_killed_goes_on_to_the_same_digits(case):
    training, straight = start(case)
    one_epoch(training, straight)
    kept = {name: tensor.clone() for name, tensor in straight.state().items()}
    loss = one_epoch(training, straight)

    training, again = start(case)
    again.restore(kept)
    assert one_epoch(training, again) == loss
    expected, found = straight.state(), again.state()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_every_predictor_is_taught_where_the_teacher_looks(case):
    """In the dense pass all learned scorers score, with the saliency of their own stage as their target."""
    context, _ = case
    training, _ = start(case)
    batch = next(training.batches(1))
    training.model.train()
    training.objective(batch, TrainingStep(0, Draws(0)))  # its second pass is the dense one
    trace = sparsity_of(training.model).state.trace.steps
    assert all(step.learned for step in trace)
    assert sorted(step.name for step in trace) == sorted(sparsity_of(training.model).predictors)
    grids = [context.geometry.stages[step.stage].num_tokens for step in trace]
    assert [step.score_BN.shape for step in trace] == [(4, num) for num in grids]
    saliency = Teacher(context.fresh_model(), context.task, arithmetic=FLOAT32, use_pool=False).targets(batch).saliency
    assert {step.stage for step in trace} <= set(saliency)
    assert {stage: shares.shape[1] for stage, shares in saliency.items()} == {
        index: stage.num_tokens for index, stage in enumerate(context.geometry.stages)
    }
