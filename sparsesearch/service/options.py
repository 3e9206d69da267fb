"""How a service is set up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sparsesearch.files.user_path import user_path

MAX_BODY_BYTES = 2 * 2**20


@dataclass(frozen=True)
class ServiceOptions:
    """The options of `sparsesearch serve`.

    Attributes:
        data_roots: Folders whose content submitted studies may read: data, weights and checkpoints.
        rate: Requests a second that one token may make, on average; twice as many at once.
        max_body_bytes: The largest body of a request.
        mlflow_url: Address of MLflow's pages, for links; None for none.
        allow_private_webhooks: Whether webhooks may be sent to addresses that are not public.
        secure_cookies: Whether the cookie of the pages is only sent over HTTPS.
        results: Folder into which controllers write the files of finished studies; None for none.
        proxies: Addresses or networks of proxies, which say for whom they ask.
    """

    data_roots: tuple[Path, ...] = ()
    rate: float = 200.0
    max_body_bytes: int = MAX_BODY_BYTES
    mlflow_url: str | None = None
    allow_private_webhooks: bool = False
    secure_cookies: bool = False
    results: Path | None = None
    proxies: tuple[str, ...] = ()

    @classmethod
    def roots_of_environment(cls) -> tuple[Path, ...]:
        """The folders of `SPARSESEARCH_DATA_ROOTS`, separated by colons."""
        names = os.environ.get("SPARSESEARCH_DATA_ROOTS", "").split(os.pathsep)
        return tuple(user_path(name).resolve() for name in names if name.strip())
