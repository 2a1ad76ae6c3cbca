"""OpenAlgo's endpoints attacked: keys that are wrong or not enough, other people's orders, bodies that lie.

The key stands in the body of every call, so nothing that the engine keeps may hold a body.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.engine import EngineProcess
from tests.support.intruder import People, Person, assert_refused
from tests.support.openalgo import api_token
from tests.support.openalgo_paths import OPENALGO, READING, TRADING
from tests.support.servers import TestServers

BASE = "/api/v1"
ORDER = {"symbol": "INFY", "exchange": "NSE", "action": "BUY", "quantity": "1", "product": "MIS", "pricetype": "MARKET"}
RESTING = ORDER | {"symbol": "HDFCBANK", "pricetype": "LIMIT", "price": "1500"}
ENVIRONMENT = {"ENGINE__LOGGING__LEVEL": "debug"}
# a body of each endpoint that would do something
BODIES: dict[str, dict[str, Any]] = {
    "placeorder": ORDER,
    "placesmartorder": ORDER | {"position_size": "1"},
    "basketorder": {"orders": [ORDER]},
    "splitorder": ORDER | {"splitsize": "1"},
    "modifyorder": ORDER | {"orderid": "1", "price": "0", "trigger_price": "0", "disclosed_quantity": "0"},
    "cancelorder": {"orderid": "1"},
    "orderstatus": {"orderid": "1"},
    "openposition": {"symbol": "INFY", "exchange": "NSE", "product": "MIS"},
    "symbol": {"symbol": "INFY", "exchange": "NSE"},
    "search": {"query": "INFY"},
    "expiry": {"symbol": "NIFTY", "exchange": "NFO", "instrumenttype": "futures"},
    "optionsymbol": {
        "underlying": "NIFTY",
        "exchange": "NSE_INDEX",
        "offset": "ATM",
        "option_type": "CE",
        "expiry_date": "31DEC99",
    },
}


class Door:
    """OpenAlgo's endpoints; every key that was ever used, and every answer, is kept."""

    def __init__(self, engine: EngineProcess) -> None:
        self._client = httpx.Client(base_url=f"{engine.base_url}{BASE}", timeout=20)
        self.keys: set[str] = set()
        self.answers: list[httpx.Response] = []

    def close(self) -> None:
        self._client.close()

    def post(self, name: str, key: Any, **fields: Any) -> httpx.Response:
        """Call *name* with *key*, and with what it needs where no *fields* are given."""
        body = {"apikey": key, **(fields or BODIES.get(name, {}))}
        if isinstance(key, str):
            self.keys.add(key)
        answer = self._client.post(f"/{name}", json=body)
        self.answers.append(answer)
        return answer

    def raw(self, name: str, content: bytes, **headers: str) -> httpx.Response:
        answer = self._client.post(f"/{name}", content=content, headers=headers)
        self.answers.append(answer)
        return answer


@pytest.fixture(scope="module")
def door(engine: EngineProcess) -> Any:
    opened = Door(engine)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def alice(people: People) -> Person:
    """A trader with an account and a strategy of her own."""
    return trader(people, "alice")


@pytest.fixture(scope="module")
def mallory(people: People) -> Person:
    return trader(people, "mallory")


@pytest.fixture(scope="module")
def alices_key(alice: Person) -> str:
    return api_token(alice, "TRADE")


def trader(people: People, name: str) -> Person:
    person = people(name, "TRADER")
    account = person.make("/accounts", label=f"{name}'s")
    sizing = {"mode": "multiplier", "value": 1}
    accounts = [{"accountId": account["id"], "sizing": sizing}]
    strategy = person.make("/strategies", name="default", accounts=accounts)
    person.make("/sources", type="webhook", name=name, strategyId=strategy["id"])
    return person


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """Check that it is an error in both forms, ours and OpenAlgo's; return ours."""
    error = assert_refused(answer, *statuses)
    said = answer.json()
    assert (said["status"], said["message"]) == ("error", error["message"])
    return error


@pytest.mark.parametrize("name", OPENALGO)
def test_call_without_a_good_key_is_refused_alike_everywhere(door: Door, engine: EngineProcess, name: str) -> None:
    for key in (None, "", "eng_" + "x" * 43, 7, ["eng_"], {"$ne": ""}, "x" * 300, "' OR '1'='1", engine.login()):
        error = refused(door.post(name, key), 403)
        assert error["code"] == "INVALID_APIKEY"
    for body in (b"", b"[]", b"null", b'"eng_"', b"{"):
        refused(door.raw(name, body), 400, 403)


