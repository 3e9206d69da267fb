"""Latency profiles in the study database."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, delete, insert, select

from sparsesearch.errors import ProfileError
from sparsesearch.latency.profile.document import Profile, parse_profile
from sparsesearch.store.audit import Actor
from sparsesearch.store.database import Database
from sparsesearch.store.tables import profiles
from sparsesearch.study.latency_fit import shape_of_stages
from sparsesearch.study.latency_record import Conditions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class SqlProfiles:
    """The latency profiles of a database whose tables exist. Safe to use from several threads and processes."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        """Use a database; see `SqlStore.profiles`."""
        self._database = database
        self._clock = clock

    def save(self, name: str, profile: Profile, *, replace: bool = False, by: Actor | None = None) -> None:
        """Save a profile under a name.

        Args:
            name: Letters, digits, `.`, `_` and `-`.
            profile: The profile.
            replace: Whether to replace an existing profile of that name.
            by: Who is named in the audit trail; None for whoever uses the database itself.

        Raises:
            ProfileError: The name is invalid, or belongs to another profile.
        """
        if _NAME.fullmatch(name) is None:
            raise ProfileError(
                f"invalid profile name {name!r}; use at most 80 letters, digits, '.', '_' and '-', starting with a "
                "letter or digit"
            )
        document = json.dumps(profile.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

        def work(connection: Connection) -> None:
            found = connection.scalar(select(profiles.c.document).where(profiles.c.name == name))
            if found == document:
                return
            if found is not None and not replace:
                raise ProfileError(f"profile {name!r} already exists; give another --name, or use --replace")
            now, fingerprint = self._clock(), profile.conditions.fingerprint
            before = _fingerprint(connection, name)
            connection.execute(delete(profiles).where(profiles.c.name == name))
            connection.execute(
                insert(profiles).values(
                    name=name,
                    backbone=profile.geometry.name,
                    shape=shape_of_stages(profile.geometry),
                    fingerprint=fingerprint,
                    document=document,
                    created_at=now,
                )
            )
            if by is not None:
                by.note(connection, "save profile", name, at=now, before=before, after=fingerprint)

        self._database.write(work)

    def get(self, name: str) -> Profile:
        """Load a profile by its name.

        Raises:
            ProfileError: The profile does not exist, or this version cannot read it.
        """
        query = select(profiles.c.document).where(profiles.c.name == name)
        document = self._database.read(lambda connection: connection.scalar(query))
        names = [] if document is not None else self.names()
        if document is None:
            existing = f"existing profiles: {', '.join(sorted(names)[:5])}" if names else "no profiles exist yet"
            raise ProfileError(
                f"no profile {name!r} in {self._database.where}; {existing}; create one with: sparsesearch profile, or "
                "sparsesearch profile import FILE"
            )
        return parse_profile(json.loads(document), what=f"profile {name!r}")

    def names(self) -> Sequence[str]:
        """Return the names of all profiles, in alphabetical order."""
        query = select(profiles.c.name).order_by(profiles.c.name)
        return self._database.read(lambda connection: list(connection.scalars(query)))

    def find(self, *, shape: str, conditions: Conditions) -> Sequence[tuple[str, Profile]]:
        """Return the profiles of a backbone under exactly these conditions, with their names, newest first.

        Args:
            shape: The result of `shape_of_stages` for the backbone.
            conditions: Conditions of the target.

        Raises:
            ProfileError: This version cannot read one of them.
        """
        query = (
            select(profiles.c.name, profiles.c.document)
            .where(profiles.c.fingerprint == conditions.fingerprint, profiles.c.shape == shape)
            .order_by(profiles.c.created_at.desc(), profiles.c.name)
        )
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return [(name, parse_profile(json.loads(text), what=f"profile {name!r}")) for name, text in rows]

    def delete(self, name: str, *, by: Actor | None = None) -> None:
        """Delete a profile; `by` is named in the audit trail. Raises `ProfileError` if it does not exist."""
        self.get(name)

        def work(connection: Connection) -> None:
            before = _fingerprint(connection, name)
            connection.execute(delete(profiles).where(profiles.c.name == name))
            if by is not None and before is not None:  # otherwise by an earlier attempt
                by.note(connection, "delete profile", name, at=self._clock(), before=before)

        self._database.write(work)


def _fingerprint(connection: Connection, name: str) -> str | None:
    return connection.scalar(select(profiles.c.fingerprint).where(profiles.c.name == name))
