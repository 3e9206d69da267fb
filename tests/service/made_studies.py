"""Studies of all kinds, and browsers that look at them."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient
from queued_studies import begun, finished
from served import Api

from sparsesearch.service.access import COOKIE
from sparsesearch.store.audit import Actor
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.state import StudyState

HOST = "http://testserver"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ANN, BEN = Actor("ann"), Actor("ben")


def queued(name: str) -> StudySpec:
    return StudySpec(name=name, backbone="deit_pico", budget=Budget(high=0.65))


def fill(api: Api) -> Api:
    """Add `front`, which is finished, `broken`, which has failed, and `first` and `second`, which are queued."""
    finished(api.store, "front", evaluations=24, finalists=4)
    writer = begun(api.store, queued("broken"))
    writer.set_state(StudyState.FAILED, reason=f"no such folder {EVIL}")
    writer.close()
    api.store.queue.submit(queued("first"), by=ANN)
    api.store.queue.submit(queued("second"), by=BEN, priority=-5)
    return api


def browser(app: FastAPI, secret: str | None = None) -> TestClient:
    """What sends forms from our own pages, and follows no redirect by itself."""
    made = TestClient(app, base_url=HOST, headers={"Origin": HOST}, follow_redirects=False)
    if secret is not None:
        made.cookies.set(COOKIE, secret, domain="testserver.local")
    return made
