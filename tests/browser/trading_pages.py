"""The console's pages of a trading day in a real browser: signals, positions, profit and loss, audit, search."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Browser
from tests.browser.console_pages import DESK, PHONE, send, sign_in, violations, width
from tests.support.engine import EngineProcess
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine

DATABASE = "trading_pages"
READ = (
    *("/console/intents", "/console/trades", "/console/positions", "/console/pnl"),
    "/console/search?q=INFY",
)
ADMIN = ("/console/audit", "/console/dead-letters")


@pytest.fixture(scope="module")
def engine(chromium: object, servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp("trading"), DATABASE)


@pytest.fixture(autouse=True)
def signed_out(browser: Browser) -> None:
    browser.context.clear_cookies()


def test_signal_by_hand_is_followed_to_its_fill_and_found_again(browser: Browser, engine: EngineProcess) -> None:
    engine.wait_for("the instruments", lambda: engine.get("/system/ready")["checks"]["broker"]["ok"])
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/send")
    page.get_by_label("Symbol").fill("infy")
    page.get_by_label("Quantity", exact=True).fill("three")
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name="Look at it first").click()
    expect(dialog).to_contain_text("quantity must be a whole number")
    dialog.get_by_role("button", name="Change it").click()
    page.get_by_label("Quantity", exact=True).fill("90,000")
    page.get_by_role("button", name="Look at it first").click()
    expect(dialog).to_contain_text("Risk would say: rejected")
    expect(dialog).to_contain_text("MAX_ORDER_VALUE")
    dialog.get_by_role("button", name="Change it").click()
    page.get_by_label("Quantity", exact=True).fill("3")
    page.get_by_role("button", name="Look at it first").click()
    expect(dialog).to_contain_text("BUY 3 NSE:INFY")
    expect(dialog).to_contain_text("the paper exchange")
    expect(dialog).to_contain_text("Risk would say: approved")
    expect(dialog).to_contain_text(engine.get("/accounts")[0]["label"])
    assert violations(page) == []
    # a look leaves nothing behind
    assert engine.get("/signals/intents") == []
    dialog.get_by_role("button", name="Send it").click()
    page.wait_for_url(re.compile(r"/console/intents/[0-9a-f-]{36}$"))
    story = page.get_by_role("region", name="What happened")
    expect(story).to_contain_text("Executed")
    expect(story).to_contain_text("Fill")
    rules = page.get_by_role("region", name="What risk said").get_by_role("row")
    expect(rules.filter(has_text="Passes").first).to_be_visible()

    # from the overview: a click to the order or its signal, a click to the whole story
    page.goto(f"{engine.base_url}/console")
    page.get_by_role("region", name="Signals").get_by_role("link", name="INFY").click()
    expect(page.get_by_role("region", name="What happened")).to_contain_text("Fill")
    # by the broker's number, from any page
    order = engine.get("/executions/orders")[0]
    page.get_by_label("Find an order or a signal").fill(order["brokerOrderId"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/console/orders/{order['id']}")
    page.get_by_role("link", name="Its signal and the rules").click()
    expect(page.get_by_role("region", name="What risk said")).to_contain_text("Passes")
    assert browser.faults == []


def test_waiting_signal_is_rejected_with_a_reason_and_a_working_one_cancelled(
    browser: Browser, engine: EngineProcess
) -> None:
    strategy = engine.get("/strategies")[0]["id"]
    assert engine.request("PATCH", f"/strategies/{strategy}", json={"approval": "manual"}).status_code == 200
    intent = send(engine, "SBIN")
    assert engine.request("PATCH", f"/strategies/{strategy}", json={"approval": "auto"}).status_code == 200
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/intents?symbol=SBIN")
    row = page.get_by_role("table", name="Signals").get_by_role("row").filter(has_text="SBIN")
    row.get_by_role("button", name="Reject").click()
    page.get_by_role("dialog").get_by_label("Why, for the record").fill("not today")
    page.get_by_role("dialog").get_by_role("button", name="Reject it").click()
    expect(row).to_contain_text("Rejected")
    assert "not today" in engine.get(f"/signals/intents/{intent}")["reason"]

    below = int(engine.get("/instruments/NSE/SBIN")["lastPrice"] * 0.95)
    working = send(engine, "SBIN", orderType="LIMIT", price=below)
    page.goto(f"{engine.base_url}/console/intents/{working}")
    expect(page.get_by_role("region", name="Its orders")).to_contain_text("Open")
    page.locator(".page-head").get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel what has not filled").click()
    expect(page.locator(".page-head")).to_contain_text("Cancelled")
    assert browser.faults == []


def test_one_position_is_closed_and_then_all(browser: Browser, engine: EngineProcess) -> None:
    for symbol in ("INFY", "SBIN"):
        intent = send(engine, symbol)
        path = f"/signals/intents/{intent}"
        engine.wait_for("the fill", lambda path=path: engine.get(path)["status"] == "EXECUTED")
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/positions")
    net = page.get_by_role("table", name="Net positions").get_by_role("row")
    row = net.filter(has_text="SBIN")
    expect(row).to_contain_text("+3")
    expect(page.get_by_role("table", name=re.compile("Book of"))).to_contain_text("SBIN")
    row.get_by_role("button", name="Close").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("NSE:SBIN")
    dialog.get_by_role("button", name="Close at the market").click()
    expect(row.get_by_role("button", name="Close")).to_have_count(0)
    page.get_by_role("button", name="Close all of mine").click()
    dialog.get_by_label("Type CLOSE ALL").fill("yes")
    dialog.get_by_role("button", name="Close at the market").click()
    expect(dialog).to_contain_text("to show that you mean it")
    dialog.get_by_label("Type CLOSE ALL").fill("close all")
    dialog.get_by_role("button", name="Close at the market").click()
    expect(net.get_by_role("button", name="Close")).to_have_count(0)
    assert [each["quantity"] for each in engine.get("/executions/positions")] == [0, 0]
    page.get_by_role("link", name=engine.get("/accounts")[0]["label"]).first.click()
    expect(page.get_by_role("region", name="Funds")).to_contain_text("Equity, free now")
    assert browser.faults == []


def test_record_is_verified_shown_and_exported(browser: Browser, engine: EngineProcess, tmp_path: Path) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/audit?action=signal_by_hand")
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.locator("#verified")).to_contain_text("The chain is whole")
    expect(page.get_by_role("region", name="Checkpoints").get_by_role("row").nth(1)).to_be_visible()
    page.get_by_role("button", name="Show").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("requestId")
    dialog.get_by_role("button", name="Close").click()
    with page.expect_download() as taken:
        page.get_by_role("link", name="Export what is shown").click()
    taken.value.save_as(tmp_path / "audit.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert {line["action"] for line in lines[:-1]} == {"SIGNAL_BY_HAND"}
    assert lines[-1] == {"records": len(lines) - 1}
    assert browser.faults == []


def test_job_that_gave_up_is_discarded_with_a_reason(
    browser: Browser, engine: EngineProcess, servers: TestServers
) -> None:
    letter = uuid4()
    servers.sql(
        "INSERT INTO dead_letters (id, queue, kind, status, subject, payload, error, attempts, created_at, updated_at)"
        f" VALUES ('{letter}', 'signal', 'DAMAGED', 'WAITING', 'test', '\\x00', 'it is torn', 1, now(), now())",
        DATABASE,
    )
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    page.goto(f"{engine.base_url}/console/dead-letters/{letter}")
    expect(page.get_by_role("region", name="Why it gave up")).to_contain_text("it is torn")
    found = violations(page)
    page.get_by_role("button", name="Discard").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill("nothing can be read of it")
    dialog.get_by_role("button", name="Discard it").click()
    expect(page.locator(".page-head")).to_contain_text("Discarded")
    assert engine.get(f"/system/dead-letters/{letter}")["status"] == "DISCARDED"
    assert found == []
    assert browser.faults == []


def test_pages_are_accessible_and_fit_a_phone(browser: Browser, engine: EngineProcess) -> None:
    page = browser.open("about:blank")
    sign_in(page, engine.base_url)
    intent = engine.get("/signals/intents")[0]["id"]
    account = engine.get("/accounts")[0]["id"]
    one = (f"/console/intents/{intent}", f"/console/positions/funds/{account}", "/console/send")
    found = {}
    for path in (*READ, *ADMIN, *one):
        page.set_viewport_size(DESK)
        page.goto(engine.base_url + path)
        expect(page.locator("#link-state")).to_have_attribute("data-state", "on")
        found[path] = violations(page)
        page.set_viewport_size(PHONE)
        wide = width(page, PHONE["width"])
        assert wide <= PHONE["width"], f"{path} is {wide} wide"
    page.emulate_media(color_scheme="dark")
    page.goto(f"{engine.base_url}{one[0]}")
    found["dark"] = violations(page)
    # on a phone the drawer leads to what the bar at the bottom has no room for
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Audit log", exact=True).click()
    page.goto(f"{engine.base_url}/console/kill")
    page.get_by_label("Why", exact=True).fill("to see the dialog")
    page.get_by_role("button", name="Stop", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Stop trading now?")
    found["kill"] = violations(page)
    dialog.get_by_role("button", name="Go on trading").click()
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert browser.faults == []
