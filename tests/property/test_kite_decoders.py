"""Every decoder of what the broker sends, on damaged answers: a value or one typed error, never anything else."""

import csv
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.actors.external_orders import external_order
from engine.broker.kite import codec
from engine.broker.kite.forms import checked_trigger_id
from engine.broker.kite.instruments import parse_instruments
from engine.broker.kite.postback import parse_postback
from engine.broker.kite.ticker_frames import decode_frame, decode_text
from engine.broker.values import BrokerOrder, BrokerPositions, BrokerTrade
from engine.domain.gtt import BrokerGtt
from engine.errors import BrokerUnavailable
from tests.support import kite_answers as answers
from tests.support.maimed import damaged, maimed_bytes
from tests.support.trade import NOW

ACCOUNT = UUID(int=1)


def trades(body: bytes) -> list[BrokerTrade]:
    return codec.decode_trades(body, NOW)


DECODERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "orders": (codec.decode_orders, answers.ORDERS),
    "history": (codec.decode_orders, answers.success([answers.ORDER] * 3)),
    "push": (codec.decode_order, msgspec.json.encode(answers.ORDER)),
    "trades": (trades, answers.TRADES),
    "positions": (codec.decode_positions, answers.POSITIONS),
    "holdings": (codec.decode_holdings, answers.HOLDINGS),
    "last prices": (codec.decode_last_prices, answers.success(answers.LAST_PRICES)),
    "margins": (codec.decode_margins, answers.MARGINS),
    "profile": (codec.decode_profile, answers.success(answers.PROFILE)),
    "gtts": (codec.decode_gtts, answers.GTTS),
    "postback": (parse_postback, msgspec.json.encode(answers.POSTBACK)),
    "ticker text": (decode_text, answers.PUSH),
}


def use(value: Any) -> None:
    """Do with a decoded *value* what the engine does: translations may refuse it, typed, and it can be written down."""
    if isinstance(value, list):
        for one in value:
            use(one)
    elif isinstance(value, BrokerOrder):
        value.as_report()
        value.has_tag("T00AB1")
        typed(external_order, value, account_id=ACCOUNT, user_id=ACCOUNT, epoch=1, day=date(2026, 11, 20), now=NOW)
    elif isinstance(value, BrokerGtt):
        # ids go into paths and into the ledger
        assert checked_trigger_id(value.trigger_id) == value.trigger_id
        assert all(order.order_id.isprintable() for order in value.orders)
    elif isinstance(value, BrokerTrade):
        typed(value.as_fill, order_id=ACCOUNT, account_id=ACCOUNT)
    elif isinstance(value, BrokerPositions):
        for row in (*value.net, *value.day):
            typed(row.as_position, account_id=ACCOUNT)
    msgspec.json.encode(value)
    check(value)


def typed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    try:
        function(*args, **kwargs)
    except BrokerUnavailable:
        return


def check(value: Any) -> None:
    """Every number is finite and of a size that arithmetic stands, every time is aware."""
    if isinstance(value, Decimal):
        assert value.is_finite()
        assert abs(value) < Decimal(10) ** 16
    elif isinstance(value, datetime):
        assert value.tzinfo is UTC
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            check(getattr(value, field))
    elif isinstance(value, (list, tuple)):
        for one in value:
            check(one)


@pytest.mark.parametrize("name", DECODERS)
def test_whole_answer_is_read(name):
    decode, body = DECODERS[name]
    use(decode(body))


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=120)
@given(data=st.data())
def test_damaged_answer_is_values_or_one_typed_error(name, data):
    decode, body = DECODERS[name]
    try:
        value = decode(data.draw(damaged(body)))
    except BrokerUnavailable:
        return
    use(value)


@settings(max_examples=150)
@given(dump=damaged(answers.INSTRUMENTS, is_json=False))
def test_damaged_dump_is_instruments_or_one_typed_error(dump):
    try:
        found = parse_instruments(dump)
    except BrokerUnavailable:
        return
    check(found)
    assert all(row.is_tradable or row.segment == "INDICES" for row in found)


@settings(max_examples=100)
@given(
    column=st.integers(0, 11),
    cell=st.one_of(
        st.sampled_from(["", "NaN", "Infinity", "-1", "1e400", "0x10", "\u0661", "2026-13-01", "9" * 30, " 1 ", "1_0"]),
        st.text(max_size=12),
    ),
)
def test_dump_with_one_odd_cell_is_instruments_or_one_typed_error(column, cell):
    rows = list(csv.reader(answers.INSTRUMENTS.decode().splitlines()))
    rows[2][column] = cell.replace("\x00", "")
    text = "\n".join(",".join(f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row) for row in rows)
    try:
        found = parse_instruments(text.encode("utf-8", "surrogatepass"))
    except BrokerUnavailable:
        return
    check(found)


@settings(max_examples=200)
@given(frame=st.one_of(st.binary(max_size=400), maimed_bytes(answers.FRAME)))
def test_damaged_frame_is_ticks_or_one_typed_error(frame):
    try:
        ticks = decode_frame(frame)
    except BrokerUnavailable:
        return
    check(ticks)


@settings(max_examples=100)
@given(text=st.one_of(st.text(max_size=60), st.text(max_size=60).map(lambda data: f'{{"type":"error","data":{data}}}')))
def test_arbitrary_text_is_a_notice_an_order_or_one_typed_error(text):
    try:
        decode_text(text)
    except BrokerUnavailable:
        return
