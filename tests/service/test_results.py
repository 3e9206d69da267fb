"""Fronts, reports and recipes of studies."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path

import pytest
from queued_studies import OddEvaluator, begun, finished
from sample_study import DEIT_SMALL, MadeUpEvaluator, sample_spec
from served import API, Api, line

from sparsesearch.app.export_recipe import export_recipe
from sparsesearch.app.read_front import front_document, view_of_front
from sparsesearch.artifacts.recipe import is_edited, read_recipe
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import SparseSearchError
from sparsesearch.search.controller import StagedController
from sparsesearch.store.audit import Actor
from sparsesearch.study.protocols import Controller
from sparsesearch.study.state import StudyState

SAMPLE = f"{API}/studies/sample"


class TestFront:
    @pytest.mark.parametrize("x", [None, "macs"])
    def test_as_json(self, module_api: Api, x: str | None) -> None:
        answer = module_api.caller("rita").get(f"{SAMPLE}/front", params={} if x is None else {"x": x})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        printed = json.loads(json.dumps(front_document(view_of_front(module_api.store, "sample"))))
        assert answer.json() == printed
        assert len(printed["points"]) > 1

    def test_as_csv(self, module_api: Api) -> None:
        answer = module_api.caller("rita").get(f"{SAMPLE}/front?format=csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        dense, *rows = csv.DictReader(io.StringIO(answer.text))
        view = view_of_front(module_api.store, "sample")
        assert (dense["label"], float(dense["of_dense"])) == ("dense", 1.0)
        assert [int(row["trial"]) for row in rows] == [trial.number for trial in view.front.points]
        macs = [int(row["macs"]) for row in rows]
        assert macs == sorted(macs)
        assert [int(row["trial"]) for row in rows if row["best"] == "1"] == [view.best.number]
        assert {row["ms"] for row in rows} == {""}
        assert all(0 < float(row["val_top1"]) < 1 for row in rows)

    def test_as_a_picture(self, module_api: Api) -> None:
        answer = module_api.caller("rita").get(f"{SAMPLE}/front?format=png")
        assert answer.headers["content-type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG\r\n")

    @pytest.mark.parametrize("form", ["json", "csv", "png"])
    @pytest.mark.parametrize("x", ["ms", "both"])
    def test_without_a_target_there_are_no_milliseconds(self, module_api: Api, x: str, form: str) -> None:
        answer = module_api.caller("rita").get(f"{SAMPLE}/front", params={"x": x, "format": form})
        assert answer.status_code == 422
        with pytest.raises(SparseSearchError) as error:
            view_of_front(module_api.store, "sample", "ms")
        assert line(answer) == str(error.value)

    @pytest.mark.parametrize("query", ["x=flops", "format=xml", "format=../x"])
    def test_of_unknown_forms(self, module_api: Api, query: str) -> None:
        answer = module_api.caller("rita").get(f"{SAMPLE}/front?{query}")
        assert answer.status_code == 422
        line(answer)


class TestReport:
    def test_it_is_a_page_that_can_do_nothing(self, module_api: Api) -> None:
        answer = module_api.caller("rita").get(f"{SAMPLE}/report")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policy = dict(one.strip().partition(" ")[::2] for one in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert "sandbox" in policy
        assert "script-src" not in policy
        assert answer.text.startswith("<!DOCTYPE html>")
        assert "<script" not in answer.text
        assert "sample" in answer.text


class TestRecipe:
    def test_it_is_what_export_writes(self, module_api: Api, tmp_path: Path) -> None:
        answer = module_api.caller("rita").get(f"{SAMPLE}/recipe")
        assert answer.headers["content-type"].startswith("application/yaml")
        assert answer.headers["content-disposition"] == 'attachment; filename="sample.yaml"'
        export_recipe(module_api.store, "sample", tmp_path / "sample.yaml")
        assert answer.content == (tmp_path / "sample.yaml").read_bytes()
        assert read_recipe(tmp_path / "sample.yaml").provenance.study == "sample"
        assert not is_edited(tmp_path / "sample.yaml")


class TestTooSoon:
    """A study that has begun, but has no results yet."""

    def test_everything_says_so(self, api: Api) -> None:
        api.store.queue.submit(sample_spec(), by=Actor("ann"))
        rita = api.caller("rita")
        front = rita.get(f"{SAMPLE}/front")
        assert front.status_code == 200
        assert (front.json()["points"], front.json()["reference"]) == ([], None)
        assert len(rita.get(f"{SAMPLE}/front?format=csv").text.splitlines()) == 1
        for path, said in (
            ("/front?format=png", "study 'sample' has no results to plot yet"),
            ("/report", "study 'sample' has no results yet"),
            ("/recipe", "study 'sample' has no finished candidate yet; resume it with: sparsesearch resume sample"),
        ):
            answer = rita.get(f"{SAMPLE}{path}")
            assert answer.status_code == 409
            assert line(answer) == said

    def test_a_front_is_not_remembered_when_there_is_more(self, api: Api) -> None:
        writer = begun(api.store, sample_spec())
        rita = api.caller("rita")
        assert rita.get(f"{SAMPLE}/front").json()["points"] == []
        controller: Controller = StagedController(writer.spec, DEIT_SMALL)
        InlineDispatcher().run(controller, writer, MadeUpEvaluator())
        assert rita.get(f"{SAMPLE}/front").json()["points"]
        writer.close()
        api.store.delete_study("sample")
        assert rita.get(f"{SAMPLE}/front").status_code == 404
        begun(api.store, sample_spec()).close()
        assert rita.get(f"{SAMPLE}/front").json()["points"] == []


class TestNumbersThatAreNone:
    """A training that went wrong: its loss is NaN, and a metric is infinite."""

    @pytest.fixture
    def broken(self, api: Api) -> Api:
        writer = begun(api.store, sample_spec())
        controller: Controller = StagedController(writer.spec, DEIT_SMALL)
        InlineDispatcher().run(controller, writer, OddEvaluator())
        writer.set_state(StudyState.FINISHED)
        writer.close()
        assert any(math.isnan(trial.metrics["val_loss"]) for trial in api.store.trials("sample"))
        return api

    @pytest.mark.parametrize("path", ["", "/trials", "/front", "/events"])
    def test_they_are_null_in_json(self, broken: Api, path: str) -> None:
        answer = broken.caller("rita").get(f"{SAMPLE}{path}")
        assert answer.status_code == 200

        def refuse(text: str) -> None:
            raise AssertionError(f"{text} is not JSON")

        texts = [answer.text]
        if path == "/events":
            texts = [one.removeprefix("data: ") for one in answer.text.splitlines() if one.startswith("data: ")]
        found = [json.loads(text, parse_constant=refuse) for text in texts]
        if path:
            assert '"val_loss": null' in json.dumps(found)

    @pytest.mark.parametrize("path", ["/front?format=csv", "/front?format=png", "/report", "/recipe"])
    def test_other_forms_have_them(self, broken: Api, path: str) -> None:
        assert broken.caller("rita").get(f"{SAMPLE}{path}").status_code == 200


class TestFiles:
    @pytest.fixture
    def results(self, tmp_path: Path) -> Path:
        return tmp_path / "results"

    @pytest.fixture
    def api(self, tmp_path: Path, results: Path) -> Api:
        api = Api(tmp_path / "api", results=results)
        finished(api.store)
        return api

    @pytest.mark.parametrize(
        ("what", "file", "kind"),
        [
            ("model", "best.safetensors", "application/octet-stream"),
            ("picture", "kept_tokens.png", "image/png"),
        ],
    )
    def test_what_controllers_wrote(self, api: Api, results: Path, what: str, file: str, kind: str) -> None:
        rita = api.caller("rita")
        assert rita.get(f"{SAMPLE}/{what}").status_code == 409
        assert f"/sample/{what}" not in rita.get("/studies/sample").text
        (results / "sample").mkdir(parents=True)
        (results / "sample" / file).write_bytes(b"written")
        answer = rita.get(f"{SAMPLE}/{what}")
        assert (answer.status_code, answer.content) == (200, b"written")
        assert answer.headers["content-type"] == kind
        assert f"/sample/{what}" in rita.get("/studies/sample").text

    def test_those_of_an_earlier_study_of_that_name(self, api: Api, results: Path) -> None:
        (results / "sample").mkdir(parents=True)
        (results / "sample" / "best.safetensors").write_bytes(b"written")
        os.utime(results / "sample" / "best.safetensors", (1e9, 1e9))
        answer = api.caller("rita").get(f"{SAMPLE}/model")
        assert answer.status_code == 409
        assert line(answer).endswith("train its recipe in full: sparsesearch retrain sample.yaml")

    def test_its_run_in_mlflow(self, tmp_path: Path) -> None:
        api = Api(tmp_path, mlflow_url="https://mlflow.example")
        finished(api.store)
        api.store.queue.note_synced("sample", 3, page="#/experiments/1/runs/2")
        assert "https://mlflow.example/#/experiments/1/runs/2" in api.caller("rita").get("/studies/sample").text
