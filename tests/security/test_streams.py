"""GET /stream of a real engine: the shapes of the API, going on where one was, and whose events are told whom."""

import http.client
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest

from engine.config import decode_key
from tests.support.engine import EngineProcess, market_order
from tests.support.event_stream import StreamClient
from tests.support.intruder import People, Person, address, assert_refused

# one of its own: it is stopped here
ENVIRONMENT: dict[str, str] = {}


def follow(engine: EngineProcess, **params: str) -> StreamClient:
    return StreamClient(engine.base_url, engine.login(), **params)


def traded(engine: EngineProcess, **changes: Any) -> str:
    answer = engine.signal(market_order(**changes), key=uuid4().hex)
    assert answer.status_code == 202, answer.text
    intent_id: str = answer.json()["data"]["intentId"]
    return intent_id


def of_intent(stream: StreamClient, event: str, intent_id: str) -> list[dict[str, Any]]:
    return [told.data for told in stream.of(event) if intent_id in (told.data.get("id"), told.data.get("intentId"))]


def test_an_order_is_followed_from_signal_to_position_in_the_shapes_of_the_api(engine: EngineProcess) -> None:
    with follow(engine) as stream:
        stream.wait("hello", lambda s: s.of("hello"))
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.text.startswith("retry: ")
        intent_id = traded(engine, symbol="SBIN", quantity=3)
        stream.wait("the end", lambda s: any(i["status"] == "EXECUTED" for i in of_intent(s, "intent", intent_id)))
        stream.wait("a position", lambda s: [t for t in s.of("position") if t.data["symbol"] == "SBIN"])
        stream.wait("profit and loss", lambda s: [t for t in s.of("pnl") if t.data["total"]["charges"]])
        (order,) = engine.get("/executions/orders", intentId=intent_id)
        last = of_intent(stream, "order", intent_id)[-1]
        assert last == order | {"events": last["events"], "fills": last["fills"]}
        assert order["events"][-1] in last["events"]
        trades = {trade["tradeId"]: trade for trade in engine.get("/executions/trades", orderId=order["id"])}
        told = {t.data["tradeId"]: t.data for t in stream.of("fill") if t.data["orderId"] == order["id"]}
        assert told == trades
        intent = engine.get(f"/signals/intents/{intent_id}")
        shown = of_intent(stream, "intent", intent_id)[-1]
        assert set(shown) == set(intent)
        assert shown["timeline"][-1] == intent["timeline"][-1]
        assert set(stream.of("pnl")[-1].data) == set(engine.get("/executions/pnl"))
        numbers = [int(t.id.partition("-")[2]) for t in stream.told if t.event not in ("hello", "reset")]
        assert numbers == sorted(set(numbers))


def test_a_reader_goes_on_where_it_was(engine: EngineProcess) -> None:
    with follow(engine) as first:
        first.wait("hello", lambda s: s.of("hello"))
        seen = traded(engine)
        first.wait("the end", lambda s: any(i["status"] == "EXECUTED" for i in of_intent(s, "intent", seen)))
        place = of_intent(first, "intent", seen) and first.of("intent")[0].id
    missed = traded(engine)
    engine.wait_for("the order", lambda: engine.get("/executions/orders", intentId=missed))
    with follow(engine, last_event_id=place) as again:
        again.wait("what was missed", lambda s: any(i["status"] == "EXECUTED" for i in of_intent(s, "intent", missed)))
        (hello,) = again.of("hello")
        assert hello.data["resumed"] is True
        assert hello.id == place
        assert not again.of("reset")
        ids = [t.id for t in first.told if t.event != "hello"]
        later = ids[ids.index(place) + 1 :]
        assert [t.id for t in again.told if t.event != "hello"][: len(later)] == later


@pytest.mark.parametrize(
    ("place", "reason"), [("0-5", "NEW_ENGINE"), ("1-99999999", "UNKNOWN_ID"), ("drop table", "UNKNOWN_ID")]
)
def test_a_place_that_cannot_be_gone_on_from_is_answered_with_reset(
    engine: EngineProcess, place: str, reason: str
) -> None:
    with follow(engine, last_event_id=place) as stream:
        (reset,) = stream.wait("reset", lambda s: s.of("reset"))
        assert reset.data == {"reason": reason}
        assert stream.of("hello")[0].data["resumed"] is False
        intent_id = traded(engine)
        stream.wait("what comes after", lambda s: of_intent(s, "intent", intent_id))


