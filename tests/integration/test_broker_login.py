"""Logging a kite account in, losing the session, and being told apart what the broker denies.

A real engine in kite mode and a real exchange on loopback; the browser between them is this test.
"""

import itertools
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support import forks
from tests.support.engine import EngineProcess, market_order
from tests.support.exchange_process import ExchangeProcess
from tests.support.intruder import People
from tests.support.kite_mode import OPEN_LIMITS, kite_environment
from tests.support.servers import TestServers
from tests.support.shared_engine import TELEGRAM_TOKEN
from tests.support.telegram_stub import TelegramStub

CHAT = -1001234
BOT_TOKEN = "8123456789:AAF_xyzxyzxyzxyzxyzxyzxyzxyzxyz"
DATABASE = "broker_login"
_updates = itertools.count(1000)


class Desk:
    """An engine, its exchange, its chat, and one kite account that nobody has logged in yet."""

    def __init__(self, engine: EngineProcess, exchange: ExchangeProcess, telegram: TelegramStub) -> None:
        self.engine = engine
        self.exchange = exchange
        self.telegram = telegram
        self.secrets: list[str] = []
        made = self.post(
            "/accounts",
            {
                "label": "main",
                "broker": "kite",
                "apiKey": exchange.api_key,
                "apiSecret": exchange.api_secret,
                "capital": 10**9,
            },
        )
        self.account_id = made["id"]
        strategy = self.post(
            "/strategies",
            {
                "name": "s",
                "accounts": [{"accountId": self.account_id, "sizing": {"mode": "multiplier", "value": 1}}],
            },
        )
        source = self.post("/sources", {"type": "sheets", "strategyId": strategy["id"], "name": "sheet"})
        self.source = (source["apiKey"], source["secret"])
        self.post(
            "/sources", {"type": "telegram", "strategyId": strategy["id"], "name": "t", "telegramChatIds": [CHAT]}
        )

    def post(self, path: str, body: Any) -> Any:
        answer = self.engine.request("POST", path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["data"]

    @property
    def account(self) -> dict[str, Any]:
        found: dict[str, Any] = self.engine.get(f"/accounts/{self.account_id}")
        return found

    def link(self) -> str:
        url: str = self.engine.get(f"/accounts/{self.account_id}/login-url")["url"]
        return url

    def walk(self, url: str) -> dict[str, str]:
        """Log in at the broker as a person does; return the query that the browser is sent back with."""
        redirect = httpx.get(url, timeout=10)
        assert redirect.status_code == 302, redirect.text
        query = {k: v[0] for k, v in parse_qs(urlsplit(redirect.headers["location"]).query).items()}
        self.secrets += [query["request_token"], *([query["state"]] if "state" in query else [])]
        return query

    def come_back(self, query: dict[str, str], **headers: str) -> httpx.Response:
        """Reach the engine's callback as the browser does: without any token of the engine."""
        return httpx.get(f"{self.engine.base_url}/api/v1/accounts/callback", params=query, headers=headers, timeout=20)

    def log_in(self) -> None:
        assert self.come_back(self.walk(self.link())).status_code == 200
        assert self.account["status"] == "ACTIVE"

    def trade(self, symbol: str = "SBIN") -> dict[str, Any]:
        """Send a signal and wait for the end of its intent."""
        answer = self.engine.signal(market_order(symbol), source=self.source, key=f"k{next(_updates)}")
        assert answer.status_code == 202, answer.text
        intent = answer.json()["data"]["intentId"]

        def ended() -> Any:
            found = self.engine.get(f"/signals/intents/{intent}")
            return found if found["status"] in ("EXECUTED", "FAILED", "REJECTED", "EXPIRED", "CANCELLED") else None

        found: dict[str, Any] = self.engine.wait_for("the intent ending", ended)
        return found

    def say(self, text: str, **message: Any) -> str | None:
        """Type *text* in the chat; return what the bot answers, None for nothing within two signals' time."""
        before = len(self.telegram.said)
        body = {
            "update_id": next(_updates),
            "message": {
                "message_id": 1,
                "date": int(time.time()),
                "chat": {"id": CHAT, "type": "group"},
                "from": {"id": 7, "is_bot": False, "first_name": "P"},
                "text": text,
            }
            | message,
        }
        answer = httpx.post(
            f"{self.engine.base_url}/api/v1/signals/telegram/webhook",
            json=body,
            headers={"X-Telegram-Bot-Api-Secret-Token": TELEGRAM_TOKEN},
            timeout=10,
        )
        assert answer.status_code == 200
        if message:
            return None
        self.engine.wait_for("the bot's answer", lambda: len(self.telegram.said) > before)
        return str(self.telegram.said[-1]["text"])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, servers: TestServers) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("broker_login")
    redis_url = f"{servers.redis_url}?db=13"
    servers.flush(redis_url)
    url = servers.create_database(DATABASE)
    with ExchangeProcess(folder / "exchange", "--user", "richer:5000000") as exchange, TelegramStub() as telegram:
        environment = (
            kite_environment(exchange.base_url)
            | OPEN_LIMITS
            | {
                "ENGINE__DATABASE__URL": url,
                "ENGINE__REDIS__URL": redis_url,
                "ENGINE__BROKER__KITE__LOGIN_URL": f"{exchange.base_url}/connect/login",
                "ENGINE__TELEGRAM__API_URL": telegram.url,
                "ENGINE__TELEGRAM__BOT_TOKEN": BOT_TOKEN,
                "ENGINE__TELEGRAM__SECRET_TOKEN": TELEGRAM_TOKEN,
                "ENGINE__LOGGING__LEVEL": "debug",
            }
        )
        with EngineProcess(folder / "engine", **environment) as engine:
            yield Desk(engine, exchange, telegram)
    servers.drop_database(DATABASE)


