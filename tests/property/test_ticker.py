"""The ticker's decoder against the official one and against arbitrary bytes; pushes in any order."""

import json
import warnings
from datetime import datetime
from decimal import Decimal
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.broker.kite.ticker_frames import Mode, Tick, decode_frame, decode_text, subscription_texts
from engine.domain.enums import OrderStatus
from engine.domain.order import OrderReport
from engine.domain.push import Push, PushFold
from engine.errors import BrokerUnavailable
from tests.support.trade import NOW

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kiteconnect import KiteTicker

OFFICIAL = KiteTicker("key", "token")
WORD = st.integers(0, 2**32 - 1)
# 0 is "never" to us and 1970 to the official parser, which reads times in the machine's zone
SECONDS = st.integers(1, 2**31 - 1)
SEGMENTS = st.integers(0, 12)
TOKENS = st.builds(lambda high, segment: high * 256 + segment, st.integers(0, 2**24 - 1), SEGMENTS)
LEVEL = st.builds(lambda units, price, orders: pack(">2IH2x", units, price, orders), WORD, WORD, st.integers(0, 65535))


def words(count: int) -> st.SearchStrategy[bytes]:
    return st.lists(WORD, min_size=count, max_size=count).map(lambda found: pack(f">{count}I", *found))


def packet(body: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(lambda token, rest: pack(">I", token) + rest, TOKENS, body)


SECOND = SECONDS.map(lambda at: pack(">I", at))
PACKETS = st.one_of(
    packet(words(1)),
    packet(words(6)),
    packet(st.builds(lambda head, at: head + at, words(6), SECOND)),
    packet(words(10)),
    packet(
        st.builds(
            lambda head, traded, oi, at, levels: head + traded + oi + at + b"".join(levels),
            words(10),
            SECOND,
            words(3),
            SECOND,
            st.lists(LEVEL, min_size=10, max_size=10),
        )
    ),
    # the official parser falls over a packet that is shorter than a token
    st.binary(min_size=4, max_size=7),
)
FRAMES = st.lists(PACKETS, max_size=5).map(
    lambda packets: pack(">H", len(packets)) + b"".join(pack(">H", len(found)) + found for found in packets)
)


def same(ours: Decimal | int | None, theirs: float) -> None:
    """Compare an exact figure with the float that the official parser makes of the same digits."""
    if isinstance(ours, Decimal):
        assert float(ours) == pytest.approx(theirs, rel=1e-15, abs=0)
    else:
        assert ours == theirs


def compare(ours: Tick, theirs: dict) -> None:
    assert ours.token == theirs["instrument_token"]
    assert ours.is_tradable == theirs["tradable"]
    assert ours.mode.value == theirs["mode"]
    figures = {
        "last_price": ours.last_price,
        "last_traded_quantity": ours.last_quantity,
        "average_traded_price": ours.average_price,
        "volume_traded": ours.volume,
        "total_buy_quantity": ours.buy_quantity,
        "total_sell_quantity": ours.sell_quantity,
        "oi": ours.oi,
        "oi_day_high": ours.oi_day_high,
        "oi_day_low": ours.oi_day_low,
    }
    for name, value in figures.items():
        assert (name in theirs) == (value is not None), name
        if name in theirs:
            same(value, theirs[name])
    if "ohlc" in theirs:
        day = {"open": ours.open, "high": ours.high, "low": ours.low, "close": ours.close}
        for name, price in day.items():
            same(price, theirs["ohlc"][name])
    for name, at in (("last_trade_time", ours.last_trade_at), ("exchange_timestamp", ours.exchange_at)):
        assert (name in theirs) == (at is not None), name
        if at is not None:
            assert at.tzinfo is not None
            assert at == datetime.fromtimestamp(theirs[name].timestamp(), at.tzinfo)
    depth = theirs.get("depth", {"buy": [], "sell": []})
    for side, levels in (("buy", ours.bids), ("sell", ours.asks)):
        assert len(levels) == len(depth[side])
        for level, expected in zip(levels, depth[side], strict=True):
            assert (level.quantity, level.orders) == (expected["quantity"], expected["orders"])
            same(level.price, expected["price"])


@given(FRAMES)
def test_decoder_reads_what_the_official_one_reads(frame: bytes) -> None:
    theirs = OFFICIAL._parse_binary(frame) if len(frame) > 2 else []
    ours = decode_frame(frame)
    assert len(ours) == len(theirs)
    for tick, expected in zip(ours, theirs, strict=True):
        compare(tick, expected)


@given(st.one_of(st.binary(max_size=400), st.builds(lambda frame, cut: frame[:cut], FRAMES, st.integers(0, 400))))
def test_arbitrary_bytes_are_ticks_or_one_typed_error(frame: bytes) -> None:
    try:
        ticks = decode_frame(frame)
    except BrokerUnavailable:
        return
    assert all(tick.last_price >= 0 and 0 <= tick.token < 2**32 for tick in ticks)


ORDER_KEYS = st.sampled_from(
    ["type", "data", "order_id", "status", "filled_quantity", "quantity", "average_price", "tags", "order_timestamp"]
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ORDER_KEYS, inner, max_size=4),
    max_leaves=8,
)


