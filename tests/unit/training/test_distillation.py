"""The losses of this package in a loop of one's own."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

import sparsesearch
from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.backbones.saliency import read_teacher
from sparsesearch.data.task import Batch
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.methods import Fuse
from sparsesearch.sparsify.draws import Draws
from sparsesearch.sparsify.losses import ratio_loss
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.masked import MaskedObjective
from sparsesearch.training.objectives import SparseObjective
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import TrainingStep

ROOT = Path(__file__).resolve().parents[3]
IMAGES = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 4])
BATCH = Batch(images=IMAGES, labels=LABELS, ids=None, boxes=None)
FAMILIES = ["deit_pico", "lvvit_pico", "convnext_pico", "swin_pico"]


def pair(name):
    model, teacher = create_model(name, seed=1), create_model(name, seed=2).eval()
    sparsesearch.sparsify_(model, paper_schedule(geometry(model, name), 0.5))
    return model.train(), teacher


def generator():
    return torch.Generator().manual_seed(3)


def still(model):
    """Batch norm in evaluation mode, so that two passes are equal."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


@pytest.mark.parametrize("method", ["gathered", "masked"])
@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_the_loss_of_retrain(name, method):
    model, teacher = pair(name)
    arithmetic = Arithmetic(torch.device("cpu"), torch.float32)
    kind = SparseObjective if method == "gathered" else MaskedObjective
    own = Teacher(copy.deepcopy(teacher), None, arithmetic=arithmetic, use_pool=False)
    objective = kind(still(model), own, arithmetic=arithmetic)
    expected = objective(BATCH, TrainingStep(0, Draws(0)))
    loss = sparsesearch.distillation_loss(model, teacher, IMAGES, LABELS, method=method, generator=Draws(0))
    assert torch.equal(loss, expected)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.sparsity.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert type(teacher) is type(create_model(name))


@pytest.mark.parametrize("name", ["deit_pico", "swin_pico"])
def test_the_keep_ratio_loss(name):
    model, _ = pair(name)
    call = sparsesearch.new_call(model, mode="masked")
    logits = model(IMAGES, call=call)
    loss = cross_entropy(logits, LABELS) + 2 * sparsesearch.keep_ratio_loss(model, call)
    ratios = [step.keep_ratio for step in model.sparsity.schedule.steps]
    by_hand = ratio_loss([step.decision_BN for step in call.trace.steps], ratios) / 3
    torch.testing.assert_close(sparsesearch.keep_ratio_loss(model, call), by_hand)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.sparsity.predictors.parameters())


def test_soft_labels():
    model, teacher = pair("deit_pico")
    hard = sparsesearch.distillation_loss(still(model), teacher, IMAGES, LABELS, generator=generator())
    soft = sparsesearch.distillation_loss(model, teacher, IMAGES, one_hot(LABELS, 10).float(), generator=generator())
    torch.testing.assert_close(soft, hard)


def test_three_lines_teach_the_scorers_what_the_teacher_looks_at():
    model, teacher = pair("deit_pico")
    optimizer = torch.optim.AdamW(model.sparsity.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = sparsesearch.distillation_loss(model, teacher, IMAGES, LABELS, generator=generator())
        loss.backward()
        optimizer.step()
        losses.append(saliency_error(model, teacher))
    assert losses[-1] < 0.8 * losses[0]


def saliency_error(model, teacher):
    saliency = read_teacher(teacher, IMAGES).saliency[0]
    call = sparsesearch.new_call(model)
    with torch.no_grad():
        model(IMAGES, call=call)
    return float((call.trace.steps[0].score_BN.softmax(1) - saliency).abs().sum(1).mean())


def test_what_cannot_be_done_is_said_in_one_line():
    model, teacher = pair("deit_pico")
    with pytest.raises(BackboneError, match=r"the teacher is in training mode.*; call teacher.eval\(\)"):
        sparsesearch.distillation_loss(model, create_model("deit_pico"), IMAGES, LABELS)
    with pytest.raises(BackboneError, match="VisionTransformer is not sparse; call sparsify_"):
        sparsesearch.distillation_loss(teacher, teacher, IMAGES, LABELS)
    with pytest.raises(BackboneError, match="the teacher drops tokens"):
        sparsesearch.distillation_loss(model, pair("deit_pico")[0].eval(), IMAGES, LABELS)
    call = sparsesearch.new_call(model)
    model(IMAGES, call=call)
    with pytest.raises(BackboneError, match="no keep decisions; run it in training mode with new_call"):
        sparsesearch.keep_ratio_loss(model, call)
    sparsesearch.sparsify_(model, Schedule.at([2], [0.5], reducer=Fuse()))
    with pytest.raises(ScheduleError, match="masked training does not support fuse"):
        sparsesearch.distillation_loss(model, teacher, IMAGES, LABELS, method="masked")


def test_the_documented_lines_run():
    """The code of docs/sparse-models.md, with a smaller teacher."""
    text = (ROOT / "docs" / "sparse-models.md").read_text(encoding="utf-8")
    section = text.split("## In your own training loop")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 3
    model, teacher = pair("deit_pico")
    names = {
        "model": model,
        "loader": [(IMAGES, LABELS)],
        "images": IMAGES,
        "labels": LABELS,
        "criterion": torch.nn.CrossEntropyLoss(),
        "optimizer": torch.optim.AdamW(model.parameters()),
        "sparsesearch": sparsesearch,
        "teacher": teacher,
    }
    for block in blocks:
        lines = [line for line in block.splitlines() if not line.startswith("teacher = timm.create_model(")]
        model.zero_grad()
        exec("\n".join(lines), names)
        assert torch.isfinite(names["loss"])
        assert names["loss"].requires_grad
