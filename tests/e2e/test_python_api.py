"""Studies from Python: by the use cases alone, by `sparsesearch.run`, and as the notebook has it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import sparsesearch
from sparsesearch.study.state import StudyState

pytestmark = pytest.mark.slow

TINY = {"epochs": 1, "images_per_epoch": 48, "batch_size": 24}
DOCUMENT: dict[str, Any] = {
    "backbone": "deit_pico",
    "budget": "40%",
    "data": {"num_val_images": 48},
    "dispatcher": "inline",
    "precision": "float32",
    "device": "cpu",
    "fidelity": {
        "evaluations": 4,
        "finalists": 1,
        "dense": TINY,
        "supernet_training": TINY,
        "finetune": TINY,
        "retrain": TINY,
    },
}
NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"

USE_CASES = """
import sys
from pathlib import Path
import json
from sparsesearch.app.export_recipe import export_recipe
from sparsesearch.app.retrain import retrain
from sparsesearch.app.run_study import run_study
from sparsesearch.app.start_study import start_study
from sparsesearch.app.validate import validate
from sparsesearch.app.workspace import Workspace
from sparsesearch.app.write_results import write_results
from sparsesearch.study.progress import Silent

document = json.loads(sys.argv[1])
assert validate(document).resolved is None
workspace = Workspace.open()
writer = start_study(document, workspace, progress=Silent())
name = writer.spec.name
assert workspace.store.condition(name).word == "resolving"
assert run_study(workspace, writer).value == "FINISHED"
assert workspace.store.spec(name).resolved is not None
result = write_results(workspace, name, Path(name))
exported = export_recipe(workspace.store, name, Path("best.yaml"))
assert exported.recipe.schedule == result.best.schedule
trained = retrain(exported.recipe, Path("model.safetensors"), settings=workspace.settings, progress=Silent())
assert 0.0 <= trained.card.metrics["test_top1"] <= 1.0
shown = [module for module in sys.modules if module.startswith(("sparsesearch.cli", "sparsesearch.console"))]
assert shown == [], shown
"""


def test_the_use_cases_need_no_command_line(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USE_CASES, json.dumps(DOCUMENT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path("model.safetensors").is_file()


def test_a_study_from_python(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = sparsesearch.run(DOCUMENT, study="mine", seed=1, mlflow=False, progress="plain", output="files")
    assert "supernet training started" in capsys.readouterr().err
    assert study.state is StudyState.FINISHED
    assert study.spec.seed == 1
    assert repr(study) == "<Study mine: finished>"
    assert {path.name for path in Path("files").iterdir()} == {"best.yaml", "front.png", "report.html"}

    again = sparsesearch.Study.open("mine")
    trials, front = again.trials(), again.front()
    assert list(trials.index) == list(range(len(trials)))
    assert set(front.index) <= set(trials.index)
    assert list(front["gmacs"]) == sorted(front["gmacs"])
    assert front["val_top1"].notna().all()
    assert again.best.number in front.index
    assert again.status().condition.word == "finished"
    assert "<table" in again._repr_html_()
    assert "<table" in again.best.schedule._repr_html_()
    assert len(again.plot().axes) == 1
    assert again.resume().state is StudyState.FINISHED, "there is nothing more to do"

    recipe = again.export("best.yaml")
    assert again.report("pages/report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    trained = sparsesearch.retrain(recipe, "model.safetensors", mlflow=False, progress="quiet")
    assert sparsesearch.load(trained.path) is not None


def test_a_study_is_stopped_and_resumed_from_python(home: Path) -> None:
    supernet = {"epochs": 400, "images_per_epoch": 24, "batch_size": 24}
    document = {**DOCUMENT, "fidelity": {**DOCUMENT["fidelity"], "supernet_training": supernet}}
    states: list[StudyState] = []

    def work() -> None:
        states.append(sparsesearch.run(document, study="long", mlflow=False, progress="quiet").state)

    thread = threading.Thread(target=work)
    thread.start()
    while "long" not in _names() or len(sparsesearch.Study.open("long").trials()) < 2:
        assert thread.is_alive()
        time.sleep(0.2)
    study = sparsesearch.Study.open("long")
    assert study.stop() is StudyState.PAUSED
    thread.join()
    assert states == [StudyState.PAUSED]
    assert study.front().empty
    assert study.status().condition.reason == "sparsesearch stop"


def _names() -> list[str]:
    from sparsesearch.app.workspace import Workspace

    return list(Workspace.open().store.studies())


def test_wrong_words_are_refused_as_on_the_command_line(home: Path) -> None:
    with pytest.raises(sparsesearch.errors.SpecError, match="give either --budget-gflops or --budget, not both"):
        sparsesearch.run(backbone="deit_pico", budget="30%", budget_gflops=1.0)
    with pytest.raises(sparsesearch.errors.StudyNotFoundError, match="no study 'nothing'"):
        sparsesearch.Study.open("nothing")


def cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code), "outputs are stripped"
    return ["".join(cell["source"]) for cell in code]


def test_the_notebook_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell in order, and what a notebook would display of it."""
    monkeypatch.setitem(os.environ, "SPARSESEARCH_PROGRESS", "quiet")
    names: dict[str, Any] = {}
    for source in cells():
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
            assert value is not None
            display = getattr(value, "_repr_png_", None) or getattr(value, "_repr_html_", value.__repr__)
            assert display()
    assert names["study"].state is StudyState.FINISHED
