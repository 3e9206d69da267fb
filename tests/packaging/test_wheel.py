"""What is shipped: the wheel works outside the checkout, and the light modules need little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import sparsesearch

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "alembic",
    "fsspec",
    "fvcore",
    "matplotlib",
    "mlflow",
    "optuna",
    "platformdirs",
    "plotly",
    "ray",
    "rich",
    "sklearn",
    "sqlalchemy",
    "typer",
)
LIGHT = (
    "sparsesearch.schedule",
    "sparsesearch.geometry",
    "sparsesearch.sparsify.losses",
    "sparsesearch.sparsify.saliency",
    "sparsesearch.sparsify.state",
    "sparsesearch.backbones.registry",
    "sparsesearch.backbones.segments",
    "sparsesearch.cost.analytic",
    "sparsesearch.cost.traced",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_bundled_folders_and_no_litter(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("spaces/isotropic.yaml", "db/env.py", "db/versions/0001_initial.py", "workers/Dockerfile"):
        assert f"sparsesearch/_bundled/{needed}" in names
    assert "sparsesearch/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    installed = subprocess.run(command, check=False, capture_output=True, text=True)
    if installed.returncode:  # an environment made by uv has no pip
        zipfile.ZipFile(wheel).extractall(site)
    here = tmp_path / "here"
    here.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "SPARSESEARCH_HOME": str(tmp_path / "home")}

    def run(*arguments: str) -> str:
        script = "import sparsesearch.cli as cli, sys; print(cli.__file__, file=sys.stderr); cli.main()"
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr.startswith(str(site)), done.stderr
        return done.stdout

    assert "deit_small" in run("spaces")
    assert json.loads(run("cost", "--backbone", "deit_pico", "--at", "", "--json"))["macs"] == 18_341_088
    assert "empty" in run("db", "current")


def test_the_light_modules_import_with_torch_timm_and_pydantic_alone() -> None:
    script = (
        "import importlib, sys\n"
        f"for name in {HEAVY!r}: sys.modules[name] = None\n"
        f"for name in {LIGHT!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_the_package_itself_imports_no_framework() -> None:
    script = "import sparsesearch, sys; assert not {'torch', 'timm', 'ray', 'mlflow', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_public_names() -> None:
    assert sparsesearch.__all__ == ["Schedule", "Step", "__version__", "load", "restore_", "sparsify_"]
    for name in sparsesearch.__all__:
        assert getattr(sparsesearch, name) is not None


def test_the_lock_has_exact_versions_and_no_addresses() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 50
    assert all("==" in line for line in lines)
    assert "://" not in "\n".join(lines)


def test_the_compose_file_runs_what_exists() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert set(compose["services"]) >= {"postgres", "search"}
    for service in compose["services"].values():
        assert ("image" in service) != ("build" in service)
        for needed in service.get("depends_on", {}):
            assert needed in compose["services"]
    build = compose["services"]["search"]["build"]
    dockerfile = (ROOT / build["dockerfile"]).read_text(encoding="utf-8")
    for line in dockerfile.splitlines():
        if line.startswith("COPY"):
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources), line
