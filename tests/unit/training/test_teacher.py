from dataclasses import replace

import pytest
import torch

from sparsesearch.data.task import Batch
from sparsesearch.training import teacher
from sparsesearch.training.teacher import Teacher


class ShortPool:
    """A task whose fixed pool is its first images."""

    def __init__(self, task, count):
        self._task = task
        self._count = count
        self.num_pools = 0

    def pool(self, *, batch_size):
        self.num_pools += 1
        for batch in self._task.pool(batch_size=batch_size):
            if int(batch.ids[0]) >= self._count:
                return
            yield batch


@pytest.fixture
def short(task):
    return ShortPool(task, 500)


def test_targets_from_the_pool_are_those_computed_online(context, short):
    pooled = Teacher(context.fresh_model(), short, arithmetic=context.arithmetic, use_pool=True)
    online = Teacher(context.fresh_model(), short, arithmetic=context.arithmetic, use_pool=False)
    batch = next(context.task.pool(batch_size=480))
    order = torch.randperm(480, generator=torch.Generator().manual_seed(0))[:33]
    chosen = Batch(images=batch.images[order], labels=batch.labels[order], ids=batch.ids[order])
    for _ in range(2):
        a, b = pooled.targets(chosen), online.targets(chosen)
        torch.testing.assert_close(a.log_probs_BK, b.log_probs_BK, rtol=0.0, atol=1e-5)
        torch.testing.assert_close(a.saliency[0], b.saliency[0], rtol=0.0, atol=1e-5)
    assert short.num_pools == 1


def test_targets_are_distributions_without_a_gradient(context, short):
    model = context.fresh_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    taught = Teacher(model, short, arithmetic=context.arithmetic, use_pool=True)
    targets = taught.targets(next(context.task.val("screen", batch_size=16)))
    assert short.num_pools == 0, "images outside the pool need no pool"
    assert targets.log_probs_BK.shape == (16, 10)
    assert targets.saliency[0].shape == (16, 64)
    for shares in (targets.log_probs_BK.exp(), targets.saliency[0]):
        torch.testing.assert_close(shares.sum(-1), torch.ones(16))
        assert not shares.requires_grad
        assert bool((shares >= 0.0).all())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_final_tokens_of_a_pool_are_kept_while_they_are_few(context, short, monkeypatch):
    batch = next(context.task.pool(batch_size=480))
    order = torch.arange(7, 40)
    chosen = Batch(images=batch.images[order], labels=batch.labels[order], ids=batch.ids[order])
    online = Teacher(context.fresh_model(), short, arithmetic=context.arithmetic, use_pool=False)
    expected = online.targets(chosen, tokens=True).tokens_BNC
    for most in (teacher.MAX_TOKEN_BYTES, 1_000_000):
        monkeypatch.setattr(teacher, "MAX_TOKEN_BYTES", most)
        pooled = Teacher(context.fresh_model(), short, arithmetic=context.arithmetic, use_pool=True)
        for _ in range(2):
            found = pooled.targets(chosen, tokens=True).tokens_BNC
            torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)
        assert (pooled._pooled.tokens_BNC is None) == (most == 1_000_000)
    assert pooled.targets(chosen).tokens_BNC is None
    assert short.num_pools == 2


@pytest.mark.slow
def test_a_compiled_teacher_says_the_same(context):
    batch = next(context.task.val("screen", batch_size=16))
    plain, compiled = (
        Teacher(
            context.fresh_model(), context.task, arithmetic=replace(context.arithmetic, compiles=on), use_pool=False
        )
        for on in (False, True)
    )
    graphs_before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    a, b = plain.targets(batch), compiled.targets(batch)
    torch.testing.assert_close(a.log_probs_BK, b.log_probs_BK, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(a.saliency[0], b.saliency[0], rtol=0.0, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs_before + 1, "the whole pass is one graph"
