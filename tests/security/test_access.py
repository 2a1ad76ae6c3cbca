"""Who may do what: tokens, roles, other people's objects, fields that are nobody's to write (SEC-013 to 037)."""

import base64
import hashlib
import hmac
import json
import socket
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from engine.config import decode_key
from tests.security.role_table import READERS, TABLE, TRADERS
from tests.support.belongings import Belongings
from tests.support.engine import EngineProcess, market_order, signed
from tests.support.intruder import People, Person, address, assert_refused
from tests.support.openalgo_paths import OPENALGO
from tests.support.servers import TestServers

BASE = "/api/v1"
WITHOUT_TOKEN = {
    ("POST", "/auth/login"),
    ("POST", "/auth/refresh"),
    ("POST", "/auth/logout"),
    ("POST", "/auth/register"),
    ("POST", "/signals/sheets/webhook"),
    ("POST", "/signals/telegram/webhook"),
    ("POST", "/signals/webhook/{sourceId}"),
    ("POST", "/signals/tradingview/{sourceId}"),
    ("POST", "/signals/heartbeat/{sourceId}"),
    ("POST", "/signals/sheets/ledger"),
    ("POST", "/broker/kite/postback"),
    ("GET", "/accounts/callback"),
    ("GET", "/system/health"),
    ("GET", "/system/ready"),
    ("GET", "/openapi.json"),
    # these have the key in the body (tests/security/test_openalgo_doors.py)
    *(("POST", f"/{name}") for name in OPENALGO),
}
TRIED_ELSEWHERE = {
    ("GET", "/users/{id}/grants"),  # test_rows_apart.py
    ("POST", "/users/{id}/grants"),
    ("DELETE", "/users/{id}/grants/{grantId}"),
    ("POST", "/executions/gtts/{id}/cancel"),  # the paper exchange of these tests keeps none
    ("GET", "/instruments/{exchange}/{symbol}"),  # nobody's
    ("POST", "/alerts/{id}/ack"),  # test_alerts.py
}
Operation = tuple[str, str]


@pytest.fixture(scope="module")
def document(engine: EngineProcess) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{engine.base_url}/openapi.json", timeout=10).json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> set[Operation]:
    return {
        (method.upper(), path.removeprefix(BASE))
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith(BASE)
    }


def concrete(path: str) -> str:
    while "{" in path:
        head, _, rest = path.partition("{")
        path = head + str(uuid4()) + rest.partition("}")[2]
    return path


# without a token


def test_only_the_known_doors_are_open_without_a_token(engine: EngineProcess, operations: set[Operation]) -> None:
    opened = set()
    for method, path in sorted(operations):
        answer = httpx.request(method, f"{engine.base_url}{BASE}{concrete(path)}", timeout=10)
        if answer.status_code != 401 or answer.json()["error"]["code"] != "UNAUTHORIZED":
            opened.add((method, path))
    assert opened <= WITHOUT_TOKEN
    assert len(operations - opened) > 30


def test_outside_the_base_path_only_the_documentation_is_served(document: dict[str, Any]) -> None:
    outside = {path for path in document["paths"] if not path.startswith(BASE)}
    assert outside <= {"/openapi.json", "/docs", "/docs/style.css", "/metrics"}


def test_missing_token_is_401_before_any_byte_of_the_body_came(
    engine: EngineProcess, operations: set[Operation]
) -> None:
    for method, path in sorted(operations - WITHOUT_TOKEN):
        if method not in ("POST", "PUT", "PATCH"):
            continue
        head = f"{method} {BASE}{concrete(path)} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        with socket.create_connection(address(engine.base_url), timeout=5) as connection:
            connection.sendall(head.encode())
            assert connection.recv(64).startswith(b"HTTP/1.1 401 "), f"{method} {path}"


# forged tokens


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def part(value: Any) -> str:
    return b64(json.dumps(value).encode())


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


def signing_key(engine: EngineProcess) -> bytes:
    return decode_key((engine.data_dir / "keys" / "jwt.key").read_text().strip())


