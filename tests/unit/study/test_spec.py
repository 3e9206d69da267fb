"""Documents of older versions are read as what they meant."""

import pytest
from pydantic import ValidationError

from sparsesearch.app.complete import complete
from sparsesearch.errors import SpecError
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import FidelitySpec
from sparsesearch.study.spec.renamed import renamed


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
