import json

import pytest
import yaml
from typer.testing import CliRunner

from sparsesearch.backbones.registry import backbone_geometry
from sparsesearch.cli.app import app
from sparsesearch.space.definition import SearchSpace, load_space


@pytest.fixture
def run():
    def invoke(*arguments):
        done = CliRunner().invoke(app, ["spaces", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


def test_all_are_listed_with_what_they_say_of_themselves(run):
    assert "deit_pico         The bundled pico ViT, 8 blocks" in run()
    assert {entry["name"] for entry in json.loads(run("--json"))} >= {"isotropic", "convnext", "swin", "lvvit"}


def test_a_space_is_shown_as_it_was_written(run):
    assert run("deit_pico_full") == run("show", "deit_pico_full")
    assert SearchSpace.model_validate(yaml.safe_load(run("deit_pico_full"))) == load_space("deit_pico_full")


def test_on_a_backbone_it_is_shown_in_full_with_its_budgets(run):
    first, _, rest = run("--backbone", "convnext_pico").partition("\n")
    assert first.startswith("convnext_pico: budgets from 5.89 MMACs")
    assert first.endswith("100.0% of dense")
    assert yaml.safe_load(rest)["stages"][0]["blocks"] == [0, 1, 2, 3]
    document = json.loads(run("show", "--backbone", "convnext_pico", "--json"))
    assert document["name"] == "convnext_pico"
    shown, geometry = SearchSpace.model_validate(document["space"]), backbone_geometry("convnext_pico")
    assert shown.resolve(geometry) == load_space("convnext_pico").resolve(geometry)
    [[low, high]] = document["reachable_macs"]
    assert low < high <= document["dense_macs"]
    assert "position_0" in document["parameters"]


def test_what_a_backbone_cannot_do_is_told(run, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("reducers: [{kind: prune}, {kind: fast_slow}]")
    lines = run("validate", str(path), "--backbone", "deit_pico").splitlines()
    assert lines[0].startswith("dropped: fast_slow/dynamicvit: ")
    assert lines[1].endswith("is valid on deit_pico")
    document = json.loads(run("validate", str(path), "--backbone", "deit_pico", "--json"))
    assert (document["problems"], len(document["notes"])) == ([], 1)


def test_every_problem_has_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("max_predictors: many\nkeep: 0.5\nmethods_per: block")
    done = CliRunner().invoke(app, ["spaces", "validate", str(path)])
    assert done.exit_code == 2
    assert [line.split(": ")[1].split(".")[0] for line in done.output.splitlines()] == [
        "max_predictors",
        "methods_per",
        "keep",
    ]


def test_a_space_is_counted_with_and_without_a_budget(run):
    shown = run("size", "--backbone", "deit_pico", "--budget", "35%")
    assert "placements  63\nshapes      63\n" in shown
    assert "cost 97 to 100% of 35% of dense" in shown
    document = json.loads(run("size", "deit_pico_full", "--backbone", "deit_pico", "--budget", "35%", "--json"))
    assert document["shapes"] > 1000
    assert 0 < document["within_budget"] < document["schedules"]
