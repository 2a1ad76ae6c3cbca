"""The API under attack as a user of it may: numbers, bodies, limits, changes and what is put on record of them."""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
import pyotp
import pytest

from tests.support.engine import EngineProcess, limit_order, market_order, signed
from tests.support.intruder import People, Person, assert_refused
from tests.support.servers import TestServers
from tests.support.shared_engine import METRICS_TOKEN

BASE = "/api/v1"


@pytest.fixture(scope="module")
def trader(people: People) -> Person:
    return people("trader", "TRADER")


@pytest.fixture(scope="module")
def desk(trader: Person) -> dict[str, Any]:
    account = trader.make("/accounts", label="desk", capital=500_000)
    target = {"accountId": account["id"], "sizing": {"mode": "multiplier", "value": 1}}
    strategy = trader.make("/strategies", name="desk", accounts=[target])
    source = trader.make("/sources", type="webhook", strategyId=strategy["id"], name="desk")
    return {"account": account, "strategy": strategy, "source": source}


@pytest.fixture(scope="module")
def admin(engine: EngineProcess) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {engine.login()}"}
    with httpx.Client(base_url=engine.base_url, headers=headers, timeout=20) as client:
        yield client


def put_raw(person: Person, method: str, path: str, raw: bytes) -> httpx.Response:
    return person.request(method, path, content=raw, headers={"Content-Type": "application/json"})


# numbers and bodies


@pytest.mark.parametrize(
    "number",
    ["0.30000000000000004", "1e-30", "-1", "1e400", "NaN", "Infinity", "true", "[1]", '"x"'],
)
def test_sec_069_number_that_is_no_exact_amount_is_refused(trader: Person, desk: dict[str, Any], number: str) -> None:
    raw = f'{{"strategyId":"{desk["strategy"]["id"]}","maxOrderValue":{number}}}'.encode()
    assert_refused(put_raw(trader, "POST", "/risk/limits", raw), 400, 422)
    assert_refused(
        put_raw(trader, "PATCH", f"/accounts/{desk['account']['id']}", f'{{"capital":{number}}}'.encode()), 400, 422
    )


def test_sec_069_amounts_are_kept_to_the_last_digit(people: People) -> None:
    person = people("exact", "TRADER")
    person.make("/accounts", label="a")
    raw = b'{"maxOrderValue":99999.9999,"maxDailyLossAmount":0.3}'
    made = put_raw(person, "POST", "/risk/limits", raw)
    assert made.status_code == 201, made.text
    shown = json.loads(person.request("GET", "/risk/limits").text, parse_float=Decimal)["data"][0]
    assert (shown["maxOrderValue"], shown["maxDailyLossAmount"]) == (Decimal("99999.9999"), Decimal("0.3"))
    # three times 0.1 is 0.3 here, not 0.30000000000000004, and may therefore not be called looser
    again = put_raw(person, "PUT", f"/risk/limits/{shown['id']}", b'{"maxDailyLossAmount":0.3000}')
    assert again.status_code == 200, again.text
    assert_refused(put_raw(person, "PUT", f"/risk/limits/{shown['id']}", b'{"maxDailyLossAmount":0.3001}'), 403)


@pytest.mark.parametrize("quantity", ["9007199254740993", "-0", "0", "1.0", "1e2", "1E30", "10.5"])
def test_sec_069_quantity_is_a_plain_whole_number(engine: EngineProcess, desk: dict[str, Any], quantity: str) -> None:
    raw = json.dumps(market_order()).replace('"quantity": 1', f'"quantity": {quantity}').encode()
    answer = engine.signal(raw, source=(desk["source"]["apiKey"], desk["source"]["secret"]))
    if answer.status_code == 202:  # read exactly, and then refused by risk for what it is
        intent = engine.get(f"/signals/intents/{answer.json()['data']['intentId']}")
        assert intent["quantity"] == int(float(quantity)) or str(intent["quantity"]) == quantity
    else:
        assert_refused(answer, 400, 422)


