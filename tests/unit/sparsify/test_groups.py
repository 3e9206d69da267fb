"""Which patches a token stands for, step after step."""

import pytest
import torch

from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, Fuse, KeyNormScorer, Merge, NormScorer
from sparsesearch.sparsify.reductions import GONE, fuse, merge, prune

SCORES = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3], [0.5, 0.4, 0.3, 0.2, 0.1]])
STEPS = {
    "prune": (Step(block=2, keep_ratio=0.5, scorer=NormScorer()), Step(block=4, keep_ratio=0.25, scorer=NormScorer())),
    "fuse": tuple(
        Step(block=b, phase="before_ffn", keep_ratio=r, reducer=Fuse(), scorer=ClassAttentionScorer())
        for b, r in ((2, 0.6), (4, 0.3))
    ),
    "merge": tuple(Step(block=b, phase="before_ffn", keep_ratio=1 - 0.15 * b, reducer=Merge()) for b in (1, 2, 3, 4)),
    "prune then merge": (
        Step(block=3, phase="before_ffn", keep_ratio=0.7, scorer=KeyNormScorer()),
        Step(block=3, phase="before_ffn", keep_ratio=0.5, reducer=Merge(metric="tokens")),
    ),
}


def test_a_dropped_token_goes_nowhere():
    assert prune(SCORES, 2).destinations(5).tolist() == [[GONE, 0, GONE, 1, GONE], [0, 1, GONE, GONE, GONE]]


def test_a_fused_token_goes_into_the_last():
    assert fuse(SCORES, SCORES, 3, normalize=True).destinations(5).tolist() == [[2, 0, 2, 1, 2], [0, 1, 2, 2, 2]]


def test_a_merged_token_goes_where_its_amount_goes():
    tokens = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(0))
    reduction = merge(tokens, torch.ones(3, 9), 6, num_prefix_tokens=1)
    destinations = reduction.destinations(9)
    amounts = torch.arange(1.0, 10.0).expand(3, -1)
    summed = torch.zeros(3, 6).scatter_add_(1, destinations, amounts)
    torch.testing.assert_close(summed, reduction.total(amounts))


@pytest.mark.parametrize("name", STEPS)
@torch.no_grad()
def test_groups_of_a_model(name):
    model = create_pico().eval()
    schedule = Schedule(steps=STEPS[name])
    sparsify_(model, schedule)
    state = model.sparsity.state
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = model(images)
    assert all(step.groups_BN is None for step in state.trace.steps)
    state.keep_groups = True
    torch.testing.assert_close(model(images), plain, rtol=0, atol=0)
    gone = torch.zeros(2, 64, dtype=torch.bool)
    for resolved, step in zip(schedule.resolve(model.sparsity.geometry), state.trace.steps, strict=True):
        groups = step.groups_BN
        assert groups.shape == (2, 64)
        assert groups.max() == resolved.num_tokens - 1
        for image in range(2):
            for token, position in enumerate(step.kept_BK[image].tolist()):
                assert position == -1 or groups[image, position] == token, "a token stands for its own patch"
            assert {*range(resolved.num_tokens)} <= {*groups[image].tolist()}
        assert not (gone & (groups != GONE)).any(), "what is dropped stays so"
        gone = groups == GONE
    if name in ("fuse", "merge"):
        assert not gone.any()
    if state.trace.size_BN is not None and name == "merge":
        assert [torch.bincount(row).tolist() for row in groups] == state.trace.size_BN.int().tolist()
