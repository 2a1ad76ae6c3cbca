"""Triggers (GTT) on the wire: the bytes of each request, what each answer proves, and the paper exchange behind it."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qs

import msgspec
import pytest
import trio

from engine.broker.base import (
    Accepted,
    BrokerUnavailable,
    NotSent,
    OrderNotCommitted,
    RefusalCode,
    Refused,
    Unknown,
    always_open,
)
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.routes import KiteConnect
from engine.clock import SystemClock
from engine.domain.gtt import GttStatus, fold, matches
from engine.domain.options import OrderRole
from tests.support.exchange import running_exchange
from tests.support.gtts import a_gtt
from tests.support.kite_book import error_body, reply
from tests.support.kite_stub import answer, free_port_url, hang, in_pieces, raw, reset, running_stub, then_close

TAKEN = b'{"status":"success","data":{"trigger_id":123}}'
ACCEPTED = Accepted(broker_order_id="123")
HTML = b"<html><h1>502 Bad Gateway</h1></html>"
TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."


@pytest.fixture
async def stub():
    async with running_stub() as stub:
        yield stub


@pytest.fixture
async def broker(stub):
    broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock())
    yield broker
    await broker.aclose()


def form_of(request):
    return {key: values[0] for key, values in parse_qs(request.body.decode(), keep_blank_values=True).items()}


async def test_place_bytes_hold_exact_decimals(stub, broker):
    stub.next(answer(200, TAKEN))
    gtt = a_gtt(symbol="M&M", stop_trigger=Decimal("1400.05"), stop_price=Decimal("1393.0000"))
    assert await broker.place_gtt(gtt, always_open) == ACCEPTED
    (request,) = stub.requests
    assert (request.method, request.target) == ("POST", "/gtt/triggers")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    form = form_of(request)
    assert form["type"] == "two-leg"
    assert form["condition"] == (
        '{"exchange":"NSE","tradingsymbol":"M&M","trigger_values":[1400.05,1500.00],"last_price":1450.00}'
    )
    first = '"transaction_type":"SELL","quantity":10,"order_type":"LIMIT","product":"CNC","price":1393'
    assert first in form["orders"]


@pytest.mark.parametrize("sides", [{}, {"target_trigger": None, "target_price": None}], ids=["two-leg", "single"])
async def test_official_package_sends_the_same_request(stub, broker, sides):
    stub.next(*[answer(200, TAKEN)] * 6)
    gtt = a_gtt(**sides)
    await broker.place_gtt(gtt, always_open)
    await broker.replace_gtt("123", gtt, always_open)
    await broker.cancel_gtt("123")
    official = KiteConnect(stub.api_key, access_token=stub.access_token, root=stub.base_url)

    def ask() -> None:
        sell = {"transaction_type": "SELL", "quantity": 10, "order_type": "LIMIT", "product": "CNC"}
        with official.reqsession:
            terms = {
                "trigger_type": gtt.kind,
                "tradingsymbol": "INFY",
                "exchange": "NSE",
                "trigger_values": [float(leg.trigger) for leg in gtt.legs],
                "last_price": 1450.0,
                "orders": [sell | {"price": float(leg.price)} for leg in gtt.legs],
            }
            official.place_gtt(**terms)
            official.modify_gtt(123, **terms)
            official.delete_gtt(123)

    await trio.to_thread.run_sync(ask)
    ours, theirs = stub.requests[:3], stub.requests[3:]
    for mine, its in zip(ours, theirs, strict=True):
        assert (mine.method, mine.target) == (its.method, its.target)
        assert mine.headers["authorization"] == its.headers["authorization"]
        assert _read(mine) == _read(its)


def _read(request):
    form = form_of(request)
    return {key: json.loads(value) if value[0] in "[{" else value for key, value in form.items()}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (answer(200, TAKEN), "123"),
        (answer(200, b'{"status":"success","data":{"trigger_id":"9007199254740993"}}'), "9007199254740993"),
        (in_pieces(reply(200, TAKEN)), "123"),
    ],
    ids=["number", "text", "in pieces"],
)
async def test_answer_with_an_id_is_taken(stub, broker, step, expected):
    stub.next(step)
    assert await broker.place_gtt(a_gtt(), always_open) == Accepted(broker_order_id=expected)


@pytest.mark.parametrize(
    "step",
    [
        answer(200, b'{"status":"success","data":{}}'),
        answer(200, b'{"status":"success","data":null}'),
        answer(200, b'{"status":"success","data":{"order_id":"151220000000000"}}'),
        answer(200, b'{"status":"success","data":{"trigger_id":0}}'),
        answer(200, b'{"status":"success","data":{"trigger_id":true}}'),
        answer(200, b'{"status":"success","data":{"trigger_id":' + b"9" * 5000 + b"}}"),
        answer(200, b"not json"),
        answer(502, HTML, "text/html"),
        answer(503, error_body("API is down", "NetworkException")),
        answer(504, b"", None),
        answer(500, error_body("Something went wrong", "GeneralException")),
        answer(404, error_body("Couldn't find that `trigger_id`.", "GeneralException")),
        answer(400, error_body(TIMED_OUT, "InputException")),
        answer(400, error_body("bad", None)),
        answer(400, b'{"status":"error","message":"x","error_type":"InputException","data":{"trigger_id":5}}'),
        answer(301, b"", None, "Location: /gtt/triggers\r\n"),
        raw(b"garbage\r\n\r\n"),
        reset,
        then_close(),
        then_close(reply(200, TAKEN)[:-5]),
    ],
    ids=lambda step: None,
)
async def test_answer_that_proves_nothing_is_unknown_and_the_request_is_not_repeated(stub, broker, step):
    stub.next(step)
    assert isinstance(await broker.place_gtt(a_gtt(), always_open), Unknown)
    assert len(stub.requests) == 1


async def test_no_answer_within_the_deadline_is_unknown(stub):
    hasty = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock(), 0.3)
    stub.next(hang)
    await hasty.warm()
    assert isinstance(await hasty.place_gtt(a_gtt(), always_open), Unknown)
    assert len(stub.requests) == 1
    await hasty.aclose()


@pytest.mark.parametrize(
    ("status", "message", "error_type", "code"),
    [
        (400, "Trigger price was too close to the last price.", "InputException", RefusalCode.OTHER),
        (403, "Incorrect `api_key` or `access_token`.", "TokenException", RefusalCode.TOKEN_DEAD),
        (403, "IP (203.0.113.9) is not allowed to place orders for this app.", "PermissionException",
         RefusalCode.STATIC_IP),
        (429, "Too many requests", "NetworkException", RefusalCode.RATE_LIMITED),
    ],
)  # fmt: skip
async def test_definite_error_is_refused(stub, broker, status, message, error_type, code):
    stub.next(answer(status, error_body(message, error_type)))
    outcome = await broker.place_gtt(a_gtt(), always_open)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.message) == (code, message)


@pytest.mark.parametrize("ask", ["replace_gtt", "cancel_gtt"])
async def test_change_of_a_trigger_that_is_not_there_is_refused(stub, broker, ask):
    stub.next(answer(404, error_body("Couldn't find that `trigger_id`.", "GeneralException")))
    terms = ("123", a_gtt(), always_open) if ask == "replace_gtt" else ("123",)
    outcome = await getattr(broker, ask)(*terms)
    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.ORDER_NOT_FOUND


async def test_what_may_not_leave_does_not(stub, broker):
    for ask in (broker.place_gtt(a_gtt(), lambda: "no"), broker.replace_gtt("1", a_gtt(), lambda: "no")):
        assert await ask == NotSent(reason="no", gated=True)
    with pytest.raises(OrderNotCommitted):
        await broker.place_gtt(a_gtt(GttStatus.UNKNOWN), always_open)
    unusable = [
        {"quantity": 0},
        {"stop_price": Decimal(0)},
        {"last_price": Decimal("NaN")},
        {"stop_trigger": Decimal(1500)},
        {"stop_trigger": None, "target_trigger": None},
    ]
    for fields in unusable:
        outcome = await broker.place_gtt(a_gtt(**fields), always_open)
        assert isinstance(outcome, Refused)
        assert outcome.code is RefusalCode.NOT_ENCODABLE
    outcome = await broker.cancel_gtt("1/../../orders")
    assert isinstance(outcome, Refused)
    assert stub.requests == []


async def test_connection_refused_is_not_sent():
    broker = KiteBroker(free_port_url(), "k", "t", SystemClock())
    assert isinstance(await broker.place_gtt(a_gtt(), always_open), NotSent)
    await broker.aclose()


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"error"}',
        b'{"status":"success","data":null}',
        b'{"status":"success","data":[{"status":"active"}]}',
        b'{"status":"success","data":[{"id":1,"created_at":"yesterday"}]}',
        b'{"status":"success","data":[{"id":1,"condition":{"trigger_values":[1e99]}}]}',
        b'{"status":"success","data":[{"id":1,"orders":[{"quantity":1.5}]}]}',
    ],
)
async def test_list_that_cannot_be_read_is_no_list(stub, broker, body):
    stub.next(answer(200, body))
    with pytest.raises(BrokerUnavailable):
        await broker.gtts()


# the paper exchange


@pytest.fixture
async def exchange(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_price("NSE:INFY", "1450.00")
        yield exchange


@pytest.fixture
async def account(exchange):
    broker = KiteBroker(exchange.base_url, exchange.api_key, exchange.access_token, SystemClock())
    yield broker
    await broker.aclose()


def made_now(**fields):
    return a_gtt(submitting_at=datetime.now(UTC), **fields)  # noqa: TID251 -- the exchange's own clock


async def test_trigger_is_found_by_what_it_is_made_of(account):
    gtt = made_now()
    outcome = await account.place_gtt(gtt, always_open)
    assert isinstance(outcome, Accepted)
    (row,) = await account.gtts()
    assert (row.trigger_id, row.status, row.is_active) == (outcome.broker_order_id, "active", True)
    assert matches(gtt, row)
    assert row.expires_at is not None
    assert row.expires_at - gtt.submitting_at > timedelta(days=364)
    assert fold(gtt, row, at=gtt.submitting_at).status is GttStatus.ACTIVE


async def test_trigger_is_made_smaller_and_ended(account):
    outcome = await account.place_gtt(gtt := made_now(), always_open)
    assert isinstance(outcome, Accepted)
    trigger_id = outcome.broker_order_id
    smaller = msgspec.structs.replace(gtt, quantity=4)
    assert await account.replace_gtt(trigger_id, smaller, always_open) == outcome
    (row,) = await account.gtts()
    assert [order.quantity for order in row.orders] == [4, 4]
    assert await account.cancel_gtt(trigger_id) == outcome
    assert isinstance(await account.cancel_gtt(trigger_id), Refused)
    assert [row for row in await account.gtts() if row.is_active] == []


async def test_fired_side_and_its_order_are_told(exchange, account):
    outcome = await account.place_gtt(gtt := made_now(stop_price=Decimal(1)), always_open)
    assert isinstance(outcome, Accepted)
    await exchange.set_price("NSE:INFY", "1390.00")
    with trio.fail_after(5):
        while (row := (await account.gtts())[0]).is_active:
            await trio.sleep(0.02)
    fired = fold(gtt, row, at=gtt.submitting_at)
    assert (fired.status, fired.fired_role) == (GttStatus.TRIGGERED, OrderRole.STOP)
    # nothing is held: the exchange refuses what the trigger would sell
    assert fired.broker_order_id is None
    assert (fired.status_message or "").startswith("REFUSED: ")


async def test_off_tick_trigger_is_refused_in_the_exchange_s_words(account):
    outcome = await account.place_gtt(made_now(stop_trigger=Decimal("1400.03")), always_open)
    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.TICK_SIZE
