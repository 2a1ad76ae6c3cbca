import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.broker.kite import codec
from engine.domain.enums import OrderStatus
from engine.errors import BrokerUnavailable

NOW = datetime(2026, 11, 20, 5, 0, tzinfo=UTC)
DECODERS = [
    codec.decode_orders,
    codec.decode_order,
    lambda body: codec.decode_trades(body, NOW),
    codec.decode_positions,
    codec.decode_holdings,
    codec.decode_gtts,
    codec.decode_last_prices,
    codec.decode_margins,
    codec.decode_profile,
]
ROW = {
    "account_id": "AB0001",
    "order_id": "1914227164488687616",
    "exchange_order_id": "1200000012345678",
    "parent_order_id": None,
    "status": "COMPLETE",
    "status_message": None,
    "order_timestamp": "2025-11-19 09:18:57",
    "exchange_update_timestamp": None,
    "variety": "regular",
    "modified": False,
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "instrument_token": 408065,
    "order_type": "LIMIT",
    "transaction_type": "BUY",
    "validity": "DAY",
    "product": "CNC",
    "quantity": 7,
    "price": 159.82,
    "trigger_price": 0,
    "average_price": 156.7,
    "filled_quantity": 7,
    "market_protection": 0,
    "meta": {},
    "tag": None,
    "tags": ["mktp", "mktp:2.00"],
}


def wrapped(payload) -> bytes:
    return json.dumps({"status": "success", "data": payload}).encode()


def test_decode_orders_reads_a_full_row_exactly():
    (order,) = codec.decode_orders(wrapped([ROW]))
    assert order.broker_order_id == "1914227164488687616"
    assert order.status is OrderStatus.COMPLETE
    assert (order.price, order.average_price) == (Decimal("159.82"), Decimal("156.7"))
    assert order.order_timestamp == datetime(2025, 11, 19, 3, 48, 57, tzinfo=UTC)
    assert order.has_tag("mktp:2.00")
    assert not order.has_tag("mktp:")
    report = order.as_report()
    assert (report.broker_order_id, report.status, report.filled_quantity, report.average_price) == (
        order.broker_order_id,
        OrderStatus.COMPLETE,
        7,
        Decimal("156.7"),
    )


def test_decode_orders_keeps_binary_noise_as_the_digits_sent():
    body = b'{"status":"success","data":[{"order_id":"1","average_price":99725.05000000002}]}'
    assert codec.decode_orders(body)[0].average_price == Decimal("99725.05000000002")


@pytest.mark.parametrize("key", list(ROW))
def test_decode_orders_any_key_may_be_absent_or_null(key):
    without = {name: value for name, value in ROW.items() if name != key}
    assert len(codec.decode_orders(wrapped([without, ROW | {key: None}]))) == 2


def test_decode_orders_row_without_anything_is_a_live_order():
    (order,) = codec.decode_orders(wrapped([{}]))
    assert (order.broker_order_id, order.status, order.raw_status) == ("", OrderStatus.SUBMITTED, "")


@pytest.mark.parametrize(
    ("raw", "filled", "status"),
    [
        ("PUT ORDER REQ RECEIVED", 0, OrderStatus.SUBMITTED),
        ("VALIDATION PENDING", 0, OrderStatus.SUBMITTED),
        ("OPEN PENDING", 0, OrderStatus.SUBMITTED),
        ("AMO REQ RECEIVED", 0, OrderStatus.SUBMITTED),
        ("OPEN", 0, OrderStatus.OPEN),
        ("OPEN", 4, OrderStatus.PARTIALLY_FILLED),
        ("OPEN", 10, OrderStatus.OPEN),
        ("UPDATE", 0, OrderStatus.SUBMITTED),
        ("UPDATE", 3, OrderStatus.PARTIALLY_FILLED),
        ("MODIFIED", 0, OrderStatus.SUBMITTED),
        ("MODIFY VALIDATION PENDING", 0, OrderStatus.SUBMITTED),
        ("MODIFY PENDING", 2, OrderStatus.PARTIALLY_FILLED),
        ("CANCEL PENDING", 0, OrderStatus.SUBMITTED),
        ("TRIGGER PENDING", 0, OrderStatus.TRIGGER_PENDING),
        ("COMPLETE", 10, OrderStatus.COMPLETE),
        ("COMPLETE", 9, OrderStatus.COMPLETE),
        ("CANCELLED", 4, OrderStatus.CANCELLED),
        ("CANCELLED AMO", 0, OrderStatus.CANCELLED),
        ("REJECTED", 0, OrderStatus.REJECTED),
        ("LAPSED", 0, OrderStatus.SUBMITTED),
        ("", 0, OrderStatus.SUBMITTED),
    ],
)
def test_order_status_of_each_word(raw, filled, status):
    assert codec.order_status(raw, filled, 10) is status


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quantity", "7"),
        ("quantity", 1.5),
        ("quantity", True),
        ("quantity", 10**20),
        ("filled_quantity", []),
        ("price", {}),
        ("price", True),
        ("average_price", "NaN"),
        ("average_price", 1e300),
        ("status", 5),
        ("tags", "abc"),
        ("tag", 7),
        ("order_timestamp", "yesterday"),
        ("order_timestamp", "2025-13-45 99:99:99"),
        ("exchange_timestamp", 5),
        ("order_id", 1.5),
    ],
)
def test_decode_orders_wrong_type_names_the_field(key, value):
    with pytest.raises(BrokerUnavailable, match=key):
        codec.decode_orders(wrapped([ROW | {key: value}]))


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"success"}',
        b'{"status":"success","data":null}',
        b'{"status":"error","data":[]}',
        b'{"data":[]}',
        b"[]",
        b"",
        b"<html>",
        b"[" * 100_000,
        b'{"status":"success","data":[{"price":1e99999999999999999999}]}',
        b'{"status":"success","data":[{"order_id":' + b"9" * 5000 + b"}]}",
    ],
)
def test_decode_orders_without_a_list_is_no_empty_book(body):
    with pytest.raises(BrokerUnavailable):
        codec.decode_orders(body)