def test_sec_068_key_given_twice_is_refused_at_every_door(
    engine: EngineProcess, trader: Person, desk: dict[str, Any]
) -> None:
    keys = (desk["source"]["apiKey"], desk["source"]["secret"])
    twice = json.dumps(market_order())[:-1].encode() + b',"quantity":1000}'
    assert_refused(engine.signal(twice, source=keys), 400, 422)
    # the same key in another spelling of JSON
    assert_refused(engine.signal(twice.replace(b'"quantity":1000', b'"\\u0071uantity":1000'), source=keys), 400, 422)
    for method, path, raw in (
        ("POST", "/accounts", b'{"label":"a","label":"b"}'),
        ("PATCH", f"/accounts/{desk['account']['id']}", b'{"capital":1,"capital":499999}'),
        ("POST", "/risk/killswitch/enable", b'{"scope":"user:x","reason":"a","scope":"global"}'),
        ("POST", "/signals", b'{"symbol":"INFY","symbol":"SBIN"}'),
        ("POST", "/strategies", b'{"name":"x","defaults":{"exchange":"NSE","exchange":"BSE"}}'),
    ):
        assert_refused(put_raw(trader, method, path, raw), 400)
    assert_refused(trader.request("GET", "/executions/orders?limit=1&limit=200"), 422)


@pytest.mark.parametrize("key", ["*", "a:b:c", "[a-z]*", "{0}", "../../x", "';FLUSHALL;--", "$6", "%s"])
def test_sec_064_key_of_a_delivery_is_only_a_name_to_the_journal(
    engine: EngineProcess, desk: dict[str, Any], key: str
) -> None:
    keys = (desk["source"]["apiKey"], desk["source"]["secret"])
    body = limit_order(price=790.0)
    other = engine.signal(body, key=f"plain {key}".replace(" ", "-"), source=keys).json()["data"]
    first = engine.signal(body, key=key, source=keys).json()["data"]
    again = engine.signal(body, key=key, source=keys).json()["data"]
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["intentId"] == again["intentId"] != other["intentId"]


@pytest.mark.parametrize("key", [b"a\r\nSET x y", b"a\nb", b"a b", "\u0663".encode(), b"\x00"])
def test_sec_064_key_with_control_characters_never_gets_in(
    engine: EngineProcess, desk: dict[str, Any], key: bytes
) -> None:
    raw = json.dumps(market_order()).encode()
    headers: list[tuple[bytes, bytes]] = [
        (name.encode(), value.encode())
        for name, value in signed(raw, desk["source"]["apiKey"], desk["source"]["secret"]).items()
    ]
    try:
        answer = httpx.post(
            f"{engine.base_url}{BASE}/signals/sheets/webhook",
            content=raw,
            headers=[*headers, (b"Idempotency-Key", key)],
        )
    except httpx.LocalProtocolError:
        return  # no client can put these into a header
    assert_refused(answer, 400, 422)


@pytest.mark.parametrize("attack", ["'; DROP TABLE users; --", "x' UNION SELECT password_hash FROM users --"])
def test_sec_063_sort_order_and_path_take_no_sql(
    admin: httpx.Client, servers: TestServers, database_name: str, attack: str
) -> None:
    before = servers.sql("SELECT count(*) FROM users", database_name)
    document = admin.get("/openapi.json").json()
    tried = 0
    for path, item in document["paths"].items():
        parameters = item.get("get", {}).get("parameters", ())
        if not path.startswith(BASE) or path.endswith(("/stream", "/callback")):
            continue
        if "{" in path:
            tried += 1
            concrete = re.sub(r"\{[a-zA-Z]+\}", quote(attack, safe=""), path)
            assert_refused(admin.get(concrete), 404, 405, 422)
        elif any(each["in"] == "query" for each in parameters):
            tried += 1
            assert_refused(admin.get(path, params={"sort": attack, "order": attack}), 422)
    assert tried > 30
    assert servers.sql("SELECT count(*) FROM users", database_name) == before


# limits


