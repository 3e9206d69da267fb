"""Access tokens, and the controllers of a service, on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from queued import ANA, BEN, Clock, opening

from sparsesearch.errors import UserInputError
from sparsesearch.store.sql import SqlStore
from sparsesearch.store.tables import metadata
from sparsesearch.study.access import Scope, Token

DAY_S = 86_400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], SqlStore]]:
    url = f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with opening(url, clock) as again:
        yield again


@pytest.fixture
def store(open_again: Callable[[], SqlStore]) -> SqlStore:
    return open_again()


def trail(store: SqlStore) -> list[tuple[str, str, str, str | None]]:
    return [(entry.who, entry.action, entry.what, entry.after) for entry in store.queue.audit()[::-1]]


class TestTokens:
    def test_a_secret_finds_its_token(self, store: SqlStore, open_again: Callable[[], SqlStore], clock: Clock) -> None:
        secret = store.tokens.create("ci", Scope.SUBMIT, by=ANA)
        assert open_again().tokens.find(secret) == Token(name="ci", scope=Scope.SUBMIT, created_at=clock.now)
        other = store.tokens.create("other", Scope.READ, by=BEN)
        assert other != secret
        assert [token.name for token in store.tokens.all()] == ["ci", "other"]
        assert trail(store) == [("ana", "create token", "ci", "submit"), ("ben", "create token", "other", "read")]

    def test_secrets_are_long_and_not_stored(self, store: SqlStore, tmp_path: Path) -> None:
        secret = store.tokens.create("ci", Scope.ADMIN, by=ANA)
        assert secret.startswith("sk_")
        assert len(secret) >= 43
        with store._database.reading() as connection:
            stored = repr([connection.execute(table.select()).all() for table in metadata.sorted_tables]).encode()
        stored += b"".join(path.read_bytes() for path in tmp_path.glob("a.db*"))
        assert hashlib.sha256(secret.encode()).hexdigest().encode() in stored
        assert secret.removeprefix("sk_").encode() not in stored

    @pytest.mark.parametrize("wrong", ["", "sk_", "sk_unknown", "\udce4", "x" * 10_000])
    def test_other_secrets_find_nothing(self, store: SqlStore, wrong: str) -> None:
        secret = store.tokens.create("ci", Scope.READ, by=ANA)
        hashed = hashlib.sha256(secret.encode()).hexdigest()
        for attempt in (wrong, secret[:-1], secret + "a", secret.upper(), hashed):
            assert store.tokens.find(attempt) is None
        assert store.tokens.all()[0].used_at is None

    def test_it_expires(self, store: SqlStore, clock: Clock) -> None:
        secret = store.tokens.create("ci", Scope.READ, by=ANA, lifetime_s=DAY_S)
        clock.now += DAY_S - 1
        assert store.tokens.find(secret) is not None
        assert store.tokens.any_valid()
        clock.now += 1
        assert store.tokens.find(secret) is None
        assert not store.tokens.any_valid()
        assert [token.expires_at for token in store.tokens.all()] == [clock.now]

    def test_it_is_revoked_at_once(self, store: SqlStore, open_again: Callable[[], SqlStore], clock: Clock) -> None:
        secret = store.tokens.create("ci", Scope.READ, by=ANA)
        clock.now += 1
        open_again().tokens.revoke("ci", by=BEN)
        assert store.tokens.find(secret) is None
        assert not store.tokens.any_valid()
        assert [token.revoked_at for token in store.tokens.all()] == [clock.now]
        clock.now += 1
        for name in ("ci", "other"):
            with pytest.raises(UserInputError, match=rf"no token '{name}' that is valid"):
                store.tokens.revoke(name, by=BEN)
        assert trail(store)[1:] == [("ben", "revoke token", "ci", None)], "what is refused leaves no trace"

    @pytest.mark.parametrize("how", ["revoked", "expired"])
    def test_a_name_may_be_used_again_when_it_is_free(self, store: SqlStore, clock: Clock, how: str) -> None:
        old = store.tokens.create("ci", Scope.ADMIN, by=ANA, lifetime_s=DAY_S)
        with pytest.raises(UserInputError, match=r"token 'ci' already exists; .*sparsesearch token revoke ci"):
            store.tokens.create("ci", Scope.READ, by=ANA)
        clock.now += DAY_S / 2 if how == "revoked" else DAY_S
        if how == "revoked":
            store.tokens.revoke("ci", by=ANA)
        new = store.tokens.create("ci", Scope.READ, by=ANA)
        assert store.tokens.find(old) is None
        found = store.tokens.find(new)
        assert found is not None
        assert (found.scope, found.created_at, found.revoked_at) == (Scope.READ, clock.now, None)
        assert len(store.tokens.all()) == 1

    @pytest.mark.parametrize("name", ["", "-a", "a b", "a\n", "a/b", "x" * 81, "é"])
    def test_names_are_plain(self, store: SqlStore, name: str) -> None:
        with pytest.raises(UserInputError, match="invalid token name"):
            store.tokens.create(name, Scope.READ, by=ANA)
        assert store.tokens.all() == []

    def test_one_of_many_creates_it(self, open_again: Callable[[], SqlStore]) -> None:
        stores = [open_again() for _ in range(6)]
        start = threading.Barrier(len(stores))
        outcomes: list[object] = []

        def create(store: SqlStore) -> None:
            start.wait()
            try:
                outcomes.append(store.tokens.create("ci", Scope.READ, by=ANA))
            except Exception as error:
                outcomes.append(error)

        threads = [threading.Thread(target=create, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        secrets = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert len(secrets) == 1
        assert sum(isinstance(outcome, UserInputError) for outcome in outcomes) == 5
        assert stores[0].tokens.find(secrets[0]) is not None
        assert len(trail(stores[0])) == 1

    def test_its_use_is_noted_once_a_minute(self, store: SqlStore, clock: Clock) -> None:
        secret = store.tokens.create("ci", Scope.READ, by=ANA)
        noted = []
        for _ in range(5):
            clock.now += 25
            store.tokens.find(secret)
            noted.append(store.tokens.all()[0].used_at)
        first = clock.now - 100
        assert noted == [first, first, first, first + 75, first + 75]

    def test_a_scope_includes_those_before_it(self) -> None:
        scopes = [Scope.READ, Scope.SUBMIT, Scope.ADMIN]
        included = [[scope.includes(other) for other in scopes] for scope in scopes]
        assert included == [[True, False, False], [True, True, False], [True, True, True]]


class TestControllers:
    def test_they_show_that_they_live(self, store: SqlStore, open_again: Callable[[], SqlStore], clock: Clock) -> None:
        store.controllers.beat("one", host="a", pid=7, slots=2, running=["y", "x"])
        started = clock.now
        clock.now += 10
        store.controllers.beat("one", host="a", pid=7, slots=3, running=[])
        store.controllers.beat("two", host="b", pid=8, slots=1, running=["z"])
        two, one = open_again().controllers.alive()
        assert (one.id, one.host, one.pid, one.slots, one.running) == ("one", "a", 7, 3, ())
        assert (one.started_at, one.seen_at) == (started, clock.now)
        assert (two.id, two.running, two.started_at) == ("two", ("z",), clock.now)
        store.controllers.beat("two", host="b", pid=8, slots=1, running=["y", "x"])
        assert store.controllers.alive()[0].running == ("x", "y")

    def test_a_silent_one_counts_as_lost(self, store: SqlStore, clock: Clock) -> None:
        for name in ("one", "two"):
            store.controllers.beat(name, host="a", pid=7, slots=2, running=[])
        clock.now += 29
        store.controllers.beat("two", host="a", pid=7, slots=2, running=[])
        assert len(store.controllers.alive()) == 2
        clock.now += 1
        assert [one.id for one in store.controllers.alive()] == ["two"]
        assert len(store.controllers.all()) == 2
        store.controllers.beat("one", host="a", pid=7, slots=2, running=[])
        assert len(store.controllers.alive()) == 2, "it was only slow"

    def test_they_leave(self, store: SqlStore, clock: Clock) -> None:
        for name in ("one", "two", "three"):
            store.controllers.beat(name, host="a", pid=7, slots=2, running=[])
        store.controllers.leave("one")
        store.controllers.leave("one")
        assert {one.id for one in store.controllers.all()} == {"two", "three"}
        clock.now += DAY_S - 1
        store.controllers.beat("three", host="a", pid=7, slots=2, running=[])
        clock.now += 2
        store.controllers.beat("four", host="a", pid=7, slots=2, running=[])
        assert {one.id for one in store.controllers.all()} == {"three", "four"}, "after a day they are forgotten"
