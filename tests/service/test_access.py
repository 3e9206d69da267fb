"""Who may use which route."""

from __future__ import annotations

import pytest
from served import API, Api, bearer, line

from sparsesearch.service.access import COOKIE
from sparsesearch.service.routes import audit, document, events, profiles, records, results, studies, trials, webhooks
from sparsesearch.service.strangers import Strangers
from sparsesearch.store.audit import Actor
from sparsesearch.store.tokens import SqlTokens
from sparsesearch.study.access import Scope
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyState

HOOK = f"wh_{'0' * 32}"
LOWEST = {
    ("GET", "/openapi.json"): "read",
    ("GET", "/studies/{name}/model"): "read",
    ("GET", "/studies/{name}/picture"): "read",
    ("GET", "/studies"): "read",
    ("POST", "/studies"): "submit",
    ("GET", "/studies/{name}"): "read",
    ("PATCH", "/studies/{name}"): "submit",
    ("DELETE", "/studies/{name}"): "submit",
    ("POST", "/studies/{name}/pause"): "submit",
    ("POST", "/studies/{name}/cancel"): "submit",
    ("POST", "/studies/{name}/resume"): "submit",
    ("GET", "/studies/{name}/trials"): "read",
    ("GET", "/studies/{name}/front"): "read",
    ("GET", "/studies/{name}/report"): "read",
    ("GET", "/studies/{name}/recipe"): "read",
    ("GET", "/studies/{name}/events"): "read",
    ("POST", "/studies/{name}/records"): "read",
    ("POST", "/records"): "read",
    ("GET", "/profiles"): "read",
    ("GET", "/profiles/{name}"): "read",
    ("PUT", "/profiles/{name}"): "submit",
    ("DELETE", "/profiles/{name}"): "admin",
    ("GET", "/webhooks"): "submit",
    ("POST", "/webhooks"): "submit",
    ("DELETE", "/webhooks/{webhook_id}"): "submit",
    ("GET", "/webhooks/{webhook_id}/deliveries"): "submit",
    ("GET", "/audit"): "admin",
    ("GET", "/metrics"): "read",
}
"""The lowest scope that may use each route."""

BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/studies"): {},
    ("PATCH", "/studies/{name}"): {"priority": 1},
    ("POST", "/studies/{name}/records"): {"what": "uid"},
    ("POST", "/records"): {},
    ("PUT", "/profiles/{name}"): {},
    ("POST", "/webhooks"): {"url": "ftp://x"},
}
routes = pytest.mark.parametrize("route", sorted(LOWEST), ids=" ".join)


def ask(api: Api, route: tuple[str, str], **options: object) -> object:
    prefix = "" if route[1] == "/metrics" else API
    path = prefix + route[1].replace("{name}", "mine").replace("{webhook_id}", HOOK)
    return api.caller().request(route[0], path, json=BODIES.get(route), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """An API with a study `mine` that is over."""
    api = Api(tmp_path_factory.mktemp("api"))
    api.submit("ann", name="mine")
    api.store.queue.request("mine", StopRequest.CANCEL, by=Actor("ann"))
    return api


def test_every_route_is_in_the_table(shared: Api) -> None:
    modules = (audit, events, profiles, records, results, studies, trials, webhooks, document)
    found = {(method, route.path) for module in modules for route in module.router.routes for method in route.methods}
    assert found | {("GET", "/metrics")} == set(LOWEST)
    documented = {
        (method.upper(), path.removeprefix(API))
        for path, operations in shared.app.openapi()["paths"].items()
        for method in operations
    }
    health = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}
    hidden = {("POST", "/studies/{name}/records"), ("POST", "/records")}
    assert documented == (found | health) - hidden


