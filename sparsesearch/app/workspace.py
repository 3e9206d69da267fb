"""What the use cases work on: the settings and the study store."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.settings import Settings
from sparsesearch.store.sql import SqlStore, open_store


@dataclass(frozen=True)
class Workspace:
    """The settings and the study store that belong together.

    Attributes:
        settings: Where studies, checkpoints, shared trainings and MLflow are.
        store: The study store.
    """

    settings: Settings
    store: SqlStore

    @classmethod
    def open(cls, database: str | None = None) -> Workspace:
        """Open the workspace of this process; the tables of a new database are created.

        Args:
            database: Address or file of the study database; None for that of the environment, or the default one.

        Raises:
            StoreError: The database cannot be opened, or belongs to another program.
            StoreVersionError: It is at another revision than this version needs.
        """
        settings = Settings.from_environment(database_url=database)
        return cls(settings, open_store(settings.database_url))
