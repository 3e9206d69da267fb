"""Published schedules: cited numbers, exact costs, and what they may be compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_study import DEIT_SMALL, sample_spec

from sparsesearch.backbones.paper_backbones import family_geometry
from sparsesearch.errors import SpecError
from sparsesearch.papers.overlay import paper_overlay
from sparsesearch.papers.results import FAMILIES, RATES, paper_family
from sparsesearch.study.spec import StudySpec

MEASURED = json.loads((Path(__file__).parents[2] / "parity" / "gflops.json").read_text(encoding="utf-8"))


def spec(source: str, num_classes: int) -> StudySpec:
    made = sample_spec(source=source)
    assert made.resolved is not None
    return made.model_copy(update={"resolved": made.resolved.model_copy(update={"num_classes": num_classes})})


def test_the_table_is_the_published_one() -> None:
    rows = {(row["model"].replace("-", "_"), row["rho"]): row for row in MEASURED["published"]}
    ours = {(family.name, rho): known for family in FAMILIES.values() for rho, known in family.rows.items()}
    assert set(ours) == set(rows)
    for key, known in ours.items():
        assert known.top1 == pytest.approx(rows[key]["acc1"] / 100)
        assert known.gflops == rows[key]["published_gflops"]


@pytest.mark.parametrize("name", FAMILIES)
def test_costs_are_those_of_the_published_code(name: str) -> None:
    """Its counter adds 5 for each element of a layer norm, which ours leaves out: less than one percent."""
    family = FAMILIES[name]
    overlay = paper_overlay(family, family_geometry(family), sample_spec())
    assert [point.rho for point in overlay.points] == list(RATES)
    for point in overlay.points:
        theirs = MEASURED["models"][name.replace("_", "-")]["sparse"][str(point.rho)]["gflops"]
        assert point.macs / 1e9 == pytest.approx(theirs, rel=0.01)
        assert 0 < point.share < 1


def test_deit_s_over_a_study_of_deit_s() -> None:
    overlay = paper_overlay(paper_family("DeiT-S"), DEIT_SMALL, sample_spec())
    assert overlay.same_backbone
    assert [point.published is not None for point in overlay.points] == [False, False, True, False, False]
    assert overlay.points[2].tokens == "3:137 6:96 9:67"
    assert overlay.caveat == (
        "published on ImageNet-1k, but this study uses the bundled digits demo; the accuracies are not comparable"
    )
    document = overlay.document()
    assert document["comparable"] is False
    assert json.dumps(document)


def test_of_another_backbone() -> None:
    family = paper_family("deit_b")
    assert not paper_overlay(family, family_geometry(family), sample_spec()).same_backbone


@pytest.mark.parametrize(
    ("source", "classes", "comparable"),
    [
        ("folder:/data/imagenet", 1000, True),
        ("hfds/ILSVRC/imagenet-1k", 1000, True),
        ("folder:/data/imagenet", 100, False),
        ("folder:/data/imagenet-sketch", 1000, False),
        ("hfds/timm/imagenet-a", 1000, False),
        ("folder:/data/birds", 1000, False),
    ],
)
def test_what_accuracies_may_be_compared_with(source: str, classes: int, comparable: bool) -> None:
    overlay = paper_overlay(paper_family("deit_s"), DEIT_SMALL, spec(source, classes))
    assert (overlay.caveat == "") == comparable


def test_an_unknown_name_lists_what_is_there() -> None:
    with pytest.raises(
        SpecError, match=r"no published schedules for 'resnet50'; choose one of deit_256, deit_s, .*swin_b"
    ):
        paper_family("resnet50")
