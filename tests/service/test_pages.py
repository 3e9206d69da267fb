"""The pages as a browser without scripts sees them."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import anyio
import pytest
from fastapi.testclient import TestClient
from made_studies import ANN, BEN, EVIL, HOST, browser, fill, queued
from queued_studies import taken
from served import Api, bearer

from sparsesearch.app.workspace import Workspace
from sparsesearch.service.access import COOKIE
from sparsesearch.service.app import create_app
from sparsesearch.service.options import ServiceOptions
from sparsesearch.service.pages.fronts import FrontCache, ShownFront
from sparsesearch.service.pages.queue_places import in_order
from sparsesearch.service.pages.route import local_path
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.submission import Submission

ROOT = Path(__file__).parents[2]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PAGES = [
    "/",
    "/?part=list",
    "/login",
    "/studies/front",
    "/studies/front?part=status",
    "/studies/front?part=actions",
    "/studies/front?part=front",
    "/studies/front?part=schedule",
    "/studies/broken",
    "/studies/first",
    "/studies/front/trials",
    "/studies/front/trials?state=COMPLETE&offset=5",
    "/studies/front/trials/0",
    "/studies/front/trials/1",
    "/studies/front/trials/20",
    "/studies/front/trials/20?part=card",
]
FORMS = ["/studies", "/login", "/logout"] + [
    f"/studies/first/{action}" for action in ("pause", "resume", "cancel", "change", "delete")
]


@pytest.fixture
def pages(tmp_path: Path) -> Api:
    return fill(Api(tmp_path))


@pytest.fixture
def workspace(pages: Api) -> Workspace:
    return pages.workspace


@pytest.fixture
def stranger(pages: Api) -> TestClient:
    return browser(pages.app)


@pytest.fixture
def ann(pages: Api) -> TestClient:
    return browser(pages.app, pages.secrets["ann"])


@pytest.fixture
def admin(pages: Api) -> TestClient:
    return browser(pages.app, pages.secrets["root"])


@pytest.fixture
def reader(pages: Api) -> TestClient:
    return browser(pages.app, pages.secrets["rita"])


def words(page: str) -> str:
    """What a reader sees."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def flash(client: TestClient, path: str, **form: str) -> str:
    """The line that a browser is shown after it sent a form."""
    sent = client.post(path, data=form)
    assert sent.status_code == 303, sent.text
    page = client.get(sent.headers["location"]).text
    found = re.search(r'<p class="flash (?:done|error)"[^>]*>(.*?)</p>', page, flags=re.DOTALL)
    assert found is not None
    return unescape(found[1])


def api_error(client: TestClient, method: str, path: str, document: object = None) -> str:
    answer = client.request(method, f"/api/v1{path}", json=document)
    assert answer.status_code >= 400
    return str(answer.json()["error"])


# ---- who may see what ----


@pytest.mark.parametrize("path", ["/", "/studies/front?part=front", "/studies/front/trials", "/studies/front/trials/3"])
def test_without_a_token_the_way_leads_to_the_login_and_back(stranger: TestClient, pages: Api, path: str) -> None:
    sent = stranger.get(path)
    assert sent.status_code == 303
    login = sent.headers["location"]
    form = stranger.get(login).text
    hidden = re.search(r'name="next" value="([^"]*)"', form)
    assert hidden is not None
    assert unescape(hidden[1]) == path
    secret = pages.secrets["rita"]
    done = stranger.post("/login", data={"token": f" {secret} ", "next": path})
    assert (done.status_code, done.headers["location"]) == (303, path)
    cookie = done.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={secret};")
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.lower().split("; "))
    assert "secure" not in cookie.lower().split("; ")
    assert stranger.get(path).status_code == 200


def test_behind_https_the_cookie_is_only_sent_there(pages: Api) -> None:
    app = create_app(pages.workspace, ServiceOptions(secure_cookies=True))
    done = browser(app).post("/login", data={"token": pages.secrets["rita"], "next": "/"})
    assert "secure" in done.headers["set-cookie"].lower().split("; ")


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "https://evil.example/", "javascript:alert(1)", "/\nx", "evil", "", "/" * 9],
)
def test_a_login_leads_nowhere_else(stranger: TestClient, pages: Api, target: str) -> None:
    assert local_path(target) == "/"
    assert 'name="next" value="/"' in stranger.get("/login", params={"next": target}).text
    done = stranger.post("/login", data={"token": pages.secrets["rita"], "next": target})
    assert done.headers["location"] == "/"


