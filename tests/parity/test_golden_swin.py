"""Swin-T with golden weights, through `sparsify_` on timm's own model, against the published code's numbers."""

import golden_inputs
import hierarchical
import pytest
import torch
from hierarchical import near, stats

NAME, REFERENCE = "swin_tiny_patch4_window7_224", "swin-t"
BLOCKS = (1, 2, 3)


@pytest.fixture(scope="module", params=[0.7, 0.5])
def evaluated(request):
    model = hierarchical.sparse_reference(NAME, REFERENCE, request.param).eval()
    with torch.no_grad():
        return hierarchical.run(model, model.layers[2].blocks, golden_inputs.image(), rate=request.param)


def test_logits(evaluated):
    hierarchical.check_logits(evaluated, REFERENCE)


def test_map_entering_the_first_predictor(evaluated):
    near(stats(evaluated.outputs[0]), evaluated.golden(REFERENCE, "pre_stats"))


@pytest.mark.parametrize("predictor", range(3))
def test_scores_and_slow_positions(evaluated, predictor):
    hierarchical.check_step(evaluated, REFERENCE, predictor)


@pytest.mark.parametrize("predictor", range(3))
def test_features_behind_each_choice(evaluated, predictor):
    last = (1, 2, 5)[predictor]
    hierarchical.check_features(evaluated, REFERENCE, predictor, evaluated.outputs[last].flatten(1, 2))


def test_masked_training_forward():
    model = hierarchical.sparse_reference(NAME, REFERENCE, 0.7).train()
    hierarchical.check_masked_training(model, REFERENCE, BLOCKS)


def test_dense_teacher():
    model = hierarchical.dense_reference(NAME, REFERENCE).eval()
    with torch.no_grad():
        features = model.forward_features(golden_inputs.image())
        hierarchical.check_dense(REFERENCE, model.forward_head(features), features.flatten(1, 2))
