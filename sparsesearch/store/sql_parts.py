"""What else the database of studies holds: latency profiles, and what a service keeps."""

from __future__ import annotations

import time
from collections.abc import Callable

from sparsesearch.store.controllers import SqlControllers
from sparsesearch.store.database import Database
from sparsesearch.store.profiles import SqlProfiles
from sparsesearch.store.tokens import SqlTokens
from sparsesearch.store.webhooks import SqlWebhooks


class SqlParts:
    """The other parts of a study store."""

    _database: Database
    _clock: Callable[[], float] | None

    @property
    def profiles(self) -> SqlProfiles:
        """The latency profiles of the same database."""
        return SqlProfiles(self._database, clock=self._time)

    @property
    def tokens(self) -> SqlTokens:
        """The access tokens of the same database."""
        return SqlTokens(self._database, clock=self._time)

    @property
    def webhooks(self) -> SqlWebhooks:
        """The webhooks of the same database."""
        return SqlWebhooks(self._database, clock=self._time)

    @property
    def controllers(self) -> SqlControllers:
        """The controllers of the same database."""
        return SqlControllers(self._database, clock=self._time)

    @property
    def _time(self) -> Callable[[], float]:
        return self._clock or time.time
