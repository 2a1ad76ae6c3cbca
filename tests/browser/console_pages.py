"""The console in a real browser: signing in, live parts, the kill switch from a phone, roles, accessibility, weight."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyotp
import pytest
from playwright.sync_api import Error, Page, Request, expect

from tests.browser.conftest import Browser
from tests.support.engine import PASSWORD, EngineProcess
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine

AXE = Path(__file__).with_name("vendor") / "axe.min.js"
PAGES = ("/console", "/console/orders", "/console/kill")
ADMINS_ALONE = {"/console/users", "/console/system", "/console/audit", "/console/dead-letters"}
TRADERS_ALONE = {"/console/start", "/console/send"}
LOOK_AT = """paths => Promise.all(paths.map(async (path) => {
    const answer = await fetch(path);
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    return [path, answer.status, found.querySelectorAll("main :is([hx-post], button[hx-get])").length];
}))"""
"""Reads pages as they come from the server: path, status, and how many actions their main part offers."""
PHONE = {"width": 360, "height": 780}
DESK = {"width": 1280, "height": 800}
PEOPLE_PASSWORD = "violet kite over the pier"


@pytest.fixture(scope="module")
def engine(chromium: object, servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp("console"), "console_pages")


@pytest.fixture(autouse=True)
def signed_out(browser: Browser) -> None:
    browser.context.clear_cookies()


def sign_in(page: Page, base: str, email: str = "admin@localhost", password: str = PASSWORD) -> None:
    page.goto(f"{base}/console/login")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console")


def add_person(engine: EngineProcess, role: str, name: str = "") -> str:
    email = f"{name}{role.lower()}@desk.example"
    made = engine.request("POST", "/users", json={"email": email, "password": PEOPLE_PASSWORD, "role": role})
    assert made.status_code == 201, made.text
    return email


def send(engine: EngineProcess, symbol: str, **order: Any) -> str:
    strategy = engine.get("/strategies")[0]["id"]
    body = {"symbol": symbol, "exchange": "NSE", "transactionType": "BUY", "quantity": 3, "productType": "MIS", **order}
    sent = engine.request("POST", "/signals", json={"strategyId": strategy, "orderType": "MARKET", **body})
    assert sent.status_code == 202, sent.text
    return str(sent.json()["data"]["intentId"])


def test_person_signs_in_with_a_code_and_signs_out(browser: Browser, engine: EngineProcess) -> None:
    email = add_person(engine, "TRADER")
    api = f"{engine.base_url}/api/v1/auth"
    person = {"email": email, "password": PEOPLE_PASSWORD}
    bearer = {
        "Authorization": f"Bearer {httpx.post(f'{api}/login', json=person, timeout=10).json()['data']['accessToken']}"
    }
    seed = httpx.post(f"{api}/mfa/enroll", headers=bearer, timeout=10).json()["data"]["secret"]
    assert httpx.post(f"{api}/mfa/confirm", json={"otp": pyotp.TOTP(seed).now()}, headers=bearer, timeout=10).is_success
    page = browser.open(f"{engine.base_url}/console/orders?symbol=INFY")
    page.wait_for_url(re.compile(r"/console/login\?next="))
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Wrong e-mail or password")
    page.get_by_label("Password").fill(PEOPLE_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    code = page.get_by_label("Code of your app")
    expect(code).to_be_focused()
    expect(page.get_by_label("Password")).to_have_value(PEOPLE_PASSWORD)
    # the code of now has been spent by the enrolment
    code.fill(pyotp.TOTP(seed).at(int(time.time()) + 30))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r"/console/orders\?symbol=INFY$"))
    (cookie,) = browser.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    page.locator("summary").filter(has_text="You").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/console/login")
    assert browser.context.cookies() == []
    assert browser.hosts == {urlsplit(engine.base_url).netloc}
    assert browser.faults == []


def test_order_appears_and_changes_without_a_reload(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/orders")
    expect(page.locator("#link-state")).to_have_attribute("data-state", "on")
    page.evaluate("window.stayed = true")
    page.get_by_label("Symbol").fill("typed")
    send(engine, "INFY", orderType="LIMIT", price=1400)
    row = page.get_by_role("row").filter(has_text="INFY")
    expect(row).to_contain_text("Open")
    row.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Quantity").fill("x")
    dialog.get_by_role("button", name="Change the order").click()
    expect(dialog).to_contain_text("must be a whole number")
    dialog.get_by_label("Quantity").fill("2")
    dialog.get_by_role("button", name="Change the order").click()
    expect(row).to_contain_text("0 / 2")
    row.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the order").click()
    expect(row).to_contain_text("Cancelled")
    assert page.evaluate("window.stayed")
    expect(page.get_by_label("Symbol")).to_have_value("typed")
    row.get_by_role("link", name="INFY").click()
    expect(page.get_by_role("region", name="What happened")).to_contain_text("Cancelled")
    expect(page.locator("time").first).to_have_attribute("title", re.compile("UTC"))
    assert browser.faults == []


def test_every_page_knows_who_looks(browser: Browser, engine: EngineProcess) -> None:
    """Each page as a trader and as a viewer who own nothing: what is the administrator's is not there for them."""
    intent = send(engine, "RELIANCE", orderType="LIMIT", price=1)
    engine.wait_for("the verdict", lambda: engine.get(f"/signals/intents/{intent}")["status"] == "REJECTED")
    kinds = ("accounts", "strategies", "sources")
    others = [f"/console/intents/{intent}", *(f"/console/{kind}/{engine.get(f'/{kind}')[0]['id']}" for kind in kinds)]
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    pages = listed(page)
    assert pages > ADMINS_ALONE
    found: list[str] = []
    for role in ("TRADER", "VIEWER"):
        browser.context.clear_cookies()
        sign_in(page, engine.base_url, add_person(engine, role, "walker"), PEOPLE_PASSWORD)
        closed = ADMINS_ALONE | (TRADERS_ALONE if role == "VIEWER" else set())
        if listed(page) != pages - closed:
            found.append(f"{role}: the navigation shows {sorted(listed(page))}")
        for path, status, offered in page.evaluate(LOOK_AT, [*sorted(pages | TRADERS_ALONE), *others]):
            due = 404 if path in others else 403 if path in closed else 200
            if status != due:
                found.append(f"{role} {path}: {status}")
            if role == "VIEWER" and path != "/console/me" and offered:
                found.append(f"{role} {path}: {offered} actions")
        expect(page.get_by_role("button", name="Kill")).to_have_count(1 if role == "TRADER" else 0)
        # what no page offers is refused all the same
        refused = page.evaluate(
            """async () => (await fetch("/console/drills", { method: "POST", headers:
            { "X-Page-Token": document.querySelector('meta[name="page-token"]').content } })).status"""
        )
        if refused != 403:
            found.append(f"{role} runs a drill: {refused}")
    assert found == []
    assert browser.faults == []


