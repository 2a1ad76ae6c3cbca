"""The other ways in, as their senders use them: alerts, snippets, and finding out what never came."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.engine import EngineProcess, limit_order, market_order, signed

BASE = "/api/v1"


@pytest.fixture
def engine(source_engine: EngineProcess) -> EngineProcess:
    return source_engine


def make(engine: EngineProcess, kind: str, **changes: Any) -> dict[str, Any]:
    body = {"type": kind, "strategyId": engine.get("/strategies")[0]["id"], "name": f"{kind} {uuid4()}"} | changes
    answer = engine.request("POST", "/sources", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


def shown(engine: EngineProcess, source: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = engine.get(f"/sources/{source['id']}")
    return found


def alerts(engine: EngineProcess, source: dict[str, Any]) -> list[str]:
    found = engine.get("/audit", action="ALERT", subject=f"source:{source['id']}")
    return [record["data"]["text"] for record in found]


def intent_of(engine: EngineProcess, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = engine.get(f"/signals/intents/{answer.json()['data']['intentId']}")
    return found


def ended(engine: EngineProcess, answer: httpx.Response) -> dict[str, Any]:
    def look() -> Any:
        found = intent_of(engine, answer)
        return found if found["status"] not in ("RECEIVED", "APPROVED", "EXECUTING") else None

    found: dict[str, Any] = engine.wait_for("the intent ending", look)
    return found


# TradingView


def stamp(seconds: float = 0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def filled(template: str, **values: str) -> str:
    """Fill a template in as TradingView does."""
    named = {"ticker": "SBIN", "exchange": "NSE", "timenow": stamp(), "strategy.order.action": "buy"}
    named |= {"strategy.order.contracts": "2", "strategy.market_position": "long"}
    named |= {"strategy.market_position_size": "3"} | values
    for name, value in named.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def alert(engine: EngineProcess, source: dict[str, Any], body: str | bytes, *, url: str = "") -> httpx.Response:
    kind = "application/json" if body[:1] in ("{", b"{") else "text/plain"
    return httpx.post(url or source["webhookUrl"], content=body, headers={"Content-Type": kind}, timeout=10)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_each_message_that_is_offered_for_an_alert_becomes_an_order(engine: EngineProcess, place: int) -> None:
    source = make(engine, "tradingview")
    text = engine.get(f"/sources/{source['id']}/snippet")["texts"][place]["content"]
    found = ended(engine, alert(engine, source, filled(text)))
    assert found["status"] == "EXECUTED", found
    assert found["symbol"] == "SBIN"
    if place != 1:
        assert (found["transactionType"], found["quantity"]) == ("BUY", 2)


def test_alert_for_a_position_trades_what_is_missing_to_it(engine: EngineProcess) -> None:
    """Long 3, then short 2, then flat, whatever the strategy's single orders were."""
    source = make(engine, "tradingview")
    text = engine.get(f"/sources/{source['id']}/snippet")["texts"][1]["content"]
    traded = []
    for kind, size in (("long", "3"), ("short", "2"), ("flat", "0")):
        values = {"strategy.market_position": kind, "strategy.market_position_size": size, "ticker": "NTPC"}
        found = ended(engine, alert(engine, source, filled(text, **values)))
        assert found["status"] == "EXECUTED", found
        order = found["orders"][0]
        traded.append((order["transactionType"], order["filledQuantity"]))
    assert traded == [("BUY", 3), ("SELL", 5), ("BUY", 2)]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(market_order("INFY") | {"secret": "SECRET"}),
        "Secret: SECRET\nBUY INFY NSE 1 MARKET MIS",
        "buy NSE:INFY NSE_DLY\nQty: 1\nType: MARKET\nProduct: MIS\nSecret: SECRET",
        json.dumps(
            {"ticker": "NSE:INFY", "action": "buy", "contracts": "1", "orderType": "MARKET"}
            | {"productType": "MIS"}
            | {"secret": "SECRET"}
        ),
    ],
)
def test_secret_in_the_body_opens_the_door_too(engine: EngineProcess, body: str) -> None:
    source = make(engine, "tradingview")
    bare = source["webhookUrl"].partition("?")[0]
    assert (
        intent_of(engine, alert(engine, source, body.replace("SECRET", source["secret"]), url=bare))["symbol"] == "INFY"
    )
    for wrong in (body.replace("SECRET", "guess"), "BUY INFY NSE 1 MARKET MIS"):
        assert alert(engine, source, wrong, url=bare).status_code == 401


