"""Attention under a keep policy, with gradients, against the published code's numbers."""

from functools import cache

import golden_inputs
import numpy as np
import pytest
import torch

from sparsesearch.backbones.attention_parts import output, queries_keys_values
from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule
from sparsesearch.sparsify.attention import Captures, attend
from sparsesearch.sparsify.gather import masked_softmax

SHAPE = (2, 197, 384)
POLICIES = {
    "bern": golden_inputs.policy_case(),
    "all": torch.ones(2, 197),
    "onlycls": torch.cat((torch.ones(2, 1), torch.zeros(2, 196)), dim=1),
}


@cache
def numbers():
    return golden_inputs.golden("golden_masked_attention")


@pytest.fixture(scope="module")
def model():
    """Block 3 is the golden one; the only step sits before block 2, so that block 3 merely sees its policy."""
    model = create_model("deit_s")
    sparsify_(model, Schedule.at([2], [0.5]))
    golden_inputs.load_reference_(model, golden_inputs.reference_weights("deit-s"), [2])
    model.sparsity.state.mode = "masked"
    return model.train()


def near(actual, expected, scale=1.0):
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=0, atol=1e-5 * scale)


def check(case, part, x):
    golden = {key.removeprefix(f"{case}/{part}_"): value for key, value in numbers().items()}
    flat = x.double().flatten(1)
    near(torch.stack((flat.mean(1), flat.std(1, correction=0)), dim=1), golden["stats"])
    near(x[:, 0, :8], golden["cls8"])
    for row in (100, 196):
        if f"row{row}_8" in golden:
            near(x[:, row, :8], golden[f"row{row}_8"])


@pytest.mark.parametrize("case", POLICIES)
def test_forward(model, case):
    block = model.blocks[3]
    call = new_call(model)
    call.trace.decision_BN = POLICIES[case][:, 1:]
    x = golden_inputs.normal(7, SHAPE)
    with torch.no_grad():
        check(case, "attn", block.attn(x, attn_mask=call.request(3, x)))
        check(case, "block", block(x, call=call))


def masked_attention(attn, x, policy):
    """The module's own parts around ours, since the policy of the class token is no input of the module."""
    q, k, v = queries_keys_values(attn, x, None)
    attended = attend(
        q, k, v, scale=attn.scale, num_prefix_tokens=1, has_class_token=True, captures=Captures(), policy_BT=policy
    )
    return output(attn, attended.y_BHTD, x)


@pytest.mark.parametrize("case", POLICIES)
def test_gradients(model, case):
    assert POLICIES[case].sum(1).tolist() == numbers()[f"{case}/policy_sum"].tolist()
    x = golden_inputs.normal(7, SHAPE).requires_grad_()
    policy = POLICIES[case].clone().requires_grad_()
    (masked_attention(model.blocks[3].attn, x, policy) * golden_inputs.normal(71, SHAPE)).sum().backward()
    expected = numbers()[f"{case}/grad_policy"]
    near(policy.grad, expected, scale=max(1.0, np.abs(expected).max()))
    flat = x.grad.double().flatten(1)
    near(torch.stack((flat.mean(1), flat.std(1, correction=0)), dim=1), numbers()[f"{case}/grad_x_stats"])
    expected = numbers()[f"{case}/grad_x_cls8"]
    near(x.grad[:, 0, :8], expected, scale=max(1.0, np.abs(expected).max()))


def test_without_policy_it_is_plain_attention(model):
    model.eval()
    with torch.no_grad():
        check("none", "attn", model.blocks[3].attn(golden_inputs.normal(7, SHAPE)))
    model.train()


def test_softmax_alone():
    policy = torch.from_numpy(numbers()["softmax6/policy"]).unsqueeze(0)
    out = masked_softmax(golden_inputs.normal(9, (1, 2, 6, 6), 3.0), policy)
    np.testing.assert_allclose(out.numpy(), numbers()["softmax6/out"], rtol=0, atol=1e-7)
