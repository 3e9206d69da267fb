import copy
import itertools
import math

import pytest
import torch
from geometries import DEIT_PICO

from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.task import Epoch
from sparsesearch.schedule import Schedule
from sparsesearch.seeds import derive_seed
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.checkpoints import read_tensors, write_tensors
from sparsesearch.training.kinds import steps_per_epoch
from sparsesearch.training.loop import NonFiniteLossError, TrainingRun, lr_factor, model_tensors, parameter_groups
from sparsesearch.training.objectives import DenseObjective, SparseObjective, SupernetObjective
from sparsesearch.training.teacher import Teacher

SPEC = TrainSpec(epochs=2, images_per_epoch=96, batch_size=32, lr=1e-3)
SPACE = SearchSpace(blocks=(1, 3, 5), max_predictors=2).resolve(DEIT_PICO)


class TestLearningRate:
    def test_it_rises_linearly_and_falls_as_a_half_cosine(self):
        factors = [lr_factor(step, total=100, warmup=0.1) for step in range(100)]
        assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
        assert factors[10] == 1.0
        assert factors[55] == pytest.approx(0.5)
        assert factors[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
        assert all(a > b for a, b in itertools.pairwise(factors[10:]))

    def test_it_may_end_above_0(self):
        factors = [lr_factor(step, total=100, warmup=0.1, final=0.25) for step in range(101)]
        assert factors[10] == 1.0
        assert factors[55] == pytest.approx(0.625)
        assert factors[100] == pytest.approx(0.25)

    @pytest.mark.parametrize("total", [1, 2, 3, 17])
    @pytest.mark.parametrize("warmup", [0.0, 0.2, 0.99])
    def test_short_trainings_have_a_rate_at_every_step(self, total, warmup):
        factors = [lr_factor(step, total=total, warmup=warmup) for step in range(total)]
        assert all(0.0 < factor <= 1.0 for factor in factors)
        assert max(factors) == 1.0


class TestGroups:
    def test_every_parameter_is_in_the_right_group_once(self, context):
        model = context.supernet_model(SPACE)
        spec = TrainSpec(epochs=1, lr=0.5, predictor_lr=0.25, weight_decay=0.125)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        seen = {}
        for group in parameter_groups(model, spec):
            for parameter in group["params"]:
                name = names[id(parameter)]
                assert name not in seen
                seen[name] = (group["peak_lr"], group["weight_decay"])
        assert set(seen) == set(names.values())
        for name, parameter in model.named_parameters():
            decays = parameter.ndim > 1 and name not in ("cls_token", "pos_embed")
            assert seen[name] == (0.25 if name.startswith("sparsity.") else 0.5, 0.125 if decays else 0.0)
        assert seen["cls_token"] == seen["pos_embed"] == seen["blocks.0.norm1.weight"] == (0.5, 0.0)
        assert seen["blocks.0.attn.qkv.weight"] == (0.5, 0.125)
        assert sum(name.startswith("sparsity.") for name in seen) > 0

    def test_embeddings_may_be_left_out(self, context):
        model = context.fresh_model()
        groups = parameter_groups(model, TrainSpec(epochs=1, train_embeddings=False))
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        left_out = {name for name, parameter in model.named_parameters() if id(parameter) not in trained}
        assert left_out == {"cls_token", "pos_embed"}

    def test_frozen_parameters_are_left_out(self, context):
        model = context.fresh_model().requires_grad_(False)
        model.head.weight.requires_grad_(True)
        (group,) = parameter_groups(model, SPEC)
        assert group["params"] == [model.head.weight]


@pytest.mark.parametrize(
    ("images", "batch", "num_train", "expected"),
    [(192, 64, 5500, 3), (None, 64, 5500, 85), (9000, 64, 640, 10), (32, 64, 5500, 1)],
)
def test_steps_of_an_epoch(images, batch, num_train, expected):
    spec = TrainSpec(epochs=1, images_per_epoch=images, batch_size=batch)
    assert steps_per_epoch(spec, num_train=num_train) == expected


@pytest.mark.parametrize("images", [None, 100, 40, 9000])
@pytest.mark.parametrize("kind", ["fresh_epoch", "pool_epoch"])
def test_an_epoch_has_as_many_batches_as_it_has_steps(task, kind, images):
    spec = TrainSpec(epochs=1, images_per_epoch=images, batch_size=64)
    batches = getattr(task, kind)(Epoch(number=1, seed=0, batch_size=64, num_images=images))
    assert sum(1 for _ in batches) == steps_per_epoch(spec, num_train=task.num_train)


def objective_of(kind, model, context):
    if kind == "dense":
        return DenseObjective(model, context.geometry, curriculum_steps=4, arithmetic=context.arithmetic)
    teacher = Teacher(context.fresh_model(), context.task, arithmetic=context.arithmetic, use_pool=False)
    if kind == "elastic":
        return SupernetObjective(model, teacher, space=SPACE, geometry=context.geometry, arithmetic=context.arithmetic)
    return SparseObjective(model, teacher, arithmetic=context.arithmetic)


def start(kind, context):
    model = context.supernet_model(SPACE) if kind == "elastic" else context.fresh_model()
    if kind == "sparse":
        sparsify_(model, Schedule.at([1, 5], [0.6, 0.3]))
    run = TrainingRun(model, SPEC, steps_per_epoch=3, arithmetic=context.arithmetic)
    return run, objective_of(kind, model, context)


def one_epoch(run, objective, task):
    epoch = run.epochs_done + 1
    draw = task.fresh_epoch if isinstance(objective, DenseObjective) else task.pool_epoch
    batches = draw(Epoch(number=epoch, seed=5, batch_size=SPEC.batch_size, num_images=SPEC.images_per_epoch))
    return run.epoch(batches, objective, seed=derive_seed(5, "epoch", epoch), bar=Silent().bar("", 3))


@pytest.mark.parametrize("kind", ["dense", "elastic", "sparse"])
def test_a_training_continued_from_its_file_is_the_same_to_the_last_bit(kind, context, tmp_path):
    straight, objective = start(kind, context)
    one_epoch(straight, objective, context.task)
    write_tensors(tmp_path / "half.safetensors", straight.state(), metadata={})
    loss = one_epoch(straight, objective, context.task)

    again, objective = start(kind, context)
    one_epoch(again, objective, context.task)  # what is in the run must not matter
    one_epoch(again, objective, context.task)
    again.restore(read_tensors(tmp_path / "half.safetensors")[0])
    assert again.epochs_done == 1
    assert one_epoch(again, objective, context.task) == loss

    expected, found = straight.state(), again.state()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert any(name.startswith("optimizer.exp_avg_sq.") for name in expected)
    assert set(model_tensors(found)) == set(straight._model.state_dict())


def test_a_frozen_backbone_stays_while_predictors_and_moments_move(context):
    spec = SPEC.model_copy(update={"frozen_epochs": 1, "clip_grad": None})
    model = context.fresh_model()
    sparsify_(model, Schedule.at([1, 5], [0.6, 0.3]))
    run = TrainingRun(model, spec, steps_per_epoch=3, arithmetic=context.arithmetic)
    objective = objective_of("sparse", model, context)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def moved():
        found = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
        return {name.startswith("sparsity.") for name in found}

    one_epoch(run, objective, context.task)
    assert moved() == {True}
    assert run.state()["optimizer.exp_avg.blocks.0.attn.qkv.weight"].abs().max() > 0
    one_epoch(run, objective, context.task)
    assert moved() == {True, False}


def test_a_training_depends_on_its_seed_and_on_no_global_generator(context):
    losses = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        run, objective = start("elastic", context)
        losses.append(one_epoch(run, objective, context.task))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_before_it_spoils_the_weights(context, bad):
    run, _ = start("dense", context)
    before = copy.deepcopy(run.state())
    batches = context.task.fresh_epoch(Epoch(number=1, seed=0, batch_size=32, num_images=64))
    with pytest.raises(NonFiniteLossError, match=r"the loss became (nan|inf) at step 0 \(epoch 1\)"):
        run.epoch(batches, lambda batch, step: torch.tensor(bad), seed=0, bar=Silent().bar("", 2))
    after = run.state()
    assert all(torch.equal(after[name], before[name]) for name in before)
