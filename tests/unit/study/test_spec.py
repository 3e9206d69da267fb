"""Documents of older versions are read as what they meant."""

import pytest
from pydantic import ValidationError

from sparsesearch.app.complete import complete
from sparsesearch.errors import SpecError
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import FidelitySpec, with_strategy


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
def test_elastic_is_an_older_word_for_the_strategy(written, strategy):
    fidelity = FidelitySpec.model_validate({"evaluations": 7, **written})
    assert fidelity.strategy == strategy
    assert fidelity.elastic is (strategy == "supernet")
    assert FidelitySpec.model_validate_json(fidelity.model_dump_json()) == fidelity
    assert "elastic" not in fidelity.model_dump()


def test_a_contradiction_is_refused():
    with pytest.raises(ValidationError, match="elastic: true is strategy supernet, not finetune"):
        FidelitySpec.model_validate({"elastic": True, "strategy": "finetune"})
    document = {"backbone": "deit_pico", "budget": "40%", "fidelity": {"elastic": True, "strategy": "training-free"}}
    with pytest.raises(SpecError, match="fidelity: elastic: true is strategy supernet, not training-free"):
        complete({"name": "x", **document}, progress=Silent())


def test_a_document_with_elastic_is_completed_by_the_default_recipe():
    document = {"name": "x", "backbone": "deit_pico", "budget": "40%", "fidelity": {"elastic": False}}
    assert complete(document, progress=Silent()).fidelity.strategy == "finetune"


def test_what_is_no_switch_is_left_to_be_refused():
    assert with_strategy({"elastic": "maybe"}) == {"elastic": "maybe"}
    with pytest.raises(ValidationError, match="elastic"):
        FidelitySpec.model_validate({"elastic": "maybe"})
