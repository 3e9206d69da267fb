import pytest
import timm
import torch

from sparsesearch.backbones.pico import create_pico
from sparsesearch.backbones.verbs import sparsify_
from sparsesearch.errors import BackboneError
from sparsesearch.schedule import Schedule
from sparsesearch.sparsify.saliency import class_saliency, saliency_blocks

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
    for index in (1, 2):
        attn = model.blocks[index].attn
        attn.fused_attn = False
        hooks.append(attn.attn_drop.register_forward_hook(lambda _m, args, _y: maps.append(args[0])))
    expected_logits = model(images)
    for hook in hooks:
        hook.remove()
    logits, saliency = class_saliency(model, images, blocks=(1, 2))
    row = torch.stack(maps).mean(0).mean(1)[:, 0, model.num_prefix_tokens :]
    torch.testing.assert_close(saliency, row / row.sum(1, keepdim=True))
    torch.testing.assert_close(logits, expected_logits)
    assert all(not block.attn.qkv._forward_hooks for block in model.blocks)


def test_gradients_are_off():
    logits, saliency = class_saliency(create_pico().eval(), torch.randn(2, 1, 32, 32))
    assert not logits.requires_grad
    torch.testing.assert_close(saliency.sum(1), torch.ones(2))


def test_a_teacher_that_drops_tokens_is_refused():
    model = create_pico().eval()
    sparsify_(model, Schedule.at([2], [0.5]))
    with pytest.raises(BackboneError, match="teacher drops tokens"):
        class_saliency(model, torch.randn(2, 1, 32, 32))


def test_a_teacher_without_class_token_is_refused():
    model = timm.create_model("vit_medium_patch16_gap_256", img_size=64, depth=2)
    with pytest.raises(BackboneError, match="has no class token"):
        class_saliency(model, torch.randn(1, 3, 64, 64))
