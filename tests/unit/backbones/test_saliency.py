import pytest
import timm
import torch

from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.saliency import read_teacher, saliency_blocks
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.errors import BackboneError
from sparsesearch.schedule import Schedule

MODELS = {
    "pico": create_pico,
    "registers, q and k norm": lambda: timm.create_model(
        "vit_small_patch14_reg4_dinov2", img_size=56, depth=4, qk_norm=True, num_classes=5
    ),
}


def test_default_blocks():
    assert list(saliency_blocks(8)) == [3, 4, 5, 6, 7]
    assert list(saliency_blocks(12)) == list(range(4, 12))


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_it_is_the_class_row_of_the_attention_maps(kind):
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    images = torch.randn(2, model.in_chans, *model.patch_embed.img_size)
    maps = []
    hooks = []
    for index in saliency_blocks(len(model.blocks)):
        attn = model.blocks[index].attn
        attn.fused_attn = False
        hooks.append(attn.attn_drop.register_forward_hook(lambda _m, args, _y: maps.append(args[0])))
    expected_logits = model(images)
    for hook in hooks:
        hook.remove()
    classes = [type(module) for module in model.modules()]
    reading = read_teacher(model, images)
    row = torch.stack(maps).mean(0).mean(1)[:, 0, model.num_prefix_tokens :]
    torch.testing.assert_close(reading.saliency[0], row / row.sum(1, keepdim=True))
    torch.testing.assert_close(reading.logits_BK, expected_logits)
    assert [type(module) for module in model.modules()] == classes


def test_nothing_has_a_gradient_and_all_may_enter_a_loss():
    reading = read_teacher(create_pico().eval(), torch.randn(2, 1, 32, 32), tokens=True)
    torch.testing.assert_close(reading.saliency[0].sum(1), torch.ones(2))
    weight = torch.ones(10, requires_grad=True)
    assert reading.tokens_BNC.shape == (2, 64, 48)
    (weight * reading.logits_BK).sum().backward()
    assert torch.equal(weight.grad, reading.logits_BK.sum(0))


def test_without_class_token_it_is_gradient_times_activation():
    torch.manual_seed(0)
    model = timm.create_model("vit_medium_patch16_gap_256", img_size=64, depth=4, num_classes=5).eval()
    images = torch.randn(2, 3, 64, 64)
    reading = read_teacher(model, images)
    shares = []
    for index in saliency_blocks(4):
        x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
        for block in model.blocks[:index]:
            x = block(x)
        x = x.detach().requires_grad_()
        y = x
        for block in model.blocks[index:]:
            y = block(y)
        logits = model.forward_head(model.norm(y))
        logits.log_softmax(-1).amax(-1).sum().backward()
        part = (x * x.grad).sum(-1).abs()
        shares.append(part / part.sum(1, keepdim=True))
    torch.testing.assert_close(reading.saliency[0], torch.stack(shares).mean(0).detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(reading.logits_BK, logits.detach())
    assert not reading.logits_BK.requires_grad


def test_a_teacher_that_drops_tokens_is_refused():
    model = create_pico().eval()
    sparsify_(model, Schedule.at([2], [0.5]))
    with pytest.raises(BackboneError, match="teacher drops tokens"):
        read_teacher(model, torch.randn(2, 1, 32, 32))
