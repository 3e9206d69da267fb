"""What a service stores is stored once, also when the answer of the server to a commit is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from queued import ANA, BEN, QUEUED, spec
from test_store_faults import Proxy

from sparsesearch.errors import UserInputError
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.access import Scope
from sparsesearch.study.notification import NotifiedEvent
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.submission import Changes


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    proxy = Proxy(SimpleNamespace(url=postgres_url))  # type: ignore[arg-type]
    yield proxy
    proxy.close()


@pytest.fixture
def through(proxy: Proxy) -> Iterator[SqlStore]:
    store = open_store(proxy.url)
    yield store
    store.close()


@pytest.fixture
def direct(postgres_url: str, through: SqlStore) -> Iterator[SqlStore]:
    store = open_store(postgres_url)
    yield store
    store.close()


def unheard(proxy: Proxy, write: Callable[[], object]) -> object:
    cuts = proxy.cuts
    proxy.armed = True
    result = write()
    assert proxy.cuts == cuts + 1, "the connection was not cut"
    return result


def test_a_study_of_the_queue(proxy: Proxy, through: SqlStore, direct: SqlStore) -> None:
    for name in ("digits", "other"):
        unheard(proxy, lambda name=name: through.queue.submit(spec(name), by=ANA))  # type: ignore[misc]
    unheard(proxy, lambda: through.queue.change("digits", Changes(max_concurrent=2), priority=1, by=ANA))
    claim = unheard(proxy, through.queue.claim)
    assert claim is not None
    assert claim.study == "digits"
    assert direct.condition("other") == QUEUED, "one claim takes one study"
    writer = unheard(proxy, lambda: through.open_claimed("digits", claim.lease))
    unheard(proxy, lambda: through.queue.request("digits", StopRequest.PAUSE, by=BEN))
    unheard(proxy, writer.close)
    unheard(proxy, lambda: through.queue.enqueue("digits", by=BEN))
    unheard(proxy, lambda: through.queue.give_back("digits", "no network"))
    submission = direct.queue.submission("digits")
    assert submission is not None
    assert submission.num_faults == 1
    unheard(proxy, lambda: through.queue.request("digits", StopRequest.CANCEL, by=BEN))
    assert direct.condition("digits").state is StudyState.CANCELLED
    unheard(proxy, lambda: through.queue.delete("digits", by=BEN))
    actions = [entry.action for entry in direct.queue.audit(what="digits")[::-1]]
    assert actions == ["submit", "change", "pause", "resume", "cancel", "delete"]


def test_tokens(proxy: Proxy, through: SqlStore, direct: SqlStore) -> None:
    secret = unheard(proxy, lambda: through.tokens.create("ci", Scope.READ, by=ANA))
    assert unheard(proxy, lambda: through.tokens.find(secret)) == direct.tokens.find(secret).model_copy(
        update={"used_at": None}
    )
    unheard(proxy, lambda: through.tokens.revoke("ci", by=ANA))
    assert direct.tokens.find(secret) is None
    assert [entry.action for entry in direct.queue.audit()] == ["revoke token", "create token"]


def test_webhooks(proxy: Proxy, through: SqlStore, direct: SqlStore) -> None:
    hook = unheard(proxy, lambda: through.webhooks.add("http://a/b", events=list(NotifiedEvent), by=ANA))
    assert direct.webhooks.all() == [hook]
    through.queue.submit(spec("digits"), by=ANA)
    unheard(proxy, lambda: through.webhooks.tell_best("digits", 3, {}, was=None))
    assert len(direct.webhooks.deliveries(hook.id)) == 1
    ((delivery, _),) = direct.webhooks.due()
    unheard(proxy, lambda: through.webhooks.settle(delivery, status="delivered", next_at=None))
    unheard(proxy, lambda: through.controllers.beat("one", host="a", pid=7, slots=2, running=[]))
    assert len(direct.controllers.all()) == 1
    unheard(proxy, lambda: through.webhooks.delete(hook.id, by=ANA))
    assert direct.webhooks.all() == []
    with pytest.raises(UserInputError):
        through.webhooks.delete(hook.id, by=ANA)
    assert [entry.action for entry in direct.queue.audit(what=hook.id)] == ["delete webhook", "create webhook"]