def test_sec_036_raise_of_a_limit_races_an_order_and_never_lets_it_by(engine: EngineProcess, people: People) -> None:
    person = people("racer", "TRADER")
    account = person.make("/accounts", label="race", capital=500_000)
    target = {"accountId": account["id"], "sizing": {"mode": "multiplier", "value": 1}}
    strategy = person.make("/strategies", name="race", accounts=[target])
    source = person.make("/sources", type="webhook", strategyId=strategy["id"], name="race")
    limits = person.make("/risk/limits", maxOrderValue=1000)
    keys, over = (source["apiKey"], source["secret"]), threading.Event()

    def loosen() -> list[int]:
        statuses = []
        while not over.is_set():
            body = {"maxOrderValue": 10_000_000}
            statuses.append(person.request("PUT", f"/risk/limits/{limits['id']}", json=body).status_code)
        return statuses

    with ThreadPoolExecutor(1) as pool:
        loosening = pool.submit(loosen)
        sent = [engine.signal(limit_order(quantity=10, price=800.0), key=f"r{n}", source=keys) for n in range(10)]
        over.set()
    assert set(loosening.result()) == {403}
    for answer in sent:
        intent = engine.wait_for(
            "the verdict",
            lambda answer=answer: (
                found
                if (found := engine.get(f"/signals/intents/{answer.json()['data']['intentId']}"))["status"]
                == "REJECTED"
                else None
            ),
        )
        assert intent["reason"].startswith("MAX_ORDER_VALUE")
    # an ADMIN's raise acts on the next order at once
    assert engine.request("PUT", f"/risk/limits/{limits['id']}", json={"maxOrderValue": 10_000}).status_code == 200
    passed = engine.signal(limit_order(quantity=10, price=800.0), key="after", source=keys).json()["data"]
    assert engine.get(f"/signals/intents/{passed['intentId']}")["status"] != "REJECTED"


def test_sec_035_caps_bind_what_a_source_opens_and_not_what_it_closes(
    engine: EngineProcess, trader: Person, desk: dict[str, Any]
) -> None:
    source = trader.make(
        "/sources", type="webhook", strategyId=desk["strategy"]["id"], name="capped", maxOrderValue=100_000
    )
    keys, path = (source["apiKey"], source["secret"]), f"/sources/{source['id']}"

    def status_of(body: dict[str, Any], key: str) -> dict[str, Any]:
        intent_id = engine.signal(body, key=key, source=keys).json()["data"]["intentId"]
        found: dict[str, Any] = engine.wait_for(
            "its end",
            lambda: next(
                (i for i in [engine.get(f"/signals/intents/{intent_id}")] if i["status"] in ("EXECUTED", "REJECTED")),
                None,
            ),
        )
        return found

    assert status_of(market_order("SBIN"), "in")["status"] == "EXECUTED"
    assert trader.request("PATCH", path, json={"maxOrderValue": 1, "allowedSymbols": ["SBIN"]}).status_code == 200
    assert status_of(market_order("SBIN"), "more")["reason"].startswith("SOURCE_MAX_ORDER_VALUE")
    assert status_of(market_order("INFY"), "else")["reason"].startswith("SOURCE_ALLOWED_SYMBOLS")
    assert status_of(market_order("SBIN", transactionType="SELL"), "out")["status"] == "EXECUTED"
    for wrong in (
        {"maxOrderValue": 0},
        {"maxOrderValue": -1},
        {"allowedSymbols": ["a" * 41]},
        {"allowedSymbols": "SBIN"},
    ):
        assert_refused(trader.request("PATCH", path, json=wrong), 422)


# orders that are over


def test_sec_089_cancel_twice_and_change_of_what_is_over(
    engine: EngineProcess, trader: Person, desk: dict[str, Any]
) -> None:
    keys = (desk["source"]["apiKey"], desk["source"]["secret"])
    intent = engine.signal(limit_order(price=780.0), key="resting", source=keys).json()["data"]["intentId"]
    order = engine.wait_for(
        "the order",
        lambda: [
            o
            for o in trader.request("GET", f"/executions/orders?intentId={intent}").json()["data"]
            if o["status"] == "OPEN"
        ],
    )[0]
    path = f"/executions/orders/{order['id']}"
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: trader.request("POST", f"{path}/cancel").status_code, range(4)))
    assert set(codes) <= {200, 409}
    assert trader.request("GET", path).json()["data"]["status"] == "CANCELLED"
    before = trader.request("GET", path).json()["data"]
    assert assert_refused(trader.request("POST", f"{path}/cancel"), 409)["code"] == "ORDER_FINISHED"
    assert assert_refused(trader.request("PATCH", path, json={"quantity": 5}), 409)["code"] == "ORDER_FINISHED"
    for verb in ("approve", "reject", "cancel"):
        assert_refused(trader.request("POST", f"/signals/intents/{intent}/{verb}", json={}), 409)
    assert trader.request("GET", path).json()["data"] == before


