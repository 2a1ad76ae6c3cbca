"""Attacks on the doors of signal sources: signatures, replays, keys that are over, bodies, sizes (SEC-038 to 051)."""

import base64
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from engine.http.sender_gate import SAME_MOMENT_S, SignedMessages
from tests.support.apps_script import MESSAGE, OWN, TITLES, needs_node, row, run_script
from tests.support.engine import EngineProcess, limit_order, market_order, signed
from tests.support.intruder import assert_refused, raw_exchange
from tests.support.servers import TestServers

BASE = "/api/v1"
SHEETS = f"{BASE}/signals/sheets/webhook"
ORDER = json.dumps(market_order("SBIN")).encode()


@pytest.fixture(scope="module")
def client(engine: EngineProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.base_url, timeout=20) as client:
        yield client


def make(engine: EngineProcess, kind: str = "webhook", **changes: Any) -> dict[str, Any]:
    body = {"type": kind, "strategyId": engine.get("/strategies")[0]["id"], "name": f"{kind} {uuid4()}"} | changes
    answer = engine.request("POST", "/sources", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


@pytest.fixture(scope="module")
def source(engine: EngineProcess) -> dict[str, Any]:
    return make(engine)


def door(source: dict[str, Any]) -> str:
    return f"{BASE}/signals/webhook/{source['id']}"


def standard(
    source: dict[str, Any], raw: bytes = ORDER, *, key: str | None = None, at: int | None = None
) -> dict[str, str]:
    """Return the headers of a delivery as Standard Webhooks libraries sign it."""
    message_id, timestamp = key or f"msg_{uuid4().hex}", str(int(time.time()) if at is None else at)
    secret = base64.b64decode(source["standardSecret"].removeprefix("whsec_"))
    digest = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + raw, "sha256")
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def intents(engine: EngineProcess, source: dict[str, Any]) -> list[dict[str, Any]]:
    return [i for i in engine.get("/signals/intents", limit=200) if i["sourceId"] == source["id"]]


# SEC-038 to SEC-042: the Standard Webhooks form


def test_sec_038_standard_signature_covers_every_byte_of_the_raw_body(
    engine: EngineProcess, client: httpx.Client, source: dict[str, Any]
) -> None:
    headers = standard(source)
    order = json.loads(ORDER)
    before = len(intents(engine, source))
    for other in (
        json.dumps(order, separators=(",", ":")).encode(),
        json.dumps(order, sort_keys=True).encode(),
        ORDER + b"\n",
        ORDER[:-1] + b', "quantity": 1000}',
    ):
        assert assert_refused(client.post(door(source), content=other, headers=headers), 401)["code"] == "BAD_SIGNATURE"
    assert len(intents(engine, source)) == before
    answer = client.post(door(source), content=ORDER, headers=headers)
    assert answer.status_code == 202, answer.text


def test_sec_038_duplicate_keys_under_a_genuine_signature_are_refused(
    client: httpx.Client, source: dict[str, Any]
) -> None:
    raw = ORDER[:-1] + b', "quantity": 1000}'
    assert assert_refused(client.post(door(source), content=raw, headers=standard(source, raw)), 400)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: "",
        lambda s: s[:4],
        lambda s: s[:-1],
        lambda s: s[:-5],
        lambda s: s[:-2] + chr(ord(s[-2]) ^ 1) + "=",
        lambda s: s.upper(),
        lambda s: s.removeprefix("v1,"),
        lambda s: "v1a," + s.removeprefix("v1,"),
        lambda s: "v1," + s.removeprefix("v1,").replace("+", "-").replace("/", "_") + "=",
        lambda s: s.replace("v1,", "v1, "),
        lambda s: " ".join([f"v1,{'A' * 43}="] * 8 + [s]),
    ],
)
def test_sec_039_standard_signature_in_another_form_is_401(
    client: httpx.Client, source: dict[str, Any], change: Any
) -> None:
    headers = standard(source)
    answer = client.post(
        door(source), content=ORDER, headers=headers | {"webhook-signature": change(headers["webhook-signature"])}
    )
    assert_refused(answer, 401)