def forge(key: bytes, header: dict[str, Any], claims: dict[str, Any]) -> str:
    content = f"{part(header)}.{part(claims)}"
    return f"{content}.{b64(hmac.digest(key, content.encode(), 'sha256'))}"


HEADER = {"alg": "HS256", "typ": "at+jwt"}


def test_sec_020_role_in_a_token_counts_for_nothing(engine: EngineProcess, alice: Person) -> None:
    token = forge(signing_key(engine), HEADER, claims_of(alice.token) | {"role": "ADMIN"})
    promoted = {"Authorization": f"Bearer {token}"}
    assert_refused(alice.request("GET", "/users", headers=promoted), 403)
    assert alice.request("GET", "/auth/me", headers=promoted).json()["data"]["role"] == "TRADER"


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "Authorization", "jwt"])
def test_sec_023_token_in_the_address_or_a_cookie_opens_nothing(
    engine: EngineProcess, alice: Person, name: str
) -> None:
    url = f"{engine.base_url}{BASE}/auth/me"
    assert_refused(httpx.get(url, params={name: alice.token}, timeout=10), 401)
    assert_refused(httpx.get(url, headers={"Cookie": f"{name}={alice.token}"}, timeout=10), 401)


def test_sec_020_disabled_and_demoted_users_lose_their_rights_within_five_seconds(
    engine: EngineProcess, servers: TestServers, database_name: str, people: People
) -> None:
    leaver, demoted = people("leaver", "ADMIN"), people("demoted", "TRADER")
    assert leaver.request("GET", "/users").status_code == 200
    servers.sql(f"UPDATE users SET disabled = true WHERE id = '{leaver.id}'", database_name)
    servers.sql(f"UPDATE users SET role = 'VIEWER' WHERE id = '{demoted.id}'", database_name)

    def place() -> int:
        return demoted.request("POST", "/accounts", json={"label": f"x{uuid4().hex[:8]}"}).status_code

    engine.wait_for("the end", lambda: leaver.request("GET", "/users").status_code == 401, within_s=6)
    engine.wait_for("the demotion", lambda: place() == 403, within_s=6)
    attempts = {
        "refresh": {"refreshToken": leaver.refresh_token},
        "login": {"email": leaver.email, "password": leaver.password},
    }
    for path, body in attempts.items():
        assert_refused(httpx.post(f"{engine.base_url}{BASE}/auth/{path}", json=body, timeout=10), 401)


DANGEROUS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/risk/killswitch/disable", {"scope": "global", "reason": "x"}),
    ("POST", "/risk/limits", {"maxOrderValue": 100_000_000}),
    ("PUT", "/risk/limits/{limits}", {"maxOrderValue": 100_000_000}),
    ("PATCH", "/accounts/{kite}", {"apiSecret": "another"}),
    ("PATCH", "/accounts/{kite}", {"apiKey": "another"}),
    ("PATCH", "/accounts/{paper}", {"capital": 99_000_000}),
    ("POST", "/users", {"email": "second@desk.example", "password": "an administrator of its own", "role": "ADMIN"}),
    ("POST", "/auth/tokens", {"name": "bot", "scopes": ["ADMIN"]}),
    ("POST", "/auth/mfa/enroll", {}),
    ("POST", "/auth/telegram/link", {}),
)


