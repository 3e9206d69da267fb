"""What is shipped: the wheel works outside the checkout, and where only torch, timm and pydantic are, models run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from lowest_versions import lowest_versions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import sparsesearch

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = ("torch", "timm", "pydantic", "safetensors", "numpy")
"""What a machine that only runs and measures models has; with whatever these need themselves."""
LIGHT = (
    "artifacts.checkpoint",
    "artifacts.model_reference",
    "artifacts.schedule_file",
    "backbones",
    "cost",
    "errors",
    "files",
    "infrastructure",
    "latency",
    "papers",
    "redact",
    "schedule",
    "seeds",
    "space",
    "sparsify",
    "study",
    "text",
    "timm",
    "value",
)
"""What that machine must be able to import, packages with all that is in them."""
WITHOUT = """
import sys

class Without:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {missing!r}: return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
"""The beginning of a script that finds none of the `missing` packages."""


def light_modules() -> list[str]:
    """Everything that a machine with torch, timm and pydantic alone must be able to import."""
    found = []
    for name in LIGHT:
        path = ROOT.joinpath("sparsesearch", *name.split("."))
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        parts = [file.relative_to(ROOT).with_suffix("").parts for file in files]
        found += [".".join(part for part in module if part != "__init__") for module in parts]
    return sorted(found)


