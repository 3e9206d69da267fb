"""What is checked, and what a check found."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.settings import Settings
from sparsesearch.value import Value


class Surroundings(Value):
    """What studies would use.

    Attributes:
        settings: Home, database and MLflow.
        storage: Folder of the checkpoints.
        ray_address: Address of a Ray cluster; None for a Ray that is started on this machine.
        device: `auto`, `cpu` or `cuda[:N]`.
    """

    settings: Settings
    storage: Path
    ray_address: str | None = None
    device: str = "auto"


class Finding(Value):
    """The result of one check.

    Attributes:
        check: What was checked.
        ok: Whether studies can use it.
        detail: What was found, in one line.
        fix: What to do if they cannot.
    """

    check: str
    ok: bool
    detail: str
    fix: str = ""


class FailedCheckError(Exception):
    """Ends a check: what is wrong, and what to do.

    Attributes:
        detail: What is wrong.
        fix: What to do.
    """

    def __init__(self, detail: str, *, fix: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fix = fix
