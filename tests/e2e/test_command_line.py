"""One tiny study from `init` to a model that another process loads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from answers import Answer, Command
from safetensors.torch import load_file, save_file

import sparsesearch
from sparsesearch.artifacts.checkpoint import read_card
from sparsesearch.artifacts.recipe import DEMO_NOTE, read_recipe
from sparsesearch.backbones.registry import PICO, backbone_geometry
from sparsesearch.backbones.traced import traced_macs
from sparsesearch.console.streams import program as program_name
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule

pytestmark = pytest.mark.slow

REQUEST = {
    "dispatcher": "inline",
    "precision": "float32",
    "device": "cpu",
    "data": {"num_val_images": 240},
    "fidelity": {
        "evaluations": 4,
        "finalists": 2,
        "dense": {"epochs": 2, "images_per_epoch": 256},
        "supernet_training": {"epochs": 2, "images_per_epoch": 256},
        "finetune": {"epochs": 1, "images_per_epoch": 128},
        "retrain": {"epochs": 1, "images_per_epoch": 256},
    },
}
DENSE_MACS = AnalyticCost().estimate(backbone_geometry(PICO), Schedule()).macs
TRIAL_KEYS = {"id", "state", "fidelity", "macs", "params", "metrics", "schedule", "attempt"}
LOAD = """
import sys, torch, sparsesearch
from safetensors.torch import save_file
torch.set_num_threads(1)
images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(7))
with torch.no_grad():
    save_file({"logits": sparsesearch.load(sys.argv[1])(images)}, sys.argv[2])