def test_sec_039_one_good_signature_of_several_is_enough(client: httpx.Client, source: dict[str, Any]) -> None:
    headers = standard(source)
    several = f"v1,{'A' * 43}= v1a,xyz {headers['webhook-signature']}"
    assert client.post(door(source), content=ORDER, headers=headers | {"webhook-signature": several}).status_code == 202


@pytest.mark.parametrize("offset", [-301, 301, -86_400])
def test_sec_040_standard_delivery_replayed_after_its_time_is_401(
    client: httpx.Client, source: dict[str, Any], offset: int
) -> None:
    headers = standard(source, at=int(time.time()) + offset)
    assert assert_refused(client.post(door(source), content=ORDER, headers=headers), 401)["code"] == "TIMESTAMP_STALE"


def test_sec_040_standard_timestamp_is_under_the_signature(client: httpx.Client, source: dict[str, Any]) -> None:
    headers = standard(source)
    moved = {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}
    assert_refused(client.post(door(source), content=ORDER, headers=headers | moved), 401)
    del headers["webhook-timestamp"]
    assert_refused(client.post(door(source), content=ORDER, headers=headers), 401)


def test_sec_041_standard_id_is_the_delivery_and_no_header_changes_that(
    engine: EngineProcess, client: httpx.Client
) -> None:
    mine = make(engine)
    headers = standard(mine)
    first = client.post(door(mine), content=ORDER, headers=headers).json()["data"]
    again = client.post(door(mine), content=ORDER, headers=headers).json()["data"]
    assert again["intentId"] == first["intentId"]
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert_refused(client.post(door(mine), content=ORDER, headers=headers | {"webhook-id": "msg_other"}), 401)
    assert_refused(client.post(door(mine), content=ORDER, headers=headers | {"Idempotency-Key": "other"}), 422)
    assert len(intents(engine, mine)) == 1


def test_sec_041_signed_message_under_a_changed_key_is_409_where_the_source_is_strict(
    engine: EngineProcess, client: httpx.Client
) -> None:
    """X-Signature leaves Idempotency-Key out: whoever can change the header could make one order many."""
    strict = make(engine, strictReplay=True)
    headers = signed(ORDER, strict["apiKey"], strict["secret"])
    first = client.post(door(strict), content=ORDER, headers=headers | {"Idempotency-Key": "mine"})
    assert first.status_code == 202
    for forged in ({"Idempotency-Key": "forged"}, {}):
        error = assert_refused(client.post(door(strict), content=ORDER, headers=headers | forged), 409)
        assert error["code"] == "SIGNED_MESSAGE_REUSED"
        assert "X-Timestamp" in error["message"]
    again = client.post(door(strict), content=ORDER, headers=headers | {"Idempotency-Key": "mine"})
    assert again.json()["data"] == first.json()["data"] | {"duplicate": True, "status": again.json()["data"]["status"]}
    assert len(intents(engine, strict)) == 1


def test_sec_041_signed_message_under_a_changed_key_is_over_after_its_moment() -> None:
    """Without strictReplay a sender may send one body twice in one second; a copy that comes later is refused."""
    messages = SignedMessages(keep_s=600)
    source_id = uuid4()
    assert messages.take(source_id, b"m", "a", 100.0, strict=False)
    assert messages.take(source_id, b"m", "b", 100.0 + SAME_MOMENT_S, strict=False)
    assert messages.take(uuid4(), b"m", "c", 200.0, strict=False)
    for now_s in (100.1 + SAME_MOMENT_S, 699.0):
        with pytest.raises(Exception, match="signed message was taken"):
            messages.take(source_id, b"m", "c", now_s, strict=False)
        assert not messages.take(source_id, b"m", "a", now_s, strict=False)
    assert messages.take(source_id, b"m", "c", 701.0, strict=False)