def test_filters_choose_by_type_and_account(engine: EngineProcess) -> None:
    other = engine.request("POST", "/accounts", json={"label": "other", "broker": "paper", "capital": 100000})
    own = next(a["id"] for a in engine.get("/accounts") if a["label"] != "other")
    with (
        follow(engine, types="order, fill") as orders,
        follow(engine, accountId=other.json()["data"]["id"]) as others,
        follow(engine, accountId=own) as owns,
    ):
        for stream in (orders, others, owns):
            stream.wait("hello", lambda s: s.of("hello"))
        intent_id = traded(engine)
        orders.wait("the fill", lambda s: [t for t in s.of("fill") if t.data["intentId"] == intent_id])
        owns.wait("the fill", lambda s: [t for t in s.of("fill") if t.data["intentId"] == intent_id])
        assert {t.event for t in orders.told} == {"hello", "order", "fill"}
        assert not [t for t in others.told if t.event in ("order", "fill", "intent")]
    for params in ({"types": "order,secrets"}, {"accountId": "nobody"}):
        assert engine.request("GET", "/stream", params=params).status_code == 422
    missing = str(UUID(int=1))
    assert engine.request("GET", "/stream", params={"accountId": missing}).status_code == 404


def test_kill_switch_and_alerts_are_told(engine: EngineProcess) -> None:
    strategy = engine.get("/strategies")[0]["id"]
    body = {"scope": f"strategy:{strategy}", "reason": "stop it", "squareOff": False}
    with follow(engine, types="killswitch,alert") as stream:
        stream.wait("hello", lambda s: s.of("hello"))
        assert engine.request("POST", "/risk/killswitch/enable", json=body).status_code == 200
        on = stream.wait("the switch", lambda s: s.of("killswitch"))[0].data
        assert (on["scope"], on["enabled"], on["reason"]) == (body["scope"], True, "stop it")
        assert set(on) == set(engine.get("/risk/killswitch/status")["scopes"][0])
        off = {"scope": body["scope"], "reason": "go on", "force": True}
        assert engine.request("POST", "/risk/killswitch/disable", json=off).status_code == 200
        stream.wait("its end", lambda s: not s.of("killswitch")[-1].data["enabled"])


def test_the_stream_is_in_the_document(engine: EngineProcess) -> None:
    document = httpx.get(f"{engine.base_url}/openapi.json", timeout=10).json()
    operation = document["paths"]["/api/v1/stream"]["get"]
    assert "text/event-stream" in operation["responses"]["200"]["content"]
    assert {p["name"] for p in operation["parameters"]} >= {"types", "accountId"}


def own_desk(person: Person) -> tuple[str, tuple[str, str]]:
    """Give a trader an account, a strategy and a source; return the account's id, and key and secret of the source."""
    account = person.make("/accounts", label="own", broker="paper", capital=1_000_000)["id"]
    strategy = person.make(
        "/strategies",
        name="own",
        enabled=True,
        approval="auto",
        defaults={"exchange": "NSE", "productType": "MIS", "orderType": "MARKET"},
        accounts=[{"accountId": account, "sizing": {"mode": "multiplier", "value": 1}}],
    )["id"]
    source = person.make("/sources", type="sheets", strategyId=strategy, name="own")
    return account, (source["apiKey"], source["secret"])


