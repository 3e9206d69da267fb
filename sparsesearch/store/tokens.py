"""Access tokens in the study database: only hashes of their secrets are stored."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, delete, insert, select, text, update

from sparsesearch.errors import UserInputError
from sparsesearch.store.audit import Actor
from sparsesearch.store.database import Database
from sparsesearch.store.service_tables import tokens
from sparsesearch.study.access import Scope, Token

PREFIX = "sk_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SECRET_BYTES = 32
_USED_EVERY_S = 60.0


class SqlTokens:
    """The tokens of a database whose tables exist. Safe to use from several threads and processes.

    Secrets are 32 random bytes, so that a plain SHA-256 cannot be reversed; it is found by an index, and compared in
    constant time.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        """Use a database; see `SqlStore.tokens`."""
        self._database = database
        self._clock = clock

    def create(self, name: str, scope: Scope, *, by: Actor, lifetime_s: float | None = None) -> str:
        """Create a token and return its secret, which is not stored.

        Args:
            name: Letters, digits, `.`, `_` and `-`. The name of a token that was revoked or has expired may be used
                again.
            scope: What it allows.
            by: Who creates it.
            lifetime_s: Seconds after which it expires; None for never.

        Raises:
            UserInputError: The name is invalid, or belongs to a valid token.
        """
        if _NAME.fullmatch(name) is None:
            raise UserInputError(
                f"invalid token name {name!r}; use at most 80 letters, digits, '.', '_' and '-', starting with a "
                "letter or digit"
            )
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        now = self._clock()

        def work(connection: Connection) -> None:
            if not self._database.is_sqlite:  # SQLite write transactions are exclusive
                connection.execute(text("LOCK TABLE tokens IN SHARE ROW EXCLUSIVE MODE"))
            row = connection.execute(select(tokens).where(tokens.c.name == name)).mappings().first()
            if row is not None and row["sha256"] == _hashed(secret):  # by an earlier attempt
                return
            if row is not None and _token(row).is_valid(now):
                raise UserInputError(
                    f"token {name!r} already exists; choose another name, or: sparsesearch token revoke {name}"
                )
            connection.execute(delete(tokens).where(tokens.c.name == name))
            expires_at = None if lifetime_s is None else now + lifetime_s
            values = {"name": name, "sha256": _hashed(secret), "scope": scope.value, "created_at": now}
            connection.execute(insert(tokens).values(**values, expires_at=expires_at))
            by.note(connection, "create token", name, at=now, after=scope.value)

        self._database.write(work)
        return secret

    def find(self, secret: str) -> Token | None:
        """Return the valid token of a secret; None if there is none. Its last use is noted once a minute."""
        hashed, now = _hashed(secret), self._clock()
        query = select(tokens).where(tokens.c.sha256 == hashed)
        row = self._database.read(lambda connection: connection.execute(query).mappings().first())
        if row is None or not secrets.compare_digest(row["sha256"], hashed):
            return None
        token = _token(row)
        if not token.is_valid(now):
            return None
        if token.used_at is None or now - token.used_at > _USED_EVERY_S:
            used = update(tokens).where(tokens.c.sha256 == hashed).values(used_at=now)
            self._database.write(lambda connection: connection.execute(used))
        return token

    def revoke(self, name: str, *, by: Actor) -> None:
        """Make a token invalid at once. Raises `UserInputError` if there is no such valid token."""
        now = self._clock()

        def work(connection: Connection) -> None:
            row = connection.execute(select(tokens).where(tokens.c.name == name)).mappings().first()
            if row is not None and row["revoked_at"] == now:  # by an earlier attempt
                return
            if row is None or row["revoked_at"] is not None:
                raise UserInputError(f"no token {name!r} that is valid; list them with: sparsesearch token list")
            connection.execute(update(tokens).where(tokens.c.name == name).values(revoked_at=now))
            by.note(connection, "revoke token", name, at=now, before=row["scope"])

        self._database.write(work)

    def all(self) -> Sequence[Token]:
        """Return all tokens, by name."""
        query = select(tokens).order_by(tokens.c.name)
        rows = self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [_token(row) for row in rows]

    def any_valid(self) -> bool:
        """Whether there is a token with which the service could be used."""
        now = self._clock()
        return any(token.is_valid(now) for token in self.all())


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _token(row: object) -> Token:
    return Token.model_validate({name: row[name] for name in Token.model_fields})  # type: ignore[index]