# changes, and what is put on record


def test_sec_108_change_is_on_record_with_before_and_after(
    engine: EngineProcess, trader: Person, desk: dict[str, Any]
) -> None:
    source, account = desk["source"]["id"], desk["account"]["id"]
    assert trader.request("PATCH", f"/sources/{source}", json={"ipAllowlist": ["127.0.0.1"]}).status_code == 200
    assert trader.request("PATCH", f"/sources/{source}", json={"ipAllowlist": None}).status_code == 200
    assert trader.request("PATCH", f"/accounts/{account}", json={"capital": 400_000}).status_code == 200
    limits = trader.make("/risk/limits", accountId=account, maxOrderValue=900_000)
    assert trader.request("PUT", f"/risk/limits/{limits['id']}", json={"maxOrderValue": 800_000}).status_code == 200
    person = engine.request(
        "POST", "/users", json={"email": "changed@desk.example", "password": "a long word for nobody", "role": "VIEWER"}
    ).json()["data"]
    assert engine.request("PATCH", f"/users/{person['id']}", json={"role": "TRADER"}).status_code == 200

    def newest(action: str, subject: str) -> dict[str, Any]:
        found: dict[str, Any] = engine.get("/audit", action=action, subject=subject)[0]["data"]
        return dict(found.get("content", found))

    opened = newest("SOURCE_CHANGED", f"source:{source}")
    assert (opened["before"]["ipAllowlist"], opened["after"]["ipAllowlist"]) == (["127.0.0.1"], [])
    shrunk = newest("ACCOUNT_CHANGED", f"account:{account}")
    assert (Decimal(str(shrunk["before"]["capital"])), Decimal(str(shrunk["after"]["capital"]))) == (500_000, 400_000)
    tightened = newest("LIMITS_CHANGED", f"limits:{limits['id']}")
    key = next(name for name in tightened["before"] if name.lower().replace("_", "") == "maxordervalue")
    assert (Decimal(str(tightened["before"][key])), Decimal(str(tightened["after"][key]))) == (900_000, 800_000)
    promoted = newest("USER_CHANGED", f"user:{person['id']}")
    assert (promoted["before"]["role"], promoted["after"]["role"]) == ("VIEWER", "TRADER")
    secret = desk["source"]["secret"]
    assert secret not in engine.request("GET", "/audit?limit=200").text


def test_sec_079_change_whose_record_cannot_be_written_is_not_made(
    servers: TestServers, database_name: str, people: People
) -> None:
    person = people("unrecorded", "TRADER")
    account = person.make("/accounts", label="first", capital=500_000)
    strategy = person.make("/strategies", name="first")
    source = person.make("/sources", type="webhook", strategyId=strategy["id"], name="first")
    limits = person.make("/risk/limits", maxOrderValue=50_000)
    changes: list[tuple[str, str, Any]] = [
        ("POST", "/accounts", {"label": "second"}),
        ("PATCH", f"/accounts/{account['id']}", {"capital": 400_000}),
        ("DELETE", f"/accounts/{account['id']}", None),
        ("POST", "/strategies", {"name": "second"}),
        ("PATCH", f"/strategies/{strategy['id']}", {"enabled": False}),
        ("POST", "/sources", {"type": "webhook", "strategyId": strategy["id"], "name": "second"}),
        ("POST", f"/sources/{source['id']}/rotate", {}),
        ("DELETE", f"/sources/{source['id']}", None),
        ("PUT", f"/risk/limits/{limits['id']}", {"maxOrderValue": 40_000}),
    ]

    def rows() -> list[str]:
        # what is sealed may be sealed anew at any time, which is no change
        shown = {
            "kite_accounts": "(id, label, capital, row_version, updated_at)",
            "strategies": "t",
            "signal_sources": "(id, name, api_key_hash, row_version, updated_at)",
            "risk_limits": "t",
        }
        mine = f"WHERE user_id = '{person.id}' ORDER BY 1"
        found = [f"SELECT {what}::text FROM {table} t {mine}" for table, what in shown.items()]
        return [servers.sql(each, database_name) for each in found]

    def seen() -> list[Any]:
        paths = ("/accounts", "/strategies", "/sources", "/risk/limits")
        return [person.request("GET", path).json()["data"] for path in paths]

    before = rows(), seen()
    no_record = f"""
        CREATE FUNCTION no_record() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'attacked' USING ERRCODE = 'check_violation'; END $$;
        CREATE TRIGGER no_record BEFORE INSERT ON audit_logs FOR EACH ROW
            WHEN (NEW.actor = 'user:{person.id}') EXECUTE FUNCTION no_record()"""
    servers.sql(no_record, database_name)
    try:
        for method, path, body in changes:
            assert_refused(person.request(method, path, json=body), 409, 500, 503)
        assert [after for was, after in zip(before[0], rows(), strict=True) if was != after] == []
        assert seen() == before[1]
    finally:
        servers.sql("DROP TRIGGER no_record ON audit_logs; DROP FUNCTION no_record()", database_name)
    for method, path, body in changes[:2]:
        assert person.request(method, path, json=body).status_code < 300
    assert rows() != before[0]


