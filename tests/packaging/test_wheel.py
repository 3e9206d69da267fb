"""What is shipped: the wheel works outside the checkout, and the light modules need little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
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
LIGHT = ("schedule", "geometry", "latency_record", "latency_fit", "sparsify", "backbones", "cost", "bench", "timm")


def light_modules() -> list[str]:
    """Everything that a machine with torch, timm and pydantic alone must be able to import."""
    found = []
    for name in LIGHT:
        path = ROOT / "sparsesearch" / name
        found += [f"sparsesearch.{name}"]
        found += [f"sparsesearch.{name}.{file.stem}" for file in path.glob("*.py") if file.stem != "__init__"]
    return sorted(found)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_bundled_folders_and_no_litter(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "spaces/isotropic.yaml",
        "spaces/space.schema.json",
        "db/env.py",
        "db/versions/0001_initial.py",
        "db/versions/0002_profiles.py",
        "workers/Dockerfile",
    ):
        assert f"sparsesearch/_bundled/{needed}" in names
    assert "sparsesearch/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


@pytest.mark.slow
def test_the_sdist_can_build_the_wheel(wheel: Path) -> None:
    """`build` makes the wheel from it; so all that is bundled is in there too, and nothing that was generated."""
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    for needed in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "requirements.lock", "docker-compose.yml"):
        assert needed in names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".db-wal", ".safetensors"))]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program installed from the wheel into an environment of its own, which borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=300)
    return folder / "bin" / "sparsesearch"


def run_installed(
    program: Path, *arguments: str, home: Path, here: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SPARSESEARCH_HOME": str(home), **more}
    environment.pop("PYTHONPATH", None)
    here.mkdir(exist_ok=True)
    return subprocess.run(
        [str(program), *arguments], cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = run_installed(installed, *arguments, home=tmp_path / "home", here=tmp_path / "here")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    script = "import sparsesearch; print(sparsesearch.__file__, sparsesearch.__version__)"
    where = subprocess.run(
        [str(installed.with_name("python")), "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert where.stdout.startswith(str(installed.parents[1])), where.stdout
    assert run("--version").split()[1] == where.stdout.split()[1]
    assert "deit_small" in run("spaces")
    assert json.loads(run("cost", "--backbone", "deit_pico", "--at", "", "--json"))["macs"] == 18_341_088
    assert "empty" in run("db", "current")
    assert "revision" in run("db", "upgrade")
    assert json.loads(run("studies", "--json")) == []
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.slow
def test_the_service_of_the_compose_file_runs_by_hand(installed: Path, tmp_path: Path) -> None:
    """What a container would run, with the variables it would have, on a database that is there."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["search"]
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
    entrypoint = next(line for line in dockerfile.splitlines() if line.startswith("ENTRYPOINT"))
    assert service["entrypoint"] == json.loads(entrypoint.removeprefix("ENTRYPOINT ")) == [installed.name]
    assert set(service["environment"]) == {"SPARSESEARCH_HOME", "SPARSESEARCH_DATABASE_URL", "MLFLOW_TRACKING_URI"}
    places = {"home": tmp_path / "home", "here": tmp_path / "here"}
    database = f"sqlite:///{tmp_path / 'shared.db'}"
    default = json.loads(next(line for line in dockerfile.splitlines() if line.startswith("CMD")).removeprefix("CMD "))
    assert run_installed(installed, *default, **places).returncode == 0
    comment = (ROOT / "docker-compose.yml").read_text(encoding="utf-8").partition("services:")[0]
    shown = next(line for line in comment.splitlines() if "run --rm search" in line).partition("search ")[2]
    assert shown.split()[:1] == ["run"]
    # The very same command line, up to where it would begin to work: the budget is made one that cannot be met.
    arguments = shown.replace("35%", "1%").split()
    done = run_installed(installed, *arguments, SPARSESEARCH_DATABASE_URL=database, **places)
    assert done.returncode == 2
    assert "feasible range of deit_pico" in done.stderr
    assert (tmp_path / "shared.db").is_file()


@pytest.mark.slow
def test_the_light_modules_import_with_torch_timm_and_pydantic_alone() -> None:
    modules = light_modules()
    assert {
        "sparsesearch.backbones.traced",
        "sparsesearch.latency.profile.__main__",
        "sparsesearch.backbones.registry",
        "sparsesearch.sparsify.gather",
    } <= {*modules}
    script = (
        "import importlib, sys\n"
        "class Without:\n"
        "    def __init__(self, finder): self.finder = finder\n"
        "    def __getattr__(self, name): return getattr(self.finder, name)\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] not in {HEAVY!r}: return self.finder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "import torch\n"
        "from sparsesearch import Schedule, sparsify_\n"
        "from sparsesearch.backbones.registry import create_model\n"
        "from sparsesearch.backbones.traced import traced_macs\n"
        "model = create_model('deit_pico')\n"
        "sparsify_(model, Schedule.at([3], [0.5]))\n"
        "print(traced_macs(model, torch.zeros(1, 1, 32, 32)))\n"
        "from sparsesearch.latency.bench.__main__ import main\n"
        "main(['--backbone', 'deit_pico', '--rho', '0.5', '--device', 'cpu', '--runs', '3', '--seconds', '0.1'])\n"
        "from sparsesearch.latency.profile.__main__ import main\n"
        "quick = ['--device', 'cpu', '--runs', '3', '--seconds', '0.1', '--quiet']\n"
        "assert main(['--backbone', 'deit_pico', *quick]) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    macs, *table = done.stdout.splitlines()
    assert 0 < int(macs) < 18_341_088
    assert table[0].startswith("deit_pico at 32x32")
    assert any(line.startswith("error on") for line in table)


def test_the_package_itself_imports_no_framework() -> None:
    heavy = {*HEAVY, "torch", "timm", "numpy", "ray", "mlflow", "optuna"}
    script = f"import sparsesearch, sys; assert not {heavy!r} & set(sys.modules), {heavy!r} & set(sys.modules)"
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
