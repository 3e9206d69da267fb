"""A frozen model: inference under its schedule, and nothing that one pass leaves to another."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sparsesearch import freeze_, new_call, restore_, sparsify_
from sparsesearch.backbones.lookup import backbone_geometry
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import attach_, set_schedule_
from sparsesearch.errors import BackboneError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import Fuse, Merge, RandomScorer, SpotScorer
from sparsesearch.sparsify.gather import MOST_SORTED, divide_tokens, select_tokens

TOKENS = {
    "prune": Schedule.at([2, 4], [0.6, 0.3]),
    "random": Schedule(steps=(Step(block=2, keep_ratio=0.5, scorer=RandomScorer(seed=3)),)),
    "fuse": Schedule(steps=(Step(block=2, keep_ratio=0.5, reducer=Fuse()),)),
    "merge": Schedule(steps=(Step(block=2, keep_ratio=0.6, scorer=None, reducer=Merge()),)),
    "spot": Schedule(steps=(Step(block=3, keep_ratio=0.5, scorer=SpotScorer()),)),
}
KINDS = [*(("deit_pico", name) for name in TOKENS), ("swin_pico", "paths"), ("convnext_pico", "paths")]


def frozen(backbone: str, kind: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A frozen model, images, and the logits before it was frozen."""
    model = create_model(backbone, seed=1)
    schedule = paper_schedule(backbone_geometry(backbone), 0.7) if kind == "paths" else TOKENS[kind]
    sparsify_(model, schedule)
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model.eval()(images)
    freeze_(model)
    return model, images, logits


@pytest.mark.parametrize(("backbone", "kind"), KINDS)
def test_logits_are_the_same_and_nothing_is_kept(backbone: str, kind: str) -> None:
    model, images, logits = frozen(backbone, kind)
    found = model(images)
    assert torch.equal(found, logits)
    assert not found.requires_grad
    state = model.sparsity.state
    assert state.trace.steps == []
    assert not state.record
    assert state.plan.probes == ()
    assert torch.equal(copy.deepcopy(model)(images), logits)
    call = new_call(model, record=True)
    model(images, call=call)
    assert len(call.trace.steps) == len(state.plan.steps)


def test_what_the_schedule_does_not_use_is_removed() -> None:
    model = create_model("deit_pico", seed=1)
    attach_(model, [(0, block) for block in range(1, 6)])
    schedule = Schedule(steps=(Step(block=2, keep_ratio=0.5), Step(block=4, keep_ratio=0.2, scorer=RandomScorer())))
    sparsify_(model, schedule)
    freeze_(model)
    assert list(model.sparsity.predictors) == ["0_2"]
    assert len(model.sparsity.orders) == 1
    assert not any("orders" in name for name in model.state_dict())
    assert "sparsity.orders" in {name.rpartition(".")[0].rpartition(".")[0] for name, _ in model.named_buffers()}


def test_it_is_not_trained_and_not_changed() -> None:
    model, images, _ = frozen("deit_pico", "prune")
    for change in (lambda: sparsify_(model, TOKENS["fuse"]), lambda: set_schedule_(model, Schedule())):
        with pytest.raises(BackboneError, match="the model is frozen; load it again to change its schedule"):
            change()
    with pytest.raises(BackboneError, match="a frozen model cannot be trained"):
        model.train()(images)
    restore_(model.eval())
    assert model(images).shape == (4, 10)


def test_a_dense_model_is_refused() -> None:
    with pytest.raises(BackboneError, match="is not sparse; call sparsify_"):
        freeze_(create_model("deit_pico"))


@pytest.mark.parametrize(("backbone", "kind"), [("deit_pico", "spot"), ("deit_pico", "random"), ("swin_pico", "paths")])
def test_threads_share_it(backbone: str, kind: str) -> None:
    model, _, _ = frozen(backbone, kind)
    batches = [torch.randn(1 + i % 3, 1, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(24)]
    alone = [model(batch) for batch in batches]
    found: dict[int, Tensor] = {}

    def serve(first: int) -> None:
        for i in range(first, len(batches), 8):
            found[i] = model(batches[i])

    threads = [threading.Thread(target=serve, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], alone[i]) for i in range(len(batches)))


class Selection(nn.Module):
    """The kept positions, and all others."""

    def __init__(self, num_kept: int) -> None:
        super().__init__()
        self.num_kept = num_kept

    def forward(self, score_BN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return *divide_tokens(score_BN, self.num_kept), select_tokens(score_BN, self.num_kept)


@pytest.mark.parametrize("num_kept", [0, 5, 4000, 5000, 9000, 9996, 10_000])
def test_an_exported_graph_sorts_no_more_than_inference_engines_can(num_kept: int) -> None:
    score_BN = torch.randn(2, 10_000, generator=torch.Generator().manual_seed(0))
    score_BN[1] = (2.0 * score_BN[1]).round()  # many equal ones
    program = torch.export.export(Selection(num_kept), (score_BN,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    sorts = [node for node in program.graph.nodes if "sort" in str(node.target) or "topk" in str(node.target)]
    assert all("topk" in str(node.target) and node.args[1] <= MOST_SORTED for node in sorts)
    kept_BK, rest_BM, selected_BK = program.module()(score_BN)
    for scores, kept, rest, selected in zip(score_BN, kept_BK, rest_BM, selected_BK, strict=True):
        assert sorted([*kept.tolist(), *rest.tolist()]) == list(range(10_000))
        assert torch.equal(scores[kept].sort(descending=True).values, scores.topk(num_kept).values)
        assert torch.equal(scores[selected].sort(descending=True).values, scores.topk(num_kept).values)


def test_a_frozen_model_is_saved_as_before(tmp_path: Path) -> None:
    model, images, logits = frozen("deit_pico", "random")
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(again(images), logits)