@pytest.fixture(autouse=True)
def no_fault_is_left(desk: Desk) -> Iterator[None]:
    yield
    desk.exchange.set_faults()


def command(desk: Desk, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return forks.command(
        *words,
        cwd=desk.engine.folder,
        env=desk.engine._environment,
        text=stdin,
        timeout=60,
    )


# the way in


def test_link_leads_through_the_brokers_page_to_an_account_that_trades(desk: Desk) -> None:
    assert desk.account["status"] == "LOGIN_REQUIRED"
    given = desk.engine.get(f"/accounts/{desk.account_id}/login-url")
    assert given["callbackUrl"] == f"{desk.engine.base_url}/api/v1/accounts/callback"
    answer = desk.come_back(desk.walk(given["url"]))
    assert answer.status_code == 200, answer.text
    shown = answer.json()["data"]
    assert (shown["status"], shown["statusReason"]) == ("ACTIVE", None)
    account = desk.account
    assert account["brokerUserId"] == "PAPER1"
    assert account["loggedInAt"]
    assert {"NSE", "NFO"} <= set(account["exchanges"])
    assert "MIS" in account["products"]
    desk.engine.wait_for("the instruments", lambda: desk.engine.get("/system/metrics")["instruments"]["count"])
    assert desk.trade()["status"] == "EXECUTED"


def test_start_says_where_accounts_are_logged_in(desk: Desk) -> None:
    assert f"accounts are logged in at {desk.engine.base_url}/console/login" in desk.engine.lines


def test_browser_is_shown_a_page_that_runs_nothing(desk: Desk) -> None:
    answer = desk.come_back(desk.walk(desk.link()), Accept="text/html,application/xhtml+xml")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "script" not in answer.headers["content-security-policy"]
    assert "PAPER1" in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_state_opens_once(desk: Desk, accept: str) -> None:
    first = desk.walk(desk.link())
    assert desk.come_back(first).status_code == 200
    again = desk.walk(desk.link()) | {"state": first["state"]}
    replayed = desk.come_back(again, Accept=accept)
    assert replayed.status_code == 422
    assert "ask for a new one" in replayed.text


@pytest.mark.parametrize("state", ["", "x", "A" * 43, "A" * 3000])
def test_forged_state_changes_nothing(desk: Desk, state: str) -> None:
    before = desk.account["loggedInAt"]
    answer = desk.come_back(desk.walk(desk.link()) | {"state": state})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["code"] == "LOGIN_STATE_INVALID"
    assert desk.account["loggedInAt"] == before


def test_login_that_was_not_finished_is_told_and_its_link_is_spent(desk: Desk) -> None:
    query = desk.walk(desk.link())
    given_up = desk.come_back({"state": query["state"], "status": "cancelled"})
    assert (given_up.status_code, given_up.json()["error"]["code"]) == (409, "BROKER_LOGIN_NOT_DONE")
    assert desk.come_back(query).status_code == 422


def test_request_token_that_the_broker_does_not_know_is_refused_without_being_shown(desk: Desk) -> None:
    query = desk.walk(desk.link()) | {"request_token": "canary-of-a-request-token"}
    answer = desk.come_back(query)
    assert answer.status_code == 422, answer.text
    assert "canary" not in answer.text
    assert "Token is invalid or has expired." in answer.text
    assert "secret" in answer.text
    desk.secrets.append("canary-of-a-request-token")
    assert desk.account["status"] == "ACTIVE"


def test_key_that_is_of_no_app_is_named_and_not_called_an_outage(desk: Desk) -> None:
    app = {"label": "typo", "broker": "kite", "apiKey": "nosuchapp", "apiSecret": "other", "capital": 1}
    path = f"/accounts/{desk.post('/accounts', app)['id']}"
    assert desk.engine.request("GET", f"{path}/readiness").json()["data"]["ready"] is False
    answer = desk.engine.request("POST", f"{path}/session", json={"requestToken": "abc"})
    assert answer.status_code == 422, answer.text
    assert "Invalid `api_key`." in answer.json()["error"]["details"]["fields"]["requestToken"]
    assert desk.engine.request("DELETE", path).status_code == 200


def test_link_is_for_those_only_who_may_trade_the_account(desk: Desk) -> None:
    path = f"{desk.engine.base_url}/api/v1/accounts/{desk.account_id}"
    assert httpx.get(f"{path}/login-url", timeout=10).status_code == 401
    person = {"email": "other@example.com", "password": "long and other words 1", "name": "O", "role": "TRADER"}
    desk.post("/users", person)
    login = {"email": person["email"], "password": person["password"]}
    token = httpx.post(f"{desk.engine.base_url}/api/v1/auth/login", json=login, timeout=10).json()["data"][
        "accessToken"
    ]
    for method, tail in (("GET", "login-url"), ("GET", "readiness"), ("POST", "unblock")):
        answer = httpx.request(method, f"{path}/{tail}", headers={"Authorization": f"Bearer {token}"}, timeout=10)
        assert answer.status_code == 404, tail


def test_pasted_tokens_still_work_and_one_that_is_dead_is_refused(desk: Desk) -> None:
    path = f"/accounts/{desk.account_id}"
    token = desk.exchange.login()
    desk.secrets.append(token)
    assert desk.engine.request("PATCH", path, json={"accessToken": token}).json()["data"]["status"] == "ACTIVE"
    dead = desk.engine.request("PATCH", path, json={"accessToken": "canary-of-a-dead-token"})
    assert (dead.status_code, "canary" in dead.text) == (422, False)
    assert desk.account["status"] == "ACTIVE"
    request_token = desk.exchange.request_token()
    desk.secrets += [request_token, "canary-of-a-dead-token"]
    assert desk.post(f"{path}/session", {"requestToken": request_token})["brokerUserId"] == "PAPER1"


# the console, the chat and the command line


def test_sec_036_capital_that_a_trader_states_counts_as_far_as_the_broker_shows_it(desk: Desk) -> None:
    with closing(People(desk.engine)) as people:
        trader = people("richer", "TRADER")
        key, secret = desk.exchange.apps[1]
        body = {"broker": "kite", "apiKey": key, "apiSecret": secret}
        token = desk.exchange.login(1)
        made = trader.make("/accounts", label="claims", accessToken=token, capital=10**12, **body)
        shown = desk.engine.get(f"/accounts/{made['id']}/margins")
        assert 0 < made["capital"] == shown["equity"]["available"] + shown["commodity"]["available"]
        assert trader.request("DELETE", f"/accounts/{made['id']}").status_code == 200
        modest = trader.make("/accounts", label="modest", accessToken=token, capital=1000, **body)
        assert modest["capital"] == 1000
        assert trader.request("DELETE", f"/accounts/{modest['id']}").status_code == 200
        refused = trader.request("POST", "/accounts", json={"label": "play", "broker": "paper", "capital": 10**12})
        assert refused.status_code == 403


def test_console_page_asks_no_other_host(desk: Desk) -> None:
    page = httpx.get(f"{desk.engine.base_url}/console/login", timeout=10)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    paths = re.findall(r'(?:src|href)="([^"#]+)', page.text)
    assert len(paths) > 3
    for path in paths:
        assert path.startswith("/console/static/")
        assert httpx.get(f"{desk.engine.base_url}{path}", timeout=10).status_code == 200
    assert "http" not in page.text


def test_chat_of_the_source_is_given_links_that_work(desk: Desk) -> None:
    said = desk.say("/login@MyBot")
    assert said is not None
    url = next(line for line in said.splitlines() if line.startswith("http"))
    assert desk.come_back(desk.walk(url)).status_code == 200
    assert desk.say("/status") == "main: ACTIVE"


@pytest.mark.parametrize(
    "message",
    [
        {"chat": {"id": -999, "type": "group"}},
        {"from": {"id": 8, "is_bot": True, "first_name": "B"}},
        {"forward_date": 1},
        {"date": 1_000_000_000},
    ],
    ids=["unknown chat", "bot", "forwarded", "stale"],
)
def test_nobody_else_is_given_a_link(desk: Desk, message: dict[str, Any]) -> None:
    before = len(desk.telegram.said)
    desk.say("/login", **message)
    # answers keep their order: one that came would be seen before this one
    assert desk.say("/status") == "main: ACTIVE"
    assert len(desk.telegram.said) == before + 1


def test_command_line_prints_a_link_and_finishes_a_login(desk: Desk) -> None:
    printed = command(desk, "login")
    assert printed.returncode == 0, printed.stderr
    url = next(line for line in printed.stdout.splitlines() if "/connect/login" in line)
    query = desk.walk(url)
    whole = f"https://engine.example.com/callback?{httpx.QueryParams(query)}"
    done = command(desk, "login", "main", "--request-token", "-", stdin=f"{whole}\n")
    assert done.returncode == 0, done.stderr
    assert "ACTIVE, Zerodha user PAPER1" in done.stdout


# what the broker denies


def test_session_that_ended_is_found_by_the_next_read_and_a_login_brings_it_back(desk: Desk) -> None:
    desk.log_in()
    desk.exchange.control("flush-sessions", {})
    read = desk.engine.request("GET", f"/accounts/{desk.account_id}/margins")
    assert (read.status_code, read.json()["error"]["code"]) == (409, "LOGIN_REQUIRED")
    account = desk.account
    assert account["status"] == "LOGIN_REQUIRED"
    assert account["statusReason"].startswith("AUTH_BLOCKED: TOKEN_DEAD: log in again")
    refused = desk.trade()
    assert refused["status"] == "REJECTED"
    assert refused["reason"].startswith("LOGIN_REQUIRED: ")
    examined = desk.engine.get(f"/accounts/{desk.account_id}/readiness")
    assert examined["ready"] is False
    found = command(desk, "doctor", "--json")
    assert found.returncode == 1
    assert "broker token" in found.stdout
    assert "main: AUTH_BLOCKED: TOKEN_DEAD" in found.stdout
    desk.log_in()
    assert desk.trade()["status"] == "EXECUTED"
    whole = command(desk, "doctor")
    assert whole.returncode == 0, whole.stdout


def test_session_that_ends_under_an_order_refuses_the_order_and_asks_for_a_login(desk: Desk) -> None:
    desk.log_in()
    desk.exchange.control("flush-sessions", {})
    assert desk.trade()["status"] in ("REJECTED", "FAILED")
    assert desk.account["statusReason"].startswith("AUTH_BLOCKED: TOKEN_DEAD")
    desk.log_in()


def test_address_that_may_not_order_blocks_orders_names_it_and_leaves_reads(desk: Desk) -> None:
    desk.log_in()
    desk.exchange.set_faults({"on": "write", "takes": "never", "answer": "ip"})
    assert desk.trade()["status"] in ("REJECTED", "FAILED")
    account = desk.account
    assert account["status"] == "ORDERS_BLOCKED"
    assert account["statusReason"].startswith("STATIC_IP: orders come from 203.0.113.9")
    assert "developer console" in account["statusReason"]
    assert "/unblock" in account["statusReason"]
    found = command(desk, "doctor")
    assert "main: ORDERS_BLOCKED: STATIC_IP" in found.stdout
    assert "engine login" not in found.stdout
    assert desk.engine.request("GET", f"/accounts/{desk.account_id}/margins").status_code == 200
    examined = desk.engine.get(f"/accounts/{desk.account_id}/readiness")
    checks = {check["check"]: check["ok"] for check in examined["checks"]}
    assert (checks["session"], checks["orders"], examined["ready"]) == (True, False, False)
    assert desk.trade()["reason"].startswith("ORDERS_BLOCKED: ")
    alerts = [r for r in desk.engine.get("/audit", limit=200) if r["action"] == "ALERT"]
    assert any("STATIC_IP" in alert["data"]["text"] for alert in alerts)
    # a session that only seemed dead does not lift what stands against orders
    desk.exchange.set_faults({"on": "orders", "takes": "never", "answer": "token"})
    assert desk.engine.request("POST", f"/accounts/{desk.account_id}/reconcile").status_code == 409
    desk.exchange.set_faults()
    desk.engine.wait_for("the session living again", lambda: desk.account["status"] != "LOGIN_REQUIRED")
    assert desk.account["statusReason"] == account["statusReason"]
    path = f"/accounts/{desk.account_id}/unblock"
    assert desk.post(path, {})["status"] == "ACTIVE"
    assert desk.trade()["status"] == "EXECUTED"
    assert desk.engine.request("POST", path).json()["error"]["code"] == "ACCOUNT_NOT_BLOCKED"


def test_permission_to_order_that_is_missing_blocks_orders_until_the_next_login(desk: Desk) -> None:
    desk.exchange.set_faults({"on": "place", "takes": "never", "answer": "permission"})
    assert desk.trade()["status"] in ("REJECTED", "FAILED")
    account = desk.account
    assert (account["status"], account["statusReason"][:12]) == ("ORDERS_BLOCKED", "PERMISSION: ")
    desk.exchange.set_faults()
    desk.log_in()
    assert desk.trade()["status"] == "EXECUTED"


def test_permission_to_read_quotes_that_is_missing_blocks_nothing(desk: Desk) -> None:
    desk.log_in()
    # an app without market data has neither quotes nor a ticker
    desk.exchange.control("ticker-faults", {"rules": [{"fault": "drop", "after_s": 0}, {"fault": "refuse_403"}]})
    desk.exchange.set_faults({"on": "quotes", "takes": "never", "answer": "permission"})

    def noticed() -> bool:
        checks = desk.engine.get(f"/accounts/{desk.account_id}/readiness")["checks"]
        return any(check["check"] == "marketData" for check in checks)

    desk.engine.wait_for("the refusal of quotes", noticed)
    assert desk.account["status"] == "ACTIVE"
    assert desk.trade()["status"] == "EXECUTED"
    desk.exchange.control("ticker-faults", {"rules": []})


# what is left behind


def test_readiness_says_what_it_cannot_see(desk: Desk) -> None:
    desk.log_in()
    examined = desk.engine.get(f"/accounts/{desk.account_id}/readiness")
    checks = {check["check"]: check for check in examined["checks"]}
    assert checks["staticIp"]["ok"] is None
    assert "without an order" in checks["staticIp"]["detail"]
    assert all(checks[name]["ok"] for name in ("session", "funds", "clock", "orders"))


def test_no_link_or_token_is_left_in_logs_audit_or_store(desk: Desk, servers: TestServers) -> None:
    desk.log_in()
    assert len(desk.secrets) > 5
    held = {log.name: log.read_text() for log in (desk.engine.folder / "logs").rglob("*.log")}
    held["terminal"] = "\n".join([*desk.engine.lines, *desk.engine.errors])
    tables = servers.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", DATABASE).split()
    held |= {table: servers.sql(f'SELECT t::text FROM "{table}" t', DATABASE) for table in tables}
    assert "account.login_failed" in "".join(text for name, text in held.items() if name.startswith("app"))
    assert "ACCOUNT_LOGGED_IN" in held["audit_logs"]
    found = [(name, secret) for name, text in held.items() for secret in desk.secrets if secret and secret in text]
    assert found == []


def test_login_is_known_after_a_restart(desk: Desk, tmp_path: Path) -> None:
    desk.log_in()
    before = desk.account
    assert desk.engine.stop() == 0
    desk.engine.start()
    desk.engine.wait_for("the instruments", lambda: desk.engine.get("/system/metrics")["instruments"]["count"])
    assert desk.account == before
    assert desk.trade()["status"] == "EXECUTED"