def needed_by(names: Iterable[str]) -> set[str]:
    """These distributions and all that they need, in this environment."""
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requirements = [Requirement(line) for line in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:
            continue  # of another platform
        waiting += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def missing_packages() -> list[str]:
    """What can be imported here, but not on a machine with the minimal installation."""
    there = needed_by(MINIMAL)
    owners = metadata.packages_distributions()
    return sorted(
        package
        for package, names in owners.items()
        if package != "sparsesearch" and not {canonicalize_name(name) for name in names} & there
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
    for needed in (
        "spaces/isotropic.yaml",
        "spaces/space.schema.json",
        "db/env.py",
        "db/versions/0001_initial.py",
        "db/versions/0002_profiles.py",
        "workers/Dockerfile",
    ):
        assert f"sparsesearch/_bundled/{needed}" in names
    assert {"sparsesearch/py.typed", "sparsesearch/catalog/models.jsonl"} <= set(names)
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
    assert set(service["environment"]) >= {"SPARSESEARCH_HOME", "SPARSESEARCH_DATABASE_URL", "MLFLOW_TRACKING_URI"}
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


def test_what_the_minimal_installation_lacks() -> None:
    missing = {*missing_packages()}
    assert missing >= {"alembic", "matplotlib", "mlflow", "optuna", "platformdirs", "ray", "sklearn", "sqlalchemy"}
    assert not missing & {"numpy", "PIL", "pydantic", "safetensors", "timm", "torch", "torchvision", "yaml"}


@pytest.mark.slow
def test_the_minimal_installation_runs_and_measures_models(tmp_path: Path) -> None:
    modules = light_modules()
    assert {
        "sparsesearch.artifacts.checkpoint",
        "sparsesearch.backbones.traced",
        "sparsesearch.latency.bench.__main__",
        "sparsesearch.latency.profile.__main__",
        "sparsesearch.sparsify.gather",
        "sparsesearch.study.spec",
    } <= {*modules}
    script = WITHOUT.format(missing=missing_packages()) + (
        "import importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "import torch, sparsesearch\n"
        "from sparsesearch import Schedule, sparsify_\n"
        "from sparsesearch.artifacts.checkpoint import ModelCard, save\n"
        "from sparsesearch.backbones.registry import create_model\n"
        "from sparsesearch.backbones.traced import traced_macs\n"
        "model, schedule = create_model('deit_pico').eval(), Schedule.at([3], [0.5])\n"
        "sparsify_(model, schedule)\n"
        "macs, images = traced_macs(model, torch.zeros(1, 1, 32, 32)), torch.rand(2, 1, 32, 32)\n"
        "print(macs)\n"
        "size = {'num_classes': 10, 'in_chans': 1, 'image_size': 32}\n"
        "card = ModelCard(backbone='deit_pico', schedule=schedule, macs=macs, **size)\n"
        "save(model, 'model.safetensors', card=card)\n"
        "assert torch.equal(sparsesearch.load('model.safetensors')(images), model(images))\n"
        "from sparsesearch.latency.bench.__main__ import main\n"
        "quick = ['--device', 'cpu', '--runs', '3', '--seconds', '0.1']\n"
        "assert main(['--backbone', 'deit_pico', '--rho', '0.5', *quick]) == 0\n"
        "from sparsesearch.latency.profile.__main__ import main\n"
        "assert main(['--backbone', 'deit_pico', *quick, '--quiet']) == 0\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    macs, *table = done.stdout.splitlines()
    assert 0 < int(macs) < 18_341_088
    assert table[0].startswith("deit_pico at 32x32")
    assert any(line.startswith("error on") for line in table)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("typer", ["--version"]),
        ("pydantic", ["cost", "--backbone", "deit_pico"]),
        ("sqlalchemy", ["studies"]),
        ("alembic", ["db", "upgrade"]),
        ("ray", ["run", "--backbone", "deit_pico", "--budget", "35%", "-q"]),
    ],
)
def test_a_missing_package_is_one_line(missing: str, arguments: list[str], tmp_path: Path) -> None:
    done = run_without([missing], arguments, home=tmp_path)
    install = "install everything with: pip install sparsesearch"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sparsesearch: the command line needs {missing}, which is not installed; {install}\n"


@pytest.mark.slow
def test_the_command_line_of_the_minimal_installation_is_one_line(tmp_path: Path) -> None:
    done = run_without(missing_packages(), ["--help"], home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("sparsesearch: the command line needs ")  # typer, unless huggingface-hub needs it too
    assert "which is not installed; install everything with: pip install sparsesearch" in done.stderr


@pytest.mark.slow
def test_other_modules_that_are_not_found(tmp_path: Path) -> None:
    too_old = run_without(["-"], ["--version"], home=tmp_path, also="sys.modules['typer.exceptions'] = None")
    assert too_old.returncode == 2
    assert too_old.stderr.startswith(
        "sparsesearch: the command line needs typer.exceptions, which the installed typer "
    )
    bare = run_without(["sqlite3"], ["studies"], home=tmp_path)
    assert bare.returncode == 2
    assert bare.stderr.startswith("sparsesearch: the command line needs Python's own sqlite3, which this Python ")
    ours = run_without(["-"], ["--version"], home=tmp_path, also="sys.modules['sparsesearch.cli.app'] = None")
    assert ours.returncode == 1
    assert "internal error: ModuleNotFoundError" in ours.stderr


def run_without(
    missing: list[str], arguments: list[str], *, home: Path, also: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command line where packages are not installed."""
    script = f"{WITHOUT.format(missing=missing)}{also}\nfrom sparsesearch.cli import main; main()"
    environment = {**os.environ, "SPARSESEARCH_HOME": str(home / "home")}
    environment.pop("SPARSESEARCH_DEBUG", None)
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_package_itself_imports_the_standard_library_alone() -> None:
    known = {*metadata.packages_distributions()} - {"sparsesearch"}
    for module in ("sparsesearch", "sparsesearch.cli"):
        script = f"import sys; before = {{*sys.modules}}; import {module}; print(*{{*sys.modules}} - before)"
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        assert not {name.partition(".")[0] for name in done.stdout.split()} & known


def test_the_public_names() -> None:
    assert sparsesearch.__all__ == [
        "Client", "Schedule", "Step", "Study", "__version__", "distillation_loss", "freeze_", "keep_ratio_loss",
        "load", "new_call", "restore_", "retrain", "run", "sparsify_",
    ]  # fmt: skip
    for name in sparsesearch.__all__:
        assert getattr(sparsesearch, name) is not None


def test_the_documented_lowest_versions_are_those_of_the_project() -> None:
    """`make compat` tries them."""
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\S+) \| (\d\S*) \|", text, flags=re.MULTILINE))
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lowest = dict(line.split("==") for line in lowest_versions(document, tests=False))
    assert rows == lowest


def test_the_lock_fits_the_project() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines]
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, lowest in (line.split("==") for line in lowest_versions(document)):
        versions = [Version(str(pin.specifier).removeprefix("==")) for pin in pins if pin.name == name]
        assert versions, f"{name} is not in the lock"
        assert min(versions) >= Version(lowest), name


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
        if line.startswith("COPY") and "--from=" not in line:
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources), line
