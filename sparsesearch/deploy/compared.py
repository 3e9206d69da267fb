"""Models next to each other on one test split: accuracy with its interval, differences by pairs, speed, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import binomtest

from sparsesearch.analysis.pairs import PairedDifference, paired_difference
from sparsesearch.study.hits import Hits
from sparsesearch.text import macs_text

COLUMNS = ("model", "runtime", "test accuracy, %", "difference, points", "McNemar p", "MACs", "ms", "images/s")


@dataclass(frozen=True)
class Contestant:
    """A model with what was measured of it.

    Attributes:
        name: What it was called on the command line.
        runtime: What runs it: torch, pt2, onnx, aoti.
        macs: Multiply-adds of one image; None if its file does not say.
        hits: Which test images it classifies correctly.
        of_classes: Fraction of the test images of each class that it classifies correctly.
        ms: Median milliseconds of a call by batch size.
    """

    name: str
    runtime: str
    macs: int | None
    hits: Hits
    of_classes: tuple[float, ...]
    ms: Mapping[int, float] = field(default_factory=dict)

    @property
    def top1(self) -> float:
        """Accuracy on the test split."""
        return self.hits.num_correct / self.hits.count

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval (Wilson)."""
        found = binomtest(self.hits.num_correct, self.hits.count).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def difference(self, first: Contestant) -> PairedDifference:
        """By how much it is more accurate than another one, image by image."""
        return paired_difference(self.hits, first.hits)

    def mcnemar(self, first: Contestant) -> float:
        """The exact p-value of McNemar's test: how often chance alone makes them differ by as much."""
        better, worse = self.hits.only_here(first.hits), first.hits.only_here(self.hits)
        return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def rows(contestants: Sequence[Contestant]) -> list[tuple[str, ...]]:
    """The table, the first one being what others are compared with."""
    first = contestants[0]
    found: list[tuple[str, ...]] = []
    for each in contestants:
        low, high = each.interval
        difference, p_value = "", ""
        if each is not first:
            paired = each.difference(first)
            difference = f"{100 * paired.value:+.2f} [{100 * paired.low:+.2f}, {100 * paired.high:+.2f}]"
            p_value = f"{each.mcnemar(first):.2g}"
        found.append(
            (
                each.name,
                each.runtime,
                f"{100 * each.top1:.2f} [{100 * low:.2f}, {100 * high:.2f}]",
                difference,
                p_value,
                "" if each.macs is None else macs_text(each.macs),
                ", ".join(f"{ms:.3g}" for ms in each.ms.values()),
                ", ".join(f"{1e3 * batch / ms:.4g}" for batch, ms in each.ms.items()),
            )
        )
    return found


def changes_of_classes(contestants: Sequence[Contestant], names: Sequence[str], *, most: int = 3) -> list[str]:
    """For each model but the first, the classes whose accuracy changes most."""
    first, lines = contestants[0], []
    for each in contestants[1:]:
        changes = [
            (own - other, i) for i, (own, other) in enumerate(zip(each.of_classes, first.of_classes, strict=True))
        ]
        chosen = sorted(changes, key=lambda change: -abs(change[0]))[:most]
        told = ", ".join(f"{names[i] if names else i} {100 * change:+.1f}" for change, i in chosen if change)
        lines.append(f"{each.name}, classes that change most, points: {told or 'none'}")
    return lines


def document(contestants: Sequence[Contestant], names: Sequence[str]) -> dict[str, Any]:
    """The same as plain data."""
    first = contestants[0]
    return {
        "test_images": first.hits.count,
        "classes": list(names),
        "models": [
            {
                "model": each.name,
                "runtime": each.runtime,
                "macs": each.macs,
                "test_top1": each.top1,
                "interval": list(each.interval),
                "difference_to_first": vars(each.difference(first)),
                "mcnemar_p": each.mcnemar(first),
                "top1_of_classes": list(each.of_classes),
                "median_ms": {str(batch): ms for batch, ms in each.ms.items()},
            }
            for each in contestants
        ],
    }