def test_key_in_a_header_or_the_query_is_no_key(door: Door, alices_key: str) -> None:
    body = json.dumps(ORDER).encode()
    refused(door.raw("placeorder", body, Authorization=f"Bearer {alices_key}"), 403)
    refused(door.raw(f"placeorder?apikey={'eng_' + 'y' * 43}", body), 403)


def test_revoked_key_is_no_key(door: Door, alice: Person) -> None:
    made = alice.make("/auth/tokens", name="to be revoked", scopes=["TRADE"])
    assert door.post("ping", made["token"]).status_code == 200
    assert alice.request("DELETE", f"/auth/tokens/{made['id']}").status_code == 200
    for name in ("ping", "placeorder"):
        refused(door.post(name, made["token"]), 403)


def test_key_is_good_only_from_its_addresses(door: Door, alice: Person) -> None:
    elsewhere = api_token(alice, "TRADE", ipAllowlist=["192.0.2.1"])
    refused(door.post("placeorder", elsewhere), 403)


@pytest.mark.parametrize("scope", ["READ", "KILL"])
@pytest.mark.parametrize("name", TRADING)
def test_key_that_may_not_trade_cannot(door: Door, alice: Person, name: str, scope: str) -> None:
    refused(door.post(name, _key(alice, scope)), 403)


@pytest.mark.parametrize("name", TRADING)
def test_viewer_cannot_trade(door: Door, people: People, name: str) -> None:
    refused(door.post(name, _key(people("viewer", "VIEWER"), "READ")), 403)


def test_key_that_may_read_can(door: Door, alice: Person) -> None:
    key = _key(alice, "READ")
    for name in READING:
        assert door.post(name, key).status_code in (200, 400, 404), name
    for name in READING:
        assert door.post(name, _key(alice, "KILL")).status_code == 403, name


_KEYS: dict[tuple[str, str], str] = {}


def _key(person: Person, scope: str) -> str:
    if (person.id, scope) not in _KEYS:
        _KEYS[person.id, scope] = api_token(person, scope)
    return _KEYS[person.id, scope]


def test_orders_of_others_are_not_there(door: Door, alices_key: str, mallory: Person, engine: EngineProcess) -> None:
    placed = door.post("placeorder", alices_key, **RESTING).json()
    ids = (placed["orderid"], placed["data"]["intent_id"], placed["data"]["orders"][0]["id"])
    theirs = _key(mallory, "TRADE")
    administrators = api_token(engine, "ADMIN")
    for key in (theirs, administrators):
        for orderid in ids:
            change = RESTING | {"orderid": orderid, "price": "1501"}
            answers = [
                door.post("orderstatus", key, orderid=orderid),
                door.post("cancelorder", key, orderid=orderid),
                door.post("modifyorder", key, **change),
                door.post("cancelorder", key, orderid="2127166218153492480"),
            ]
            texts = {json.dumps(refused(a, 404)["message"]).replace(orderid, "X")[:25] for a in answers}
            assert len(texts) == 1, texts
        for name in ("orderbook", "positionbook", "tradebook", "holdings"):
            assert "alice" not in door.post(name, key).text
        refused(door.post("funds", key, account="alice's"), 404)
    assert door.post("cancelallorder", theirs).json()["canceled_orders"] == []
    assert door.post("closeposition", theirs).json()["message"] == "No open positions to close"
    assert door.post("orderstatus", alices_key, orderid=ids[0]).json()["data"]["order_status"] == "open"
    assert door.post("cancelorder", alices_key, orderid=ids[1]).status_code == 200


def test_strategy_of_another_is_taken_for_ones_own_default(door: Door, alice: Person, mallory: Person) -> None:
    alice.make("/strategies", name="alices secret", accounts=[])
    placed = door.post("placeorder", _key(mallory, "TRADE"), strategy="alices secret", **ORDER).json()
    assert [order["account"] for order in placed["data"]["orders"]] == ["mallory's"]