def test_decode_trades_reads_quantity_price_and_time():
    row = {
        "trade_id": "10000000",
        "order_id": "200000000000000",
        "exchange": "NSE",
        "tradingsymbol": "SBIN",
        "product": "CNC",
        "average_price": 420.65,
        "quantity": 1,
        "exchange_order_id": "300000000000000",
        "transaction_type": "BUY",
        "fill_timestamp": "2021-05-31 09:16:39",
        "order_timestamp": "09:16:39",
    }
    (trade,) = codec.decode_trades(wrapped([row]), NOW)
    assert (trade.quantity, trade.price) == (1, Decimal("420.65"))
    assert trade.filled_at == datetime(2021, 5, 31, 3, 46, 39, tzinfo=UTC)


def test_decode_trades_reads_the_documented_filled_and_stands_in_for_a_missing_time():
    (trade,) = codec.decode_trades(wrapped([{"trade_id": 5, "filled": 3}]), NOW)
    assert (trade.trade_id, trade.quantity, trade.filled_at) == ("5", 3, NOW)


def test_decode_positions_reads_the_vendors_row():
    row = {"tradingsymbol": "LEADMINI17DECFUT", "exchange": "MCX", "product": "NRML", "quantity": 1,
           "overnight_quantity": 0, "multiplier": 1000, "average_price": 161.05, "last_price": 161.05,
           "buy_value": 161050, "pnl": 0}  # fmt: skip
    positions = codec.decode_positions(wrapped({"net": [row], "day": []}))
    assert positions.day == ()
    assert (positions.net[0].multiplier, positions.net[0].buy_value) == (Decimal(1000), Decimal(161050))


@pytest.mark.parametrize("payload", [{"net": []}, {"day": []}, {"net": None, "day": []}, [], None])
def test_decode_positions_with_a_missing_list_is_not_flat(payload):
    with pytest.raises(BrokerUnavailable):
        codec.decode_positions(wrapped(payload))


def test_decode_margins_available_less_used_is_net():
    segment = {
        "enabled": True,
        "net": 99725.05000000002,
        "available": {"adhoc_margin": 0, "cash": 245431.6, "collateral": 0, "intraday_payin": 0},
        "utilised": {"debits": 145706.55},
    }
    margins = codec.decode_margins(wrapped({"equity": segment}))
    assert margins.equity.available - margins.equity.used == Decimal("99725.05")
    assert margins.commodity.enabled is False


def test_decode_last_prices_leaves_unknown_keys_out():
    body = wrapped({"NSE:INFY": {"instrument_token": 408065, "last_price": 1074.35}, "NSE:X": {"last_price": None}})
    assert codec.decode_last_prices(body) == {"NSE:INFY": Decimal("1074.35")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("0001-01-01 00:00:00", None),
        ("09:16:39", None),
        ("2026-11-20 00:00:00", datetime(2026, 11, 19, 18, 30, tzinfo=UTC)),
        ("2026-11-20T09:15:00+0530", datetime(2026, 11, 20, 3, 45, tzinfo=UTC)),
    ],
)
def test_moment_is_aware_utc(text, expected):
    assert codec.moment("f", text) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
rows = st.dictionaries(st.sampled_from([*ROW, "net", "day", "trade_id", "fill_timestamp", "user_id"]), json_values)


@pytest.mark.parametrize("decode", DECODERS)
@given(payload=st.one_of(st.lists(rows, max_size=3), rows, json_values), bare=st.booleans())
@example(payload=[{"order_timestamp": "9999-12-31 23:59:59"}], bare=False)
@example(payload={"net": [{"quantity": 1e308}], "day": []}, bare=False)
def test_decoders_arbitrary_json_gives_values_or_broker_unavailable(decode, payload, bare):
    body = json.dumps(payload).encode() if bare else wrapped(payload)
    try:
        decode(body)
    except BrokerUnavailable:
        return


@pytest.mark.parametrize("decode", DECODERS)
@given(body=st.binary(max_size=60))
def test_decoders_arbitrary_bytes_give_broker_unavailable(decode, body):
    try:
        decode(body)
    except BrokerUnavailable:
        return
    # a bare order is any JSON object; of the others the shortest that says something is prices of nothing
    content = json.loads(body)
    assert isinstance(content, dict)
    assert decode is codec.decode_order or content.get("data") == {}


def test_decode_orders_status_of_controls_is_made_storable():
    (order,) = codec.decode_orders(wrapped([{"order_id": "1", "status": "OPEN\x00"}]))
    assert order.raw_status == "OPEN\\u0000"


def test_decode_price_bounds_leaves_out_what_has_none():
    body = wrapped(
        {
            "NSE:INFY": {"last_price": 1450.5, "lower_circuit_limit": 1305.45, "upper_circuit_limit": 1595.55},
            "NSE:NIFTY 50": {"last_price": 24500, "lower_circuit_limit": 0, "upper_circuit_limit": 0},
            "NSE:X": {"last_price": 1},
        }
    )
    found = codec.decode_price_bounds(body)
    assert list(found) == ["NSE:INFY"]
    assert (found["NSE:INFY"].lowest, found["NSE:INFY"].highest) == (Decimal("1305.45"), Decimal("1595.55"))
