"""`sparsesearch.Client`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

from sparsesearch.api.study import Study
from sparsesearch.app.run_arguments import RunArguments, requested_document
from sparsesearch.app.study_request import read_request
from sparsesearch.errors import SpecError
from sparsesearch.service.client import ServiceClient, server_of_environment
from sparsesearch.service.remote_store import RemoteStore


class Client:
    """A service that runs studies.

    Args:
        server: Its address, such as `https://search.example.org`; None for `SPARSESEARCH_SERVER`.
        token: A token of `sparsesearch token create`; None for `SPARSESEARCH_TOKEN`.

    Raises:
        SpecError: There is no address or no token.

    Example:
        >>> client = sparsesearch.Client("http://localhost:8000")
        >>> study = client.submit(backbone="deit_pico", budget="60%")
        >>> study.wait()
        >>> study.front()
    """

    def __init__(self, server: str | None = None, token: str | None = None) -> None:
        address = server or server_of_environment()
        if address is None:
            raise SpecError("no server; give its address, or set SPARSESEARCH_SERVER")
        self._client = ServiceClient(address, token)
        self._store = RemoteStore(self._client)

    def submit(
        self,
        document: str | Path | Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
        **options: Unpack[RunArguments],
    ) -> Study:
        """Submit a study and return it; it is run when a controller of the service takes it from the queue.

        Args:
            document: A study document as a file or as plain data; the options override its keys.
            priority: Studies of a higher priority are run first.
            options: See `RunArguments`. Paths are those that the service sees.

        Raises:
            UserInputError: The study asks for something that is not possible, or that the service does not allow.
            InfrastructureError: The service does not answer.
        """
        given = (
            document if isinstance(document, Mapping) else read_request(None if document is None else Path(document))
        )
        return Study(self._client.submit(requested_document(given, options), priority=priority), self._store)

    def study(self, name: str) -> Study:
        """A study of the service. Raises `StudyNotFoundError` if there is none of that name."""
        self._store.spec(name)
        return Study(name, self._store)

    def studies(self) -> list[str]:
        """Names of all studies, oldest first."""
        return list(self._store.studies())

    def events(self, study: str, *, after: str = "") -> Iterator[dict[str, Any]]:
        """The changes of a study as they come: `id`, `event` (`trial`, `study` or `end`) and `data`.

        Args:
            study: Its name.
            after: The `id` of the last event that was received; those after it come first.
        """
        return self._client.events(study, after=after)