def test_sec_108_change_that_is_half_valid_is_refused_whole(
    engine: EngineProcess, trader: Person, desk: dict[str, Any]
) -> None:
    path, before = f"/sources/{desk['source']['id']}", None
    before = trader.request("GET", path).json()["data"]
    assert_refused(trader.request("PATCH", path, json={"name": "new", "ipAllowlist": ["10.0.0.1", "nonsense"]}), 422)
    assert trader.request("GET", path).json()["data"] == before
    limits = trader.request("GET", "/risk/limits").json()["data"]
    for each in limits:
        bad = {"maxOrderValue": 1, "tradingWindow": {"start": "25:00", "end": "09:00"}}
        assert_refused(trader.request("PUT", f"/risk/limits/{each['id']}", json=bad), 422)
    assert trader.request("GET", "/risk/limits").json()["data"] == limits
    kept = engine.request("GET", "/instruments/freeze").json()["data"]
    half = {"csv": "SYMBOL,QTY\nNIFTY,1800\nBANKNIFTY,not a number\n"}
    assert_refused(engine.request("PUT", "/instruments/freeze", json=half), 400, 422)
    assert engine.request("GET", "/instruments/freeze").json()["data"] == kept


def test_sec_103_refusals_of_every_kind_leave_their_record(
    engine: EngineProcess, people: People, desk: dict[str, Any]
) -> None:
    person = people("nosy", "VIEWER")
    assert_refused(person.request("GET", "/users"), 403)
    url = f"{engine.base_url}{BASE}"
    assert_refused(httpx.get(f"{url}/accounts", headers={"Authorization": f"Bearer {person.token[:-4]}AAAA"}), 401)
    assert_refused(httpx.post(f"{url}/auth/login", json={"email": person.email, "password": "wrong"}), 401)
    raw = json.dumps(market_order()).encode()
    forged = signed(raw, desk["source"]["apiKey"], "not the secret")
    assert_refused(httpx.post(f"{url}/signals/webhook/{desk['source']['id']}", content=raw, headers=forged), 401)
    replayed = signed(raw, desk["source"]["apiKey"], desk["source"]["secret"], at=1)
    assert_refused(httpx.post(f"{url}/signals/sheets/webhook", content=raw, headers=replayed), 401)
    engine.request(
        "POST", "/risk/killswitch/enable", json={"scope": f"user:{person.id}", "reason": "drill", "squareOff": False}
    )
    for action in ("TOKEN_REFUSED", "LOGIN_FAILED", "LOGIN", "WEBHOOK_REFUSED"):
        assert engine.get("/audit", action=action, limit=1), action
    denied = engine.get("/audit", action="ACCESS_DENIED", actor=f"user:{person.id}")
    assert "GET /api/v1/users" in {record["subject"] for record in denied}
    assert any("KILL" in record["action"] for record in engine.get("/audit", limit=200))