@pytest.mark.parametrize("secret", ["", "sk_wrong", "ü", "x" * 300, "\0"])
def test_a_token_that_is_not_valid_is_refused(stranger: TestClient, secret: str) -> None:
    page = stranger.post("/login", data={"token": secret, "next": "/studies/front"})
    assert page.status_code == 401
    assert "this token is not valid" in page.text
    assert 'name="next" value="/studies/front"' in page.text
    assert "set-cookie" not in page.headers


def test_tokens_cannot_be_guessed_quickly(stranger: TestClient) -> None:
    statuses = [stranger.post("/login", data={"token": f"sk_{k}"}).status_code for k in range(12)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_logging_out_forgets_the_token(ann: TestClient) -> None:
    done = ann.post("/logout", data={})
    assert (done.status_code, done.headers["location"]) == (303, "/login")
    assert "You are logged out." in ann.get("/login").text
    assert "You are logged out." not in ann.get("/login").text, "a line is shown once"
    assert ann.get("/").status_code == 303


def test_a_revoked_token_leads_to_the_login(ann: TestClient, workspace: Workspace) -> None:
    assert ann.get("/").status_code == 200
    workspace.store.tokens.revoke("ann", by=BEN)
    assert ann.get("/").headers["location"] == "/login?next=/"
    sent = ann.post("/studies/first/pause", data={}, headers={"Referer": f"{HOST}/studies/first"})
    assert sent.headers["location"] == "/login?next=/studies/first"
    assert workspace.store.condition("first").state is StudyState.QUEUED
    script = {"HX-Request": "true", "HX-Current-URL": f"{HOST}/studies/front?refresh=0"}
    part = ann.get("/studies/front?part=front", headers=script)
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login?next=/studies/front%3Frefresh%3D0")


def test_a_link_from_another_site_is_followed_once_more_from_here(stranger: TestClient) -> None:
    """The browser keeps a strict cookie to itself when it follows such a link."""
    page = stranger.get("/studies/front", headers={"Sec-Fetch-Site": "cross-site"})
    assert page.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in page.text
    assert "deit_small" not in page.text
    again = stranger.get("/studies/front", headers={"Sec-Fetch-Site": "same-origin"})
    assert again.headers["location"] == "/login?next=/studies/front"


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": HOST, "Sec-Fetch-Site": "cross-site"},
        {"Origin": HOST, "Sec-Fetch-Site": "same-site"},
        {"Origin": ""},
    ],
    ids=["other origin", "no origin of its own", "cross-site", "same site", "unsaid"],
)
def test_a_form_of_another_site_is_refused(
    admin: TestClient, workspace: Workspace, path: str, headers: dict[str, str]
) -> None:
    def stored() -> list[str]:
        return [one.condition.state.value for one in workspace.store.summaries()]

    before, trail = stored(), len(workspace.store.queue.audit())
    sent = admin.post(path, data={"backbone": "deit_pico", "budget": "60%", "unit": "fraction"}, headers=headers)
    assert sent.status_code == 403
    assert "sent by another site" in sent.text
    assert sent.headers["content-security-policy"] == POLICY
    assert (stored(), len(workspace.store.queue.audit())) == (before, trail)


def test_a_reader_gets_no_buttons_and_no_changes(reader: TestClient, workspace: Workspace) -> None:
    for path in ("/", "/studies/first", "/studies/front"):
        page = reader.get(path).text
        assert set(re.findall(r'action="([^"]*)"', page)) == {"/logout"}
    for path in FORMS:
        if path.startswith("/studies"):
            refused = reader.post(path, data={})
            assert refused.status_code == 403
            assert "token &#39;rita&#39; has the scope read; this needs submit" in refused.text
    assert workspace.store.condition("first").state is StudyState.QUEUED