def test_sec_042_bytes_cannot_move_between_id_timestamp_and_body(client: httpx.Client, source: dict[str, Any]) -> None:
    headers = standard(source, key="msg_1")
    timestamp = headers["webhook-timestamp"]
    for forged, body in (
        ({"webhook-id": f"msg_1.{timestamp}", "webhook-timestamp": timestamp}, ORDER),
        ({"webhook-id": "msg_1." + timestamp[:5], "webhook-timestamp": timestamp[5:]}, ORDER),
        ({"webhook-id": "msg_1"}, b"." + ORDER),
        ({"webhook-timestamp": timestamp + "." + ORDER[:5].decode()}, ORDER[5:]),
    ):
        assert_refused(client.post(door(source), content=body, headers=headers | forged), 401)


@pytest.mark.parametrize("message_id", ["a.b", "a b", "a/b", "\u0663", "x" * 129])
def test_sec_042_id_of_other_characters_is_401_though_it_is_signed(
    client: httpx.Client, source: dict[str, Any], message_id: str
) -> None:
    headers: dict[str, Any] = dict(standard(source, key=message_id))
    headers["webhook-id"] = message_id.encode()
    assert_refused(client.post(door(source), content=ORDER, headers=headers), 401)


# SEC-043 to SEC-045: keys


def try_old(client: httpx.Client, old: dict[str, Any]) -> set[int]:
    key = str(uuid4())
    plain = signed(ORDER, old["apiKey"], old["secret"]) | {"Idempotency-Key": key}
    return {
        client.post(door(old), content=ORDER, headers=plain).status_code,
        client.post(door(old), content=ORDER, headers=standard(old)).status_code,
    }


def test_sec_043_old_secret_is_over_after_its_grace(
    engine: EngineProcess, client: httpx.Client, servers: TestServers, database_name: str
) -> None:
    old = make(engine)
    new = engine.request("POST", f"/sources/{old['id']}/rotate", json={"graceS": 2}).json()["data"]
    assert try_old(client, old) == {202}
    assert try_old(client, new) == {202}
    mixed = signed(ORDER, old["apiKey"], new["secret"])
    assert_refused(client.post(door(old), content=ORDER, headers=mixed), 401)
    engine.wait_for("the end of the grace", lambda: try_old(client, old) == {401})
    assert try_old(client, new) == {202}

    def record() -> str:
        found = f"SELECT old_secret IS NULL, old_api_key_hash IS NULL FROM signal_sources WHERE id = '{old['id']}'"
        return servers.sql(found, database_name).strip()

    engine.wait_for("the sealed record to go", lambda: record() == "t|t")
    assert engine.get(f"/sources/{old['id']}")["oldKeysUntil"] is None


def test_sec_043_old_secret_ends_at_once_without_a_grace_and_by_revoking(
    engine: EngineProcess, client: httpx.Client
) -> None:
    leaked = make(engine)
    new = engine.request("POST", f"/sources/{leaked['id']}/rotate").json()["data"]
    assert try_old(client, leaked) == {401}
    newer = engine.request("POST", f"/sources/{leaked['id']}/rotate", json={"graceS": 3600}).json()["data"]
    assert try_old(client, new) == {202}
    newest = engine.request("POST", f"/sources/{leaked['id']}/rotate", json={"graceS": 3600}).json()["data"]
    assert try_old(client, new) == {401}, "only the pair before the last rotation lives on"
    assert try_old(client, newer) == {202}
    assert engine.request("POST", f"/sources/{leaked['id']}/revoke").status_code == 200
    assert try_old(client, newer) == {401}
    assert try_old(client, newest) == {202}