# reads


def test_sec_097_lists_are_bounded_whatever_is_asked_for(engine: EngineProcess, trader: Person) -> None:
    for limit in ("1000000000", "201", str(2**63)):
        answer = trader.request("GET", f"/executions/orders?limit={limit}")
        if answer.status_code == 200:
            assert answer.json()["page"]["limit"] == 200
        else:
            assert_refused(answer, 422)
    assert trader.request("GET", "/executions/orders?limit=0").json()["page"]["limit"] == 1
    assert_refused(trader.request("GET", "/executions/orders?offset=100000000"), 422)


def test_sec_107_strangers_learn_that_it_lives_and_is_ready_and_no_more(engine: EngineProcess) -> None:
    here = httpx.get(f"{engine.base_url}{BASE}/system/ready").json()["data"]
    assert {"database", "journal", "broker", "migrations", "clock", "lease"} <= set(here["checks"])
    afar = httpx.get(f"{engine.base_url}{BASE}/system/ready", headers={"X-Forwarded-For": "203.0.113.9"}).json()["data"]
    assert afar == {"status": here["status"]}
    health = httpx.get(f"{engine.base_url}{BASE}/system/health").json()["data"]
    assert set(health) == {"status", "version"}


def test_sec_037_numbers_for_prometheus_need_their_token_or_the_own_machine(
    engine: EngineProcess, trader: Person
) -> None:
    url, afar = f"{engine.base_url}/metrics", {"X-Forwarded-For": "203.0.113.9"}
    here = httpx.get(url)
    assert here.status_code == 200
    assert here.headers["content-type"].startswith("text/plain; version=0.0.4")
    for token in (None, "x", METRICS_TOKEN[:-1], METRICS_TOKEN + "x", trader.token, engine.login()):
        headers = afar if token is None else afar | {"Authorization": f"Bearer {token}"}
        assert_refused(httpx.get(url, headers=headers), 401)
    told = httpx.get(url, headers=afar | {"Authorization": f"Bearer {METRICS_TOKEN}"})
    assert told.status_code == 200
    # every line is one that Prometheus reads, and every family says once what it is
    line = re.compile(r'[a-z_]+(?:\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})? -?[0-9.e+-]+')
    lines = told.text.splitlines()
    kinds = [text.split()[2] for text in lines if text.startswith("# TYPE ")]
    assert len(kinds) == len(set(kinds)) > 20
    assert [text for text in lines if not text.startswith("# TYPE ") and not line.fullmatch(text)] == []
    assert "engine_signals_accepted_total" in kinds


# people


def test_sec_036_last_administrator_and_oneself_are_kept(engine: EngineProcess) -> None:
    me = engine.get("/auth/me")["id"]
    for user in engine.get("/users", limit=200):
        if user["role"] == "ADMIN" and user["id"] != me:
            assert engine.request("PATCH", f"/users/{user['id']}", json={"disabled": True}).status_code == 200
    for change in ({"role": "TRADER"}, {"disabled": True}):
        assert assert_refused(engine.request("PATCH", f"/users/{me}", json=change), 409)["code"] == "LAST_ADMIN"
    assert assert_refused(engine.request("DELETE", f"/users/{me}"), 409)["code"] == "OWN_USER"
    assert engine.get(f"/users/{me}")["role"] == "ADMIN"


def test_sec_012_second_factor_of_a_lost_phone_is_taken_away_by_an_administrator(
    engine: EngineProcess, people: People
) -> None:
    person = people("phoneless", "TRADER")
    path, sign_in = f"/users/{person.id}", {"email": person.email, "password": person.password}
    reset = f"{path}/mfa"
    assert assert_refused(engine.request("DELETE", reset), 409)["code"] == "MFA_NOT_ENROLLED"
    seed = person.request("POST", "/auth/mfa/enroll").json()["data"]["secret"]
    assert person.request("POST", "/auth/mfa/confirm", json={"otp": pyotp.TOTP(seed).now()}).status_code == 200
    assert engine.get(path)["mfa"] is True
    assert_refused(person.request("DELETE", reset), 403)
    assert_refused(httpx.post(f"{engine.base_url}{BASE}/auth/login", json=sign_in), 401)
    assert engine.request("DELETE", reset).json()["data"]["mfa"] is False
    assert_refused(person.request("GET", "/auth/me"), 401)
    assert httpx.post(f"{engine.base_url}{BASE}/auth/login", json=sign_in).status_code == 200
    (told,) = engine.get("/audit", action="MFA_RESET", subject=f"user:{person.id}")
    assert told["actor"] == f"user:{engine.get('/auth/me')['id']}"
    own = engine.request("DELETE", f"/users/{engine.get('/auth/me')['id']}/mfa")
    assert assert_refused(own, 409)["code"] == "OWN_USER"


