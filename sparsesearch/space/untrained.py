"""Spaces without learned parameters, so that schedules can be ranked with the weights of the dense model."""

from __future__ import annotations

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import ClassAttentionScorer, FastSlow, NormScorer, Scorer, is_learned
from sparsesearch.space.fitting import supported
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Method


def without_training(space: ResolvedSpace, geometry: BackboneGeometry) -> ResolvedSpace:
    """The space without anything that requires training.

    Learned scorers are left out; if no other is left, they are replaced by the attention of the class token (EViT,
    arXiv:2202.07800, section 3.2), or by the norm of tokens on backbones without one. Fast paths become the identity.

    Args:
        space: Any space.
        geometry: The backbone.

    Raises:
        SpaceError: The backbone supports none of the remaining methods.
    """
    has_class_token = all(stage.has_class_token and stage.mixer == "attention" for stage in geometry.stages)
    default: Scorer = ClassAttentionScorer() if has_class_token else NormScorer()
    free = [method for method in space.methods if not is_learned(method.scorer)]
    methods = [_free(method, method.scorer) for method in free]
    if not any(method.scorer is not None for method in methods):
        methods = [_free(method, default if is_learned(method.scorer) else method.scorer) for method in space.methods]
    return supported(space.model_copy(update={"methods": tuple(dict.fromkeys(methods))}), geometry)


def _free(method: Method, scorer: Scorer | None) -> Method:
    reducer = FastSlow(fast_path="identity") if isinstance(method.reducer, FastSlow) else method.reducer
    return Method(reducer=reducer, scorer=scorer, phase=method.phase)
