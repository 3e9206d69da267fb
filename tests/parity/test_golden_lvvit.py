"""LV-ViT-S with golden weights, through `sparsify_`, against the published code's numbers."""

from functools import cache

import golden_inputs
import numpy as np
import pytest
import torch

from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.verbs import restore_, sparsify_
from sparsesearch.schedule import Schedule

BLOCKS = (4, 8, 12)
TOLERANCE = 3e-5
SHAPE = (2, 197, 384)


@cache
def numbers():
    return golden_inputs.golden("golden_lvvit-s")


def lvvit(rho):
    model = create_model("lvvit_s")
    sparsify_(model, Schedule.at(BLOCKS, [rho, rho**2, rho**3]))
    golden_inputs.load_reference_(model, golden_inputs.reference_weights("lvvit-s"), BLOCKS)
    return model.eval()


def near(actual, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance)


def stats(x):
    flat = x.double().flatten(1)
    return torch.stack((flat.mean(1), flat.std(1, correction=0)), dim=1)


@pytest.fixture(scope="module", params=["r0.7", "r0.5"])
def evaluated(request):
    model = lvvit(float(request.param[1:]))
    outputs = {}
    hooks = [
        model.blocks[index].register_forward_hook(lambda _m, _a, y, index=index: outputs.__setitem__(index, y))
        for index in (3, 7, 11, 15)
    ]
    with torch.no_grad():
        logits = model(golden_inputs.image())
    for hook in hooks:
        hook.remove()
    return request.param, logits, model.sparsity.state.trace.steps, outputs


def test_logits(evaluated):
    rate, logits, _, _ = evaluated
    near(logits[:, :16], numbers()[f"{rate}/logits16"])
    near(stats(logits), numbers()[f"{rate}/logits_stats"])
    assert logits.argmax(1).tolist() == numbers()[f"{rate}/argmax"].tolist()


def test_tokens_entering_the_first_predictor(evaluated):
    rate, _, _, outputs = evaluated
    near(stats(outputs[3]), numbers()[f"{rate}/pre_stats"])


@pytest.mark.parametrize("predictor", range(3))
def test_scores_and_kept_tokens(evaluated, predictor):
    rate, _, steps, _ = evaluated
    golden = {key: numbers()[f"{rate}/{key}_{predictor}"] for key in ("cand", "score", "keep")}
    step = steps[predictor]
    order = step.positions_BN.argsort(dim=1)
    assert step.positions_BN.gather(1, order).tolist() == golden["cand"].tolist()
    near(step.keep_log_prob_BN.gather(1, order), golden["score"])
    assert step.kept_BK.shape[1] == numbers()[f"{rate}/n_keep"][predictor]
    assert step.kept_BK.sort(dim=1).values.tolist() == np.sort(golden["keep"], axis=1).tolist()


@pytest.mark.parametrize("predictor", range(3))
def test_features_behind_each_cut(evaluated, predictor):
    rate, _, steps, outputs = evaluated
    golden = {k: numbers()[f"{rate}/feat_{predictor}_{k}"] for k in ("stats", "cls8", "tok8", "tok_index")}
    x = outputs[BLOCKS[predictor] + 3]
    near(stats(x), golden["stats"])
    near(x[:, 0, :8], golden["cls8"])
    kept = steps[predictor].kept_BK
    assert kept.amin(1).tolist() == golden["tok_index"].tolist()
    near(x[torch.arange(2), 1 + kept.argmin(1), :8], golden["tok8"])


def test_masked_training_forward():
    model = lvvit(0.7).train()
    model.patch_embed.eval()
    state = model.sparsity.state
    state.mode = "masked"
    state.keep_final_tokens = True
    state.forced = {f"0_{block}": golden_inputs.forced_decision(p, 0.7) for p, block in enumerate(BLOCKS)}
    with torch.no_grad():
        logits = model(golden_inputs.image())
        tokens = model.token_logits(state.trace.final_tokens_BNC)
    golden = {key.split("/")[1]: value for key, value in numbers().items() if key.startswith("train0.7/")}
    near(logits[:, :16], golden["train_logits16"])
    near(stats(logits), golden["train_logits_stats"])
    assert list(tokens.shape) == golden["train_tokens_shape"].tolist()
    near(stats(tokens), golden["train_tokens_stats"])
    near(tokens[:, 0, :8], golden["train_tokens_first8"])
    near(tokens[:, -1, :8], golden["train_tokens_last8"])
    for p, step in enumerate(state.trace.steps):
        near(step.decision_BN.mean(1), golden[f"train_decision_{p}_mean"], 1e-7)
    near(state.trace.steps[-1].decision_BN.sum(1), golden["train_mask_sum"], 0)


def test_dense_teacher():
    model = lvvit(0.7)
    restore_(model)
    with torch.no_grad():
        features = model.forward_features(golden_inputs.image())
        logits, tokens = model.class_logits(features), model.token_logits(features[:, 1:])
        combined = model(golden_inputs.image())
    near(combined[:, :16], numbers()["dense_combined16"])
    near(logits[:, :16], numbers()["dense_logits16"])
    near(stats(logits), numbers()["dense_logits_stats"])
    assert list(tokens.shape) == numbers()["dense_tokens_shape"].tolist()
    near(stats(tokens), numbers()["dense_tokens_stats"])
    near(tokens[:, 0, :8], numbers()["dense_tokens_first8"])
    near(tokens[:, -1, :8], numbers()["dense_tokens_last8"])


@torch.no_grad()
def test_attention_and_block_under_a_policy():
    """Block 4 is the golden one; the only step sits before block 2, so that block 4 merely sees its policy."""
    model = create_model("lvvit_s")
    sparsify_(model, Schedule.at([2], [0.5]))
    golden_inputs.load_reference_(model, golden_inputs.reference_weights("lvvit-s"), [2])
    state = model.train().sparsity.state
    state.mode = "masked"
    state.begin()
    state.trace.decision_BN = golden_inputs.policy_case()[:, 1:]
    golden = golden_inputs.golden("golden_masked_attention")
    x = golden_inputs.normal(7, SHAPE)
    for part, y in (("attn", model.blocks[4].attn(x)), ("block", model.blocks[4](x))):
        near(stats(y), golden[f"lv/{part}_stats"], 1e-5)
        near(y[:, 0, :8], golden[f"lv/{part}_cls8"], 1e-5)