def test_sec_075_configuration_is_shown_without_its_secrets(engine: EngineProcess) -> None:
    answer = engine.request("GET", "/system/settings")
    found = {f"{each['section']}.{each['key']}": each for each in answer.json()["data"]["settings"]}
    assert METRICS_TOKEN not in answer.text
    assert found["security.metrics_token"] | {"isSet": True, "value": None} == found["security.metrics_token"]
    assert found["broker.mode"]["value"] == "paper"


def test_sec_020_disabled_and_deleted_people_are_out_at_once(engine: EngineProcess, people: People) -> None:
    leaver = people("leaver", "TRADER")
    path = f"/users/{leaver.id}"
    assert engine.request("PATCH", path, json={"disabled": True}).json()["data"]["disabled"] is True
    assert_refused(leaver.request("GET", "/auth/me"), 401)
    sign_in = {"email": leaver.email, "password": leaver.password}
    url = f"{engine.base_url}{BASE}/auth"
    assert_refused(httpx.post(f"{url}/login", json=sign_in), 401)
    assert_refused(httpx.post(f"{url}/refresh", json={"refreshToken": leaver.refresh_token}), 401)
    assert engine.request("PATCH", path, json={"disabled": False}).status_code == 200
    assert_refused(leaver.request("GET", "/auth/me"), 401)  # what ended stays ended
    assert httpx.post(f"{url}/login", json=sign_in).status_code == 200
    again = Person(engine.base_url, leaver.email, leaver.password)
    account = again.make("/accounts", label="left behind")
    assert assert_refused(engine.request("DELETE", path), 409)["code"] == "USER_IN_USE"
    assert again.request("DELETE", f"/accounts/{account['id']}").status_code == 200
    assert engine.request("DELETE", path).status_code == 200
    assert_refused(again.request("GET", "/auth/me"), 401)
    assert_refused(engine.request("GET", path), 404)
    assert_refused(httpx.post(f"{url}/login", json=sign_in), 401)
    again.close()
    # its address is free again, for somebody else
    made = engine.request("POST", "/users", json=sign_in | {"role": "VIEWER"})
    assert made.status_code == 201, made.text
    assert made.json()["data"]["id"] != leaver.id


def test_deleting_leaves_nothing_that_points_to_what_is_gone(engine: EngineProcess, people: People) -> None:
    person = people("tidy", "TRADER")
    kept, gone = person.make("/accounts", label="kept"), person.make("/accounts", label="gone")
    targets = [{"accountId": a["id"], "sizing": {"mode": "multiplier", "value": 1}} for a in (kept, gone)]
    strategy = person.make("/strategies", name="both", accounts=targets)
    source = person.make("/sources", type="webhook", strategyId=strategy["id"], name="s")
    person.make("/risk/limits", accountId=gone["id"], maxOrderValue=10)
    person.make("/risk/limits", strategyId=strategy["id"], maxOrderValue=10)
    assert engine.request("DELETE", f"/accounts/{gone['id']}").status_code == 200
    left = person.request("GET", f"/strategies/{strategy['id']}").json()["data"]
    assert [target["accountId"] for target in left["accounts"]] == [kept["id"]]
    assert [each["accountId"] for each in person.request("GET", "/risk/limits").json()["data"]] == [None]
    assert engine.request("DELETE", f"/strategies/{strategy['id']}").status_code == 200
    assert_refused(person.request("GET", f"/sources/{source['id']}"), 404)
    assert person.request("GET", "/risk/limits").json()["data"] == []
