"""What several folders of tests use: MLflow databases and servers, and a browser. All of them are the real thing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from mlflow_server import MlflowServer

from sparsesearch.settings import Settings

hypothesis_settings.register_profile("busy", deadline=None)  # what an example takes says nothing on a busy machine
hypothesis_settings.load_profile("busy")


@pytest.fixture(autouse=True)
def _no_mlflow_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with tables and nothing in them; making one takes seconds."""
    from sparsesearch.tracking.connection import apply_environment

    apply_environment()
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def settings(tmp_path: Path, mlflow_tables: Path) -> Settings:
    """A home whose MLflow database has its tables."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(mlflow_tables, home / "mlflow.db")
    return Settings(home=home, database_url=f"sqlite:///{home / 'studies.db'}")


@pytest.fixture
def mlflow_server(tmp_path: Path, mlflow_tables: Path) -> Iterator[MlflowServer]:
    """An MLflow server that has not been started yet; it keeps its runs when it is stopped and started again."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(mlflow_tables, folder / "mlflow.db")
    server = MlflowServer(folder)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def running_mlflow_server(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Iterator[MlflowServer]:
    """An MLflow server that many tests share."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(mlflow_tables, folder / "mlflow.db")
    server = MlflowServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """The document that a headless browser without a network makes of a file."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("these tests need a browser; run: apt-get install chromium", pytrace=False)
    profile = tmp_path_factory.mktemp("browser")

    def open_file(page: Path) -> str:
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--proxy-server=127.0.0.1:9",
            f"--user-data-dir={profile}",
            "--window-size=1200,1000",
            "--virtual-time-budget=10000",
            "--dump-dom",
            page.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return open_file
