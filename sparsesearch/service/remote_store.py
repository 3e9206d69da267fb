"""The studies of a service, as its database has them: what reads a store reads this as well."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sparsesearch.errors import StoreVersionError, one_line
from sparsesearch.service.client import ServiceClient
from sparsesearch.service.record_codec import MOST_TRIALS, parsed
from sparsesearch.study.digest import FrontNumbers, Span, StudyDigest, StudySummary, TrialRow
from sparsesearch.study.hits import Hits
from sparsesearch.study.protocols import Studies
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition
from sparsesearch.study.trial import Axis, Fidelity, StudyTimes, Trial, TrialState


class RemoteStore(Studies):
    """The studies of a service; see `StudyRecords`.

    Args:
        client: Requests to the service.
    """

    def __init__(self, client: ServiceClient) -> None:
        self.client = client

    def spec(self, name: str) -> StudySpec:
        """The study's document. Raises `StudyNotFoundError`."""
        found: StudySpec = self._ask(name, "spec")
        return found

    def uid(self, name: str) -> str:
        """The study's unique id. Raises `StudyNotFoundError`."""
        return str(self._ask(name, "uid"))

    def trials(
        self,
        name: str,
        *,
        states: Collection[TrialState] | None = None,
        numbers: Collection[int] | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Sequence[Trial]:
        """Trials in order of their numbers; see `StudyRecords.trials`."""
        chosen = {
            "states": None if states is None else [state.value for state in states],
            "numbers": None if numbers is None else sorted(numbers),
        }
        found: list[Trial] = []
        while True:
            asked = MOST_TRIALS if limit is None else min(MOST_TRIALS, limit - len(found))
            page: list[Trial] = self._ask(name, "trials", **chosen, offset=offset + len(found), limit=asked)
            found += page
            if len(page) < asked or len(found) == limit:
                return found

    def times(self, name: str, *, numbers: Collection[int] | None = None) -> StudyTimes:
        """Times of the study and its trials; see `StudyRecords.times`."""
        found: StudyTimes = self._ask(name, "times", numbers=None if numbers is None else sorted(numbers))
        return found

    def hits(self, name: str, numbers: Collection[int]) -> Mapping[int, Hits]:
        """Which images trials classify correctly; see `StudyRecords.hits`."""
        found: Mapping[int, Hits] = self._ask(name, "hits", numbers=sorted(numbers))
        return found

    def condition(self, name: str) -> StudyCondition:
        """Its state, and what is known with it. Raises `StudyNotFoundError`."""
        found: StudyCondition = self._ask(name, "condition")
        return found

    def digest(self, name: str) -> StudyDigest:
        """Its trials in numbers. Raises `StudyNotFoundError`."""
        found: StudyDigest = self._ask(name, "digest")
        return found

    def rows(self, name: str) -> Sequence[TrialRow]:
        """A little of every trial. Raises `StudyNotFoundError`."""
        found: list[TrialRow] = self._ask(name, "rows")
        return found

    def front(self, name: str, fidelity: Fidelity, axis: Axis) -> FrontNumbers:
        """The front of the complete trials of a fidelity; see `StudyRecords.front`."""
        found: FrontNumbers = self._ask(name, "front", fidelity=fidelity.value, axis=axis)
        return found

    def spans(self, name: str, fidelity: Fidelity) -> Sequence[Span]:
        """When the measurements of a fidelity were taken."""
        found: list[Span] = self._ask(name, "spans", fidelity=fidelity.value)
        return found

    def summaries(self, *, newest: int | None = None) -> Sequence[StudySummary]:
        """All studies, or the newest so many, oldest first."""
        found: list[StudySummary] = _read("summaries", self.client.request("POST", "/records", json={"newest": newest}))
        return found

    def studies(self) -> Sequence[str]:
        """Names of all studies, oldest first."""
        return [one.spec.name for one in self.summaries()]

    def request(self, name: str, request: StopRequest) -> StudyCondition:
        """Ask the service to stop a study, and return its new condition; see `StudyStore.request`."""
        verb = "cancel" if request is StopRequest.CANCEL else "pause"
        self.client.request("POST", f"/studies/{quote(name, safe='')}/{verb}")
        return self.condition(name)

    def delete_study(self, name: str) -> None:
        """Remove a study with its trials and checkpoints."""
        self.client.request("DELETE", f"/studies/{quote(name, safe='')}")

    def resume(self, name: str) -> StudyCondition:
        """Queue a study again."""
        self.client.request("POST", f"/studies/{quote(name, safe='')}/resume")
        return self.condition(name)

    def _ask(self, name: str, what: str, **arguments: object) -> Any:
        question = {"what": what, **arguments}
        return _read(what, self.client.request("POST", f"/studies/{quote(name, safe='')}/records", json=question))


def _read(what: str, response: Any) -> Any:
    try:
        return parsed(what, response.text)
    except ValueError as error:
        raise StoreVersionError(
            f"the answer of the service cannot be read ({one_line(error)[:200]}); use the version of sparsesearch that "
            "it runs"
        ) from error