"""


@dataclass(frozen=True)
class Finished:
    """A study that ran, and what it said."""

    command: Command
    answer: Answer

    def json(self, *arguments: object) -> Any:
        answer = self.command(*arguments, "--json")
        assert answer.code == 0, answer.err
        return answer.document


def edit(path: Path, wishes: dict[str, Any]) -> None:
    """Change values of a document, as a person with an editor would."""

    def lay_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        return {
            **below,
            **{k: lay_over(below[k], v) if isinstance(v, dict) and k in below else v for k, v in above.items()},
        }

    document = lay_over(yaml.safe_load(path.read_text(encoding="utf-8")), wishes)
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


@pytest.fixture
def finished(command: Command) -> Finished:
    assert command("init", "-o", "tiny.yaml").code == 0
    edit(Path("tiny.yaml"), REQUEST)
    answer = command("run", "tiny.yaml", "--no-mlflow", "--json")
    assert answer.code == 0, answer.err
    return Finished(command, answer)


def test_the_whole_way(finished: Finished, tmp_path: Path) -> None:
    """In one test, since each step takes the last one's result."""
    found = finished.answer.document
    assert finished.answer.out.count("\n") == 1, "standard output is for the result alone"
    assert set(found) == {"study", "best", "recipe", "front_png", "report", "model"}
    assert set(found["best"]) >= {"trial", "macs", "metrics", "schedule"}
    assert found["study"] == "tiny"
    assert Path(found["front_png"]).read_bytes().startswith(b"\x89PNG")
    assert "bundled demo" in finished.answer.err
    assert "retrain tiny/best.yaml" in finished.answer.err

    assert read_recipe(Path(found["recipe"])).note == DEMO_NOTE

    limit = round(0.35 * DENSE_MACS)
    trials = finished.json("trials", "tiny")
    assert [trial["id"] for trial in trials] == list(range(len(trials)))
    assert all(set(trial) >= TRIAL_KEYS for trial in trials)
    fidelities = {"dense", "supernet_training", "supernet", "rescored", "finetune"}
    assert {trial["fidelity"] for trial in trials} == fidelities
    sparse = [trial for trial in trials if trial["fidelity"] in ("supernet", "rescored", "finetune")]
    (trained_dense,) = (trial for trial in sparse if trial["origin"] == "reference")
    assert trained_dense["macs"] == DENSE_MACS
    sparse.remove(trained_dense)
    assert all(trial["macs"] <= limit for trial in sparse), "nothing sparse is trained above the budget"
    assert all(trial["attempt"] == 1 for trial in trials)
    assert {trial["state"] for trial in trials} == {"COMPLETE", "REFERENCE"}
    assert {trial["origin"] for trial in sparse} == {"search", "baseline"}
    for trial in sparse:
        schedule = Schedule.model_validate(trial["schedule"])
        assert AnalyticCost().estimate(backbone_geometry(PICO), schedule).macs == trial["macs"]
        assert 0 <= trial["metrics"]["val_top1"] <= 1
    assert finished.json("trials", "tiny", "--state", "reference") == [t for t in trials if t["state"] == "REFERENCE"]

    front = finished.json("front", "tiny")
    assert set(front) >= {"fidelity", "reference", "points"}
    assert front["fidelity"] == "finetune"
    assert front["reference"] == trials[0]
    assert front["reference"]["macs"] == DENSE_MACS
    points = [(point["macs"], point["metrics"]["val_top1"]) for point in front["points"]]
    assert points == sorted(points)
    assert [accuracy for _, accuracy in points] == sorted({accuracy for _, accuracy in points})
    assert found["best"]["metrics"]["val_top1"] == points[-1][1]
    assert finished.command("front", "tiny", "--png", "drawn/front.png").code == 0
    assert Path("drawn/front.png").read_bytes().startswith(b"\x89PNG")

    rows = finished.json("studies")
    assert [row["study"] for row in rows] == ["tiny"]
    assert rows[0]["trials"] == len(trials)
    shown = finished.json("show", "tiny")
    assert set(shown) == {"spec", "states", "state", "reason", "request", "is_leased", "work"}
    assert shown["state"] == "FINISHED"
    assert sum(shown["states"].values()) == len(trials)
    assert shown["spec"]["budget"] == {"unit": "fraction", "low": None, "high": 0.35}
    for verb in ("trials", "front", "show"):
        assert "tiny" in finished.command(verb, "tiny").out

    again = finished.command("resume", "tiny", "--json")
    assert again.code == 0
    assert again.document == found, "a finished study says the same again"
    assert finished.json("trials", "tiny") == trials

    assert finished.command("export", "tiny", "-o", "out/best.yaml", "--force").code == 0
    assert Path("out/best.yaml").read_text() == Path(found["recipe"]).read_text().replace("tiny/", "out/")
    assert (
        "the cheapest schedule of study 'tiny' costs" in finished.command("export", "tiny", "--budget", "1%").complaint
    )
    dearest = front["points"][-1]["macs"] / 1e9
    assert finished.command("export", "tiny", f"--budget-gflops={dearest + 1e-9:.12f}", "-o", "out/dear.yaml").code == 0
    assert read_recipe(Path("out/dear.yaml")).provenance.trial == front["points"][-1]["id"]

    trained = finished.json("retrain", "out/best.yaml", "-o", "out/model.safetensors")
    assert set(trained) >= {"model", "macs", "dense_macs", "metrics", "dense_metrics", "schedule"}
    assert trained["macs"] == found["best"]["macs"]
    assert trained["metrics"]["test_images"] == 4764
    model = sparsesearch.load("out/model.safetensors")
    assert read_card("out/model.safetensors").macs == trained["macs"]
    assert traced_macs(model, torch.zeros(1, 1, 32, 32)) == trained["macs"], "FlopCounterMode counts the same"
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(7))
    torch.set_num_threads(1)
    with torch.no_grad():
        save_file({"logits": model(images)}, "here.safetensors")
    script = [sys.executable, "-c", LOAD, "out/model.safetensors", "there.safetensors"]
    subprocess.run(script, check=True, timeout=300)
    assert torch.equal(load_file("there.safetensors")["logits"], load_file("here.safetensors")["logits"])

    assert finished.command("delete", "tiny", "--yes").out == f"deleted tiny ({len(trials)} trials)\n"
    assert finished.json("studies") == []
    assert list((tmp_path / "home" / "storage").glob("tiny*")) == []
    assert "no study 'tiny'" in finished.command("show", "tiny").complaint