def test_studies_of_others_have_no_buttons(ann: TestClient, admin: TestClient) -> None:
    assert 'action="/studies/second/pause"' not in ann.get("/studies/second").text
    assert 'action="/studies/second/pause"' in admin.get("/studies/second").text
    line = flash(ann, "/studies/second/pause")
    assert line == "study 'second' belongs to 'ben'; changing it needs the scope admin"
    assert line == api_error(ann, "POST", "/studies/second/pause")


# ---- what all pages have in common ----


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_a_strict_policy_and_nothing_in_line(admin: TestClient, path: str) -> None:
    page = admin.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    tags = re.findall(r"<[a-zA-Z][^>]*>", page.text)
    assert not [tag for tag in tags if re.search(r"\s(style|on\w+)\s*=", tag) or "javascript:" in tag]
    assert not re.search(r"<style|<script(?![^>]*\ssrc=)", page.text)
    assert not re.search(r'(?:src|href)="(?!/|\?|#|")', page.text), "nothing is loaded from elsewhere"


def test_errors_are_pages_too(admin: TestClient) -> None:
    for path, status, line in (
        ("/studies/nothing", 404, "no study 'nothing'"),
        ("/studies/nothing/trials", 404, "no study 'nothing'"),
        ("/studies/front/trials/9999", 404, "study 'front' has no trial 9999"),
        ("/studies/-x", 404, "there is no such page"),
        ("/?offset=many", 404, "there is no such page"),
    ):
        page = admin.get(path)
        assert page.status_code == status
        assert line in words(page.text)
        assert page.headers["content-security-policy"] == POLICY
    assert admin.get("/", headers={"Cookie": f"{COOKIE}=\udcff".encode("utf-8", "surrogateescape")}).status_code < 500  # type: ignore[dict-item]


def test_a_large_form_is_refused(admin: TestClient) -> None:
    assert admin.post("/studies", data={"document": "x" * 3_000_000}).status_code == 413


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain", "application/json"])
def test_forms_of_other_kinds_are_refused(admin: TestClient, kind: str) -> None:
    assert admin.post("/studies", content=b"{}", headers={"Content-Type": kind}).status_code == 415


def test_forms_that_are_not_text_are_refused(admin: TestClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"name=\xff", b"name=%ff", b"&".join(b"a=1" for _ in range(100))):
        assert admin.post("/studies", content=body, headers=form).status_code == 422


def test_text_of_others_is_shown_and_not_run(admin: TestClient) -> None:
    page = admin.get("/studies/broken").text
    assert EVIL not in page
    assert EVIL in words(page.replace("&lt;", "\1").replace("&gt;", "\2")).replace("\1", "<").replace("\2", ">")
    sent = admin.post("/studies", data={"document": f"</textarea>{EVIL}: [", "backbone": f'"{EVIL}', "name": EVIL})
    assert sent.status_code == 422
    assert EVIL not in sent.text
    assert f'"{EVIL}' in unescape(sent.text)


def test_files_of_pages_are_served(stranger: TestClient) -> None:
    page = stranger.get("/login").text
    named = {"/static/htmx.min.js", "/static/live.js", *re.findall(r'"(/static/[^"]+)"', page)}
    assert len(named) == 5
    kinds = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    for path in named:
        file = stranger.get(path)
        assert file.status_code == 200
        assert kinds[Path(path).suffix] in file.headers["content-type"]
        assert file.headers["x-content-type-options"] == "nosniff"
    assert stranger.get("/static/../app.py").status_code == 404
    assert stranger.get("/static/%2e%2e/app.py").status_code == 404


def test_the_wheel_contains_what_pages_need() -> None:
    from hatchling.builders.wheel import WheelBuilder

    shipped = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    service = ROOT / "sparsesearch" / "service"
    needed = [path for name in ("static", "templates") for path in (service / name).iterdir()]
    assert len(needed) > 15
    assert {str(path.relative_to(ROOT)) for path in needed} <= shipped


