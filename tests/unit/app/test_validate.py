"""Validation of a document by itself: the errors of `run`, without data, torch or network."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sparsesearch.app.complete import complete
from sparsesearch.app.resolve import resolve
from sparsesearch.app.validate import filled_in, validate
from sparsesearch.errors import BackboneError, BudgetError, DataError, SpaceError, SpecError, UserInputError
from sparsesearch.papers.recipes import PAPER_RECIPES
from sparsesearch.space.definition import bundled_spaces
from sparsesearch.study.progress import Silent

DEIT = {"name": "x", "backbone": "deit_s", "budget": "65%"}
PICO = {"name": "x", "backbone": "deit_pico", "budget": "40%"}
BACKBONES = {"convnext": "convnext_t", "deit": "deit_s", "isotropic": "deit_s", "lvvit": "lvvit_s", "swin": "swin_t"}


def backbone_of(space: str) -> str:
    family, *rest = space.split("_")
    return f"{family}_pico" if "pico" in rest else BACKBONES[family]


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ({"name": "x", "budget": "65%"}, SpecError, "no backbone given; use --backbone deit_s"),
        ({"name": "x", "backbone": "deit_s"}, SpecError, "no budget given; use --budget-gflops 3.0"),
        ({**DEIT, "backbone": "deit_smal"}, BackboneError, "unknown backbone 'deit_smal'; did you mean"),
        ({**DEIT, "backbone": "resnet50"}, BackboneError, "belongs to a family that cannot be sparsified"),
        ({**DEIT, "backbone": "convnextv2_tiny"}, BackboneError, "normalises over all positions"),
        ({**DEIT, "budget": "65 percent%"}, SpecError, "invalid budget '65 percent%'"),
        ({**DEIT, "budget": {"unit": "ms", "high": -1}}, SpecError, "budget.high: .*greater than 0"),
        ({**DEIT, "sedd": 1}, SpecError, "sedd: unknown key; did you mean seed?"),
        ({**DEIT, "space": "deit_smal"}, SpaceError, "no search space 'deit_smal'"),
        ({**DEIT, "space": {"blocks": [30]}}, SpaceError, "deit_small_patch16_224"),
        ({**DEIT, "data": "floppy:A"}, DataError, "invalid data source 'floppy:A'"),
        (
            {**PICO, "data": {"source": "digits:hard", "class_order": "alphabetical"}},
            DataError,
            "digits:hard numbers its classes itself, and class_order .* is for class folders; leave it out",
        ),
        (
            {**DEIT, "fidelity": {"retrain": {"preset": "deit_l"}}},
            SpecError,
            "unknown preset 'deit_l' of retrain; choose from short, demo, deit_s",
        ),
        (
            {**DEIT, "fidelity": {"retrain": {"augmentation": {"mixup": 0.8}, "batch_size": 3}}},
            SpecError,
            "mixup and cutmix need an even batch_size, got 3",
        ),
        ({**PICO, "seed": 10**30}, SpecError, "seed: Input should be less than or equal to 9223372036854775807"),
        ({**PICO, "seed": -1}, SpecError, "seed: Input should be greater than or equal to 0"),
        ({**DEIT, "budget": "2%"}, BudgetError, "the feasible range of deit_small_patch16_224 is"),
        ({**DEIT, "budget": {"unit": "gflops", "high": 9.0}}, BudgetError, "needs no search"),
        ({**DEIT, "budget": "2%", "data": "folder:/nowhere"}, BudgetError, "the feasible range of"),
        ({**PICO, "fidelity": {"strategy": "training-free"}, "budget": "2%"}, BudgetError, "the feasible range of"),
    ],
)
def test_what_is_refused(document, error, words):
    with pytest.raises(error, match=words) as ours:
        validate(document)
    assert "\n" not in str(ours.value)
    if "folder" in str(document.get("data")):
        return
    with pytest.raises(UserInputError) as of_run:
        resolve(complete(document, progress=Silent()), progress=Silent())
    assert str(of_run.value) == str(ours.value)


@pytest.mark.parametrize("document", [PICO, {**DEIT, "weights": "scratch"}, {**PICO, "data": {"image_size": 48}}])
def test_it_checks_on_the_geometry_that_run_uses(document):
    assert validate(document) == complete(document, progress=Silent())
    assert resolve(validate(document), progress=Silent()).resolved is not None


def test_what_only_the_machine_can_tell_is_left_to_it():
    assert validate({**DEIT, "budget": {"unit": "ms", "high": 0.001}}).budget.unit == "ms"
    assert validate({**DEIT, "data": "folder:/nowhere"}).data.source == "folder:/nowhere"
    assert validate({**DEIT, "weights": "missing.pth"}).weights.endswith("/missing.pth")


def test_a_budget_that_some_number_of_classes_makes_feasible_is_not_refused():
    with pytest.raises(BudgetError, match="the feasible range"):
        validate({**DEIT, "budget": "1%", "data": "folder:/nowhere"})
    most = validate({**DEIT, "budget": {"unit": "gflops", "high": 4.5987}, "data": "folder:/nowhere"})
    assert most.budget.high == 4.5987


def test_a_template_may_have_a_budget_that_is_not_feasible():
    assert filled_in({**DEIT, "budget": "1%"}).budget.high == 0.01


@pytest.mark.parametrize("space", [None, *bundled_spaces()])
def test_no_tensors_are_loaded(space):
    backbone = "deit_s" if space is None else backbone_of(space)
    document = {"name": "x", "backbone": backbone, "budget": "80%", "space": space}
    code = (
        "import json, sys; from sparsesearch.app.validate import validate; "
        f"validate(json.loads(sys.argv[1])); print([m for m in {('torch', 'timm', 'ray', 'mlflow', 'scipy')} "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(document)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_preset_of_a_document_is_the_base_of_its_training():
    found = validate({**DEIT, "fidelity": {"retrain": {"preset": "deit_b", "epochs": 15}}}).fidelity.retrain
    assert found == PAPER_RECIPES["deit_b"].model_copy(update={"epochs": 15})
    assert validate(DEIT).fidelity.retrain.preset == "auto"


@pytest.mark.parametrize("backbone", ["deit_pico", "deit_s", "swin_pico"])
@pytest.mark.parametrize("weights", ["scratch", "pretrained"])
def test_an_epoch_is_the_whole_training_split_except_on_the_demo(backbone, weights):
    phases = ("dense", "supernet_training", "finetune", "retrain")
    for data in ("folder:/data", {"source": "folder:/data", "val": "half"}, "hfds/someone/something"):
        document = {"name": "x", "backbone": backbone, "weights": weights, "budget": "65%", "data": data}
        fidelity = filled_in(document).fidelity
        assert [getattr(fidelity, phase).images_per_epoch for phase in phases] == [None] * 4
    assert filled_in(PICO).fidelity.finetune.images_per_epoch == 2560
