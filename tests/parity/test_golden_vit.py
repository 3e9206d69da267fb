"""DeiT-S and LV-ViT-S with golden weights, through `sparsify_`, against the published code's numbers."""

import golden_checks
import golden_inputs
import pytest
import torch
from golden_checks import near, numbers, stats

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule

MODELS = {"deit-s": ("deit_s", (3, 6, 9)), "lvvit-s": ("lvvit_s", (4, 8, 12))}


@pytest.fixture(scope="module", params=[(name, rho) for name in MODELS for rho in (0.7, 0.5)], ids=str)
def evaluated(request):
    reference, rho = request.param
    model = golden_checks.sparse_reference(MODELS[reference][0], reference, rho).eval()
    with torch.no_grad():
        return reference, golden_checks.run(model, model.blocks, golden_inputs.image(), rate=rho)


def test_logits(evaluated):
    golden_checks.check_logits(evaluated[1], evaluated[0])


def test_tokens_entering_the_first_predictor(evaluated):
    reference, run = evaluated
    near(stats(run.outputs[MODELS[reference][1][0] - 1]), run.golden(reference, "pre_stats"))


@pytest.mark.parametrize("predictor", range(3))
def test_scores_and_kept_tokens(evaluated, predictor):
    golden_checks.check_step(evaluated[1], evaluated[0], predictor)


@pytest.mark.parametrize("predictor", range(3))
def test_features_behind_each_cut(evaluated, predictor):
    reference, run = evaluated
    blocks = MODELS[reference][1]
    golden = {k: run.golden(reference, f"feat_{predictor}_{k}") for k in ("stats", "cls8", "tok8", "tok_index")}
    x = run.outputs[blocks[predictor] + blocks[0] - 1]
    near(stats(x), golden["stats"])
    near(x[:, 0, :8], golden["cls8"])
    kept = run.steps[predictor].kept_BK
    assert kept.amin(1).tolist() == golden["tok_index"].tolist()
    near(x[torch.arange(2), 1 + kept.argmin(1), :8], golden["tok8"])


@pytest.mark.parametrize("reference", MODELS)
def test_masked_training_forward(reference):
    model = golden_checks.sparse_reference(MODELS[reference][0], reference, 0.7).train()
    model.patch_embed.eval()  # the published run has its batch norms in evaluation mode
    golden_checks.check_masked_training(model, reference, (0.7, 0.7, 0.7))


@torch.no_grad()
def test_dense_deit():
    model = golden_checks.dense_reference("deit_s", "deit-s").eval()
    features = model.forward_features(golden_inputs.image())
    golden_checks.check_dense("deit-s", model.forward_head(features), features[:, 1:])


@torch.no_grad()
def test_dense_lvvit():
    model = golden_checks.dense_reference("lvvit_s", "lvvit-s").eval()
    features = model.forward_features(golden_inputs.image())
    golden_checks.check_dense("lvvit-s", model.class_logits(features), model.token_logits(features[:, 1:]))
    near(model(golden_inputs.image())[:, :16], numbers("lvvit-s")["dense_combined16"])


@torch.no_grad()
def test_attention_and_block_of_lvvit_under_a_policy():
    """Block 4 is the golden one; the only step sits before block 2, so that block 4 merely sees its policy."""
    model = create_model("lvvit_s")
    sparsify_(model, Schedule.at([2], [0.5]))
    golden_inputs.load_reference_(model, golden_inputs.reference_weights("lvvit-s"), [2])
    call = new_call(model.train(), mode="masked")
    call.trace.decision_BN = golden_inputs.policy_case()[:, 1:]
    golden = golden_inputs.golden("golden_masked_attention")
    x = golden_inputs.normal(7, (2, 197, 384))
    for part, y in (
        ("attn", model.blocks[4].attn(x, attn_mask=call.request(4, x))),
        ("block", model.blocks[4](x, call=call)),
    ):
        near(stats(y), golden[f"lv/{part}_stats"], 1e-5)
        near(y[:, 0, :8], golden[f"lv/{part}_cls8"], 1e-5)
