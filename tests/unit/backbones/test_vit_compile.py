"""A sparse model is one graph: it compiles without breaks and exports with any batch size."""

import pytest
import torch

from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, Fuse, KeyNormScorer, Merge, RandomScorer, SpotScorer

IMAGES = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
SCHEDULES = {
    "prune": [
        Step(block=2, keep_ratio=0.5),
        Step(block=4, phase="before_ffn", keep_ratio=0.2),
        Step(block=6, keep_ratio=0.1, scorer=RandomScorer()),
    ],
    "evit": [
        Step(block=2, phase="before_ffn", keep_ratio=0.5, reducer=Fuse(), scorer=ClassAttentionScorer()),
        Step(block=5, keep_ratio=0.3, reducer=Fuse(normalize=False), scorer=ClassAttentionScorer()),
    ],
    "tome": [Step(block=b, phase="before_ffn", keep_ratio=1 - 0.1 * b, reducer=Merge()) for b in (1, 2, 3, 4)],
    "spot": [
        Step(block=2, keep_ratio=0.6, scorer=SpotScorer()),
        Step(block=5, keep_ratio=0.3, scorer=SpotScorer(layers="all", heads="mean"), reducer=Fuse()),
    ],
    "prune then merge": [
        Step(block=3, phase="before_ffn", keep_ratio=0.7, scorer=KeyNormScorer()),
        Step(block=3, phase="before_ffn", keep_ratio=0.5, reducer=Merge(metric="tokens")),
    ],
}


@pytest.fixture(params=SCHEDULES)
def model(request):
    model = create_pico().eval()
    sparsify_(model, Schedule(steps=tuple(SCHEDULES[request.param])))
    model.sparsity.state.record = False
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_compiles_as_one_graph(model):
    expected = model(IMAGES)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_exports_with_a_free_batch_size(model):
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (IMAGES,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(IMAGES[:3]), model(IMAGES[:3]), rtol=0, atol=1e-6)