def test_pages_need_no_torch(pages: Api) -> None:
    script = (
        "import sys\n"
        "from fastapi.testclient import TestClient\n"
        "from sparsesearch.app.workspace import Workspace\n"
        "from sparsesearch.service.app import create_app\n"
        f"client = TestClient(create_app(Workspace.open()), headers={bearer(pages.secrets['rita'])})\n"
        "for path in ('/', '/studies/front', '/studies/front/trials/20'):\n"
        "    assert client.get(path).status_code == 200\n"
        "print({'torch', 'ray', 'mlflow', 'matplotlib'} & set(sys.modules))\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "SPARSESEARCH_HOME": str(pages.workspace.settings.home)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


# ---- the list, and submitting ----


def test_the_list_shows_studies_newest_first(admin: TestClient) -> None:
    page = admin.get("/").text
    assert re.findall(r'scope="row"><a href="/studies/([^"]+)"', page) == ["second", "first", "broken", "front"]
    text = words(page)
    assert "first queued number 1 in the queue deit_pico 65% of dense ann 0" in text
    assert "second queued number 2 in the queue deit_pico 65% of dense ben -5" in text
    assert re.search(r"front finished \d+ trials 79\.\d\d % deit_small_patch16_224 45%:80% of dense", text)


def test_the_list_has_pages(admin: TestClient, workspace: Workspace) -> None:
    for number in range(30):
        workspace.store.queue.submit(queued(f"more-{number}"), by=ANN)
    first = admin.get("/").text
    assert "1 to 25 of 34" in words(first)
    assert 'rel="prev"' not in first
    following = re.search(r'href="([^"]+)" rel="next"', first)
    assert following is not None
    second = admin.get(unescape(following[1])).text
    assert "26 to 34 of 34" in words(second)
    assert re.findall(r'scope="row"><a href="/studies/([^"]+)"', second)[-4:] == ["second", "first", "broken", "front"]
    assert 'rel="next"' not in second
    assert 'href="/?offset=0" rel="prev"' in second
    assert "number 32 in the queue" in words(second)
    assert "There are no more studies." in admin.get("/?offset=100").text


def test_the_order_of_the_queue_is_by_priority_then_fair_then_by_age() -> None:
    def one(owner: str, at: float, priority: int = 0) -> Submission:
        return Submission(owner=owner, submitted_at=at, priority=priority)

    waiting = {"a1": one("ann", 1), "a2": one("ann", 2), "b1": one("ben", 3), "urgent": one("ann", 4, priority=1)}
    assert list(in_order(waiting, {})) == ["urgent", "b1", "a1", "a2"]
    assert in_order(waiting, {"ben": 2}) == {"urgent": 1, "a1": 2, "a2": 3, "b1": 4}


def test_places_are_those_in_which_studies_are_taken(workspace: Workspace, admin: TestClient) -> None:
    for number, owner in enumerate((ANN, ANN, BEN, ANN, BEN)):
        workspace.store.queue.submit(queued(f"s{number}"), by=owner, priority=number // 3)
    page = words(admin.get("/").text)
    shown = {int(place): name for name, place in re.findall(r"(\S+) queued number (\d+) in the queue", page)}
    taken = []
    while (claim := workspace.store.queue.claim()) is not None:
        taken.append(claim.study)
    assert [shown[place] for place in sorted(shown)] == taken
    assert len(taken) == 7


def test_a_study_is_submitted_by_the_form(ann: TestClient, workspace: Workspace) -> None:
    form = {
        "backbone": "deit_pico",
        "budget": "20%:45%",
        "unit": "fraction",
        "data": "digits",
        "strategy": "training-free",
        "time_budget": "1h30m",
        "priority": "7",
    }
    assert flash(ann, "/studies", **form) == "Study deit_pico-20p-45p was submitted."
    spec, submission = (
        workspace.store.spec("deit_pico-20p-45p"),
        workspace.store.queue.submission("deit_pico-20p-45p"),
    )
    assert submission is not None
    assert (submission.owner, submission.priority) == ("ann", 7)
    assert (spec.budget.low, spec.budget.high, spec.budget.unit) == (0.2, 0.45, "fraction")
    assert (spec.fidelity.strategy, spec.time_budget_s) == ("training-free", 5400.0)
    assert workspace.store.condition(spec.name).state is StudyState.QUEUED


def test_fields_take_precedence_over_the_document(ann: TestClient, workspace: Workspace) -> None:
    document = "name: mine\nbackbone: deit_pico\nbudget: 70%\nfidelity: {evaluations: 9, strategy: finetune}\n"
    assert flash(ann, "/studies", document=document, budget="0.012", unit="gflops", strategy="supernet")
    spec = workspace.store.spec("mine")
    assert (spec.budget.unit, spec.budget.high) == ("gflops", 0.012)
    assert (spec.fidelity.evaluations, spec.fidelity.strategy) == (9, "supernet")
    document = '{"name": "json", "backbone": "deit_pico", "budget": "50%", "priority": 3}'
    assert flash(ann, "/studies", document=document) == "Study json was submitted."
    submission = workspace.store.queue.submission("json")
    assert submission is not None
    assert submission.priority == 3


@pytest.mark.parametrize(
    ("form", "document"),
    [
        ({"backbone": "deit_pico"}, {"backbone": "deit_pico"}),
        ({"document": "backbone: nothing\nbudget: 60%"}, {"backbone": "nothing", "budget": "60%"}),
        (
            {"document": "backbone: deit_pico\nbudget: 60%\nfidelity: {evaluatins: 3}"},
            {"backbone": "deit_pico", "budget": "60%", "fidelity": {"evaluatins": 3}},
        ),
        (
            {"backbone": "deit_pico", "budget": "60%", "unit": "fraction", "data": "folder:/etc"},
            {"backbone": "deit_pico", "budget": "60%", "data": "folder:/etc"},
        ),
        (
            {"name": "first", "backbone": "deit_pico", "budget": "60%", "unit": "fraction"},
            {"name": "first", "backbone": "deit_pico", "budget": "60%"},
        ),
        (
            {"backbone": "deit_pico", "budget": "60%", "unit": "fraction", "priority": "2000"},
            {"backbone": "deit_pico", "budget": "60%", "priority": 2000},
        ),
        (
            {"document": "{backbone: deit_pico, budget: 60%, device: cuda}"},
            {"backbone": "deit_pico", "budget": "60%", "device": "cuda"},
        ),
    ],
)
def test_errors_of_the_form_are_those_of_the_api(
    ann: TestClient, workspace: Workspace, form: dict[str, str], document: dict[str, object]
) -> None:
    sent = ann.post("/studies", data=form)
    assert 400 <= sent.status_code < 500
    assert api_error(ann, "POST", "/studies", document) in words(sent.text)
    assert all(value in unescape(sent.text) for value in form.values()), "what was typed is kept"
    assert workspace.store.count_studies() == 4


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ("a: [", "the document is not readable YAML: line"),
        ("- 1\n- 2", "the document must consist of keys and values"),
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("\n".join(["a0: &a0 [1]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 9))]), "than"),
        ("[" * 200 + "]" * 200, "levels deep"),
        ("!!python/object/apply:os.system ['true']", "the document is not readable YAML"),
        ("x: 2001-01-01", "x: unknown key"),
        ("1: 2", "1: unknown key"),
    ],
)
def test_documents_are_read_safely(ann: TestClient, document: str, line: str) -> None:
    sent = ann.post("/studies", data={"document": document})
    assert sent.status_code == 422
    assert line in words(sent.text)
    assert "/tmp" not in sent.text


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ({"budget": "60", "unit": "fraction"}, "invalid budget '60'; write it as '35%' or '20%:45%'"),
        ({"budget": "3", "unit": "parsecs"}, "unit of the budget: choose one of"),
        ({"time_budget": "soon"}, "invalid duration 'soon'"),
        ({"priority": "high"}, "priority must be a whole number, got 'high'"),
        ({"strategy": "luck", "backbone": "deit_pico", "budget": "60%", "unit": "fraction"}, "strategy"),
    ],
)
def test_fields_are_checked(ann: TestClient, form: dict[str, str], line: str) -> None:
    sent = ann.post("/studies", data=form)
    assert sent.status_code == 422
    assert line in words(sent.text)


# ---- one study ----


def test_a_study_is_paused_resumed_changed_cancelled_and_deleted(ann: TestClient, workspace: Workspace) -> None:
    store = workspace.store
    assert flash(ann, "/studies/first/pause") == "The study is paused."
    assert store.condition("first").state is StudyState.PAUSED
    page = ann.get("/studies/first").text
    assert 'action="/studies/first/resume"' in page
    assert 'action="/studies/first/pause"' not in page
    assert flash(ann, "/studies/first/resume") == "The study is queued."
    line = flash(ann, "/studies/first/change", priority="12", max_concurrent="2", time_budget="2h")
    assert line == "Changed. The priority is 12."
    submission = store.queue.submission("first")
    assert submission is not None
    assert (submission.priority, submission.changes.max_concurrent, submission.changes.time_budget_s) == (12, 2, 7200.0)
    assert "at most 2 concurrent trials" in words(ann.get("/studies/first").text)
    assert flash(ann, "/studies/first/change", priority="", time_budget="").startswith("Nothing was changed")
    assert flash(ann, "/studies/first/cancel") == "The study is cancelled."
    assert set(re.findall(r'action="/studies/first/(\w+)"', ann.get("/studies/first").text)) == {"delete"}
    assert flash(ann, "/studies/first/delete") == "Study first was deleted."
    assert "first" not in store.studies()
    assert [entry.who for entry in store.queue.audit(what="first")] == ["ann"] * 6


def test_a_running_study_is_asked_to_stop(ann: TestClient, workspace: Workspace) -> None:
    writer = taken(workspace.store, "first")
    writer.set_state(StudyState.RUNNING)
    assert 'action="/studies/first/delete"' not in ann.get("/studies/first").text
    assert flash(ann, "/studies/first/pause") == "The study is stopping; it will pause after the step under way."
    assert "pause was requested" in words(ann.get("/studies/first").text)
    assert workspace.store.condition("first").request is StopRequest.PAUSE
    assert flash(ann, "/studies/first/delete") == api_error(ann, "DELETE", "/studies/first")
    writer.close()


@pytest.mark.parametrize(("action", "study"), [("resume", "front"), ("cancel", "front"), ("pause", "broken")])
def test_errors_of_actions_are_those_of_the_api(admin: TestClient, action: str, study: str) -> None:
    assert flash(admin, f"/studies/{study}/{action}") == api_error(admin, "POST", f"/studies/{study}/{action}")


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ({"priority": "1001"}, "priority: Input should be less than or equal to 1000"),
        ({"max_concurrent": "0"}, "max_concurrent: Input should be greater than or equal to 1"),
        ({"priority": "1.5"}, "priority must be a whole number, got '1.5'"),
        ({"time_budget": "-3"}, "invalid duration '-3'; use a form such as 90s, 10m or 1h30m"),
    ],
)
def test_changes_are_checked(ann: TestClient, workspace: Workspace, form: dict[str, str], line: str) -> None:
    assert flash(ann, "/studies/first/change", **form) == line
    submission = workspace.store.queue.submission("first")
    assert submission is not None
    assert submission.priority == 0