def test_alert_that_is_sent_again_is_one_signal_and_a_later_one_another(engine: EngineProcess) -> None:
    source = make(engine, "tradingview")
    plain = "BUY ITC NSE 1 @ 390.00 LIMIT MIS"
    first, again = alert(engine, source, plain), alert(engine, source, plain)
    assert first.json()["data"]["intentId"] == again.json()["data"]["intentId"]
    assert again.json()["data"]["duplicate"] is True
    fired, later = stamp(), stamp(5)
    timed = [alert(engine, source, f"{plain}\nTimenow: {at}") for at in (fired, fired, later)]
    assert len({answer.json()["data"]["intentId"] for answer in timed}) == 2


@pytest.mark.parametrize("seconds", [-400, 400])
def test_alert_that_fired_long_ago_is_refused(engine: EngineProcess, seconds: int) -> None:
    source = make(engine, "tradingview")
    answer = alert(engine, source, f"BUY ITC NSE 1 MARKET MIS\nTimenow: {stamp(seconds)}")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "TIMESTAMP_STALE"


def test_placeholder_that_was_not_filled_in_is_named(engine: EngineProcess) -> None:
    source = make(engine, "tradingview")
    answer = alert(engine, source, filled('{"symbol": "{{strategy.order.id}}"}'))
    assert answer.status_code in (400, 422)
    assert "{{strategy.order.id}}" in answer.json()["error"]["message"]


# snippets


