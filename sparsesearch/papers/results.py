"""Published accuracies and costs of the papers' schedules, with sources. Nothing here was measured by us."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.errors import SpecError

RATES = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Keep rates rho to draw over a front; accuracies were published for some of them only."""

DATA = "ImageNet-1k"

_MODEL_ZOO = "model zoo table of github.com/raoyongming/DynamicViT (commit 1322e62)"
_DYNAMICVIT = f"DynamicViT, Rao et al. 2021 (arXiv:2106.02034); accuracies: {_MODEL_ZOO}"
_DSS = f"Dynamic Spatial Sparsification, Rao et al. 2022 (arXiv:2207.01580); accuracies: {_MODEL_ZOO}"


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        top1: Top-1 accuracy on ImageNet-1k's 50,000 validation images, as a fraction.
        gflops: Cost as published, in 10^9 multiply-adds with one decimal; some values are truncated, others rounded,
            see docs/benchmarks.md. Our own count is exact.
    """

    top1: float
    gflops: float


@dataclass(frozen=True)
class PaperFamily:
    """A backbone with the results that a paper publishes for it.

    Attributes:
        name: Value of `--with-paper`.
        title: Display name.
        source: The paper, and the table of the accuracies.
        rows: Published results by keep rate.
    """

    name: str
    title: str
    source: str
    rows: dict[float, Published]


FAMILIES: dict[str, PaperFamily] = {
    family.name: family
    for family in (
        PaperFamily("deit_256", "DynamicViT on DeiT-256", _DYNAMICVIT, {0.7: Published(0.7653, 1.3)}),
        PaperFamily("deit_s", "DynamicViT on DeiT-S", _DYNAMICVIT, {0.7: Published(0.7932, 2.9)}),
        PaperFamily("deit_b", "DynamicViT on DeiT-B", _DYNAMICVIT, {0.7: Published(0.8143, 11.4)}),
        PaperFamily(
            "lvvit_s", "DynamicViT on LV-ViT-S", _DYNAMICVIT, {0.5: Published(0.8197, 3.7), 0.7: Published(0.8308, 4.6)}
        ),
        PaperFamily("lvvit_m", "DynamicViT on LV-ViT-M", _DYNAMICVIT, {0.7: Published(0.8382, 8.5)}),
        PaperFamily(
            "convnext_t", "DynamicCNN on ConvNeXt-T", _DSS, {0.7: Published(0.8159, 3.6), 0.9: Published(0.8206, 3.9)}
        ),
        PaperFamily(
            "convnext_s", "DynamicCNN on ConvNeXt-S", _DSS, {0.7: Published(0.8257, 5.8), 0.9: Published(0.8312, 6.8)}
        ),
        PaperFamily(
            "convnext_b", "DynamicCNN on ConvNeXt-B", _DSS, {0.7: Published(0.8345, 10.2), 0.9: Published(0.8396, 11.9)}
        ),
        PaperFamily("swin_t", "DynamicSwin on Swin-T", _DSS, {0.7: Published(0.8091, 4.0)}),
        PaperFamily("swin_s", "DynamicSwin on Swin-S", _DSS, {0.7: Published(0.8321, 6.9)}),
        PaperFamily("swin_b", "DynamicSwin on Swin-B", _DSS, {0.7: Published(0.8343, 12.1)}),
    )
}


def paper_family(name: str) -> PaperFamily:
    """Look up a family by name; `deit-s` is read as `deit_s`.

    Raises:
        SpecError: There is no family of that name.
    """
    family = FAMILIES.get(name.strip().lower().replace("-", "_"))
    if family is None:
        raise SpecError(f"no published schedules for {name!r}; choose one of {', '.join(FAMILIES)}")
    return family
