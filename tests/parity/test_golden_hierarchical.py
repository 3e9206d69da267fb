"""ConvNeXt-T and Swin-T with golden weights, through `sparsify_` on timm's models, against the published numbers."""

from typing import NamedTuple

import golden_checks
import golden_inputs
import pytest
import torch
from golden_checks import near, stats


class Model(NamedTuple):
    name: str
    stages: str
    depth: int
    position_axes: tuple[int, int]


MODELS = {
    "convnext-t": Model("convnext_tiny", "stages", depth=9, position_axes=(2, 3)),
    "swin-t": Model("swin_tiny_patch4_window7_224", "layers", depth=6, position_axes=(1, 2)),
}


def tokens_of(reference, map_):
    """A map as `B x N x C`, in raster order."""
    return map_.movedim(MODELS[reference].position_axes, (1, 2)).flatten(1, 2)


@pytest.fixture(scope="module", params=[(name, rho) for name in MODELS for rho in (0.7, 0.5)], ids=str)
def evaluated(request):
    reference, rho = request.param
    model = golden_checks.sparse_reference(MODELS[reference].name, reference, rho).eval()
    blocks = getattr(model, MODELS[reference].stages)[2].blocks
    with torch.no_grad():
        return reference, golden_checks.run(model, blocks, golden_inputs.image(), rate=rho)


def test_logits(evaluated):
    golden_checks.check_logits(evaluated[1], evaluated[0])


def test_map_entering_the_first_predictor(evaluated):
    reference, run = evaluated
    near(stats(run.outputs[0]), run.golden(reference, "pre_stats"))


@pytest.mark.parametrize("predictor", range(3))
def test_scores_and_slow_positions(evaluated, predictor):
    golden_checks.check_step(evaluated[1], evaluated[0], predictor)


@pytest.mark.parametrize("predictor", range(3))
def test_features_behind_each_choice(evaluated, predictor):
    reference, run = evaluated
    last = (1, 2, MODELS[reference].depth - 1)[predictor]
    golden_checks.check_map(run, reference, predictor, tokens_of(reference, run.outputs[last]))


@pytest.mark.parametrize("reference", MODELS)
def test_masked_training_forward(reference):
    model = golden_checks.sparse_reference(MODELS[reference].name, reference, 0.7).train()
    golden_checks.check_masked_training(model, reference, (0.7, 0.5, 0.3))


@pytest.mark.parametrize("reference", MODELS)
@torch.no_grad()
def test_dense_teacher(reference):
    model = golden_checks.dense_reference(MODELS[reference].name, reference).eval()
    features = model.forward_features(golden_inputs.image())
    final = model.head.norm(features) if reference == "convnext-t" else features
    golden_checks.check_dense(reference, model.forward_head(features), tokens_of(reference, final))