@routes
def test_without_a_valid_token_nothing_is_answered(shared: Api, route: tuple[str, str]) -> None:
    store = shared.store
    expired = store.tokens.create(f"expired-{sorted(LOWEST).index(route)}", Scope.ADMIN, by=Actor("t"), lifetime_s=-1.0)
    revoked = store.tokens.create("revoked", Scope.ADMIN, by=Actor("test"))
    store.tokens.revoke("revoked", by=Actor("test"))
    secret = shared.secrets["root"]
    for headers in (
        {},
        bearer("sk_unknown"),
        bearer(expired),
        bearer(revoked),
        bearer(""),
        bearer(secret[:-1]),
        {"Authorization": f"Basic {secret}"},
        {"Authorization": secret},
        {"X-Api-Key": secret},
        {"Cookie": f"{COOKIE}=sk_unknown"},
        {"Cookie": f"other={secret}"},
    ):
        shared.app.state.strangers = Strangers(1e9)
        answer = ask(shared, route, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "sparsesearch token create" in line(answer)


@routes
def test_a_scope_that_is_too_low_is_refused(shared: Api, route: tuple[str, str]) -> None:
    lowest = Scope(LOWEST[route])
    for name, scope in (("rita", Scope.READ), ("ben", Scope.SUBMIT)):
        answer = ask(shared, route, headers=bearer(shared.secrets[name]))
        if scope.includes(lowest):
            assert answer.status_code != 401
            assert "this needs" not in answer.text
        else:
            assert answer.status_code == 403
            assert line(answer) == f"token '{name}' has the scope {scope}; this needs {lowest}"


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
    ],
)
def test_what_operators_ask_needs_no_token(shared: Api, path: str) -> None:
    assert shared.caller().get(path).status_code == 200


CHANGES = [
    ("PATCH", ""),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("POST", "/cancel"),
    ("DELETE", ""),
]


@pytest.mark.parametrize(("method", "verb"), CHANGES)
def test_studies_of_others_are_changed_by_admins_only(api: Api, method: str, verb: str) -> None:
    api.submit("ann", name="mine")
    body = {"json": {"priority": 7}} if method == "PATCH" else {}
    refused = api.caller("ben").request(method, f"{API}/studies/mine{verb}", **body)
    assert refused.status_code == 403
    assert line(refused) == "study 'mine' belongs to 'ann'; changing it needs the scope admin"
    assert api.store.queue.submission("mine").priority == 0
    assert api.store.condition("mine").state is StudyState.QUEUED
    assert api.caller("root").request(method, f"{API}/studies/mine{verb}", **body).status_code in (200, 204)


@pytest.mark.parametrize(("method", "verb"), CHANGES)
def test_studies_that_nobody_submitted_are_changed_by_admins_only(api: Api, method: str, verb: str) -> None:
    api.store.submit_study(StudySpec(name="local", backbone="deit_pico", budget={"high": 0.5}))
    body = {"json": {"priority": 7}} if method == "PATCH" else {}
    refused = api.caller("ann").request(method, f"{API}/studies/local{verb}", **body)
    assert refused.status_code == 403
    assert line(refused) == "study 'local' belongs to nobody of this service; changing it needs the scope admin"
    assert api.caller("root").request(method, f"{API}/studies/local{verb}", **body).status_code in (200, 204)