def listed(page: Page) -> set[str]:
    """Return the pages that the navigation leads to."""
    return {str(link.get_attribute("href")) for link in page.locator("#side ul a").all()}


def test_viewer_reads_what_it_was_granted_until_it_is_taken_back(browser: Browser, engine: EngineProcess) -> None:
    email = add_person(engine, "VIEWER", "granted")
    account = engine.get("/accounts")[0]
    viewer, page = (browser.open("about:blank") for _ in range(2))

    def as_viewer(path: str) -> int:
        browser.context.clear_cookies()
        sign_in(viewer, engine.base_url, email, PEOPLE_PASSWORD)
        answer = viewer.goto(engine.base_url + path)
        assert answer is not None
        return answer.status

    def as_admin() -> None:
        browser.context.clear_cookies()
        sign_in(page, engine.base_url)
        page.goto(f"{engine.base_url}/console/users")
        page.get_by_role("link", name=email).click()

    as_admin()
    page.get_by_role("button", name="Let it read").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What").select_option(f"Account {account['label']}")
    dialog.get_by_role("button", name="Let it read").click()
    granted = page.get_by_role("table", name="Grants").get_by_role("row")
    expect(granted.filter(has_text=account["label"])).to_be_visible()
    assert as_viewer(f"/console/accounts/{account['id']}") == 200
    expect(viewer.get_by_role("heading", level=1)).to_contain_text(account["label"])
    expect(viewer.get_by_role("button", name="Look again")).to_be_visible()
    assert viewer.locator("main [hx-post]").count() == 0
    expect(viewer.get_by_role("button", name=re.compile("Change|Delete"))).to_have_count(0)
    as_admin()
    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_text("Nothing yet")).to_be_visible()
    assert as_viewer(f"/console/accounts/{account['id']}") == 404
    assert browser.faults == []