def test_a_study_that_is_gone_is_not_found(ann: TestClient) -> None:
    sent = ann.post("/studies/nothing/pause", data={})
    assert sent.status_code == 404
    assert "no study 'nothing'" in words(sent.text)


def test_the_front_is_drawn_with_points_that_lead_to_their_trials(admin: TestClient, workspace: Workspace) -> None:
    page = admin.get("/studies/front").text
    text = words(page)
    assert "Best within the budget: 79." in text
    assert "bundled digits demo" in text
    assert "dense model: 79.70 %" in text
    for entry in ("searched", "hand-crafted: rho at 3,6,9", "Pareto front", "best within the budget"):
        assert entry in text
    document = admin.get("/api/v1/studies/front/front").json()
    on_front = {point["id"] for point in document["points"]}
    rings = re.findall(r'<a href="/studies/front/trials/(\d+)"><circle class="ring[^>]*><title>([^<]*)', page)
    assert {int(number) for number, _ in rings} == on_front
    assert all(label.startswith(f"trial {number}, ") for number, label in rings)
    table = page[page.index('<table class="front">') :]
    assert on_front | {0} <= {int(number) for number in re.findall(r'<td><a href="/studies/front/trials/(\d+)', table)}
    assert 'role="img"' not in re.sub(r'<svg class="grid-picture".*?</svg>', "", page[: page.index("</table>")])
    for path in ("report", "recipe", "front?format=png", "front?format=csv", "front"):
        assert f'href="/api/v1/studies/front/{path}"' in page
        assert admin.get(f"/api/v1/studies/front/{path}").status_code == 200
    assert "sparsesearch retrain front.yaml -o front.safetensors" in text
    assert str(workspace.settings.home) not in page


