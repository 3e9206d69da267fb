"""The pages in a real browser that has no network: at three widths, light and dark, with scripts and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from devtools import Browser
from made_studies import EVIL, fill, queued
from queued_studies import taken
from served import Api, serving

from sparsesearch.service.access import COOKIE
from sparsesearch.store.audit import Actor
from sparsesearch.study.state import StopRequest, StudyState

pytestmark = pytest.mark.slow

PATHS = ["/", "/login", "/studies/front", "/studies/broken", "/studies/first", "/studies/held", "/studies/front/trials"]
PATHS += ["/studies/front/trials/20", "/studies/nothing"]
WIDTHS = [360, 800, 1400, 1750]
"""The last is a window of 1400 pixels at a zoom of 80 %."""
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Api:
    made = fill(Api(tmp_path_factory.mktemp("pages")))
    made.store.queue.submit(queued("held"), by=Actor("ann"))
    made.store.queue.request("held", StopRequest.PAUSE, by=Actor("ann"))
    return made


@pytest.fixture(scope="module")
def address(pages: Api) -> Iterator[str]:
    with serving(pages.app) as found:
        yield found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """A browser that knows nothing of what it saw before."""
    chromium.call("Network.clearBrowserCookies")
    chromium.look()
    chromium.open("about:blank")
    chromium.complaints.clear()
    return chromium


@pytest.fixture
def admin(browser: Browser, pages: Api, address: str) -> Browser:
    browser.call("Network.setCookie", name=COOKIE, value=pages.secrets["root"], url=address)
    return browser


def text_of(browser: Browser, selector: str) -> str:
    return str(browser.run(f"document.querySelector({json.dumps(selector)}).innerText"))


def shown_mark(number: int) -> str:
    """A script for the mark of a trial that is on the front, in the chart that is shown at this width."""
    found = f"[...document.querySelectorAll('.charts a[href$=\"/trials/{number}\"]')]"
    return f"{found}.find(a => a.querySelector('.ring') && a.getClientRects().length)"


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_and_break_no_rule(admin: Browser, address: str, width: int, dark: bool, scripts: bool) -> None:
    admin.look(width=width, dark=dark, scripts=scripts)
    for path in PATHS:
        admin.open(address + path)
        assert admin.run("document.documentElement.scrollWidth") <= width, path
        colour = admin.run("getComputedStyle(document.body).backgroundColor")
        assert colour == ("rgb(18, 21, 27)" if dark else "rgb(246, 247, 249)"), "the styles are there"
        assert admin.run("document.documentElement.classList.contains('script')") == (
            scripts and path in ("/", "/studies/front", "/studies/broken", "/studies/first", "/studies/held")
        )
        outside = "[...document.querySelectorAll('button, input, select, h1')].filter(e => e.getClientRects().length"
        outside += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
        assert admin.run(outside) == [], path
    expected = "Failed to load resource: the server responded with a status of 404 (Not Found)"
    assert [line for line in admin.complaints if line != expected] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_axe_finds_nothing_serious(admin: Browser, address: str, width: int, dark: bool) -> None:
    axe = Path(str(distribution("axe-core-python").locate_file("axe_core_python/axe.min.js"))).read_text("utf-8")
    admin.look(width=width, dark=dark)
    for path in PATHS:
        admin.open(address + path)
        admin.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        admin.run(axe)
        found = admin.run("axe.run(document, {resultTypes: ['violations']})")
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found["violations"] if one["impact"] in SERIOUS]
        assert serious == [], path
        assert len(found["passes"]) > 10


def test_somebody_logs_in_and_pauses_a_study_without_scripts(browser: Browser, pages: Api, address: str) -> None:
    pages.store.queue.submit(queued("by-hand"), by=Actor("ann"))
    browser.look(scripts=False)
    browser.open(f"{address}/studies/by-hand")
    assert browser.run("location.pathname + location.search") == "/login?next=/studies/by-hand"
    browser.click("#token")
    browser.call("Input.insertText", text=pages.secrets["ann"])
    browser.click("main button")
    browser.wait_for("Page.loadEventFired")
    assert browser.run("location.pathname") == "/studies/by-hand"
    assert browser.run("document.cookie") == "", "scripts cannot read the token"
    browser.click("form[action$='/pause'] button")
    browser.wait_for("Page.loadEventFired")
    assert text_of(browser, ".flash") == "The study is paused."
    assert pages.store.condition("by-hand").state is StudyState.PAUSED
    browser.click("details:has(form[action$='/change']) summary")
    browser.click("#new-priority")
    browser.call("Input.insertText", text="11")
    browser.click("form[action$='/change'] button")
    browser.wait_for("Page.loadEventFired")
    assert "priority 11" in text_of(browser, "#status")
    browser.click(".who button")
    browser.wait_for("Page.loadEventFired")
    browser.open(f"{address}/studies/by-hand")
    assert browser.run("location.pathname") == "/login"


def test_pointing_at_a_mark_shows_its_schedule(admin: Browser, pages: Api, address: str) -> None:
    admin.open(f"{address}/studies/front")
    best = pages.caller("rita").get("/api/v1/studies/front/front").json()["points"][0]["id"]
    admin.run(f"{shown_mark(best)}.scrollIntoView({{block: 'center'}})")
    x, y = admin.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({shown_mark(best)}.getBoundingClientRect())")
    admin.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    admin.until("!document.querySelector('#peek').hidden")
    assert f"trial {best}, " in text_of(admin, "#peek")
    assert "Number of tokens left" in text_of(admin, "#peek")
    inside = "(r => r.left >= 0 && r.top >= 0 && r.right <= innerWidth && r.bottom <= innerHeight)"
    assert admin.run(f"{inside}(document.querySelector('#peek').getBoundingClientRect())")
    admin.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    admin.until("document.querySelector('#peek').hidden")
    admin.run(f"{shown_mark(best)}.focus()")
    admin.until("!document.querySelector('#peek').hidden")
    admin.call("Input.dispatchKeyEvent", type="keyDown", key="Escape")
    assert admin.run("document.querySelector('#peek').hidden")
    admin.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", windowsVirtualKeyCode=13, text="\r")
    admin.wait_for("Page.loadEventFired")
    assert admin.run("location.pathname") == f"/studies/front/trials/{best}"
    assert admin.complaints == []


def test_a_page_follows_its_study(admin: Browser, pages: Api, address: str) -> None:
    for _ in range(2):  # first and second are in the queue
        if (claim := pages.store.queue.claim()) is not None:
            pages.store.open_claimed(claim.study, claim.lease).close()
    pages.store.queue.submit(queued("watched"), by=Actor("ann"))
    admin.open(f"{address}/studies/watched")
    assert "in the queue" in text_of(admin, "#status")
    writer = taken(pages.store, "watched")
    writer.set_state(StudyState.RUNNING)
    admin.until("document.querySelector('#status').innerText.includes('running')")
    admin.run("document.querySelector('details.menu').open = true")
    writer.set_state(StudyState.FAILED, reason=EVIL)
    writer.close()
    admin.until("document.querySelector('#status').innerText.includes('failed')")
    assert EVIL in text_of(admin, "#status")
    assert admin.run("document.querySelector('details.menu').open"), "what somebody uses stays as it is"
    assert admin.complaints == []


def test_a_page_waits_for_a_server_that_is_away(admin: Browser, pages: Api) -> None:
    with serving(pages.app) as here:
        admin.call("Network.setCookie", name=COOKIE, value=pages.secrets["root"], url=here)
        pages.store.queue.submit(queued("patient"), by=Actor("ann"))
        admin.open(f"{here}/studies/patient")
    admin.until("document.querySelector('#connection').innerText.includes('lost')")
    pages.store.queue.delete("patient", by=Actor("ann"))
