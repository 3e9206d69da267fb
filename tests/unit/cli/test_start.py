"""What a command loads, in a process of its own: nothing that computes on tensors unless the command does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sample_study import run_sample, sample_spec

from sparsesearch.store.sql import open_store

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "ray",
    "mlflow",
    "matplotlib",
    "optuna",
    "scipy",
    "sklearn",
    "pandas",
    "fvcore",
)
PROGRAM = """
import sys
from sparsesearch.cli import main
try:
    main()
finally:
    sys.stderr.write("LOADED " + " ".join(sys.modules))
"""
STEPS = "steps:\n- {block: 3, keep_ratio: 0.7}\n- {block: 6, keep_ratio: 0.5}\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished study `sample` in its database."""
    folder = tmp_path_factory.mktemp("home")
    store = open_store(f"sqlite:///{folder / 'studies.db'}")
    for name in ("sample", "other"):
        run_sample(store, sample_spec(name).model_copy(update={"sampler": "evolution"}))
    (folder / "steps.yaml").write_text(STEPS, encoding="utf-8")
    done = run(folder, ["export", "sample", "-o", "best.yaml"])
    assert done.returncode == 0, done.stderr
    return folder


def run(home: Path, arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "SPARSESEARCH_HOME": str(home), **environment}
    variables.pop("SPARSESEARCH_DATABASE_URL", None)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=home,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def loaded(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Names of the packages that were loaded."""
    return {name.partition(".")[0] for name in done.stderr.rpartition("LOADED ")[2].split()}


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "run --help",
        "cost --backbone deit_s",
        "cost --backbone deit_s --rho 0.7 --image-size 384 --json",
        "cost --backbone swin_tiny --image-size 160",
        "cost --backbone deit_s --schedule steps.yaml",
        "cost --schedule best.yaml",
        "spaces",
        "spaces deit_small",
        "spaces --backbone deit_s",
        "spaces validate deit_small --backbone deit_s",
        "spaces size --backbone deit_s --budget 65%",
        "studies",
        "studies --json",
        "show sample",
        "trials sample",
        "front sample",
        "front sample --with-paper deit_s",
        "status sample",
        "status sample --json",
        "export sample -o exported.yaml",
        "init --backbone deit_s -o study.yaml --force",
        "db current",
        "delete other --yes",
    ],
)
def test_commands_without_tensors_load_nothing_for_tensors(home: Path, line: str) -> None:
    done = run(home, line.split())
    assert done.returncode == 0, done.stderr.partition("LOADED")[0]
    assert done.stdout or "LOADED" in done.stderr
    assert loaded(done) & set(HEAVY) == set()


def test_errors_about_names_load_nothing_for_tensors(home: Path) -> None:
    for name, words in (("deit_smal", "did you mean"), ("resnet50", "belongs to a family that cannot be sparsified")):
        done = run(home, ["cost", "--backbone", name])
        assert done.returncode == 2
        assert words in done.stderr
        assert loaded(done) & set(HEAVY) == set()


def test_importing_the_package_loads_the_standard_library_only() -> None:
    code = "import sys; before = {*sys.modules}; import sparsesearch; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} <= {*sys.stdlib_module_names, "sparsesearch"}