def test_a_trial_shows_its_schedule_over_depth(admin: TestClient) -> None:
    best = admin.get("/api/v1/studies/front").json()["status"]["best"]
    page = admin.get(f"/studies/front/trials/{best['id']}").text
    text = words(page)
    first, left = best["tokens"].split()[0].split(":")
    assert f"before block {first}: {left} of 196 tokens left" in text
    assert best["tokens"] in text
    assert "which tokens are kept depends on the image" in text
    grid = re.search(r'<svg class="grid-picture".*?</svg>', page, flags=re.DOTALL)
    assert grid is not None
    ends = [float(x) for x in re.findall(r'class="cells (?:search|baseline)" x1="0.1" x2="([\d.]+)"', grid[0])]
    assert sum(end + 0.1 for end in ends) == pytest.approx(int(left)), "as many squares as tokens"
    assert page.count('<rect class="fill') == 2 * 24, "attention and feed-forward network of 12 blocks, in two widths"
    assert "Measurements" in text
    card = admin.get(f"/studies/front/trials/{best['id']}?part=card").text
    assert "<html" not in card
    assert card.strip() in page


def test_trials_have_pages_and_a_filter(admin: TestClient) -> None:
    total = admin.get("/api/v1/studies/front/trials").json()["total"]
    page = admin.get("/studies/front/trials").text
    assert re.findall(r'<td><a href="/studies/front/trials/(\d+)"', page) == [str(k) for k in range(min(total, 50))]
    assert f"all {total}" in words(page)
    some = admin.get("/studies/front/trials?state=REFERENCE").text
    assert "0 reference dense" in words(some)
    assert len(re.findall(r'<td><a href="/studies/front/trials/(\d+)"', some)) < 5
    assert "There are no such trials." in admin.get("/studies/front/trials?state=FAILED").text
    last = admin.get(f"/studies/front/trials?offset={total - 1}").text
    assert f"{total} to {total} of {total}" in words(last)


