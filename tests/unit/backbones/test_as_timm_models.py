"""What users of timm do with a model works on a sparse one, or is refused in one line."""

import copy
import io
import pickle

import pytest
import timm
import torch
from timm.layers import set_fused_attn
from timm.utils import ModelEmaV3
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.backbones.sparsity import original_class
from sparsesearch.backbones.transforms import restore_, sparsify_
from sparsesearch.errors import BackboneError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.methods import ClassAttentionScorer, Merge, SpotScorer

IMAGES = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4)
FAMILIES = ["deit_pico", "lvvit_pico", "convnext_pico", "swin_pico"]


def make(name, **options):
    model = create_model(name, seed=1, **options)
    sparsify_(model, paper_schedule(geometry(model, name), 0.5))
    return model.eval()


def step(model, optimizer):
    model.train()
    optimizer.zero_grad()
    cross_entropy(model(IMAGES), LABELS).backward()
    optimizer.step()
    return model.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_averages_of_weights(name):
    model = make(name)
    averages = [ModelEmaV3(model, decay=0.5), AveragedModel(model)]
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        step(model, optimizer)
        averages[0].update(model)
        averages[1].update_parameters(model)
    key = next(
        key for key in before if ("predictors" in key and key.endswith("fc.weight")) or "in_conv.1.weight" in key
    )
    after = model.state_dict()[key]
    assert not torch.equal(after, before[key])
    for average in averages:
        assert set(average.module.state_dict()) == set(before)
        assert type(average.module) is type(model)
        with torch.no_grad():
            assert average.module.eval()(IMAGES).shape == (4, 10)
    ema = averages[0].module.state_dict()[key]
    assert not torch.equal(ema, after)
    assert (ema - after).norm() < (before[key] - after).norm()
    assert averages[0].module.sparsity.state.plan == model.sparsity.state.plan


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_copies_and_files(name, tmp_path):
    model = make(name)
    expected = model(IMAGES)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert torch.equal(copied(IMAGES), expected)
        assert original_class(copied) is original_class(model)
        restore_(copied)
        assert type(copied) is original_class(model)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    other = make(name)
    for parameter in other.parameters():
        parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    assert torch.equal(other(IMAGES), expected)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_heads(name):
    model = make(name)
    dense = create_model(name, seed=1).eval()
    for number in (0, 7):
        for each in (model, dense):
            each.reset_classifier(number)
        assert model(IMAGES).shape == dense(IMAGES).shape
        assert model(IMAGES).shape[1] == (number or dense.num_features)
        assert torch.equal(model.forward_head(model.forward_features(IMAGES), pre_logits=True), pre_logits(model))
    assert make(name, num_classes=0)(IMAGES).shape == (4, dense.num_features)


def pre_logits(model):
    head = copy.deepcopy(model)
    head.reset_classifier(0)
    return head(IMAGES)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_an_empty_batch_is_what_it_is_to_the_dense_model(name):
    model, dense = make(name), create_model(name).eval()
    try:
        expected = dense(IMAGES[:0]).shape
    except RuntimeError:
        with pytest.raises(RuntimeError, match="0 elements"):
            model(IMAGES[:0])
        return
    assert model(IMAGES[:0]).shape == expected == (0, 10)


def test_an_empty_batch_in_training():
    model = make("convnext_pico").train()
    model(IMAGES[:0]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_symbolic_traces_are_refused_in_one_line(name):
    model = make(name)
    with pytest.raises(BackboneError, match=r"torch\.jit\.script does not support sparse models; use torch") as one:
        torch.jit.script(model)
    with pytest.raises(BackboneError, match=r"torch\.fx does not support sparse models; use torch") as other:
        torch.fx.symbolic_trace(model)
    assert "\n" not in f"{one.value}{other.value}"
    restore_(model)
    assert isinstance(torch.fx.symbolic_trace(model), torch.fx.GraphModule)


class Scored(Dataset):
    """Images with the logits of a model that travels to the worker."""

    def __init__(self, model):
        self.model = model

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        torch.set_num_threads(1)
        with torch.no_grad():
            return self.model(IMAGES[index : index + 1])[0]


@torch.no_grad()
def test_spawned_workers_carry_a_model():
    model = make("deit_pico")
    loader = DataLoader(Scored(model), batch_size=4, num_workers=1, multiprocessing_context="spawn")
    torch.testing.assert_close(next(iter(loader)), model(IMAGES), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule.at([2, 5], [0.5, 0.25], scorer=ClassAttentionScorer()),
        Schedule.at([2, 5], [0.6, 0.4], reducer=Merge(), scorer=None),
        Schedule.at([2, 5], [0.5, 0.25], scorer=SpotScorer()),
    ],
    ids=["class attention", "merge", "spot"],
)
@pytest.mark.parametrize("make_dense", ["deit_pico", "rotary"])
@torch.no_grad()
def test_unfused_attention(schedule, make_dense, monkeypatch):
    """Logits agree, fused operators are not called, and a counter of multiply-adds without them sees all of them."""
    models = {}
    for fused in (True, False):
        set_fused_attn(fused)
        try:
            torch.manual_seed(0)
            models[fused] = (
                create_model("deit_pico")
                if make_dense == "deit_pico"
                else timm.create_model(
                    "eva02_tiny_patch14_224", img_size=84, depth=8, embed_dim=48, num_heads=3, in_chans=1
                )
            ).eval()
        finally:
            set_fused_attn(True)
        sparsify_(models[fused], schedule)
    size = models[True].patch_embed.img_size
    images = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(1))
    expected = models[True](images)

    def refuse(*_args, **_kwargs):
        raise AssertionError("fused attention was called")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refuse)
    torch.testing.assert_close(models[False](images), expected, rtol=0, atol=1e-5)
    with FlopCounterMode(display=False) as counter:
        models[False](images)
    assert "bmm" in str(counter.get_flop_counts()["Global"])
