"""Logging kite accounts in and approving signals on the console, and the exchange's book, in a real browser."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pyotp
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Browser
from tests.support.engine import PASSWORD, EngineProcess
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment
from tests.support.servers import TestServers

LABEL = "<b>main</b> & co"
MARKUP = "<i id=x>t</i>"
REASON = "<img src=//example.com/x onerror=alert(1)>"


@pytest.fixture(scope="module")
def exchange(chromium: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    with ExchangeProcess(tmp_path_factory.mktemp("exchange")) as running:
        yield running


@pytest.fixture(scope="module")
def engine(
    exchange: ExchangeProcess, servers: TestServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineProcess]:
    """An engine with one kite account that nobody has logged in; the exchange sends logins back to it."""
    redis_url = f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    running = EngineProcess(
        tmp_path_factory.mktemp("engine"),
        **OPEN_LIMITS | kite_environment(exchange.base_url),
        ENGINE__BROKER__KITE__LOGIN_URL=f"{exchange.base_url}/connect/login",
        # the first test opens it: without a login there are no instruments
        ENGINE__MARKET__READINESS_GATE="block",
        ENGINE__DATABASE__URL=servers.create_database("browser"),
        ENGINE__REDIS__URL=redis_url,
    )
    with running:
        app = {"apiKey": exchange.api_key, "apiSecret": exchange.api_secret, "capital": 100_000}
        made = running.request("POST", "/accounts", json={"label": LABEL, "broker": "kite", **app})
        assert made.status_code == 201, made.text
        callback = f"{running.base_url}/api/v1/accounts/callback"
        exchange.control("accounts", {"user_id": "PAPER1", "redirect_url": callback})
        yield running
    servers.drop_database("browser")


def sign_in(page: Page, password: str, email: str = "admin@localhost") -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def netloc(url: str) -> str:
    return urlsplit(url).netloc


def test_person_signs_in_logs_the_account_in_and_lets_it_order_again(
    browser: Browser, engine: EngineProcess, exchange: ExchangeProcess
) -> None:
    page = browser.open(f"{engine.base_url}/console/login")
    sign_in(page, "not the password")
    expect(page.get_by_role("alert")).to_contain_text("password")
    sign_in(page, PASSWORD)
    row = page.get_by_role("row").filter(has_text=LABEL)
    expect(row).to_contain_text("Login required")
    page.goto(f"{engine.base_url}/console/system")
    checks = page.get_by_role("region", name="What could break the day")
    checks.get_by_role("button", name="Let them through").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why it is safe").fill("the account is logged in next")
    dialog.get_by_role("button", name="Let them through").click()
    expect(checks).to_contain_text("the account is logged in next")
    expect(checks.get_by_role("button", name="Let them through")).to_have_count(0)
    page.goto(f"{engine.base_url}/console")
    assert browser.hosts == {netloc(engine.base_url)}
    with page.expect_popup() as opened:
        row.get_by_role("link", name="Log in to Zerodha").click()
    expect(opened.value.get_by_role("heading")).to_have_text("Logged in")
    expect(opened.value.get_by_text("Zerodha user PAPER1")).to_be_visible()
    expect(row).to_contain_text("Active")
    expect(row).to_contain_text("PAPER1")
    assert browser.hosts == {netloc(engine.base_url), netloc(exchange.base_url)}

    exchange.set_faults({"on": "write", "takes": "never", "answer": "ip", "count": 1})
    account_id = engine.get("/accounts")[0]["id"]
    target = {"accountId": account_id, "sizing": {"mode": "multiplier", "value": 1}}
    strategy = engine.request("POST", "/strategies", json={"name": "s", "accounts": [target]}).json()["data"]
    engine.request("POST", "/sources", json={"type": "webhook", "strategyId": strategy["id"], "name": "w"})
    order = {"symbol": "INFY", "exchange": "NSE", "transactionType": "BUY", "quantity": 1, "productType": "MIS"}
    engine.wait_for("the instruments", lambda: engine.get("/system/ready")["checks"]["broker"]["ok"])
    sent = engine.request("POST", "/signals", json={"strategyId": strategy["id"], "orderType": "MARKET", **order})
    assert sent.status_code == 202, sent.text
    expect(row).to_contain_text("203.0.113.9")
    row.get_by_role("button", name="Unblock").click()
    expect(row).to_contain_text("Active")
    assert engine.get(f"/accounts/{account_id}")["status"] == "ACTIVE"
    assert page.locator("main b").count() == 0
    assert browser.faults == []


def test_person_approves_one_signal_and_rejects_another(browser: Browser, engine: EngineProcess) -> None:
    account_id = engine.get("/accounts")[0]["id"]
    target = {"accountId": account_id, "sizing": {"mode": "multiplier", "value": 1}}
    settings = {"name": "by hand", "approval": "manual", "accounts": [target]}
    strategy = engine.request("POST", "/strategies", json=settings).json()["data"]
    engine.request("POST", "/sources", json={"type": "webhook", "strategyId": strategy["id"], "name": "hand"})
    order = {"exchange": "NSE", "transactionType": "BUY", "orderType": "MARKET", "productType": "MIS"}
    sent = {}
    for quantity, symbol in ((3, "INFY"), (4, "SBIN")):
        body = {"strategyId": strategy["id"], "symbol": symbol, "quantity": quantity, **order}
        answer = engine.request("POST", "/signals", json=body)
        assert answer.status_code == 202, answer.text
        sent[symbol] = answer.json()["data"]["intentId"]
    page = browser.open(f"{engine.base_url}/console/login")
    waiting = page.get_by_role("table", name="Signals that wait for you")
    expect(waiting.get_by_role("row").filter(has_text="BUY 3 NSE:INFY MARKET MIS")).to_be_visible()
    waiting.get_by_role("row").filter(has_text="SBIN").get_by_role("button", name="Reject").click()
    expect(page.locator(".toast").filter(has_text="SBIN is REJECTED")).to_be_visible()
    waiting.get_by_role("row").filter(has_text="INFY").get_by_role("button", name="Approve").click()
    # what is said of it goes after a while: the signal that is carried out does not
    expect(waiting).to_be_hidden()
    assert engine.get(f"/signals/intents/{sent['SBIN']}")["reason"].startswith("REJECTED_BY_HAND")
    engine.wait_for("the fill", lambda: engine.get(f"/signals/intents/{sent['INFY']}")["status"] == "EXECUTED")
    assert browser.faults == []


def test_person_with_a_second_factor_is_asked_for_its_code(browser: Browser, engine: EngineProcess) -> None:
    person = {"email": "codes@desk.example", "password": "violet kite over the pier"}
    assert engine.request("POST", "/users", json=person | {"role": "ADMIN"}).status_code == 201
    api = f"{engine.base_url}/api/v1/auth"
    token = httpx.post(f"{api}/login", json=person, timeout=10).json()["data"]["accessToken"]
    bearer = {"Authorization": f"Bearer {token}"}
    seed = httpx.post(f"{api}/mfa/enroll", headers=bearer, timeout=10).json()["data"]["secret"]
    now = pyotp.TOTP(seed).now()
    codes = httpx.post(f"{api}/mfa/confirm", json={"otp": now}, headers=bearer, timeout=10).json()["data"]
    browser.context.clear_cookies()  # of whoever was signed in before
    page = browser.open(f"{engine.base_url}/console/login")
    code = page.get_by_label("Code of your app")
    expect(code).to_be_hidden()
    sign_in(page, person["password"], person["email"])
    expect(code).to_be_focused()
    code.fill(now)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("used before")
    code.fill(codes["recoveryCodes"][0])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("row").filter(has_text=LABEL)).to_be_visible()


def test_book_shows_orders_and_never_takes_their_text_for_markup(browser: Browser, exchange: ExchangeProcess) -> None:
    exchange.set_faults()
    exchange.control("behaviour", {"order_rejects": {"NSE:SBIN": REASON}})
    headers = {"Authorization": f"token {exchange.api_key}:{exchange.login()}"}
    form = {"exchange": "NSE", "transaction_type": "BUY", "quantity": "1", "product": "MIS", "order_type": "MARKET"}
    for symbol in ("M&M", "SBIN"):
        sent = form | {"tradingsymbol": symbol, "market_protection": "-1", "tag": MARKUP}
        placed = httpx.post(f"{exchange.base_url}/orders/regular", headers=headers, data=sent, timeout=10)
        assert placed.status_code == 200, placed.text
    page = browser.open(f"{exchange.base_url}/book")
    orders = page.get_by_role("table", name="Orders")
    filled = orders.get_by_role("row").filter(has=page.get_by_role("cell", name="NSE:M&M", exact=True))
    expect(filled).to_contain_text("COMPLETE")
    expect(filled.get_by_role("cell", name=MARKUP, exact=True)).to_be_visible()
    expect(orders.get_by_role("row").filter(has_text="SBIN")).to_contain_text(REASON)
    expect(page.get_by_role("table", name="Positions").get_by_role("row").filter(has_text="M&M")).to_be_visible()
    assert page.locator("i, img").count() == 0
    assert browser.hosts == {netloc(exchange.base_url)}
    assert browser.faults == []
