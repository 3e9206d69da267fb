"""Profiling a real backbone on this machine: what is measured and how the command speaks; no time is asserted."""

import json

import pytest
import torch

from sparsesearch.errors import SpecError
from sparsesearch.latency.confirm import confirm
from sparsesearch.latency.profile.__main__ import main
from sparsesearch.latency.profile.document import read_profile
from sparsesearch.latency.profile.profile_plan import ProfilePlan
from sparsesearch.latency.profile.profiling import profile_backbone
from sparsesearch.latency.target import Target
from sparsesearch.latency.timer import Measured
from sparsesearch.schedule import Schedule

CPU = torch.device("cpu")
QUICK = ("--device", "cpu", "--threads", "1", "--runs", "3", "--seconds", "0.1", "--schedules", "8", "--held-out", "4")


@pytest.mark.parametrize("backbone", ["deit_pico", "convnext_pico", "swin_pico"])
def test_a_profile_of_a_backbone_predicts_all_it_measured(backbone, tmp_path, capsys):
    assert main(("--backbone", backbone, *QUICK, "-o", str(tmp_path / "p.json"))) == 0
    shown = capsys.readouterr()
    assert "error on" in shown.out
    assert "written:" in shown.out
    assert shown.err.endswith("\rmeasured 100 %\n")
    profile = read_profile(tmp_path / "p.json")
    assert profile.conditions.num_threads == 1
    assert profile.num_planned >= len(profile.timings) >= 24
    assert {timing.role for timing in profile.timings} >= {"grid", "chain", "whole", "held_out"}
    assert len(profile.anchors) == max(timing.group for timing in profile.timings) + 1
    assert profile.fit.error.num_schedules >= 1


def test_bad_wishes_are_one_line(capsys):
    assert main(["--backbone", "deit_pic"]) == 2
    assert main(["--device", "cuda:9"]) == 2
    said = capsys.readouterr().err
    assert "did you mean deit_pico" in said
    assert "no device cuda:9" in said
    for wishes in ({"methods": "some"}, {"clock": "sun"}, {"seconds": 0.0}, {"precision": "int8"}):
        with pytest.raises(SpecError):
            ProfilePlan(**wishes)


def test_the_module_overwrites_only_with_force(capsys, tmp_path):
    target = tmp_path / "p.json"
    target.write_text("the only copy")
    assert main(["--backbone", "deit_pico", *QUICK, "-o", str(target)]) == 2
    assert capsys.readouterr().err.startswith(f"sparsesearch: {target} already exists; choose another file")
    assert target.read_text() == "the only copy"
    assert main(["--backbone", "deit_pico", *QUICK, "-o", str(target), "--force"]) == 0
    assert read_profile(target).fit.backbone == "deit_pico"


def test_json_is_the_document(capsys):
    assert main(["--backbone", "deit_pico", *QUICK, "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out)["fit"]["backbone"] == "deit_pico"


def test_time_that_is_left_makes_a_whole_profile():
    told = []
    target = Target(backbone="deit_pico", device=CPU, batch_size=1)
    made = profile_backbone(
        target,
        seconds=None,
        runs=3,
        num_wholes=2,
        num_held_out=2,
        threads=1,
        on_percent=told.append,
    )
    assert len(made.timings) == made.num_planned
    assert sum(told) == 100
    assert len(told) > made.num_planned, "it is told of each schedule, which may take a minute to compile"
    assert any(timing.role == "part" for timing in made.timings)


def test_confirming_measures_in_turn_with_the_dense_model():
    target = Target(backbone="deit_pico", device=CPU, batch_size=1, clock="cpu")
    schedules = {"a": Schedule.at([1], [0.1]), "b": Schedule.at([3], [0.5])}
    found = confirm(target, schedules, reference_ms=2.0, runs=3, threads=1)
    assert list(found) == ["a", "b"]
    assert found["a"].conditions == found["b"].conditions
    assert found["a"].conditions.clock == "cpu"
    assert found["a"].ms == pytest.approx(2.0 * found["a"].ratio)
    assert found["a"].latency.num_runs == found["a"].dense.num_runs == 3


def test_ratios_are_taken_within_rounds():
    found = Measured({}, 1, {"dense": [1.0, 20.0, 3.0], "sparse": [2.0, 30.0, 6.0]})
    assert found.ratio("sparse", to="dense") == 2.0
