"""One model of each of timm's modules: it becomes sparse, or one line says why not and what does."""

from functools import cache

import pytest
import timm
import torch
from timm.models import is_model, list_modules, model_entrypoint

from sparsesearch.backbones.transforms import attach_, restore_
from sparsesearch.errors import BackboneError

pytestmark = pytest.mark.slow


@cache
def by_module() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in timm.list_models():
        found.setdefault(model_entrypoint(name).__module__, []).append(name)
    return found


@pytest.mark.parametrize("module", sorted(module for module in list_modules() if timm.list_models(module=module)))
def test_one_of_each(module):
    name = by_module()[f"timm.models.{module}"][0]
    assert is_model(name)
    with torch.device("meta"):
        model = timm.create_model(name)
    classes = [type(part) for part in model.modules()]
    try:
        attach_(model, [])
    except BackboneError as error:
        text = str(error)
        assert "\n" not in text
        assert type(model).__name__ in text or "build" in text
        assert "supported are" in text or "build" in text
    else:
        restore_(model)
    assert [type(part) for part in model.modules()] == classes
