"""Signals over HTTP, as a sender sees them: accepted once, refused with a mend, judged by risk."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.engine import EngineProcess, limit_order, market_order, signed
from tests.support.servers import TestServers
from tests.support.shared_engine import TELEGRAM_TOKEN, paper_engine

PATH = "/api/v1/signals/sheets/webhook"


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp("signals"), "signals_api")


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["success"] is False
    error: dict[str, Any] = body["error"]
    assert {"message", "code", "statusCode", "timestamp", "details"} <= set(error)
    assert error["statusCode"] == status
    return error


def ended(engine: EngineProcess, intent: str) -> dict[str, Any]:
    def look() -> Any:
        found = engine.get(f"/signals/intents/{intent}")
        live = ("RECEIVED", "APPROVED", "EXECUTING")
        return found if found["status"] not in live else None

    result: dict[str, Any] = engine.wait_for("the intent ending", look)
    return result


def accepted(engine: EngineProcess, body: dict[str, Any], key: str | None = None) -> str:
    answer = engine.signal(body, key=key)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["data"]["intentId"])


# who may send


def post(engine: EngineProcess, raw: bytes, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(engine.base_url + PATH, content=raw, headers=headers, timeout=10)


def test_unknown_key_and_bad_signature_get_the_same_kind_of_answer(engine: EngineProcess) -> None:
    raw = json.dumps(market_order()).encode()
    key, secret = engine.source
    unknown = error_of(post(engine, raw, signed(raw, "src_nobody", secret)), 401)
    forged = error_of(post(engine, raw, signed(raw, key, "another secret")), 401)
    assert unknown["code"] == forged["code"]


@pytest.mark.parametrize(
    "change",
    [
        {"X-Signature": ""},
        {"X-Signature": "0" * 64},
        {"X-Signature": "zz"},
        {"X-API-Key": ""},
    ],
)
def test_damaged_credentials_are_401(engine: EngineProcess, change: dict[str, str]) -> None:
    raw = json.dumps(market_order()).encode()
    error_of(post(engine, raw, signed(raw, *engine.source) | change), 401)


def test_upper_case_signature_is_401(engine: EngineProcess) -> None:
    raw = json.dumps(market_order()).encode()
    headers = signed(raw, *engine.source)
    error_of(post(engine, raw, headers | {"X-Signature": headers["X-Signature"].upper()}), 401)


@pytest.mark.parametrize("offset", [-400, 400])
def test_timestamp_outside_the_skew_is_401_and_names_it(engine: EngineProcess, offset: int) -> None:
    raw = json.dumps(market_order()).encode()
    error = error_of(post(engine, raw, signed(raw, *engine.source, at=int(time.time()) + offset)), 401)
    assert "TIMESTAMP" in error["code"]


def test_body_only_signature_is_refused_while_the_source_requires_a_timestamp(engine: EngineProcess) -> None:
    raw = json.dumps(market_order()).encode()
    key, secret = engine.source
    signature = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-API-Key": key, "X-Signature": signature}
    assert "TIMESTAMP" in error_of(post(engine, raw, headers), 401)["code"]


def test_signature_of_another_body_is_401(engine: EngineProcess) -> None:
    headers = signed(b'{"symbol":"INFY"}', *engine.source)
    error_of(post(engine, json.dumps(market_order()).encode(), headers), 401)


# what may be sent


@pytest.mark.parametrize("raw", [b"", b"{", b"[1", b'{"symbol":"INFY"', b"\xff\xfe", b"null", b'"BUY"', b"7"])
def test_body_that_is_no_signal_is_refused_in_the_error_form(engine: EngineProcess, raw: bytes) -> None:
    answer = engine.signal(raw)
    assert answer.status_code in (400, 422), answer.text
    error_of(answer, answer.status_code)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 0}, "quantity"),
        ({"quantity": -5}, "quantity"),
        ({"quantity": 1.5}, "quantity"),
        ({"quantity": "ten"}, "quantity"),
        ({"transactionType": "HOLD"}, "transactionType"),
        ({"exchange": "NASDAQ"}, "exchange"),
        ({"orderType": "LIMIT"}, "price"),
        ({"orderType": "SL-M"}, "triggerPrice"),
        ({"productType": "XYZ"}, "productType"),
        ({"symbol": ""}, "symbol"),
        ({"symbol": "\uff29\uff2e\uff26\uff39"}, "symbol"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_field_is_422_and_named(engine: EngineProcess, change: dict[str, Any], field: str) -> None:
    error = error_of(engine.signal(market_order() | change), 422)
    assert field in json.dumps(error["details"])


def test_duplicate_json_key_is_refused(engine: EngineProcess) -> None:
    raw = b'{"symbol":"INFY","exchange":"NSE","transactionType":"BUY","quantity":1,"quantity":1000,'
    raw += b'"orderType":"MARKET","productType":"MIS"}'
    answer = engine.signal(raw)
    assert answer.status_code in (400, 422)


def test_body_over_64_kib_is_413(engine: EngineProcess) -> None:
    error_of(engine.signal(b'{"symbol":"' + b"A" * 70_000 + b'"}'), 413)


def test_wrong_content_type_is_refused(engine: EngineProcess) -> None:
    raw = json.dumps(market_order()).encode()
    answer = post(engine, raw, signed(raw, *engine.source) | {"Content-Type": "text/plain"})
    error_of(answer, 415)


def test_request_id_is_taken_over_and_stands_in_the_audit_log(engine: EngineProcess) -> None:
    raw = json.dumps(market_order("ITC")).encode()
    answer = post(engine, raw, signed(raw, *engine.source) | {"X-Request-Id": "my-id.42"})
    assert answer.headers["X-Request-Id"] == "my-id.42"
    intent = answer.json()["data"]["intentId"]
    records = engine.get("/audit", subject=f"intent:{intent}")
    assert any(record["data"].get("requestId") == "my-id.42" for record in records)


# once


def test_repeat_with_the_same_key_is_answered_like_the_first_and_places_nothing(engine: EngineProcess) -> None:
    first = engine.signal(market_order("WIPRO"), key="repeat-1").json()["data"]
    again = engine.signal(market_order("WIPRO"), key="repeat-1")
    assert again.status_code == 202
    assert again.json()["data"]["intentId"] == first["intentId"]
    assert (first["duplicate"], again.json()["data"]["duplicate"]) == (False, True)
    ended(engine, first["intentId"])
    assert len(engine.get("/executions/orders", intentId=first["intentId"])) == 1


def test_same_key_with_another_body_is_409(engine: EngineProcess) -> None:
    accepted(engine, market_order("WIPRO"), key="clash-1")
    error_of(engine.signal(market_order("WIPRO", quantity=2), key="clash-1"), 409)


def test_exact_replay_without_a_key_is_a_duplicate(engine: EngineProcess) -> None:
    raw = json.dumps(market_order("NTPC")).encode()
    headers = signed(raw, *engine.source)
    first, again = post(engine, raw, headers), post(engine, raw, headers)
    assert first.json()["data"]["intentId"] == again.json()["data"]["intentId"]
    assert again.json()["data"]["duplicate"] is True


def test_parallel_repeats_make_one_intent_and_one_order(engine: EngineProcess) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: engine.signal(market_order("TCS"), key="parallel-1"), range(48)))
    assert {answer.status_code for answer in answers} == {202}
    intents = {answer.json()["data"]["intentId"] for answer in answers}
    assert len(intents) == 1
    assert sum(not answer.json()["data"]["duplicate"] for answer in answers) == 1
    intent = intents.pop()
    ended(engine, intent)
    assert len(engine.get("/executions/orders", intentId=intent)) == 1


def test_answered_signal_can_be_read_at_once(engine: EngineProcess) -> None:
    intent = accepted(engine, market_order("LT"))
    assert engine.get(f"/signals/intents/{intent}")["id"] == intent


# arrays


def test_array_gives_each_element_its_own_verdict(engine: EngineProcess) -> None:
    answer = engine.signal([market_order("INFY"), market_order("INFY", quantity=0), market_order("SBIN")])
    assert answer.status_code == 202, answer.text
    first, second, third = answer.json()["data"]
    assert first["intentId"] != third["intentId"]
    assert "intentId" not in second or second["intentId"] is None
    assert "quantity" in json.dumps(second)
    assert ended(engine, first["intentId"])["status"] == "EXECUTED"
    assert ended(engine, third["intentId"])["status"] == "EXECUTED"


@pytest.mark.parametrize("count", [0, 101])
def test_array_of_no_or_too_many_elements_is_refused_whole(engine: EngineProcess, count: int) -> None:
    before = len(engine.get("/signals/intents", limit=200))
    answer = engine.signal([market_order()] * count)
    assert answer.status_code in (400, 422), answer.text
    assert len(engine.get("/signals/intents", limit=200)) == before


# judged


def test_unknown_symbol_is_rejected_with_a_reason(engine: EngineProcess) -> None:
    found = ended(engine, accepted(engine, market_order("NOSUCH")))
    assert found["status"] == "REJECTED"
    assert found["reason"].startswith("UNKNOWN_SYMBOL: ")
    assert found["timeline"][-1]["event"] == "REJECTED"
    assert found["orders"] == []


def test_price_off_the_tick_is_rejected_and_names_the_nearest(engine: EngineProcess) -> None:
    found = ended(engine, accepted(engine, limit_order("SBIN", price=815.03)))
    assert found["status"] == "REJECTED"
    assert found["reason"].startswith("TICK_SIZE: ")
    assert "815.05" in found["reason"] or "815" in found["reason"]


def test_stop_and_target_of_a_signal_rest_at_the_broker_once_the_entry_has_filled(engine: EngineProcess) -> None:
    sent = market_order("SBIN", productType="MIS", stopLoss=790, target=840)
    found = ended(engine, accepted(engine, sent))
    assert found["status"] == "EXECUTED"

    def resting() -> Any:
        shown = engine.get(f"/signals/intents/{found['id']}")["orders"]
        exits = {o["role"]: o for o in shown if o["parentId"] == found["orders"][0]["id"]}
        states = {role: order["status"] for role, order in exits.items()}
        return exits if states == {"STOP": "TRIGGER_PENDING", "TARGET": "OPEN"} else None

    exits = engine.wait_for("stop and target to rest", resting)
    assert (exits["STOP"]["triggerPrice"], exits["STOP"]["transactionType"]) == (790, "SELL")
    assert (exits["TARGET"]["price"], exits["TARGET"]["quantity"]) == (840, sent["quantity"])


def test_stop_on_the_wrong_side_is_rejected(engine: EngineProcess) -> None:
    found = ended(engine, accepted(engine, market_order("SBIN", productType="MIS", stopLoss=900)))
    assert found["status"] == "REJECTED"
    assert found["reason"].startswith("STOP_LOSS_SIDE: ")


def test_order_value_over_the_limit_is_rejected_with_limit_and_value(engine: EngineProcess) -> None:
    found = ended(engine, accepted(engine, limit_order("RELIANCE", price=2450, quantity=1000)))
    assert found["status"] == "REJECTED"
    assert "MAX_ORDER_VALUE: 2450000.00 exceeds 1000000.00" in found["reason"]


def test_resting_limit_order_is_open_and_can_be_cancelled(engine: EngineProcess) -> None:
    intent = accepted(engine, limit_order("HDFCBANK", price=1500, quantity=5))
    order = engine.wait_for(
        "the order resting",
        lambda: [o for o in engine.get("/executions/orders", intentId=intent) if o["status"] == "OPEN"],
    )[0]
    assert order["filledQuantity"] == 0
    cancelled = engine.request("POST", f"/executions/orders/{order['id']}/cancel", json={})
    assert cancelled.status_code in (200, 202), cancelled.text
    assert ended(engine, intent)["status"] == "CANCELLED"
    again = engine.request("POST", f"/executions/orders/{order['id']}/cancel", json={})
    assert again.status_code in (404, 409)


def test_round_trip_leaves_a_flat_position_with_realised_profit_or_loss(engine: EngineProcess) -> None:
    for side in ("BUY", "SELL"):
        found = ended(engine, accepted(engine, market_order("TITAN", quantity=3, transactionType=side)))
        assert found["status"] == "EXECUTED", found
    orders = [o for o in engine.get("/executions/orders", limit=200) if o["symbol"] == "TITAN"]
    sold, bought = orders
    profit = (sold["averagePrice"] - bought["averagePrice"]) * 3

    def flat() -> Any:
        found = [p for p in engine.get("/executions/positions") if p["symbol"] == "TITAN"]
        return found and found[0]["quantity"] == 0 and found

    position = engine.wait_for("the position being flat", flat)[0]
    assert position["realisedPnl"] == pytest.approx(profit, abs=0.01)
    assert position["unrealisedPnl"] == 0


# Telegram


def update(number: int, text: str, chat: int = 4711) -> dict[str, Any]:
    return {
        "update_id": number,
        "message": {
            "message_id": number,
            "date": int(time.time()),
            "chat": {"id": chat, "type": "private"},
            "from": {"id": chat, "is_bot": False, "first_name": "T"},
            "text": text,
        },
    }


def telegram(engine: EngineProcess, body: dict[str, Any], token: str | None = TELEGRAM_TOKEN) -> httpx.Response:
    headers = {} if token is None else {"X-Telegram-Bot-Api-Secret-Token": token}
    return httpx.post(f"{engine.base_url}/api/v1/signals/telegram/webhook", json=body, headers=headers, timeout=10)


@pytest.fixture(scope="module")
def chat(engine: EngineProcess) -> int:
    source = next(s for s in engine.get("/sources") if s["type"] == "telegram")
    changed = engine.request("PATCH", f"/sources/{source['id']}", json={"telegramChatIds": [4711]})
    assert changed.status_code == 200, changed.text
    return 4711


@pytest.mark.parametrize("token", [None, "", "wrong", TELEGRAM_TOKEN.upper()])
def test_telegram_without_the_secret_token_is_401(engine: EngineProcess, token: str | None) -> None:
    assert telegram(engine, update(1, "BUY INFY NSE 1 MARKET MIS"), token).status_code == 401


def test_bounds_of_a_source_hold_in_a_chat_too(engine: EngineProcess, chat: int) -> None:
    source = next(s for s in engine.get("/sources") if s["type"] == "telegram")
    path = f"/sources/{source['id']}"
    assert engine.request("PATCH", path, json={"checks": {"maxOrderQuantity": 5}}).status_code == 200
    before = len(intents(engine))
    assert telegram(engine, update(90, "BUY INFY NSE 6 MARKET MIS")).status_code == 200
    assert len(intents(engine)) == before
    assert telegram(engine, update(91, "BUY INFY NSE 5 MARKET MIS")).status_code == 200
    assert len(intents(engine)) == before + 1
    assert engine.get(path)["lastSignalAt"] is not None
    # an update that comes again is known, and not told refused by bounds that were set since
    assert engine.request("PATCH", path, json={"checks": {"maxOrderQuantity": 1}}).status_code == 200
    refused = len(engine.get("/audit", action="SIGNAL_REFUSED"))
    assert telegram(engine, update(91, "BUY INFY NSE 5 MARKET MIS")).status_code == 200
    assert len(intents(engine)) == before + 1
    assert len(engine.get("/audit", action="SIGNAL_REFUSED")) == refused
    assert engine.request("PATCH", path, json={"checks": {}}).status_code == 200


def intents(engine: EngineProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.get("/signals/intents", limit=200)
    return found


def test_telegram_text_becomes_an_order_once(engine: EngineProcess, chat: int) -> None:
    before = len(intents(engine))
    text = "BUY INFY NSE\nQty: 2\nType: MARKET\nProduct: MIS"
    for _ in range(2):
        assert telegram(engine, update(100, text)).status_code == 200
    after = intents(engine)
    assert len(after) == before + 1
    assert ended(engine, after[0]["id"])["status"] == "EXECUTED"


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (200, update(200, "BUY INFY NSE 1 MARKET MIS", chat=999)),
        (201, update(201, "good morning")),
        (202, update(202, "BUY INFY NSE\nQty: 1\nQty: 1000\nType: MARKET\nProduct: MIS")),
        (203, {"update_id": 203, "edited_message": update(203, "BUY INFY NSE 1 MARKET MIS")["message"]}),
        (204, {"update_id": 204}),
    ],
)
def test_telegram_stranger_chatter_ambiguity_and_edits_are_200_and_do_nothing(
    engine: EngineProcess, chat: int, number: int, body: dict[str, Any]
) -> None:
    before = len(intents(engine))
    assert telegram(engine, body).status_code == 200
    assert len(intents(engine)) == before


# last, for it closes the door


def test_kill_switch_over_http_refuses_signals_and_survives_in_the_status(engine: EngineProcess) -> None:
    on = engine.request(
        "POST", "/risk/killswitch/enable", json={"scope": "global", "reason": "test", "squareOff": False}
    )
    assert on.status_code == 200, on.text
    before = len(intents(engine))
    error = error_of(engine.signal(market_order()), 503)
    assert error["code"] == "KILL_SWITCH"
    assert len(intents(engine)) == before
    status = {scope["scope"]: scope for scope in engine.get("/risk/killswitch/status")["scopes"]}["global"]
    assert (status["enabled"], status["state"], status["reason"]) == (True, "BLOCKED", "test")
    refused = engine.request("POST", "/risk/killswitch/disable", json={"scope": "global"})
    assert refused.status_code == 422
    off = engine.request("POST", "/risk/killswitch/disable", json={"scope": "global", "reason": "over"})
    assert off.status_code == 200, off.text
    assert engine.signal(market_order()).status_code == 202
    actions = [record["action"] for record in engine.get("/audit", limit=50)]
    assert {"KILLSWITCH_ENABLED", "KILLSWITCH_DISABLED"} <= set(actions)
