"""What the market and the ids keep for speed never shows: a kept value is the one that would be computed anew."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import trading_day
from engine.exchange import ids
from engine.exchange.instruments import build_master
from engine.exchange.market import Market, circuit_limits

START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
MASTER = build_master(trading_day(START))
KEPT = Market(5)

instruments = st.sampled_from(sorted(MASTER.by_key)).map(MASTER.by_key.__getitem__)
moments = st.timedeltas(timedelta(0), timedelta(days=1)).map(lambda passed: START + passed)


@given(st.lists(st.tuples(instruments, st.sampled_from([START, START + timedelta(seconds=40)]) | moments), max_size=30))
def test_last_price_does_not_depend_on_what_was_asked_before(asked) -> None:
    for instrument, moment in asked:
        assert KEPT.last_price(instrument, moment) == Market(5).last_price(instrument, moment)


def test_another_master_at_the_same_instant_has_prices_of_its_own() -> None:
    infy = MASTER.by_key["NSE:INFY"]
    dearer = msgspec.structs.replace(infy, last_price=infy.last_price * 2)
    market = Market(5)
    assert market.last_price(dearer, START) > market.last_price(infy, START) * Decimal("1.5")


def test_circuit_limits_have_the_decimals_of_the_tick_whoever_asked_first() -> None:
    infy = MASTER.by_key["NSE:INFY"]
    for tick in ("0.1", "0.10", "0.100"):
        lower, upper = circuit_limits(msgspec.structs.replace(infy, tick_size=Decimal(tick)))
        places = -Decimal(tick).as_tuple().exponent
        assert [-limit.as_tuple().exponent for limit in (lower, upper)] == [places, places]


@given(st.lists(moments, max_size=5))
def test_exchange_order_ids_carry_the_ist_date_of_their_instant(instants) -> None:
    for number, instant in enumerate(instants):
        assert ids.exchange_order_id(number, instant) == f"1{trading_day(instant):%y%m%d}{number:09d}"
