"""Settings that are read from environment variables: locations of files and servers."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from sparsesearch.files.user_path import user_path
from sparsesearch.value import Value


class Settings(Value):
    """Locations, read once from the environment.

    Attributes:
        home: Folder for the default database, caches and checkpoints.
        database_url: SQLAlchemy URL of the study store.
        data: Default data source, or None for the bundled task.
        mlflow_tracking_uri: MLflow tracking URI, or None for a database in `home`.
    """

    home: Path
    database_url: str
    data: str | None = None
    mlflow_tracking_uri: str | None = None

    @property
    def cache(self) -> Path:
        """Folder for artifacts that can be recomputed (dense teachers, supernet weights)."""
        return self.home / "cache"

    @property
    def storage(self) -> Path:
        """Folder for the checkpoints and artifacts of studies."""
        return self.home / "storage"

    @property
    def mlflow_uri(self) -> str:
        """URI of the MLflow store in use; never a file in the working directory."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> Path:
        """Folder for MLflow artifacts when there is no MLflow server to store them."""
        return self.home / "mlflow-artifacts"

    @classmethod
    def from_environment(cls, *, database_url: str | None = None) -> Settings:
        """Read `SPARSESEARCH_HOME`, `SPARSESEARCH_DATABASE_URL`, `SPARSESEARCH_DATA` and `MLFLOW_TRACKING_URI`.

        Without `SPARSESEARCH_HOME`, a `./.sparsesearch` folder is used if it exists, otherwise the user's data
        folder, so that studies are found from any working directory.

        Args:
            database_url: Overrides the environment (the `--database` flag).

        Raises:
            UserInputError: `SPARSESEARCH_HOME` cannot be the name of a folder.
        """
        env_home = os.environ.get("SPARSESEARCH_HOME")
        local = Path.cwd() / ".sparsesearch"
        if env_home:
            home = user_path(env_home).resolve()
        elif local.is_dir():
            home = local
        else:
            home = Path(platformdirs.user_data_dir("sparsesearch", appauthor=False))
        url = database_url or os.environ.get("SPARSESEARCH_DATABASE_URL") or f"sqlite:///{home / 'studies.db'}"
        return cls(
            home=home,
            database_url=url,
            data=os.environ.get("SPARSESEARCH_DATA") or None,
            mlflow_tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or None,
        )