@pytest.mark.parametrize(("kind", "of", "command"), [("curl", "webhook", "bash"), ("python", "sheets", sys.executable)])
def test_program_that_is_offered_sends_a_signal(
    engine: EngineProcess, tmp_path: Path, kind: str, of: str, command: str
) -> None:
    source = make(engine, of)
    found = engine.get(f"/sources/{source['id']}/snippet", kind=kind)
    script = tmp_path / found["texts"][0]["name"]
    script.write_text(found["texts"][0]["content"])
    assert source["secret"] not in json.dumps(found)
    keys = {"ENGINE_API_KEY": source["apiKey"], "ENGINE_SECRET": source["secret"], "PATH": os.environ["PATH"]}
    done = subprocess.run([command, str(script)], env=keys, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "intentId" in done.stdout, done.stdout + done.stderr
    assert [i["symbol"] for i in engine.get("/signals/intents", limit=200) if i["sourceId"] == source["id"]] == ["SBIN"]


def test_snippet_that_does_not_fit_the_source_is_422(engine: EngineProcess) -> None:
    source = make(engine, "tradingview")
    answer = engine.request("GET", f"/sources/{source['id']}/snippet", params={"kind": "sheets"})
    assert answer.status_code == 422
    assert "tradingview" in answer.json()["error"]["message"]
    assert engine.request("GET", f"/sources/{uuid4()}/snippet").status_code == 404


# what never came


def send(
    engine: EngineProcess, source: dict[str, Any], sequence: int | None, key: str | None = None, **header: str
) -> Any:
    order = limit_order("ITC", price=390.0) | ({} if sequence is None else {"sequence": sequence})
    raw = json.dumps(order).encode()
    headers = signed(raw, source["apiKey"], source["secret"]) | {"Idempotency-Key": key or str(uuid4())} | header
    answer = httpx.post(
        f"{engine.base_url}{BASE}/signals/webhook/{source['id']}", content=raw, headers=headers, timeout=10
    )
    return answer.status_code


def beat(engine: EngineProcess, source: dict[str, Any], body: dict[str, Any] | None) -> httpx.Response:
    raw = b"" if body is None else json.dumps(body).encode()
    headers = signed(raw, source["apiKey"], source["secret"])
    return httpx.post(
        f"{engine.base_url}{BASE}/signals/heartbeat/{source['id']}", content=raw, headers=headers, timeout=10
    )


def test_number_that_never_came_is_told_and_a_late_arrival_closes_the_gap(engine: EngineProcess) -> None:
    source = make(engine, "webhook")
    assert [send(engine, source, number) for number in (7, 8, 11)] == [202] * 3
    assert send(engine, source, None, **{"X-Sequence": "12"}) == 202
    state = shown(engine, source)
    assert state["lastSequence"] == 12
    assert state["missing"] == [{"from": 9, "to": 10}]
    assert state["lastSignalAt"] is not None
    engine.wait_for("the alert", lambda: [text for text in alerts(engine, source) if "9 to 10" in text])
    assert send(engine, source, 9) == 202
    assert shown(engine, source)["missing"] == [{"from": 10, "to": 10}]
    assert send(engine, source, 10, key="late") == send(engine, source, 10, key="late") == 202
    assert shown(engine, source)["missing"] == []
    assert not [text for text in alerts(engine, source) if "REPEATED" in text]
    assert send(engine, source, 1) == 202
    engine.wait_for("the alert", lambda: [text for text in alerts(engine, source) if "SEQUENCE_REPEATED" in text])
    assert engine.request("PATCH", f"/sources/{source['id']}", json={"resetSequence": True}).status_code == 200
    assert send(engine, source, 2) == 202
    assert (shown(engine, source)["lastSequence"], shown(engine, source)["missing"]) == (2, [])


@pytest.mark.parametrize("sequence", [-1, 1.5, "x", 2**60])
def test_number_that_is_none_is_refused(engine: EngineProcess, sequence: Any) -> None:
    assert send(engine, make(engine, "webhook"), sequence) == 422


def test_heartbeat_shows_a_loss_at_the_end(engine: EngineProcess) -> None:
    source = make(engine, "sheets")
    assert send(engine, make(engine, "webhook"), 1) == 202
    assert beat(engine, source, {"lastSequence": 3}).json()["data"]["missing"] == []
    told = beat(engine, source, {"lastSequence": 5}).json()["data"]
    assert told["missing"] == [{"from": 4, "to": 5}]
    engine.wait_for("the alert", lambda: [text for text in alerts(engine, source) if "4 to 5" in text])
    state = shown(engine, source)
    assert state["lastHeardAt"] is not None
    assert state["lastSignalAt"] is None
    assert beat(engine, source, {"last": 1}).status_code == 422
    assert beat(engine, source | {"secret": "x"}, None).status_code == 401


def test_silence_is_told_once_and_ends_with_the_next_sign_of_life(engine: EngineProcess) -> None:
    source = make(engine, "webhook", expectEveryS=1)
    assert beat(engine, source, None).status_code == 200
    assert shown(engine, source)["silentSince"] is None
    engine.wait_for("the silence", lambda: shown(engine, source)["silentSince"], within_s=20)
    engine.wait_for("the alert", lambda: [text for text in alerts(engine, source) if "SOURCE_SILENT" in text])
    assert beat(engine, source, None).status_code == 200
    assert shown(engine, source)["silentSince"] is None
    assert len([text for text in alerts(engine, source) if "SOURCE_SILENT" in text]) == 1
    heard = engine.get("/audit", action="SOURCE_HEARD_AGAIN", subject=f"source:{source['id']}")
    assert len(heard) == 1


def test_rows_that_were_never_taken_in_are_named_and_those_with_another_content_too(engine: EngineProcess) -> None:
    source = make(engine, "sheets")
    raw = json.dumps(limit_order("ITC", price=390.0)).encode()
    headers = signed(raw, source["apiKey"], source["secret"]) | {"Idempotency-Key": "row-1"}
    answer = httpx.post(f"{engine.base_url}{BASE}/signals/sheets/webhook", content=raw, headers=headers, timeout=10)
    asked = json.dumps({"rows": [{"key": "row-1", "sha256": "0" * 64}, {"key": "row-2"}, {"key": "row-2"}]}).encode()
    headers = signed(asked, source["apiKey"], source["secret"])
    told = httpx.post(f"{engine.base_url}{BASE}/signals/sheets/ledger", content=asked, headers=headers, timeout=10)
    assert told.status_code == 200, told.text
    found = told.json()["data"]
    assert [row["intentId"] for row in found["taken"]] == [answer.json()["data"]["intentId"]]
    assert (found["missing"], found["changed"]) == (["row-2"], ["row-1"])


# by hand


def test_signal_by_hand_goes_through_a_source_of_the_strategy(engine: EngineProcess) -> None:
    strategy = engine.get("/strategies")[0]["id"]
    body = limit_order("ITC", price=390.0)
    answer = engine.request(
        "POST", "/signals", json=body | {"strategyId": strategy}, headers={"Idempotency-Key": "hand-1"}
    )
    again = engine.request(
        "POST", "/signals", json=body | {"strategyId": strategy}, headers={"Idempotency-Key": "hand-1"}
    )
    assert intent_of(engine, answer)["strategyId"] == strategy
    assert again.json()["data"]["intentId"] == answer.json()["data"]["intentId"]
    assert again.json()["data"]["duplicate"] is True
    other = engine.request(
        "POST", "/signals", json=body | {"strategyId": strategy, "quantity": 9}, headers={"Idempotency-Key": "hand-1"}
    )
    assert other.status_code == 409
    assert engine.request("POST", "/signals", json=body).status_code == 422
    assert engine.request("POST", "/signals", json=body | {"strategyId": str(uuid4())}).status_code == 404
    unsigned = httpx.post(f"{engine.base_url}{BASE}/signals", json=body | {"strategyId": strategy}, timeout=10)
    assert unsigned.status_code == 401


def test_key_of_a_signal_by_hand_is_one_signal_whichever_source_the_strategy_has_by_then(engine: EngineProcess) -> None:
    one, two = make(engine, "webhook"), make(engine, "webhook")
    row, key = limit_order("ITC", 450.0), {"Idempotency-Key": str(uuid4())}
    first, other = (
        engine.request("POST", "/signals", json=row | {"sourceId": each["id"]}, headers=key) for each in (one, two)
    )
    assert (first.status_code, other.status_code) == (202, 409), other.text
    assert other.json()["error"]["code"] == "IDEMPOTENCY_KEY_REUSED"

    strategy = engine.request("POST", "/strategies", json={"name": f"moved {uuid4()}"}).json()["data"]["id"]
    gone, left = make(engine, "webhook", strategyId=strategy), make(engine, "webhook", strategyId=strategy)
    key = {"Idempotency-Key": str(uuid4())}
    sent = engine.request("POST", "/signals", json=row | {"strategyId": strategy}, headers=key)
    assert engine.request("PATCH", f"/sources/{gone['id']}", json={"enabled": False}).status_code == 200
    again = engine.request("POST", "/signals", json=row | {"strategyId": strategy}, headers=key)
    assert again.json()["data"]["intentId"] == sent.json()["data"]["intentId"]
    assert engine.get(f"/signals/intents/{sent.json()['data']['intentId']}")["sourceId"] != left["id"]


def test_repeat_is_answered_like_the_first_whatever_its_source_may_ask_for_by_then(engine: EngineProcess) -> None:
    source = make(engine, "webhook", checks={"maxOrderQuantity": 5})
    pair = (source["apiKey"], source["secret"])

    def bound(units: int) -> None:
        changed = engine.request("PATCH", f"/sources/{source['id']}", json={"checks": {"maxOrderQuantity": units}})
        assert changed.status_code == 200, changed.text

    one, two = limit_order("ITC", 451.0, 4), limit_order("ITC", 452.0, 9)
    single = engine.signal(one, key="single", source=pair).json()["data"]
    first = engine.signal([one, two], key="both", source=pair).json()["data"]
    assert [each["status"] for each in first][1] == "REFUSED"
    for units in (1, 50):
        bound(units)
        again = engine.signal(one, key="single", source=pair)
        assert (again.status_code, again.json()["data"]["intentId"]) == (202, single["intentId"]), again.text
        both = engine.signal([one, two], key="both", source=pair)
        assert both.status_code == 202, both.text
        assert both.json()["data"][0]["intentId"] == first[0]["intentId"]
        assert both.json()["data"][1]["status"] == "REFUSED"
