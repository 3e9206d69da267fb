"""What a search without training searches by default, on every kind of backbone."""

from __future__ import annotations

import pytest

from sparsesearch.app.study_space import space_for
from sparsesearch.app.validate import validate
from sparsesearch.backbones.lookup import backbone_geometry, resolve_name
from sparsesearch.schedule.methods import is_learned


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("deit_pico", 8),
        ("deit_s", 12),
        ("lvvit_s", 16),
        ("vit_small_patch16_dinov3", 12),
        ("convnext_pico", 4),
        ("swin_pico", 4),
        ("convnext_tiny", 6),
        ("swin_tiny_patch4_window7_224", 6),
    ],
)
def test_every_method_without_weights_is_searched(name: str, most: int) -> None:
    spec = validate({"backbone": name, "budget": "80%", "fidelity": {"strategy": "training-free"}})
    assert spec.fidelity.finalists == 0
    geometry = backbone_geometry(resolve_name(name))
    space = space_for(spec, geometry)
    assert space.max_predictors == most
    assert not any(is_learned(method.scorer) for method in space.methods)
    is_plain = geometry.stages[0].mixer == "attention"
    assert {method.reducer.kind for method in space.methods} == (
        {"prune", "fuse", "merge"} if is_plain else {"fast_slow"}
    )


def test_finalists_that_are_asked_for_are_kept() -> None:
    fidelity = {"strategy": "training-free", "finalists": 2}
    assert validate({"backbone": "deit_pico", "budget": "60%", "fidelity": fidelity}).fidelity.finalists == 2