@given(
    st.one_of(
        st.binary(max_size=100),
        st.text(max_size=100),
        st.builds(
            lambda kind, data: f'{{"type":"{kind}","data":{json.dumps(data)}}}',
            st.sampled_from(["order", "error", "message", "other"]),
            JSON,
        ),
    )
)
def test_arbitrary_text_is_a_message_or_one_typed_error(text: str | bytes) -> None:
    try:
        decode_text(text)
    except BrokerUnavailable:
        pass


MODES = st.dictionaries(st.integers(0, 30), st.sampled_from(Mode), max_size=20)


@given(MODES, MODES)
def test_texts_lead_from_any_subscription_to_any_other(before: dict[int, Mode], after: dict[int, Mode]) -> None:
    held = dict(before)
    for text in subscription_texts(before, after):
        asked = json.loads(text)
        if asked["a"] == "subscribe":
            held.update(dict.fromkeys(asked["v"], Mode.QUOTE))
        elif asked["a"] == "unsubscribe":
            held = {token: mode for token, mode in held.items() if token not in asked["v"]}
        else:
            held.update(dict.fromkeys(asked["v"][1], Mode(asked["v"][0])))
    assert held == after


# pushes

ENDS = (OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.COMPLETE)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[OrderReport, datetime]]:
    """Draw what a broker tells of one order in its true sequence."""
    filled, told = 0, []
    for second in range(draw(st.integers(1, 8))):
        filled += draw(st.integers(0, 3))
        told.append((report(OrderStatus.OPEN, filled), moment(second)))
    if draw(st.booleans()):
        told.append((report(draw(st.sampled_from(ENDS)), filled), moment(20)))
    return told


def report(status: OrderStatus, filled: int) -> OrderReport:
    return OrderReport(broker_order_id="1", status=status, filled_quantity=filled, average_price=Decimal(1))


def moment(second: int) -> datetime:
    return NOW.replace(second=second)


@given(histories(), st.data())
def test_pushes_in_any_order_and_any_number_end_the_same(
    history: list[tuple[OrderReport, datetime]], data: st.DataObject
) -> None:
    straight, shuffled = PushFold(), PushFold()
    for told, at in history:
        straight.take(told, at)
    repeated = data.draw(st.permutations([*history, *data.draw(st.lists(st.sampled_from(history), max_size=5))]))
    seen: list[Push] = []
    for told, at in repeated:
        before = shuffled.get("1")
        push = shuffled.take(told, at)
        after = shuffled.get("1")
        seen.append(push)
        assert after is not None
        if before is not None:
            assert after.filled_quantity >= before.filled_quantity
            assert not (before.status.is_terminal and after.status is not before.status)
            if after.filled_quantity > before.filled_quantity:
                assert push is Push.NEWS, "a fill is never missed"
            if after.status.is_terminal and not before.status.is_terminal:
                assert push is Push.NEWS, "an end is never missed"
    final, expected = shuffled.get("1"), straight.get("1")
    assert final is not None
    assert expected is not None
    assert final.filled_quantity == expected.filled_quantity
    assert final.status.is_terminal == expected.status.is_terminal
    assert seen[0] is Push.NEWS


@given(histories())
def test_the_same_push_again_is_an_echo(history: list[tuple[OrderReport, datetime]]) -> None:
    fold = PushFold()
    for told, at in history:
        fold.take(told, at)
        assert fold.take(told, at) is Push.ECHO
