"""Published schedules, to draw over the front of a study."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sparsesearch.cost.analytic import AnalyticCost, dense_macs
from sparsesearch.papers.results import DATA, RATES, PaperFamily, Published
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.spec import StudySpec

_OTHER_IMAGES = re.compile(r"sketch|v2|real|imagenet-?[acor]\b|hard", re.IGNORECASE)


@dataclass(frozen=True)
class PaperPoint:
    """One schedule of a paper.

    Attributes:
        rho: Its keep rate.
        schedule: The schedule.
        tokens: The schedule as one line.
        macs: Exact multiply-adds of one image, by our counting rule.
        share: Its multiply-adds as a fraction of those of the dense backbone.
        published: The row of the paper's table; None if no accuracy was published.
    """

    rho: float
    schedule: Schedule
    tokens: str
    macs: int
    share: float
    published: Published | None


@dataclass(frozen=True)
class PaperOverlay:
    """The schedules of one paper family, to compare with a study.

    Attributes:
        family: The family.
        points: Its schedules, cheapest first.
        same_backbone: Whether the dense cost equals that of the study, so that both fit one axis in multiply-adds.
        caveat: Why the accuracies are not comparable with those of the study; empty if they are.
    """

    family: PaperFamily
    points: tuple[PaperPoint, ...]
    same_backbone: bool
    caveat: str

    def document(self) -> dict[str, object]:
        """The object that `front --json` prints."""
        return {
            "name": self.family.name,
            "title": self.family.title,
            "source": self.family.source,
            "data": DATA,
            "comparable": not self.caveat,
            "caveat": self.caveat or None,
            "points": [
                {
                    "rho": point.rho,
                    "macs": point.macs,
                    "share_of_dense": point.share,
                    "published_top1": None if point.published is None else point.published.top1,
                    "published_gflops": None if point.published is None else point.published.gflops,
                    "tokens": point.tokens,
                    "schedule": point.schedule.model_dump(mode="json"),
                }
                for point in self.points
            ],
        }


def paper_overlay(family: PaperFamily, geometry: BackboneGeometry, spec: StudySpec) -> PaperOverlay:
    """The schedules of a paper with their closed-form cost, and whether their accuracies are comparable.

    Args:
        family: The family.
        geometry: Its backbone.
        spec: The study to compare with.
    """
    dense = dense_macs(geometry)
    points = []
    for rho in RATES:
        schedule = paper_schedule(geometry, rho)
        macs = AnalyticCost().estimate(geometry, schedule).macs
        points.append(PaperPoint(rho, schedule, schedule.describe(geometry), macs, macs / dense, family.rows.get(rho)))
    resolved = spec.resolved
    same_backbone = resolved is not None and dense_macs(resolved.geometry) == dense
    return PaperOverlay(family, tuple(points), same_backbone, _caveat(spec))


def _caveat(spec: StudySpec) -> str:
    """Why accuracies on ImageNet-1k are not comparable with those of a study; empty if they are."""
    source = spec.data.source
    classes = None if spec.resolved is None else spec.resolved.num_classes
    is_imagenet = re.search(r"imagenet|ilsvrc", source, re.IGNORECASE) and not _OTHER_IMAGES.search(source)
    if classes == 1000 and is_imagenet:
        return ""
    what = "the bundled digits demo" if spec.data.is_demo else f"{source} with {classes} classes"
    return f"published on {DATA}, but this study uses {what}; the accuracies are not comparable"
