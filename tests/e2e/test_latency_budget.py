"""Budgets of milliseconds from the command line: profile, search, confirm, measure, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from answers import Answer, Command

from sparsesearch.artifacts.recipe import read_recipe
from sparsesearch.latency.profile.document import read_profile

pytestmark = pytest.mark.slow

DOCUMENT = {
    "backbone": "deit_pico",
    "dispatcher": "inline",
    "device": "cpu",
    "data": {"num_val_images": 96},
    "latency": {"num_threads": 1, "batch_size": 64, "profile_seconds": 4.0},
    "fidelity": {
        "evaluations": 4,
        "finalists": 2,
        "dense": {"epochs": 1, "images_per_epoch": 128},
        "supernet_training": {"epochs": 1, "images_per_epoch": 128},
        "finetune": {"epochs": 1, "images_per_epoch": 64},
    },
}
QUICK = ("--device", "cpu", "--threads", "1", "--runs", "3", "--seconds", "3")


@pytest.fixture
def document(home: Path) -> Path:
    path = Path("study.yaml")
    path.write_text(yaml.safe_dump(DOCUMENT), encoding="utf-8")
    return path


def profiled(command: Command) -> dict[str, object]:
    answer = command("profile", "--backbone", "deit_pico", "--batch-size", "64", *QUICK, "-o", "p.json", "--quiet")
    assert answer.code == 0, answer.err
    return json.loads(Path("p.json").read_text(encoding="utf-8"))


def middle_of(answer: Answer) -> float:
    """A budget in the interval that a refusal names, close to its upper end."""
    words = answer.err.partition("feasible range")[2].partition(" is ")[2].split()
    low, high = float(words[0]), float(words[2])
    return round(low + 0.9 * (high - low), 4)


def test_profiles_are_imported_listed_shown_and_deleted(command: Command) -> None:
    made = profiled(command)
    assert len(made.pop("sha256")) == 64
    assert command("profile", "import", "p.json", "--name", "here").code == 0
    listed = command("profile", "list", "--json")
    assert [row["name"] for row in json.loads(listed.out)] == ["here"]
    assert json.loads(command("profile", "show", "here", "--json").out) == made
    assert "held out" in command("profile", "show", "here").out
    assert command("profile", "delete", "here").code == 0
    refused = command("profile", "show", "here")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "no profile 'here'" in refused.err


def test_what_does_not_fit_is_refused_in_one_line(command: Command, document: Path) -> None:
    profiled(command)
    ms = ("run", document, "--budget-ms", "3", "--no-mlflow", "--quiet")
    cases = {
        ("--budget", "30%"): "give either --budget or --budget-ms, not both",
        ("--device-profile", "h200"): "no profile 'h200'",
        ("--device-profile", "./none.json"): "no such file",
        (
            "--device-profile",
            "./p.json",
            "--latency-batch-size",
            "32",
        ): "profile ./p.json was measured on another target "
        "(batch size 32 instead of 64); profile the requested target with: sparsesearch profile --backbone deit_pico",
        ("--device-profile", "./p.json", "--latency-precision", "bf16"): "bfloat16 instead of float32",
        ("--device-profile", "./p.json", "--latency-compile"): "compiled yes instead of no",
        ("--device-profile", "./p.json", "--backbone", "convnext_pico"): "make one with: sparsesearch profile",
        ("--device", "cuda:7"): "no device cuda:7",
        ("--latency-precision", "int8"): "invalid precision 'int8'",
    }
    for flags, expected in cases.items():
        answer = command(*ms, *flags)
        assert answer.code == 2, (flags, answer.err)
        assert expected in answer.err.splitlines()[-1], (flags, answer.err)
    assert json.loads(command("studies", "--json").out) == []


def test_a_search_profiles_this_machine_confirms_its_front_and_is_measured_again(
    command: Command, document: Path
) -> None:
    ms = ("run", document, "--no-mlflow", "--progress", "plain", "--study", "one")
    refused = command(*ms, "--budget-ms", "0.001")
    assert refused.code == 2
    assert "saved as profile deit_pico-32-cpu-b64-float32-" in refused.err
    budget = middle_of(refused)
    answer = command(*ms, "--budget-ms", str(budget), "--json")
    assert answer.code in (0, 2), answer.err  # on a busy machine every schedule may miss its budget
    assert "profiling" not in answer.err.replace("saved as profile", ""), "the profile of the first call serves"
    assert "of the front on the target" in answer.err
    listed = json.loads(command("profile", "list", "--json").out)
    assert len(listed) == 1
    front = json.loads(command("front", "one", "--json").out)
    assert front["x"] == "ms"
    assert all(point["latency_ms"] is not None for point in front["points"])
    both = json.loads(command("front", "one", "--x", "both", "--json").out)
    assert len(both["points"]) >= len(front["points"])
    trials = json.loads(command("trials", "one", "--json").out)
    assert all(trial["predicted_ms"] > 0 for trial in trials)
    least = min(point["latency_ms"] for point in front["points"])
    exported = command("export", "one", "--budget-ms", str(1.001 * least), "-o", "best.yaml")
    assert exported.code == 0, exported.err
    assert "ms measured" in exported.err
    recipe = read_recipe(Path("best.yaml"))
    assert recipe.latency is not None
    assert recipe.latency.confirmed is not None
    assert recipe.latency.budget_ms == budget
    again = command("measure", "best.yaml", "--seconds", "1", "--json")
    assert again.code in (0, 1), again.err
    document_now = json.loads(again.out.splitlines()[-1])
    assert document_now["verdict"] == ("meets" if again.code == 0 else "misses")
    assert document_now["study"] == "one"
    after = read_recipe(Path("best.yaml"))
    assert after.latency is not None
    assert after.latency.confirmed != recipe.latency.confirmed
    trial = next(
        one for one in json.loads(command("trials", "one", "--json").out) if one["id"] == after.provenance.trial
    )
    assert trial["latency_ms"] == pytest.approx(document_now["latency_ms"])
    elsewhere = command("measure", "best.yaml", "--batch-size", "3")
    assert elsewhere.code == 2
    assert "was searched for another target (batch size 3 instead of 64)" in elsewhere.err


def test_a_profile_of_another_machine_serves_and_its_milliseconds_stay_predicted(
    command: Command, document: Path
) -> None:
    profiled(command)
    made = read_profile(Path("p.json"))
    conditions = made.conditions.model_copy(update={"device_name": "Another processor"})
    fit = made.fit.model_copy(update={"conditions": conditions})
    there = made.model_copy(update={"conditions": conditions, "fit": fit})
    Path("there.json").write_text(there.model_dump_json(), encoding="utf-8")
    wishes = {key: value for key, value in DOCUMENT.items() if key not in ("latency", "device")}
    document.write_text(yaml.safe_dump(wishes), encoding="utf-8")
    assert command("profile", "import", "there.json", "--name", "there").code == 0
    ms = ("run", document, "--no-mlflow", "--progress", "plain", "--study", "far", "--device-profile", "there")
    budget = middle_of(command(*ms, "--budget-ms", "0.001"))
    answer = command(*ms, "--budget-ms", str(budget))
    assert answer.code == 0, answer.err
    assert "this machine is not the target" in answer.err
    front = json.loads(command("front", "far", "--json").out)
    assert all(point["latency_ms"] is None and point["predicted_ms"] <= budget for point in front["points"])
    refused = command("measure", "far/best.yaml")
    assert refused.code == 2
    assert "was searched for another target (device" in refused.err