def test_sec_012_token_of_ten_minutes_ago_and_a_programs_make_no_dangerous_change(
    engine: EngineProcess, people: People
) -> None:
    owner = people("old-hand", "ADMIN")
    named = {
        "paper": owner.make("/accounts", label="ten minutes", capital=500_000)["id"],
        "kite": owner.make("/accounts", label="kite", broker="kite", apiKey=uuid4().hex, apiSecret="first")["id"],
    }
    limits = {"userId": people("limited", "TRADER").id, "maxOrderValue": 1_000}
    named["limits"] = owner.make("/risk/limits", **limits)["id"]
    program = owner.make("/auth/tokens", name="bot", scopes=["ADMIN"])["token"]
    claims = claims_of(owner.token)
    old = forge(signing_key(engine), HEADER, claims | {"auth_time": claims["auth_time"] - 600})
    for token in (old, program):
        bearer = {"Authorization": f"Bearer {token}"}
        assert owner.request("GET", "/users", headers=bearer).status_code == 200
        for method, path, body in DANGEROUS:
            error = assert_refused(owner.request(method, path.format(**named), json=body, headers=bearer), 403)
            expected = {"STEP_UP_REQUIRED"} if token is old else {"STEP_UP_REQUIRED", "SCOPE_MISSING"}
            assert error["code"] in expected, f"{method} {path}"
        tighter = {"maxOrderValue": 900}
        assert owner.request("PUT", f"/risk/limits/{named['limits']}", json=tighter, headers=bearer).status_code == 200
        renamed = {"label": f"renamed {uuid4().hex[:6]}"}
        assert owner.request("PATCH", f"/accounts/{named['kite']}", json=renamed, headers=bearer).status_code == 200
    body = {"password": owner.password}
    proved = owner.request("POST", "/auth/step-up", json=body, headers={"Authorization": f"Bearer {old}"})
    fresh = {"Authorization": f"Bearer {proved.json()['data']['accessToken']}"}
    loose = {"maxOrderValue": 100_000}
    assert owner.request("PUT", f"/risk/limits/{named['limits']}", json=loose, headers=fresh).status_code == 200
    assert (
        owner.request("PATCH", f"/accounts/{named['kite']}", json={"apiSecret": "x"}, headers=fresh).status_code == 200
    )


# roles


def test_trader_may_not_touch_the_global_kill_switch(mallory: Person) -> None:
    body = {"scope": "global", "reason": "mine"}
    assert_refused(mallory.request("POST", "/risk/killswitch/enable", json=body), 403)


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PROPFIND", "PUT"])
def test_sec_031_method_overrides_do_nothing(engine: EngineProcess, method: str) -> None:
    answer = engine.request(method, "/auth/me", headers={"X-Method-Override": "GET", "X-HTTP-Method": "DELETE"})
    assert_refused(answer, 400, 405)
    assert engine.login() not in answer.text


# other people's objects


def comparable(answer: httpx.Response) -> dict[str, Any]:
    error = assert_refused(answer, 404)
    return {name: value for name, value in error.items() if name != "timestamp"}


@pytest.mark.parametrize(("name", "role"), [("mallory", "TRADER"), ("viewer", "VIEWER")])
def test_sec_032_somebody_elses_object_is_answered_like_a_missing_one(
    people: People, belongings: Belongings, name: str, role: str
) -> None:
    before, person = belongings.state(), people(name, role)
    for method, path, object_id, body in belongings.attempts():
        if role == "VIEWER" and (method != "GET" or path.endswith("/login-url")):
            assert_refused(person.request(method, path.format(object_id), json=body), 403)
            continue
        theirs = person.request(method, path.format(object_id), json=body)
        missing = person.request(method, path.format(uuid4()), json=body)
        assert comparable(theirs) == comparable(missing), f"{method} {path}"
    assert belongings.state() == before


def test_sec_032_every_operation_that_names_an_object_is_tried(
    operations: set[Operation], belongings: Belongings
) -> None:
    tried = {(method, path.replace("{}", "{id}")) for method, path, _, _ in belongings.attempts()}
    named = {
        (method, path)
        for method, path in operations
        if "{" in path and TABLE[method, BASE + path] in (READERS, TRADERS) and (method, path) not in TRIED_ELSEWHERE
    }
    assert named - tried == set()


