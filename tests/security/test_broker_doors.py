"""The doors that the broker's side opens, on a live session: callback, postback (SEC-052, 053, 096, F32)."""

import hashlib
import html
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.engine import EngineProcess
from tests.support.exchange_process import ExchangeProcess
from tests.support.intruder import People, Person, assert_refused
from tests.support.kite_mode import kite_environment
from tests.support.servers import TestServers

BASE = "/api/v1"
HOSTILE = """<img src=x onerror=alert(1)>'"&"""
LOGINS_PER_MINUTE = 3
GUESSES = 20 * LOGINS_PER_MINUTE


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    with ExchangeProcess(tmp_path_factory.mktemp("doors_exchange")) as running:
        yield running


@pytest.fixture(scope="module")
def database_name() -> str:
    return "security_broker_doors"


@pytest.fixture(scope="module")
def engine(
    servers: TestServers, database_name: str, exchange: ExchangeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineProcess]:
    redis_url = f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    environment = kite_environment(exchange.base_url) | {
        "ENGINE__DATABASE__URL": servers.create_database(database_name),
        "ENGINE__REDIS__URL": redis_url,
        "ENGINE__BROKER__KITE__LOGIN_URL": f"{exchange.base_url}/connect/login",
        "ENGINE__LIMITS__LOGIN_PER_MINUTE": str(LOGINS_PER_MINUTE),
    }
    with EngineProcess(tmp_path_factory.mktemp(database_name), **environment) as running:
        yield running
    servers.drop_database(database_name)


@pytest.fixture(scope="module")
def owner(people: People) -> Person:
    return people("owner", "TRADER")


@pytest.fixture(scope="module")
def account(owner: Person, exchange: ExchangeProcess) -> dict[str, Any]:
    keys = {"apiKey": exchange.api_key, "apiSecret": exchange.api_secret}
    made: dict[str, Any] = owner.make("/accounts", label=HOSTILE, broker="kite", **keys)
    assert come_back(owner, walk(owner, made)).status_code == 200
    return made


def walk(owner: Person, account: dict[str, Any]) -> dict[str, str]:
    """Ask for a link and log in at the broker; return what the browser is sent back with."""
    link = owner.request("GET", f"/accounts/{account['id']}/login-url").json()["data"]["url"]
    location = httpx.get(link, timeout=10).headers["location"]
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def come_back(person: Person, query: dict[str, str], accept: str = "application/json") -> httpx.Response:
    headers = {"Accept": accept}
    return httpx.get(f"{person.base_url}{BASE}/accounts/callback", params=query, headers=headers, timeout=20)