def test_sec_043_secret_has_32_random_bytes_and_is_never_read_back(
    engine: EngineProcess, client: httpx.Client, servers: TestServers, database_name: str
) -> None:
    made = make(engine)
    rotated = engine.request("POST", f"/sources/{made['id']}/rotate", json={"graceS": 60}).json()["data"]
    secrets = [base64.urlsafe_b64decode(keys["secret"] + "=") for keys in (made, rotated)]
    assert [len(secret) for secret in secrets] == [32, 32]
    assert secrets[0] != secrets[1]
    hidden = [keys[name] for keys in (made, rotated) for name in ("secret", "apiKey", "standardSecret")]
    pages = [f"/sources/{made['id']}", "/sources", "/audit", f"/sources/{made['id']}/snippet"]
    told = [
        engine.request("GET", page, params={"limit": 200} if "snippet" not in page else None).text for page in pages
    ]
    told.append(engine.request("PATCH", f"/sources/{made['id']}", json={"name": "n"}).text)
    told.append(servers.sql(f"SELECT * FROM signal_sources WHERE id = '{made['id']}'", database_name))
    told += [path.read_text(errors="replace") for path in Path(engine.folder).rglob("*.log*")]
    told += [*engine.lines, *engine.errors]
    for text in told:
        assert not [secret for secret in hidden if secret in text]


def test_sec_044_unknown_source_is_answered_like_a_bad_signature(
    engine: EngineProcess, client: httpx.Client, source: dict[str, Any]
) -> None:
    bad = {**source, "standardSecret": "whsec_" + base64.b64encode(bytes(32)).decode(), "secret": "x"}
    nobody = bad | {"id": str(uuid4())}
    off = make(engine)
    engine.request("PATCH", f"/sources/{off['id']}", json={"enabled": False})
    answers = [
        assert_refused(client.post(door(one), content=ORDER, headers=standard(one)), 401) for one in (bad, nobody, off)
    ]
    assert len({(answer["code"], answer["message"]) for answer in answers}) == 1
    alert = make(engine, "tradingview")
    told = [
        assert_refused(client.post(f"{BASE}/signals/tradingview/{one}?secret=guess", content=ORDER), 401)
        for one in (alert["id"], str(uuid4()), source["id"])
    ]
    assert len({(answer["code"], answer["message"]) for answer in told}) == 1


def test_sec_045_seed_style_signature_of_the_body_alone_is_401_today_and_tomorrow(
    engine: EngineProcess, client: httpx.Client, servers: TestServers, database_name: str
) -> None:
    legacy = make(engine, "sheets")
    body_only = hmac.new(legacy["secret"].encode(), ORDER, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-API-Key": legacy["apiKey"], "X-Signature": body_only}
    assert assert_refused(client.post(SHEETS, content=ORDER, headers=headers), 401)["code"] == "TIMESTAMP_REQUIRED"
    today = headers | {"X-Timestamp": str(int(time.time()))}
    assert assert_refused(client.post(SHEETS, content=ORDER, headers=today), 401)["code"] == "BAD_SIGNATURE"
    kept = servers.sql(
        f"SELECT encode(api_key_hash, 'hex') FROM signal_sources WHERE id = '{legacy['id']}'", database_name
    )
    assert kept.strip() == hashlib.sha256(legacy["apiKey"].encode()).hexdigest()
    assert intents(engine, legacy) == []


# SEC-049: bodies


def nested(depth: int) -> bytes:
    return ORDER[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (nested(9), 400),
        (b"[" * 30_000, 400),
        (b"{" + b",".join(b'"k%d":1' % n for n in range(65)) + b"}", 400),
        (ORDER.replace(b": 1,", b": NaN,"), 400),
        (ORDER.replace(b": 1,", b": Infinity,"), 400),
        (ORDER.replace(b": 1,", b": 1e400,"), 400),
        (ORDER.replace(b": 1,", b": " + b"9" * 50 + b","), 400),
        (ORDER + ORDER, 400),
        (ORDER + b"x", 400),
        (ORDER.decode().encode("utf-16"), 400),
        (b" " * 65_537, 413),
        (b"x" * 10_000_000, 413),
    ],
)
def test_sec_049_signed_body_out_of_bounds_is_refused(
    engine: EngineProcess, client: httpx.Client, source: dict[str, Any], raw: bytes, status: int
) -> None:
    before = len(intents(engine, source))
    answer = client.post(door(source), content=raw, headers=standard(source, raw))
    assert_refused(answer, status)
    assert len(intents(engine, source)) == before


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/json; charset=utf-16",
        "application/jsonp",
        "application/xml",
        "",
        "multipart/form-data",
    ],
)
def test_sec_049_other_content_type_is_415(client: httpx.Client, source: dict[str, Any], kind: str) -> None:
    headers = standard(source) | {"Content-Type": kind}
    assert_refused(client.post(door(source), content=ORDER, headers=headers), 415)