class TestCookie:
    SAME = ({"Origin": "http://testserver"}, {"Referer": "http://testserver/studies/x"})

    def test_it_is_enough_to_look(self, api: Api) -> None:
        cookie = {"Cookie": f"{COOKIE}={api.secrets['ann']}"}
        assert api.caller().get(f"{API}/studies", headers=cookie).status_code == 200
        foreign = {**cookie, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        answer = api.caller().get(f"{API}/studies", headers=foreign)
        assert "access-control-allow-origin" not in answer.headers, "so that another page cannot read it"

    @pytest.mark.parametrize("headers", [*SAME, {**SAME[0], "Sec-Fetch-Site": "same-origin"}])
    def test_it_is_enough_for_changes_from_our_own_pages(self, api: Api, headers: dict[str, str]) -> None:
        api.submit("ann", name="mine")
        cookie = {"Cookie": f"{COOKIE}={api.secrets['ann']}", **headers}
        assert api.caller().post(f"{API}/studies/mine/pause", headers=cookie).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Sec-Fetch-Site": "same-origin"},
            {"Origin": "null"},
            {"Origin": "https://evil.example"},
            {"Origin": "http://testserver.evil.example"},
            {"Origin": "http://testserver@evil.example"},
            {"Origin": "http://testserver:81"},
            {"Origin": "http://[testserver"},
            {"Referer": "https://evil.example/http://testserver/"},
            {"Origin": "https://evil.example", "Referer": "http://testserver/"},
            {"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "http://testserver", "Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_it_is_not_enough_for_changes_from_other_pages(self, api: Api, headers: dict[str, str]) -> None:
        api.submit("ann", name="mine")
        cookie = {"Cookie": f"{COOKIE}={api.secrets['ann']}", **headers}
        for method, path in (("POST", "/studies/mine/pause"), ("DELETE", "/studies/mine"), ("PATCH", "/studies/mine")):
            answer = api.caller().request(method, f"{API}{path}", headers=cookie)
            assert answer.status_code == 401, (method, headers)
        form = {**cookie, "Content-Type": "application/x-www-form-urlencoded"}
        assert api.caller().post(f"{API}/studies/mine/cancel", headers=form, content="a=1").status_code == 401
        assert api.store.condition("mine").state is StudyState.QUEUED

    def test_a_wrong_header_is_not_replaced_by_a_right_cookie(self, api: Api) -> None:
        headers = {**bearer("sk_unknown"), "Cookie": f"{COOKIE}={api.secrets['root']}"}
        assert api.caller().get(f"{API}/studies", headers=headers).status_code == 401


def test_a_token_is_found_however_its_scheme_is_written(api: Api) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme}  {api.secrets['rita']} "}
        assert api.caller().get(f"{API}/studies", headers=headers).status_code == 200


def test_a_token_that_is_revoked_is_refused_at_once(api: Api) -> None:
    caller = api.caller("rita")
    assert caller.get(f"{API}/studies").status_code == 200
    api.store.tokens.revoke("rita", by=Actor("test"))
    assert caller.get(f"{API}/studies").status_code == 401


class TestStrangers:
    def test_too_many_tries_are_not_looked_up(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        looked_up = []
        api.app.state.strangers = Strangers(0.01)
        find = api.store.tokens.find
        monkeypatch.setattr(SqlTokens, "find", lambda self, secret: looked_up.append(secret) or find(secret))
        answers = [api.caller().get(f"{API}/studies", headers=bearer(f"sk_{number}")) for number in range(20)]
        assert answers[0].status_code == 401
        assert answers[-1].status_code == 429
        assert answers[-1].headers["retry-after"] == "60"
        assert len(looked_up) < 10

    def test_those_who_were_let_in_before_do_not_notice(self, api: Api) -> None:
        api.app.state.strangers = Strangers(0.01)
        assert api.caller("ann").get(f"{API}/studies").status_code == 200
        for _ in range(5):
            api.caller().get(f"{API}/studies", headers=bearer("sk_x"))
        assert api.caller("ann").get(f"{API}/studies").status_code == 200
        assert api.caller("rita").get(f"{API}/studies").status_code == 429, "from the same address, not seen before"

    def test_what_was_valid_is_not_let_in_when_it_is_revoked(self, api: Api) -> None:
        assert api.caller("ann").get(f"{API}/studies").status_code == 200
        api.store.tokens.revoke("ann", by=Actor("test"))
        assert api.caller("ann").get(f"{API}/studies").status_code == 401


def test_many_who_ask_whether_it_is_ready_ask_the_database_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    revision = api.store.revision
    monkeypatch.setattr(api.store, "revision", lambda: asked.append(1) or revision(), raising=False)
    assert {api.caller().get("/readyz").status_code for _ in range(20)} == {200}
    assert len(asked) < 10