def test_what_retraining_saves_is_what_it_scored(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits of the model in memory, not only of a second loading."""
    from sparsesearch.app import retrain

    kept: list[torch.nn.Module] = []
    real = retrain.save

    def keep(model: torch.nn.Module, path: Path, **options: Any) -> None:
        kept.append(model)
        real(model, path, **options)

    monkeypatch.setattr(retrain, "save", keep)
    finished.json("retrain", finished.answer.document["recipe"])
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(7))
    torch.set_num_threads(1)
    with torch.no_grad():
        before, after = kept[0](images), sparsesearch.load("model.safetensors")(images)
    assert torch.equal(before, after)


def test_without_a_supernet(command: Command) -> None:
    Path("study.yaml").write_text(
        yaml.safe_dump({**REQUEST, "name": "plain", "backbone": PICO, "budget": "30%:45%", "baselines": False})
    )
    answer = command(
        "run",
        "study.yaml",
        "--strategy",
        "finetune",
        "--evaluations",
        "3",
        "--sampler",
        "random",
        "--no-mlflow",
        "--json",
    )
    assert answer.code == 0, answer.err
    assert answer.document["study"] == "plain"
    trials = command("trials", "plain", "--json").document
    assert [trial["fidelity"] for trial in trials] == ["dense", "finetune", "finetune", "finetune"]
    assert all(trial["macs"] <= round(0.45 * DENSE_MACS) for trial in trials[1:])
    assert len({json.dumps(trial["schedule"]) for trial in trials[1:]}) == 3


def test_flags_override_the_document_and_names_are_made_up(command: Command) -> None:
    Path("study.yaml").write_text(yaml.safe_dump({**REQUEST, "backbone": PICO, "budget": "30%", "baselines": False}))
    flags = (
        "--budget",
        "40%",
        "--evaluations",
        "1",
        "--finalists",
        "1",
        "--seed",
        "5",
        "--output",
        "results",
        "--no-mlflow",
    )
    first, second = command("run", "study.yaml", *flags, "--json"), command("run", "study.yaml", *flags, "--json")
    assert first.code == second.code == 0, first.err + second.err
    assert [first.document["study"], second.document["study"]] == ["deit_pico-40p", "deit_pico-40p-2"]
    assert first.document["recipe"] == "results/best.yaml"
    spec = command("show", "deit_pico-40p", "--json").document["spec"]
    assert (spec["budget"]["high"], spec["seed"], spec["fidelity"]["evaluations"]) == (0.4, 5, 1)
    assert first.document["best"] == second.document["best"], "one seed, one result"


def test_a_study_can_be_resumed_from_another_folder(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where its data was named by a relative path."""
    from shapes import write_classes

    from sparsesearch.cli import work

    write_classes(Path("pictures"), per_class=30, seed=0)
    wishes = {**REQUEST, "name": "moved", "backbone": PICO, "budget": "40%", "baselines": False}
    Path("study.yaml").write_text(yaml.safe_dump({**wishes, "data": {"source": "folder:pictures", "image_size": 32}}))
    real = work.run_study

    def interrupted(workspace: Any, writer: Any, **options: Any) -> None:
        writer.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "run_study", interrupted)
    assert command("run", "study.yaml", "--no-mlflow").code == 130
    monkeypatch.setattr(work, "run_study", real)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    answer = command("resume", "moved", "--no-mlflow", "--json")
    assert answer.code == 0, answer.err
    assert Path(answer.document["recipe"]).is_file()


def test_as_typed_on_ray_with_mlflow(program: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing switched off: two workers, the study in MLflow, and nothing on standard output but the result."""
    monkeypatch.delenv("MLFLOW_LOGGING_LEVEL", raising=False)  # a test before this one may have set it
    Path("study.yaml").write_text(
        yaml.safe_dump({**REQUEST, "backbone": PICO, "budget": "25%:45%", "dispatcher": "ray"})
    )
    answer = program("run", "study.yaml", "--max-concurrent", "2", "--json", timeout=600)
    assert answer.code == 0, answer.err
    assert answer.out.count("\n") == 1
    assert "sparsesearch ui" in answer.err
    assert "Traceback" not in answer.err
    assert "INFO" not in answer.err
    trials = program("trials", "deit_pico-25p-45p", "--json").document
    assert {trial["state"] for trial in trials} == {"REFERENCE", "COMPLETE"}
    assert {trial["attempt"] for trial in trials} == {1}
    assert (home / "mlflow.db").is_file()
    synced = program("mlflow", "sync")
    assert "deit_pico-25p-45p: up to date" in synced.out


def test_the_module_is_the_program(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sparsesearch", "--version"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == f"sparsesearch {sparsesearch.__version__}\n"


def test_commands_to_type_next_are_those_that_were_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path(sparsesearch.__file__).with_name("__main__.py")), "run"])
    assert program_name() == f"{Path(sys.executable).name} -m sparsesearch"