def test_sec_037_a_stream_tells_nobody_of_what_is_not_theirs(engine: EngineProcess, people: People) -> None:
    mallory, alice, viewer = people("mallory", "TRADER"), people("alice", "TRADER"), people("viewer", "VIEWER")
    own_desk(mallory)
    account, source = own_desk(alice)
    for path in ("/api/v1/stream", f"/api/v1/stream?access_token={alice.token}", f"/api/v1/stream?token={alice.token}"):
        # the token counts as a header only (SEC-023)
        assert_refused(httpx.get(engine.base_url + path, timeout=10), 401)
    assert_refused(mallory.request("GET", "/stream", params={"accountId": account}), 404)
    with (
        StreamClient(engine.base_url, alice.token) as hers,
        StreamClient(engine.base_url, mallory.token) as theirs,
        StreamClient(engine.base_url, viewer.token) as seen,
        follow(engine) as admins,
    ):
        for stream in (hers, theirs, seen, admins):
            stream.wait("hello", lambda s: s.of("hello"))
        answer = engine.signal(market_order(), source=source, key=uuid4().hex)
        intent_id = answer.json()["data"]["intentId"]
        for stream in (hers, admins):
            stream.wait("the end", lambda s: any(i["status"] == "EXECUTED" for i in of_intent(s, "intent", intent_id)))
        scope = {"scope": f"account:{account}", "reason": "mine", "squareOff": False}
        assert alice.request("POST", "/risk/killswitch/enable", json=scope).status_code == 200
        for stream in (hers, admins):
            stream.wait("the fill", lambda s: of_intent(s, "fill", intent_id))
            stream.wait("the switch", lambda s: s.of("killswitch"))
            stream.wait("figures", lambda s: [t for t in s.of("position") if t.data["accountId"] == account])
        # what all may know comes after it on the same streams, so what is not there now will not come
        whole = {"scope": "global", "reason": "for all", "squareOff": False}
        assert engine.request("POST", "/risk/killswitch/enable", json=whole).status_code == 200
        for stream in (theirs, seen):
            stream.wait("the global switch", lambda s: s.of("killswitch"))
            assert {t.event for t in stream.told} <= {"hello", "killswitch", "pnl"}
            (told,) = stream.of("killswitch")
            assert told.data["scope"] == "global"
            assert told.data["notFlat"] == []
            for foreign in (alice.id, account, intent_id):
                assert foreign not in stream.text
        engine.request("POST", "/risk/killswitch/disable", json={"scope": "global", "reason": "on", "force": True})


def test_sec_037_a_stream_ends_with_the_right_to_read_it(engine: EngineProcess, people: People) -> None:
    leaver, renewed, expired = (people(name, "TRADER") for name in ("leaver", "renewed", "expired"))
    claims = jwt.decode(expired.token, options={"verify_signature": False})
    key = decode_key((engine.data_dir / "keys" / "jwt.key").read_text().strip())
    header = jwt.get_unverified_header(expired.token)
    soon = jwt.encode(claims | {"exp": int(time.time()) + 1}, key, algorithm="HS256", headers=header)
    with (
        StreamClient(engine.base_url, leaver.token) as left,
        StreamClient(engine.base_url, renewed.token) as put_out,
        StreamClient(engine.base_url, soon) as over,
    ):
        for stream in (left, put_out, over):
            stream.wait("hello", lambda s: s.of("hello"))
        assert leaver.request("POST", "/auth/logout", json={"refreshToken": leaver.refresh_token}).is_success
        new = {"currentPassword": renewed.password, "newPassword": "an other battery, stapled twice"}
        assert renewed.request("POST", "/auth/password", json=new).is_success
        for stream in (left, put_out, over):
            assert stream.has_ended.wait(6), stream.text
            assert stream.told[-1].data == {"reason": "SESSION_ENDED"}


def test_a_user_has_a_bounded_number_of_streams(engine: EngineProcess, people: People) -> None:
    greedy = people("greedy", "TRADER")
    host, port = address(engine.base_url)
    held = []
    try:
        for _ in range(32):
            connection = http.client.HTTPConnection(host, port, timeout=10)
            connection.request("GET", "/api/v1/stream", headers={"Authorization": f"Bearer {greedy.token}"})
            answer = connection.getresponse()
            assert answer.status == 200
            answer.readline()
            held.append((connection, answer))
        error = assert_refused(greedy.request("GET", "/stream"), 429)
        assert error["code"] == "RATE_LIMITED"
        held.pop()[0].close()
        engine.wait_for("a seat", lambda: _opens(host, port, greedy.token))
    finally:
        for connection, answer in held:
            answer.close()
            connection.close()


def _opens(host: str, port: int, token: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request("GET", "/api/v1/stream", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    status = answer.status
    answer.close()
    connection.close()
    return status == 200


def test_a_drain_ends_streams_at_once(engine: EngineProcess) -> None:
    """Last: it stops the engine that the others share."""
    with follow(engine) as stream:
        stream.wait("hello", lambda s: s.of("hello"))
        assert engine.stop() == 0
        assert stream.has_ended.wait(1)
        assert "SESSION_ENDED" not in stream.text