def test_sec_032_somebody_elses_object_is_not_reached_through_a_body(mallory: Person, belongings: Belongings) -> None:
    before = belongings.state()
    account, strategy, source = (belongings.account["id"], belongings.strategy["id"], belongings.source["id"])
    mine = mallory.make("/strategies", name="mallory's")
    own_source = mallory.make("/sources", type="webhook", strategyId=mine["id"], name="mallory's")
    target = {"sizing": {"mode": "multiplier", "value": 1}}

    def attempts(account: str, strategy: str, source: str, user: str) -> list[tuple[str, str, Any]]:
        return [
            ("POST", "/strategies", {"name": "x", "accounts": [target | {"accountId": account}]}),
            ("PATCH", f"/strategies/{mine['id']}", {"accounts": [target | {"accountId": account}]}),
            ("POST", "/sources", {"type": "webhook", "strategyId": strategy, "name": "x"}),
            ("PATCH", f"/sources/{own_source['id']}", {"strategyId": strategy}),
            ("POST", "/risk/limits", {"accountId": account, "maxOrderValue": 1}),
            ("POST", "/risk/limits", {"userId": user, "maxOrderValue": 1}),
            ("POST", "/signals", market_order() | {"sourceId": source}),
            ("POST", "/signals", market_order() | {"strategyId": strategy}),
            ("POST", "/executions/orders/cancel-all", {"accountId": account}),
            ("POST", "/risk/killswitch/enable", {"scope": f"account:{account}", "reason": "x"}),
            ("POST", "/risk/killswitch/enable", {"scope": f"strategy:{strategy}", "reason": "x"}),
            ("POST", "/risk/killswitch/enable", {"scope": f"user:{user}", "reason": "x"}),
        ]

    theirs = attempts(account, strategy, source, belongings.owner.id)
    missing = attempts(*(str(uuid4()) for _ in range(4)))
    for (method, path, body), (_, _, nobody) in zip(theirs, missing, strict=True):
        refused = comparable(mallory.request(method, path, json=body))
        assert refused == comparable(mallory.request(method, path, json=nobody)), f"{method} {path} {body}"
    assert belongings.state() == before