def test_every_page_is_accessible_in_light_and_dark_and_on_a_phone(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open(f"{engine.base_url}/console/login")
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found[f"sign-in {scheme}"] = violations(page)
    sign_in(page, engine.base_url)
    order = engine.get("/executions/orders")[0]["id"]
    for path in (*PAGES, f"/console/orders/{order}"):
        for scheme, size in (("light", DESK), ("dark", PHONE)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size(size)
            page.goto(engine.base_url + path)
            expect(page.locator("#link-state")).to_have_attribute("data-state", "on")
            found[f"{path} {scheme}"] = violations(page)
            wide = width(page, size["width"])
            assert wide <= size["width"], f"{path} is {wide} wide"
    page.get_by_role("button", name="Kill").click()
    found["kill dialog"] = violations(page)
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_first_page_is_light_and_asks_this_host_alone(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    done: list[Request] = []
    page.on("requestfinished", lambda request: done.append(request))
    page.goto(f"{engine.base_url}/console")
    expect(page.locator("#pnl-chart canvas")).to_be_visible()
    # weighed apart: what the browser had cached tells no size
    cookies = {str(each["name"]): str(each["value"]) for each in browser.context.cookies()}
    asked = {each.url for each in list(done)}
    sizes = {url: httpx.get(url, cookies=cookies, timeout=10).num_bytes_downloaded for url in asked}
    assert 20_000 < sum(sizes.values()) < 150_000, json.dumps(sizes, indent=1)
    assert browser.hosts == {urlsplit(engine.base_url).netloc}
    assert browser.faults == []


def test_session_that_is_ended_elsewhere_leads_to_the_sign_in(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    newest = engine.get("/auth/sessions")[0]
    assert "Chrome" in newest["device"]
    assert engine.request("DELETE", f"/auth/sessions/{newest['id']}").status_code == 200
    page.wait_for_url(re.compile(r"/console/login"))


def test_kill_switch_from_a_phone_to_flat_and_back(browser: Browser, engine: EngineProcess) -> None:
    intent = send(engine, "SBIN")
    engine.wait_for("the fill", lambda: engine.get(f"/signals/intents/{intent}")["status"] == "EXECUTED")
    page = browser.open("about:blank")
    page.set_viewport_size(PHONE)
    sign_in(page, engine.base_url)
    page.get_by_role("button", name="Kill").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Stop trading now?")
    assert engine.get("/risk/killswitch/status")["scopes"][0]["enabled"] is False
    dialog.get_by_role("button", name="Stop trading").click()
    expect(dialog.get_by_role("heading")).to_contain_text("Flat verified")
    expect(dialog).to_contain_text("flat after")
    expect(page.locator("#kill-bar")).to_contain_text("Flat verified")
    dialog.get_by_role("link", name="All of it").click()
    expect(page.get_by_role("region", name="Certificates")).to_contain_text("Valid")
    page.get_by_role("button", name="Let it trade again").click()
    dialog.get_by_label("Why it is safe").fill("tested")
    dialog.get_by_role("button", name="Let it trade").click()
    expect(page.locator("#kill-bar")).not_to_contain_text("Flat verified")
    assert engine.get("/risk/killswitch/status")["scopes"][0]["enabled"] is False
    assert browser.faults == []


def width(page: Page, most: int) -> int:
    """Return how wide a page is, once what follows the window a moment later, as a chart does, has had its time."""
    with contextlib.suppress(Error):
        page.wait_for_function("most => document.documentElement.scrollWidth <= most", arg=most, timeout=5_000)
    return int(page.evaluate("document.documentElement.scrollWidth"))


def violations(page: Page) -> list[str]:
    """Return what axe finds against WCAG 2.2 AA; injected past the policy, which lets no other script in."""
    page.evaluate(AXE.read_text())
    # a dialog that is still fading in has other colours
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished))")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = page.evaluate("tags => axe.run(document, { runOnly: tags })", tags)
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]
