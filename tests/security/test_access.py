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
import jwt
import pytest

from engine.config import decode_key
from tests.support.engine import EngineProcess, limit_order, market_order, signed
from tests.support.intruder import People, Person, address, assert_refused
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
    ("POST", "/broker/kite/postback"),
    ("GET", "/accounts/callback"),
    ("GET", "/system/health"),
    ("GET", "/system/ready"),
    ("GET", "/openapi.json"),
}
FOR_ADMINS = {
    ("GET", "/users"),
    ("POST", "/users"),
    ("GET", "/users/{id}"),
    ("GET", "/audit"),
    ("GET", "/audit/verify"),
    ("GET", "/system/actors"),
    ("GET", "/system/queues"),
    ("GET", "/system/metrics"),
    ("GET", "/system/flags"),
    ("POST", "/risk/killswitch/disable"),
    ("PUT", "/instruments/freeze"),
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


@pytest.fixture(scope="module")
def alice(people: People) -> Person:
    return people("alice", "TRADER")


@pytest.fixture(scope="module")
def mallory(people: People) -> Person:
    return people("mallory", "TRADER")


@pytest.fixture(scope="module")
def viewer(people: People) -> Person:
    return people("viewer", "VIEWER")


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
    console = {"/console", "/console/login", "/console/login.css", "/console/login.js"}
    assert outside <= {"/openapi.json", "/docs", "/docs/style.css", "/metrics"} | console


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


def test_forging_with_the_real_key_and_the_real_claims_works(engine: EngineProcess, alice: Person) -> None:
    token = forge(signing_key(engine), HEADER, claims_of(alice.token))
    assert alice.request("GET", "/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200


FORGERIES: dict[str, Any] = {
    "alg none without signature": lambda key, c, t: f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{part(c)}.",
    "alg nOnE with the old signature": lambda key, c, t: (
        f"{part({'alg': 'nOnE', 'typ': 'at+jwt'})}.{part(c)}.{t.split('.')[2]}"
    ),
    "another key": lambda key, c, t: forge(b"k" * 32, HEADER, c),
    "empty key": lambda key, c, t: forge(b"", HEADER, c),
    "the key as it stands in its file": lambda key, c, t: forge(b64(key).encode(), HEADER, c),
    "signature of zeros": lambda key, c, t: ".".join([*t.split(".")[:2], b64(bytes(32))]),
    "signature cut short": lambda key, c, t: t[:-4],
    "role changed under the old signature": lambda key, c, t: (
        f"{t.split('.')[0]}.{part(c | {'role': 'ADMIN'})}.{t.split('.')[2]}"
    ),
    "HS512": lambda key, c, t: jwt.encode(c, key * 2, algorithm="HS512", headers={"typ": "at+jwt"}),
    "typ JWT": lambda key, c, t: forge(key, {"alg": "HS256", "typ": "JWT"}, c),
    "kid that climbs": lambda key, c, t: forge(key, HEADER | {"kid": "../../../../dev/null"}, c),
    "jwk of its own": lambda key, c, t: forge(key, HEADER | {"jwk": {"kty": "oct", "k": "a2V5"}}, c),
    "crit": lambda key, c, t: forge(key, HEADER | {"crit": ["exp"]}, c),
    "expired": lambda key, c, t: forge(key, HEADER, c | {"iat": 1_000_000, "nbf": 1_000_000, "exp": 1_000_900}),
    "a hundred years": lambda key, c, t: forge(key, HEADER, c | {"exp": c["iat"] + 100 * 365 * 86400}),
    "exp as text": lambda key, c, t: forge(key, HEADER, c | {"exp": str(c["exp"])}),
    "exp of 1e308": lambda key, c, t: forge(key, HEADER, c | {"exp": 1e308}),
    "no exp": lambda key, c, t: forge(key, HEADER, {k: v for k, v in c.items() if k != "exp"}),
    "not yet": lambda key, c, t: forge(
        key, HEADER, c | {"iat": c["iat"] + 3600, "nbf": c["nbf"] + 3600, "exp": c["exp"] + 3600}
    ),
    "another audience": lambda key, c, t: forge(key, HEADER, c | {"aud": "trading-engine-approval"}),
    "many audiences": lambda key, c, t: forge(key, HEADER, c | {"aud": [c["aud"], "x"]}),
    "another issuer": lambda key, c, t: forge(key, HEADER, c | {"iss": "someone"}),
    "somebody who is not there": lambda key, c, t: forge(key, HEADER, c | {"sub": str(uuid4())}),
    "an earlier epoch": lambda key, c, t: forge(key, HEADER, c | {"tep": c["tep"] - 1}),
    "a later epoch": lambda key, c, t: forge(key, HEADER, c | {"tep": c["tep"] + 1}),
    "bytes after the signature": lambda key, c, t: t + "AA",
    "a fourth part": lambda key, c, t: t + ".e30",
    "two tokens": lambda key, c, t: f"{t}, Bearer {t}",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_token_is_401(engine: EngineProcess, alice: Person, name: str) -> None:
    token = FORGERIES[name](signing_key(engine), claims_of(alice.token), alice.token)
    assert_refused(alice.request("GET", "/auth/me", headers={"Authorization": f"Bearer {token}"}), 401)


def test_refresh_token_is_no_access_token(alice: Person) -> None:
    assert_refused(alice.request("GET", "/auth/me", headers={"Authorization": f"Bearer {alice.refresh_token}"}), 401)


def test_role_in_a_token_counts_for_nothing(engine: EngineProcess, alice: Person) -> None:
    token = forge(signing_key(engine), HEADER, claims_of(alice.token) | {"role": "ADMIN"})
    promoted = {"Authorization": f"Bearer {token}"}
    assert_refused(alice.request("GET", "/users", headers=promoted), 403)
    assert alice.request("GET", "/auth/me", headers=promoted).json()["data"]["role"] == "TRADER"


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "Authorization", "jwt"])
def test_token_in_the_address_or_a_cookie_is_401(engine: EngineProcess, alice: Person, name: str) -> None:
    url = f"{engine.base_url}{BASE}/auth/me"
    assert_refused(httpx.get(url, params={name: alice.token}, timeout=10), 401)
    assert_refused(httpx.get(url, headers={"Cookie": f"{name}={alice.token}"}, timeout=10), 401)


def test_disabled_and_demoted_users_lose_their_rights_within_five_seconds(
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


# roles


def test_viewer_is_403_on_every_write(viewer: Person, operations: set[Operation]) -> None:
    for method, path in sorted(operations - WITHOUT_TOKEN):
        if method == "GET" or path.startswith("/auth/"):
            continue
        answer = viewer.request(method, concrete(path), json={"anything": True})
        assert answer.status_code == 403, f"{method} {path}: {answer.text}"


@pytest.mark.parametrize("role", ["VIEWER", "TRADER"])
def test_operations_for_administrators_are_403_for_others(
    people: People, operations: set[Operation], role: str
) -> None:
    person = people({"VIEWER": "viewer", "TRADER": "mallory"}[role], role)
    assert operations >= FOR_ADMINS
    for method, path in sorted(FOR_ADMINS | {op for op in operations if op[1].startswith(("/users", "/audit"))}):
        assert_refused(person.request(method, concrete(path), json={}), 403)


def test_trader_may_not_touch_the_global_kill_switch(mallory: Person) -> None:
    body = {"scope": "global", "reason": "mine"}
    assert_refused(mallory.request("POST", "/risk/killswitch/enable", json=body), 403)


def test_head_reaches_no_further_than_get(engine: EngineProcess, viewer: Person) -> None:
    assert httpx.head(f"{engine.base_url}{BASE}/users", timeout=10).status_code == 401
    assert viewer.request("HEAD", "/users").status_code == 403


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PROPFIND", "PUT"])
def test_other_methods_do_nothing(engine: EngineProcess, method: str) -> None:
    answer = engine.request(method, "/auth/me", headers={"X-Method-Override": "GET", "X-HTTP-Method": "DELETE"})
    assert_refused(answer, 400, 405)
    assert engine.login() not in answer.text


# other people's objects


class Belongings:
    """What alice owns: an account, a strategy, a source, limits, an intent and an order that rests."""

    def __init__(self, engine: EngineProcess, alice: Person) -> None:
        self.owner = alice
        self.account = alice.make("/accounts", label="alice's", capital=500_000)
        target = {"accountId": self.account["id"], "sizing": {"mode": "multiplier", "value": 1}}
        self.strategy = alice.make("/strategies", name="alice's", accounts=[target])
        self.source = alice.make("/sources", type="webhook", strategyId=self.strategy["id"], name="alice's")
        self.limits = alice.make("/risk/limits", maxOrderValue=50_000)
        keys = (self.source["apiKey"], self.source["secret"])
        answer = engine.signal(limit_order("SBIN", price=800.0), source=keys)
        assert answer.status_code == 202, answer.text
        self.intent: str = answer.json()["data"]["intentId"]
        self.order: dict[str, Any] = engine.wait_for(
            "alice's order",
            lambda: [
                order
                for order in alice.request("GET", "/executions/orders").json()["data"]
                if order["status"] == "OPEN"
            ],
        )[0]

    def state(self) -> list[Any]:
        paths = (
            f"/accounts/{self.account['id']}",
            f"/strategies/{self.strategy['id']}",
            f"/sources/{self.source['id']}",
            "/risk/limits",
            f"/signals/intents/{self.intent}",
            f"/executions/orders/{self.order['id']}",
            "/risk/killswitch/status",
        )
        return [self.owner.request("GET", path).json()["data"] for path in paths]

    def attempts(self) -> list[tuple[str, str, str, Any]]:
        account, strategy, source = self.account["id"], self.strategy["id"], self.source["id"]
        return [
            ("GET", "/accounts/{}", account, None),
            ("PATCH", "/accounts/{}", account, {"capital": 1}),
            ("DELETE", "/accounts/{}", account, None),
            ("POST", "/accounts/{}/session", account, {"requestToken": "x"}),
            ("GET", "/accounts/{}/login-url", account, None),
            ("GET", "/accounts/{}/readiness", account, None),
            ("POST", "/accounts/{}/unblock", account, {}),
            ("GET", "/accounts/{}/margins", account, None),
            ("GET", "/accounts/{}/holdings", account, None),
            ("GET", "/accounts/{}/positions", account, None),
            ("POST", "/accounts/{}/reconcile", account, None),
            ("GET", "/strategies/{}", strategy, None),
            ("PATCH", "/strategies/{}", strategy, {"enabled": False}),
            ("DELETE", "/strategies/{}", strategy, None),
            ("GET", "/sources/{}", source, None),
            ("PATCH", "/sources/{}", source, {"requireTimestamp": False}),
            ("POST", "/sources/{}/rotate", source, None),
            ("DELETE", "/sources/{}", source, None),
            ("PUT", "/risk/limits/{}", self.limits["id"], {"maxOrderValue": 1}),
            ("GET", "/signals/intents/{}", self.intent, None),
            ("GET", "/executions/orders/{}", self.order["id"], None),
            ("POST", "/executions/orders/{}/cancel", self.order["id"], {}),
            ("PATCH", "/executions/orders/{}", self.order["id"], {"quantity": 2}),
        ]


@pytest.fixture(scope="module")
def belongings(engine: EngineProcess, alice: Person) -> Belongings:
    return Belongings(engine, alice)


def comparable(answer: httpx.Response) -> dict[str, Any]:
    error = assert_refused(answer, 404)
    return {name: value for name, value in error.items() if name != "timestamp"}


@pytest.mark.parametrize(("name", "role"), [("mallory", "TRADER"), ("viewer", "VIEWER")])
def test_somebody_elses_object_is_answered_like_a_missing_one(
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


def test_somebody_elses_object_is_not_reached_through_a_body(mallory: Person, belongings: Belongings) -> None:
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


def test_cancelling_everything_is_everything_of_ones_own(mallory: Person, belongings: Belongings) -> None:
    before = belongings.state()
    for body in ({}, {"symbol": "SBIN"}, {"strategyId": belongings.strategy["id"]}):
        answer = mallory.request("POST", "/executions/orders/cancel-all", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["orders"] == []
    assert belongings.state() == before


def test_lists_and_filters_show_nothing_of_somebody_else(mallory: Person, belongings: Belongings) -> None:
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


def test_signature_of_one_source_opens_no_other(engine: EngineProcess, mallory: Person, belongings: Belongings) -> None:
    strategy = mallory.make("/strategies", name="mallory's own")
    own = mallory.make("/sources", type="webhook", strategyId=strategy["id"], name="own")
    raw = json.dumps(market_order()).encode()
    url = f"{engine.base_url}{BASE}/signals/webhook/"
    headers = signed(raw, own["apiKey"], own["secret"])
    assert_refused(httpx.post(url + belongings.source["id"], content=raw, headers=headers, timeout=10), 401)
    borrowed = signed(raw, belongings.source["apiKey"], own["secret"])
    assert_refused(httpx.post(url + belongings.source["id"], content=raw, headers=borrowed, timeout=10), 401)


def test_signal_for_somebody_elses_account_is_not_executed_there(
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


def test_trader_may_tighten_but_not_loosen_its_limits(alice: Person, belongings: Belongings) -> None:
    path = f"/risk/limits/{belongings.limits['id']}"
    assert alice.request("PUT", path, json={"maxOrderValue": 40_000}).status_code == 200
    for looser in ({"maxOrderValue": 40_001}, {"maxOrderValue": None}, {"maxDailyLossPct": None}):
        assert_refused(alice.request("PUT", path, json=looser), 403, 422)
    assert alice.request("GET", "/risk/limits").json()["data"][0]["maxOrderValue"] == 40_000


def test_trader_may_lower_but_not_raise_the_capital_that_limits_are_of(alice: Person, belongings: Belongings) -> None:
    path = f"/accounts/{belongings.account['id']}"
    assert_refused(alice.request("PATCH", path, json={"capital": 500_001}), 403)
    assert alice.request("GET", path).json()["data"]["capital"] == 500_000
    assert alice.request("PATCH", path, json={"capital": 499_999}).status_code == 200


# fields that nobody may write


def test_extra_fields_are_422_and_change_nothing(engine: EngineProcess, alice: Person, belongings: Belongings) -> None:
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


def test_nobody_registers_and_nobody_chooses_a_role(engine: EngineProcess) -> None:
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
