"""Who may use a service: tokens and what they allow."""

from __future__ import annotations

from enum import StrEnum

from sparsesearch.value import Value


class Scope(StrEnum):
    """What a token allows; each scope includes those before it.

    Attributes:
        READ: Look at studies, trials, fronts and profiles.
        SUBMIT: Submit studies; pause, resume, cancel, change and delete those of the same owner.
        ADMIN: The same with the studies of everybody, and webhooks, profiles and the audit trail.
    """

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        """Whether this scope allows what the other one allows."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


class Token(Value):
    """An access token, without its secret.

    Attributes:
        name: Its name, which is the owner of what it submits.
        scope: What it allows.
        created_at: Unix time of its creation.
        expires_at: Unix time at which it expires; None if it does not.
        revoked_at: Unix time at which it was revoked; None if it was not.
        used_at: Unix time of its last use, within a minute; None if it was never used.
    """

    name: str
    scope: Scope
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it can be used at a time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
