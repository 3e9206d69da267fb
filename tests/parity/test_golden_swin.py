"""Swin-T with golden weights, through `sparsify_` on timm's own model, against the published code's numbers."""

import golden_checks
import golden_inputs
import pytest
import torch
from golden_checks import near, stats

NAME, REFERENCE = "swin_tiny_patch4_window7_224", "swin-t"


@pytest.fixture(scope="module", params=[0.7, 0.5])
def evaluated(request):
    model = golden_checks.sparse_reference(NAME, REFERENCE, request.param).eval()
    with torch.no_grad():
        return golden_checks.run(model, model.layers[2].blocks, golden_inputs.image(), rate=request.param)


def test_logits(evaluated):
    golden_checks.check_logits(evaluated, REFERENCE)


def test_map_entering_the_first_predictor(evaluated):
    near(stats(evaluated.outputs[0]), evaluated.golden(REFERENCE, "pre_stats"))


@pytest.mark.parametrize("predictor", range(3))
def test_scores_and_slow_positions(evaluated, predictor):
    golden_checks.check_step(evaluated, REFERENCE, predictor)


@pytest.mark.parametrize("predictor", range(3))
def test_features_behind_each_choice(evaluated, predictor):
    last = (1, 2, 5)[predictor]
    golden_checks.check_map(evaluated, REFERENCE, predictor, evaluated.outputs[last].flatten(1, 2))


def test_masked_training_forward():
    model = golden_checks.sparse_reference(NAME, REFERENCE, 0.7).train()
    golden_checks.check_masked_training(model, REFERENCE, (0.7, 0.5, 0.3))


def test_dense_teacher():
    model = golden_checks.dense_reference(NAME, REFERENCE).eval()
    with torch.no_grad():
        features = model.forward_features(golden_inputs.image())
        golden_checks.check_dense(REFERENCE, model.forward_head(features), features.flatten(1, 2))
