"""Published schedules, to be laid over a study's front."""

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
        rho: Its rate.
        schedule: Its schedule.
        tokens: The schedule in one line.
        macs: Exact multiply-adds of one image, by our count.
        share: The same as a share of the backbone's dense model.
        published: What the paper's table says of it, None if no accuracy was published.
    """

    rho: float
    schedule: Schedule
    tokens: str
    macs: int
    share: float
    published: Published | None


@dataclass(frozen=True)
class PaperOverlay:
    """The schedules of one family beside a study.

    Attributes:
        family: The family.
        points: Its schedules, the cheapest first.
        same_backbone: Whether the study's backbone has the family's cost, so that both share an axis in multiply-adds.
        caveat: Why the accuracies cannot be compared with the study's; empty if they can.
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
    """The schedules of a paper, priced by our formula, and whether their accuracies compare with a study's.

    Args:
        family: The family.
        geometry: Its backbone.
        spec: The study that they are laid over.
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
    """Why accuracies on ImageNet-1k cannot be compared with a study's."""
    source = spec.data.source
    classes = None if spec.resolved is None else spec.resolved.num_classes
    is_imagenet = re.search(r"imagenet|ilsvrc", source, re.IGNORECASE) and not _OTHER_IMAGES.search(source)
    if classes == 1000 and is_imagenet:
        return ""
    what = "the bundled digits demo" if spec.data.is_demo else f"{source} with {classes} classes"
    return f"published on {DATA}, this study is on {what}: the accuracies cannot be compared"