def test_sec_049_compressed_body_is_not_unpacked(client: httpx.Client, source: dict[str, Any]) -> None:
    bomb = gzip.compress(b" " * 5_000_000 + ORDER)
    headers = standard(source, bomb) | {"Content-Encoding": "gzip"}
    assert client.post(door(source), content=bomb, headers=headers).status_code in (400, 415)


def test_sec_049_endless_chunks_are_cut_off_at_64_kib(engine: EngineProcess, source: dict[str, Any]) -> None:
    head = f"POST {door(source)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    assert b" 413 " in raw_exchange(engine.base_url, head.encode() + chunk * 40).split(b"\r\n")[0]


# SEC-050: sizes and rates


def test_sec_050_fat_finger_beyond_the_sources_bounds_is_refused_before_anything_is_written(
    engine: EngineProcess, client: httpx.Client
) -> None:
    checks = {"maxOrderQuantity": 100, "priceBandPct": 5}
    mine = make(engine, checks=checks)
    warmed = market_order("SBIN")
    client.post(door(mine), content=json.dumps(warmed), headers=standard(mine, json.dumps(warmed).encode()))
    for order, code in (
        (market_order("SBIN", 1000), "MAX_ORDER_QUANTITY"),
        (limit_order("SBIN", price=8.15), "PRICE_BAND_PCT"),
    ):
        raw = json.dumps(order).encode()
        error = assert_refused(client.post(door(mine), content=raw, headers=standard(mine, raw)), 422)
        assert code in json.dumps(error), error
    assert len(intents(engine, mine)) == 1


def test_sec_050_off_tick_price_and_part_of_a_lot_never_reach_the_broker(
    engine: EngineProcess, client: httpx.Client
) -> None:
    mine = make(engine)
    for order in (
        limit_order("SBIN", price=815.03),
        market_order("NIFTY FUT", 1, exchange="NFO", productType="NRML"),
    ):
        raw = json.dumps(order).encode()
        answer = client.post(door(mine), content=raw, headers=standard(mine, raw))
        intent = answer.json()["data"]["intentId"]
        ended = engine.wait_for(
            "the verdict", lambda i=intent: (s := engine.get(f"/signals/intents/{i}"))["status"] == "REJECTED" and s
        )
        assert ended["orders"] == []


def test_sec_050_ten_thousand_signals_a_minute_are_429_however_they_are_packed(
    engine: EngineProcess, client: httpx.Client
) -> None:
    mine = make(engine, checks={"maxSignalsPerMinute": 150})
    statuses = []
    for _ in range(10):
        raw = json.dumps([market_order("ITC", orderType="LIMIT", price=100.0)] * 100).encode()
        answer = client.post(door(mine), content=raw, headers=standard(mine, raw))
        statuses.append(answer.status_code)
    assert statuses[0] == 202
    assert statuses.count(429) >= 8
    assert int(answer.headers["retry-after"]) >= 1


# SEC-051: formulas


