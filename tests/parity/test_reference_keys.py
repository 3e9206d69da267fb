"""Every parameter of the published models finds its place: names and shapes are those of timm and of this package."""

import json

import golden_inputs
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from sparsesearch.backbones.reference_keys import layout_of, new_names, num_predictors, squeezed
from sparsesearch.backbones.registry import create_model
from sparsesearch.errors import CheckpointError

REBUILT = ("relative_position_index", "attn_mask")
# Model, what to compare with, stage and blocks of the predictors, blocks with a fast path.
MODELS = {
    "deit-s":     ("deit_small_patch16_224",         0, (3, 6, 9),    ()),
    "deit-256":   ("deit-256",                       0, (3, 6, 9),    ()),
    "deit-b":     ("deit_base_patch16_224",          0, (3, 6, 9),    ()),
    "lvvit-s":    ("lvvit_s",                        0, (4, 8, 12),   ()),
    "lvvit-m":    ("lvvit_m",                        0, (5, 10, 15),  ()),
    "convnext-t": ("convnext_tiny",                  2, (1, 2, 3),    range(1, 9)),
    "convnext-s": ("convnext_small",                 2, (3, 6, 9),    range(3, 27)),
    "convnext-b": ("convnext_base",                  2, (3, 6, 9),    range(3, 27)),
    "swin-t":     ("swin_tiny_patch4_window7_224",   2, (1, 2, 3),    range(1, 6)),
    "swin-s":     ("swin_small_patch4_window7_224",  2, (2, 4, 6),    range(2, 18)),
    "swin-b":     ("swin_base_patch4_window7_224",   2, (2, 4, 6),    range(2, 18)),
}  # fmt: skip


def entries(model):
    return json.loads((golden_inputs.GOLDEN / f"keys_{model}.json").read_text(encoding="utf-8"))["keys"]


def dense_model(name):
    with torch.device("meta"):
        if name == "deit-256":
            return VisionTransformer(embed_dim=256, depth=12, num_heads=4)
        return create_model(name) if name.startswith("lvvit") else timm.create_model(name)


def predictor_shapes(dim):
    layers = {
        "in_conv.0": (dim,),
        "in_conv.1": (dim, dim),
        "out_conv.0": (dim // 2, dim),
        "out_conv.2": (dim // 4, dim // 2),
        "out_conv.4": (2, dim // 4),
    }
    for name, shape in layers.items():
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]


def expected_shapes(model):
    """What a sparse model holds: timm's own keys, predictors of linear layers, fast paths."""
    name, stage, blocks, fast = MODELS[model]
    shapes = {key: tuple(value.shape) for key, value in dense_model(name).state_dict().items()}
    inner = {"0": "cls_token", "2": "stages.2.blocks.0.norm.weight", "s": "layers.2.blocks.0.norm1.weight"}
    dim = shapes[inner["s" if model.startswith("swin") else str(stage)]][-1]
    for block in blocks:
        shapes |= {f"sparsity.predictors.{stage}_{block}.{part}": shape for part, shape in predictor_shapes(dim)}
    for block in fast:
        path = f"sparsity.fast_paths.{stage}_{block}"
        shapes |= {f"{path}.norm.weight": (dim,), f"{path}.norm.bias": (dim,)}
        shapes |= {f"{path}.fc.weight": (dim, dim), f"{path}.fc.bias": (dim,)}
        if model.startswith("convnext"):
            shapes[f"{path}.gamma"] = (dim,)
    return shapes


def drawn(model, *, only_dense=False):
    """Golden weights; what is not drawn is zero."""
    tensors = {}
    for key, entry in entries(model).items():
        if entry["dense"] or not only_dense:
            tensor = golden_inputs.weight(key, tuple(entry["shape"]))
            tensors[key] = torch.zeros(entry["shape"]) if tensor is None else tensor
    return tensors


@pytest.mark.parametrize("model", MODELS)
def test_sparse_weights_map_to_exactly_our_parameters(model):
    weights, blocks = drawn(model), MODELS[model][2]
    assert num_predictors(weights) == 3
    renamed = new_names(weights, blocks=blocks)
    assert all(old.endswith(REBUILT) == (new is None) for old, new in renamed.items())
    tensors = {new: squeezed(new, weights[old]) for old, new in renamed.items() if new is not None}
    assert len(tensors) == sum(new is not None for new in renamed.values())
    assert {key: tuple(value.shape) for key, value in tensors.items()} == expected_shapes(model)
    assert num_predictors(tensors) == 3
    assert new_names(tensors, blocks=()) == {key: key for key in tensors}


@pytest.mark.parametrize("model", MODELS)
def test_dense_weights_map_to_exactly_the_parameters_of_timm(model):
    weights = drawn(model, only_dense=True)
    assert num_predictors(weights) == 0
    renamed = new_names(weights, blocks=())
    wanted = {key: tuple(value.shape) for key, value in dense_model(MODELS[model][0]).state_dict().items()}
    assert {new: tuple(weights[old].shape) for old, new in renamed.items() if new is not None} == wanted


@pytest.mark.parametrize(
    ("model", "logits"), [("convnext-t", "dense_logits16"), ("swin-t", "dense_logits16")], ids=["convnext", "swin"]
)
@torch.no_grad()
def test_a_dense_model_of_timm_computes_what_the_published_one_does(model, logits):
    """Names and shapes alone would not show two parameters of one shape that are exchanged."""
    weights = drawn(model, only_dense=True)
    dense = timm.create_model(MODELS[model][0])
    dense.load_state_dict({new: weights[old] for old, new in new_names(weights, blocks=()).items() if new is not None})
    ours = dense.eval()(golden_inputs.image())
    expected = torch.from_numpy(golden_inputs.golden(f"golden_{model}")[logits])
    torch.testing.assert_close(ours[:, :16], expected, rtol=0, atol=3e-5)


def test_names_of_timm_stay():
    with torch.device("meta"):
        for name in ("convnext_tiny", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"):
            keys = timm.create_model(name).state_dict()
            assert layout_of(keys) == "timm"
            assert new_names(keys, blocks=()) == {key: key for key in keys}


def test_more_predictors_than_places():
    with pytest.raises(CheckpointError, match=r"score_predictor.2.* belongs to predictor 2, but the schedule has 2"):
        new_names(drawn("deit-256"), blocks=(3, 6))