def status_of(owner: Person, account: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = owner.request("GET", f"/accounts/{account['id']}").json()["data"]
    return found


# the callback


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_page_at_the_end_of_a_login_shows_names_as_text(owner: Person, account: dict[str, Any], ends: str) -> None:
    query = walk(owner, account)
    if ends == "badly":
        query |= {"status": HOSTILE, "request_token": HOSTILE}
    page = come_back(owner, query, accept="text/html").text
    assert "<img" not in page
    assert (html.escape(HOSTILE) in page) is (ends == "well")


def test_link_of_somebody_who_may_not_trade_any_more_is_refused_and_logs_nobody_in(
    engine: EngineProcess, people: People, servers: TestServers, database_name: str
) -> None:
    leaver = people("leaver", "TRADER")
    theirs = leaver.make("/accounts", label="leaver's", broker="kite", apiKey="leaverkey", apiSecret="s")
    link = leaver.request("GET", f"/accounts/{theirs['id']}/login-url").json()["data"]["url"]
    [state] = parse_qs(parse_qs(urlsplit(link).query)["redirect_params"][0])["state"]
    servers.sql(f"UPDATE users SET role = 'VIEWER' WHERE id = '{leaver.id}'", database_name)
    engine.wait_for(
        "the demotion", lambda: leaver.request("POST", "/accounts", json={"label": "x"}).status_code == 403, within_s=6
    )
    answer = come_back(leaver, {"state": state, "status": "success", "request_token": "x"})
    assert assert_refused(answer, 403)["code"] == "LOGIN_NOT_ALLOWED"


def test_sec_053_attackers_broker_login_cannot_be_bound_to_the_victims_account(
    people: People, owner: Person, account: dict[str, Any]
) -> None:
    """The attacker logs in at the broker as itself and has the victim's browser come back with what that gave."""
    attacker = people("attacker", "TRADER")
    theirs = attacker.make("/accounts", label="attacker's", broker="kite", apiKey="attackerkey", apiSecret="s")
    token = walk(owner, account)["request_token"]
    before = status_of(owner, account)
    link = attacker.request("GET", f"/accounts/{theirs['id']}/login-url").json()["data"]["url"]
    [own_state] = parse_qs(parse_qs(urlsplit(link).query)["redirect_params"][0])["state"]
    forged = {"status": "success", "request_token": token}
    for query in (forged, forged | {"state": ""}, forged | {"state": "A" * 43}, forged | {"state": account["id"]}):
        assert come_back(owner, query).status_code in (400, 422)
    # a state of the attacker's opens the attacker's account, and that once
    come_back(owner, forged | {"state": own_state})
    assert status_of(owner, account) == before
    assert_refused(come_back(owner, forged | {"state": own_state}), 400, 403, 422)


def test_sec_053_state_and_request_token_are_used_once(owner: Person, account: dict[str, Any]) -> None:
    first = walk(owner, account)
    assert come_back(owner, first).status_code == 200
    assert_refused(come_back(owner, first), 400, 422)
    assert_refused(come_back(owner, walk(owner, account) | {"request_token": first["request_token"]}), 400, 403, 422)


def test_flood_of_guessed_states_keeps_nobody_from_logging_in_or_staying_signed_in(
    owner: Person, account: dict[str, Any]
) -> None:
    query = walk(owner, account)
    # what any page in the owner's browser can do: from the same address, without reading the answers
    with httpx.Client(base_url=f"{owner.base_url}{BASE}", timeout=20) as page:
        answers = [page.get("/accounts/callback", params={"state": f"guess{n}"}) for n in range(GUESSES + 20)]
    assert {answer.status_code for answer in answers} == {422, 429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)
    assert come_back(owner, query).status_code == 200
    renewed = httpx.post(f"{owner.base_url}{BASE}/auth/refresh", json={"refreshToken": owner.refresh_token}, timeout=10)
    assert renewed.status_code == 200, renewed.text


def test_strangers_are_not_told_whose_accounts_wait_for_a_login(people: People, owner: Person) -> None:
    owner.make("/accounts", label="wife's savings", broker="kite", apiKey="waitingkey", apiSecret="s")
    ready = httpx.get(f"{owner.base_url}{BASE}/system/ready", timeout=10)
    assert ready.json()["data"]["status"] == "degraded"
    assert "cannot trade now" in ready.json()["data"]["checks"]["broker"]["detail"]
    assert "wife" not in ready.text


# the postback


def postback(exchange: ExchangeProcess, **changes: Any) -> dict[str, Any]:
    order_id, at = "240101000000001", "2026-11-02 10:00:00"
    checksum = hashlib.sha256(f"{order_id}{at}{exchange.api_secret}".encode()).hexdigest()
    return {"order_id": order_id, "order_timestamp": at, "checksum": checksum, "user_id": "PAPER1"} | changes


def deliver(owner: Person, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{owner.base_url}{BASE}/broker/kite/postback", json=body, timeout=10)


def test_sec_052_postback_of_the_accounts_own_zerodha_user_is_taken(
    owner: Person, account: dict[str, Any], exchange: ExchangeProcess
) -> None:
    assert status_of(owner, account)["brokerUserId"] == "PAPER1"
    assert deliver(owner, postback(exchange)).status_code == 200


@pytest.mark.parametrize("user", ["CD5678", "paper1", "", None, 7], ids=str)
def test_postback_of_another_user_of_the_same_app_is_refused(
    engine: EngineProcess, owner: Person, account: dict[str, Any], exchange: ExchangeProcess, user: Any
) -> None:
    # the checksum is right: one app may have more users than this account's, and its secret signs for all
    answer = deliver(owner, postback(exchange, user_id=user))
    assert_refused(answer, 400 if user == 7 else 401)
    if user == "CD5678":
        refused = [entry["data"]["code"] for entry in engine.get("/audit", action="WEBHOOK_REFUSED")]
        assert "WRONG_BROKER_USER" in refused


def test_postback_that_names_no_user_is_refused_where_the_user_is_known(
    owner: Person, account: dict[str, Any], exchange: ExchangeProcess
) -> None:
    body = postback(exchange)
    del body["user_id"]
    assert_refused(deliver(owner, body), 401)