def test_sec_051_formula_in_a_signal_is_refused_and_nothing_is_exported_as_a_sheet(
    engine: EngineProcess, client: httpx.Client, source: dict[str, Any]
) -> None:
    """No endpoint writes CSV; what the script writes back into a sheet is made text (test_apps_script.py)."""
    for field in ("symbol", "validity", "orderType"):
        raw = json.dumps(market_order() | {field: '=HYPERLINK("http://x","y")'}).encode()
        assert_refused(client.post(door(source), content=raw, headers=standard(source, raw)), 422)
    kinds = {
        kind
        for methods in client.get("/openapi.json").json()["paths"].values()
        for operation in methods.values()
        if isinstance(operation, dict)
        for answer in operation.get("responses", {}).values()
        for kind in answer.get("content", {})
    }
    assert kinds
    assert not [kind for kind in kinds if "csv" in kind or "excel" in kind or "spreadsheet" in kind]


@needs_node
def test_sec_051_answer_that_would_be_a_formula_is_text_in_the_sheet(engine: EngineProcess) -> None:
    sheet = make(engine, "sheets")
    script = engine.get(f"/sources/{sheet['id']}/snippet")["texts"][0]["content"]
    formula = '=HYPERLINK("http://x","y")'
    hostile = {"code": 202, "answer": {"data": {"intentId": "+1+1", "duplicate": False, "reason": formula}}}
    keys = {"ENGINE_API_KEY": sheet["apiKey"], "ENGINE_SECRET": sheet["secret"]}
    steps = [{"faults": [hostile]}, {"call": "engineSend"}]
    told = run_script(script, steps, values=[[*TITLES, *OWN], row("SBIN")], properties=keys)
    assert told["formulas"] == []
    assert told["told"][0][1][MESSAGE] == formula


# TradingView: the secret is all there is


def test_tradingview_secret_in_the_address_is_in_no_log_record_or_error(
    engine: EngineProcess, client: httpx.Client
) -> None:
    alert = make(engine, "tradingview")
    assert alert["secret"] in alert["webhookUrl"]
    body = b"BUY SBIN NSE 1 MARKET MIS"
    assert client.post(alert["webhookUrl"], content=body).status_code == 202
    assert_refused(client.post(alert["webhookUrl"], content=b"BUY SBIN"), 400, 422)
    assert_refused(client.post(alert["webhookUrl"] + "&secret=x", content=body), 401, 422)
    assert_refused(client.post(alert["webhookUrl"], content=b"Secret: other\n" + body), 401)
    told = [path.read_text(errors="replace") for path in Path(engine.folder).rglob("*.log*")]
    told += [engine.request("GET", "/audit", params={"limit": 200}).text, *engine.lines, *engine.errors]
    assert any("/signals/tradingview/" in text for text in told)
    assert not [text for text in told if alert["secret"] in text]


def test_tradingview_list_of_addresses_lets_nobody_else_in(engine: EngineProcess, client: httpx.Client) -> None:
    alert = make(engine, "tradingview", ipAllowlist=["tradingview"])
    error = assert_refused(client.post(alert["webhookUrl"], content=b"BUY SBIN NSE 1 MARKET MIS"), 403)
    assert error["code"] == "IP_NOT_ALLOWED"
    assert engine.get(f"/sources/{alert['id']}")["ipAllowlist"] == ["tradingview"]


@pytest.mark.parametrize("door_of", ["sheets/webhook", "webhook/{id}", "heartbeat/{id}", "sheets/ledger"])
def test_signature_of_another_source_opens_no_door(
    engine: EngineProcess, client: httpx.Client, source: dict[str, Any], door_of: str
) -> None:
    other = make(engine)
    raw = b'{"rows":[{"key":"k"}]}' if "ledger" in door_of else ORDER
    headers = signed(raw, other["apiKey"], source["secret"])
    assert_refused(client.post(f"{BASE}/signals/" + door_of.format(id=source["id"]), content=raw, headers=headers), 401)