def test_a_front_is_drawn_once_until_it_changes(workspace: Workspace) -> None:
    fronts = FrontCache()

    def front() -> ShownFront:
        return anyio.run(fronts.front, workspace.store, "front")

    first = front()
    assert front() is first
    workspace.store.queue.submit(queued("third"), by=ANN)
    assert front() is first
    workspace.store.queue.delete("front", by=ANN)
    workspace.store.queue.submit(queued("front"), by=ANN)
    assert front().described.fidelity is None, "another study of this name"


def test_only_pages_of_studies_under_way_are_loaded_again(admin: TestClient) -> None:
    assert '<noscript><meta http-equiv="refresh" content="15"></noscript>' in admin.get("/studies/first").text
    assert 'http-equiv="refresh"' not in admin.get("/studies/first?refresh=0").text
    assert 'http-equiv="refresh"' not in admin.get("/studies/front").text
    assert 'http-equiv="refresh"' not in admin.get("/").text, "what is typed into the form is kept"


def test_mlflow_is_linked_if_its_address_is_known(pages: Api) -> None:
    for url, is_linked in ((None, False), ("https://mlflow.example/", True), ("javascript:alert(1)", False)):
        page = browser(create_app(pages.workspace, ServiceOptions(mlflow_url=url)), pages.secrets["rita"]).get("/").text
        assert (">MLflow</a>" in page) == is_linked