def test_sec_032_cancelling_everything_is_everything_of_ones_own(mallory: Person, belongings: Belongings) -> None:
    before = belongings.state()
    for body in ({}, {"symbol": "SBIN"}, {"strategyId": belongings.strategy["id"]}):
        answer = mallory.request("POST", "/executions/orders/cancel-all", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["orders"] == []
    assert belongings.state() == before


def test_sec_032_lists_and_filters_show_nothing_of_somebody_else(mallory: Person, belongings: Belongings) -> None:
    ids = {
        belongings.account["id"],
        belongings.strategy["id"],
        belongings.source["id"],
        belongings.limits["id"],
        belongings.intent,
        belongings.order["id"],
        belongings.owner.id,
    }
    for path in (
        "/accounts",
        "/strategies",
        "/sources",
        "/risk/limits",
        f"/risk/limits?userId={belongings.owner.id}",
        f"/risk/limits?accountId={belongings.account['id']}",
        "/signals/intents",
        f"/signals/intents?strategyId={belongings.strategy['id']}",
        "/executions/orders",
        f"/executions/orders?accountId={belongings.account['id']}",
        f"/executions/orders?intentId={belongings.intent}",
        f"/executions/positions?accountId={belongings.account['id']}",
        f"/executions/trades?orderId={belongings.order['id']}",
        "/risk/killswitch/status",
        "/risk/state",
    ):
        answer = mallory.request("GET", path)
        assert answer.status_code == 200, answer.text
        assert not [known for known in ids if known in answer.text], path
    stranger = mallory.request("GET", f"/risk/state?userId={uuid4()}")
    assert comparable(mallory.request("GET", f"/risk/state?userId={belongings.owner.id}")) == comparable(stranger)


def test_sec_035_signature_of_one_source_opens_no_other(
    engine: EngineProcess, mallory: Person, belongings: Belongings
) -> None:
    strategy = mallory.make("/strategies", name="mallory's own")
    own = mallory.make("/sources", type="webhook", strategyId=strategy["id"], name="own")
    raw = json.dumps(market_order()).encode()
    url = f"{engine.base_url}{BASE}/signals/webhook/"
    headers = signed(raw, own["apiKey"], own["secret"])
    assert_refused(httpx.post(url + belongings.source["id"], content=raw, headers=headers, timeout=10), 401)
    borrowed = signed(raw, belongings.source["apiKey"], own["secret"])
    assert_refused(httpx.post(url + belongings.source["id"], content=raw, headers=borrowed, timeout=10), 401)


def test_sec_035_signal_for_somebody_elses_account_is_not_executed_there(
    engine: EngineProcess, mallory: Person, belongings: Belongings
) -> None:
    strategy = mallory.make("/strategies", name="mallory's third")
    own = mallory.make("/sources", type="webhook", strategyId=strategy["id"], name="third")
    keys = (own["apiKey"], own["secret"])
    for extra in ({"accountId": belongings.account["id"]}, {"userId": belongings.owner.id}):
        assert_refused(engine.signal(market_order() | extra, source=keys), 422)
    before = engine.get("/executions/orders", accountId=belongings.account["id"])
    engine.signal(market_order() | {"account": "alice's"}, source=keys)
    assert engine.get("/executions/orders", accountId=belongings.account["id"]) == before


def test_sec_036_trader_may_tighten_but_not_loosen_its_limits(alice: Person, belongings: Belongings) -> None:
    path = f"/risk/limits/{belongings.limits['id']}"
    assert alice.request("PUT", path, json={"maxOrderValue": 40_000}).status_code == 200
    for looser in ({"maxOrderValue": 40_001}, {"maxOrderValue": None}, {"maxDailyLossPct": None}):
        assert_refused(alice.request("PUT", path, json=looser), 403, 422)
    assert alice.request("GET", "/risk/limits").json()["data"][0]["maxOrderValue"] == 40_000


def test_sec_036_trader_may_lower_but_not_raise_the_capital_that_limits_are_of(
    alice: Person, belongings: Belongings
) -> None:
    path = f"/accounts/{belongings.account['id']}"
    assert_refused(alice.request("PATCH", path, json={"capital": 500_001}), 403)
    assert alice.request("GET", path).json()["data"]["capital"] == 500_000
    assert alice.request("PATCH", path, json={"capital": 499_999}).status_code == 200


def test_sec_036_trader_cannot_shake_limits_off_by_deleting_what_they_are_set_for(
    engine: EngineProcess, alice: Person
) -> None:
    account = alice.make("/accounts", label="limited", broker="paper")
    strategy = alice.make("/strategies", name="limited", accounts=[])
    for place in ({"accountId": account["id"]}, {"strategyId": strategy["id"]}):
        body = {"userId": alice.id, "maxOrderQuantity": 3} | place
        assert engine.request("POST", "/risk/limits", json=body).status_code == 201
    for path in (f"/accounts/{account['id']}", f"/strategies/{strategy['id']}"):
        assert_refused(alice.request("DELETE", path), 403)
        assert alice.request("GET", path).status_code == 200
        assert engine.request("DELETE", path).status_code == 200


# fields that nobody may write


def test_sec_033_extra_fields_are_422_and_change_nothing(
    engine: EngineProcess, alice: Person, belongings: Belongings
) -> None:
    before = belongings.state()
    account, strategy, source = (belongings.account["id"], belongings.strategy["id"], belongings.source["id"])
    cases: list[tuple[Person | EngineProcess, str, str, dict[str, Any], str]] = [
        (engine, "POST", "/users", {"email": "x@y.example", "password": "a long enough one"}, "disabled"),
        (engine, "POST", "/users", {"email": "x@y.example", "password": "a long enough one"}, "tokenEpoch"),
        (alice, "POST", "/accounts", {"label": "x"}, "userId"),
        (alice, "POST", "/accounts", {"label": "x"}, "status"),
        (alice, "POST", "/accounts", {"label": "x"}, "id"),
        (alice, "PATCH", f"/accounts/{account}", {}, "userId"),
        (alice, "PATCH", f"/accounts/{account}", {}, "status"),
        (alice, "PATCH", f"/accounts/{account}", {}, "broker"),
        (alice, "POST", "/strategies", {"name": "x"}, "userId"),
        (alice, "PATCH", f"/strategies/{strategy}", {}, "id"),
        (alice, "POST", "/sources", {"type": "sheets", "strategyId": strategy, "name": "x"}, "secret"),
        (alice, "PATCH", f"/sources/{source}", {}, "apiKey"),
        (alice, "PATCH", f"/sources/{source}", {}, "secret"),
        (alice, "PATCH", f"/sources/{source}", {}, "userId"),
        (alice, "PATCH", f"/sources/{source}", {}, "type"),
        (alice, "PUT", f"/risk/limits/{belongings.limits['id']}", {}, "userId"),
        (alice, "PUT", f"/risk/limits/{belongings.limits['id']}", {}, "accountId"),
        (alice, "POST", "/risk/killswitch/enable", {"scope": f"user:{alice.id}", "reason": "x"}, "actor"),
        (alice, "POST", "/signals", market_order() | {"sourceId": source}, "userId"),
        (alice, "POST", "/signals", market_order() | {"sourceId": source}, "status"),
        (alice, "POST", "/auth/password", {"currentPassword": "x", "newPassword": "y"}, "userId"),
    ]
    for who, method, path, body, field in cases:
        error = assert_refused(who.request(method, path, json=body | {field: str(uuid4())}), 422)
        assert field in error["details"]["fields"], f"{method} {path} {field}"
    assert belongings.state() == before


def test_nobody_registers_at_an_engine_as_it_comes(engine: EngineProcess) -> None:
    body = {"email": "new@desk.example", "password": "a quite long password", "name": "n"}
    url = f"{engine.base_url}{BASE}/auth/register"
    assert_refused(httpx.post(url, json=body, timeout=10), 403)
    assert_refused(httpx.post(url, json=body | {"role": "ADMIN"}, timeout=10), 403, 422)


# secrets go in and never come out


def test_secrets_never_come_out_again(engine: EngineProcess, alice: Person, belongings: Belongings) -> None:
    keys = {name: f"canary-{name}-{uuid4().hex}" for name in ("apiKey", "apiSecret", "accessToken")}
    made = alice.request("POST", "/accounts", json={"label": "kite", "broker": "kite"} | keys)
    assert made.status_code == 201, made.text
    account = made.json()["data"]["id"]
    again = {name: f"{value}-2" for name, value in keys.items()}
    answers = [
        made,
        alice.request("PATCH", f"/accounts/{account}", json=again),
        alice.request("POST", f"/accounts/{account}/session", json={"requestToken": "canary-request"}),
        alice.request("PATCH", f"/accounts/{account}", json={"apiSecret": "canary with blanks"}),
        alice.request("POST", "/accounts", json={"label": "kite", "broker": "kite"} | keys),
        *(
            who.request("GET", path)
            for who in (alice, engine)
            for path in ("/accounts", f"/accounts/{account}", "/audit", f"/accounts/{account}/margins")
        ),
    ]
    assert not [answer.request.url for answer in answers if "canary-" in answer.text.replace("canary-request", "")]
    rotated = alice.make(f"/sources/{belongings.source['id']}/rotate")
    hidden = (rotated["secret"], rotated["apiKey"], belongings.source["secret"], belongings.source["apiKey"])
    for who in (alice, engine):
        for path in ("/sources", f"/sources/{belongings.source['id']}", "/audit?limit=200", "/system/flags"):
            text = who.request("GET", path).text
            assert not [secret for secret in hidden if secret in text], path
    raw = json.dumps(market_order()).encode()
    old = signed(raw, belongings.source["apiKey"], belongings.source["secret"])
    url = f"{engine.base_url}{BASE}/signals/sheets/webhook"
    assert_refused(httpx.post(url, content=raw, headers=old, timeout=10), 401)


def test_store_holds_secrets_only_sealed_or_hashed(servers: TestServers, database_name: str, alice: Person) -> None:
    secret = f"canary-{uuid4().hex}"
    body = {"label": "sealed", "broker": "kite", "apiKey": f"key{uuid4().hex}", "apiSecret": secret}
    assert alice.request("POST", "/accounts", json=body).status_code == 201
    tables = servers.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database_name).split()
    dump = "\n".join(servers.sql(f'SELECT t::text FROM "{table}" t', database_name) for table in tables)
    for hidden in (secret, alice.password, alice.refresh_token, alice.token):
        assert hidden not in dump
        assert hidden.encode().hex() not in dump
    assert hashlib.sha256(alice.refresh_token.encode()).hexdigest() in dump


def test_key_files_are_the_owners_alone(engine: EngineProcess) -> None:
    keys: Path = engine.data_dir / "keys"
    assert keys.stat().st_mode & 0o077 == 0
    assert [key.name for key in keys.iterdir() if key.stat().st_mode & 0o077] == []
