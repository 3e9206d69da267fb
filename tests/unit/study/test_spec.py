"""Documents of older versions are read as what they meant."""

import pytest
import torch
from pydantic import ValidationError

from sparsesearch.app.complete import complete
from sparsesearch.errors import SpecError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import MAX_SEED, Budget, FidelitySpec, Resolved, StudySpec
from sparsesearch.study.spec.renamed import notes_on_renamed, renamed


@pytest.mark.parametrize(
    ("written", "strategy"),
    [
        ({}, "supernet"),
        ({"elastic": True}, "supernet"),
        ({"elastic": False}, "finetune"),
        ({"elastic": False, "strategy": "finetune"}, "finetune"),
        ({"strategy": "training-free"}, "training-free"),
    ],
)
def test_supernet_is_an_older_word_for_the_strategy(written, strategy):
    fidelity = FidelitySpec.model_validate({"evaluations": 7, **written})
    assert fidelity.strategy == strategy
    assert fidelity.trains_supernet is (strategy == "supernet")
    assert FidelitySpec.model_validate_json(fidelity.model_dump_json()) == fidelity
    assert "elastic" not in fidelity.model_dump()


def test_a_contradiction_is_refused():
    with pytest.raises(ValidationError, match="elastic: true contradicts strategy: finetune"):
        FidelitySpec.model_validate({"elastic": True, "strategy": "finetune"})
    document = {"backbone": "deit_pico", "budget": "40%", "fidelity": {"elastic": True, "strategy": "training-free"}}
    with pytest.raises(SpecError, match="fidelity: elastic: true contradicts strategy: training-free"):
        complete({"name": "x", **document}, progress=Silent())


def test_a_document_with_supernet_is_completed_by_the_default_recipe():
    document = {"name": "x", "backbone": "deit_pico", "budget": "40%", "fidelity": {"elastic": False}}
    assert complete(document, progress=Silent()).fidelity.strategy == "finetune"


def test_what_is_no_switch_is_left_to_be_refused():
    assert renamed("fidelity", {"elastic": "maybe"}) == {"elastic": "maybe"}
    with pytest.raises(ValidationError, match="elastic"):
        FidelitySpec.model_validate({"elastic": "maybe"})


def test_older_names_are_read_and_told(capsys):
    class Told(Silent):
        def __init__(self):
            self.lines = []

        def line(self, text):
            self.lines.append(text)

    told = Told()
    document = {
        "name": "x",
        "backbone": "deit_pico",
        "budget": {"unit": "share", "high": 0.4},
        "data": {"source": "digits", "val_share": 0.2},
        "fidelity": {"elastic": True, "elastic_training": {"epochs": 3}},
    }
    made = complete(document, progress=told)
    assert made.budget == Budget(unit="fraction", high=0.4)
    assert made.data.val_fraction == 0.2
    assert (made.fidelity.strategy, made.fidelity.supernet_training.epochs) == ("supernet", 3)
    assert told.lines[-4:] == [
        "fidelity.elastic_training is now called fidelity.supernet_training",
        "data.val_share is now called data.val_fraction",
        "budget.unit: share is now called fraction",
        "fidelity.elastic: true is now written fidelity.strategy: supernet",
    ]
    again = StudySpec.model_validate_json(made.model_dump_json())
    assert again == made
    assert list(notes_on_renamed(made.model_dump())) == []


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("fidelity", {"elastic_training": {"epochs": 1}, "supernet_training": {"epochs": 2}}),
        ("data", {"val_share": 0.1, "val_fraction": 0.2}),
    ],
)
def test_an_old_name_next_to_the_new_one_is_refused(section, value):
    with pytest.raises(ValueError, match="is now called"):
        renamed(section, value)


def test_planned_work_of_older_studies_is_read():
    stage = StageGeometry(depth=1, dim=8, attn_dim=8, num_heads=1, mlp_dim=16, grid=(2, 2))
    geometry = BackboneGeometry(name="x", image_size=(8, 8), stages=(stage,), stem_macs=1, head_macs=1, params=1)
    work = {"dense": 0.5, "elastic": 0.25, "finetune": 0.25}
    space = SearchSpace(blocks=(0,)).resolve(geometry)
    found = Resolved(geometry=geometry, space=space, num_classes=2, in_chans=1, data_fingerprint="f", planned_work=work)
    assert found.planned_work == {"dense": 0.5, "supernet_training": 0.25, "finetune": 0.25}
    assert found.proposal_batch == 1, "it is not in their documents"


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_seeds_that_are_out_of_range(seed):
    with pytest.raises(SpecError, match="invalid study document: seed: Input should be ") as caught:
        complete({"name": "x", "backbone": "deit_pico", "budget": "40%", "seed": seed}, progress=Silent())
    assert "\n" not in str(caught.value)


def test_the_largest_seed():
    document = {"name": "x", "backbone": "deit_pico", "budget": "40%", "seed": MAX_SEED}
    assert complete(document, progress=Silent()).seed == MAX_SEED
    assert torch.Generator().manual_seed(MAX_SEED).initial_seed() == MAX_SEED


def test_a_name_that_two_backbones_have_is_explained():
    class Told(Silent):
        def __init__(self):
            self.lines = []

        def line(self, text):
            self.lines.append(text)

    told = Told()
    complete({"name": "x", "backbone": "convnext_pico", "budget": "60%"}, progress=told)
    assert told.lines == ["convnext_pico is the bundled backbone of this name; timm's own is timm/convnext_pico"]