@pytest.mark.parametrize(
    "text",
    ["' OR 1=1 --", "1; DROP TABLE orders", "../../etc/passwd", "%00", "${jndi:ldap://x}", "٣", "a" * 64, "\u202e1"],
)
def test_injection_finds_nothing(door: Door, alices_key: str, text: str) -> None:
    for name in ("orderstatus", "cancelorder"):
        refused(door.post(name, alices_key, orderid=text), 400, 404)
    for field in ("symbol", "exchange", "product", "action", "pricetype", "quantity", "price"):
        refused(door.post("placeorder", alices_key, **(ORDER | {field: text})), 400)
    refused(door.post("symbol", alices_key, symbol=text, exchange="NSE"), 400, 404)
    assert door.post("search", alices_key, query=text).status_code in (200, 400)
    refused(door.post("funds", alices_key, account=text), 400, 404)


def test_body_that_says_two_things_is_refused(door: Door, alices_key: str) -> None:
    good = json.dumps({"apikey": alices_key, **ORDER})
    for body in (
        good[:-1] + ', "quantity": "100"}',
        good[:-1] + ', "apikey": "eng_other"}',
        good + good,
        good[:-1] + ', "quantitty": "100"}',
        good[:-1] + ', "position_size": 100}',
        good.replace('"1"', "1.5"),
        good.replace('"1"', "NaN"),
        good[:-1] + ', "a": ' + "[" * 9 + "]" * 9 + "}",
        "\ufeff" + good,
    ):
        refused(door.raw("placeorder", body.encode()), 400)
    refused(door.raw("placeorder", good.encode("utf-16")), 400)
    refused(door.raw("placeorder", good[:-1].encode() + b', "x": "' + b"x" * 70_000 + b'"}'), 413)
    big = (good[:-1].encode() + b', "x": "', b"x" * 70_000, b'"}')
    streamed = door._client.post("/placeorder", content=iter(big))
    refused(streamed, 413)


def test_key_is_nowhere_but_in_the_callers_hands(
    door: Door, engine: EngineProcess, servers: TestServers, alice: Person, alices_key: str, tmp_path: Path
) -> None:
    door.post("placeorder", alices_key, **ORDER)
    door.post("placeorder", alices_key, **(ORDER | {"quantity": "x"}))
    used = {alices_key, *_KEYS.values()}
    assert used <= door.keys
    for answer in door.answers:
        assert not any(key in answer.text for key in used)
    engine.wait_for("the audit", lambda: "SIGNAL_BY_OPENALGO" in json.dumps(engine.get("/audit", limit=200)))
    kept = {
        "audit": json.dumps(_all(engine, "/audit")).encode(),
        "console": "\n".join(engine.lines + engine.errors).encode(),
    }
    for path in engine.folder.rglob("*"):
        if path.is_file():
            kept[str(path)] = path.read_bytes()
    store = redis.Redis.from_url(f"{servers.redis_url}?db=0")
    for name in store.scan_iter("*"):
        kept[f"journal {name!r}"] = name + (store.dump(name) or b"")
    store.close()
    assert any(b"/api/v1/placeorder" in content for content in kept.values())
    assert any(path.startswith("journal") for path in kept)
    digests = {hashlib.sha256(key.encode()).hexdigest() for key in used}
    for place, content in kept.items():
        for secret in used | digests:
            assert secret.encode() not in content, f"a key in {place}"


def _all(engine: EngineProcess, path: str) -> list[Any]:
    rows: list[Any] = []
    cursor = None
    while True:
        page = engine.request("GET", path, params={"limit": 200} | ({"cursor": cursor} if cursor else {})).json()
        rows += page["data"]
        cursor = page["page"]["nextCursor"]
        if cursor is None:
            return rows


def test_signal_is_on_record_with_who_and_which_key(door: Door, engine: EngineProcess, alice: Person) -> None:
    made = alice.make("/auth/tokens", name="on record", scopes=["TRADE"])
    placed = door.post("placeorder", made["token"], **ORDER).json()
    subject = f"intent:{placed['data']['intent_id']}"

    def look() -> Any:
        rows = engine.get("/audit", limit=200)
        return next((r for r in rows if (r["action"], r["subject"]) == ("SIGNAL_BY_OPENALGO", subject)), None)

    record = engine.wait_for("the record", look)
    assert (record["actor"], record["data"]["token"]) == (f"user:{alice.id}", made["id"])
