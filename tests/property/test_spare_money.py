"""What `SpareMoney` calls surely there is there, wherever within the circuit limits the prices stand."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.exchange.instruments import build_master
from engine.exchange.margin import funds_of
from engine.exchange.market import circuit_limits
from engine.exchange.orders import Lane, Trade
from engine.exchange.portfolio import Portfolio
from engine.exchange.spare_money import SpareMoney

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
MASTER = build_master(date(2026, 11, 23))
KEYS = ("NSE:INFY", "NSE:SBIN", "NSE:TCS", "NSE:GONE")
CAPITAL = Decimal(1_000_000)

trades = st.tuples(
    st.sampled_from(KEYS), st.sampled_from(["MIS", "CNC"]), st.sampled_from(["BUY", "SELL"]), st.integers(1, 500)
)
# how far up between its limits each price stands
prices = st.fixed_dictionaries({key: st.sampled_from([0, 100, 37]) for key in KEYS})
steps = st.lists(st.one_of(trades, st.just("next day"), prices), max_size=20)


def trade(key: str, product: str, side: str, quantity: int, at: datetime) -> Trade:
    exchange, _, symbol = key.partition(":")
    return Trade(
        trade_id="1",
        order_id="1",
        user_id="AB1234",
        exchange=exchange,
        tradingsymbol=symbol,
        instrument_token=1,
        product=product,
        transaction_type=side,
        quantity=quantity,
        price=Decimal("1234.55"),
        multiplier=Decimal(1),
        exchange_order_id="1",
        order_timestamp=at,
        at=at,
    )


@given(steps, st.sampled_from([Decimal(0), Decimal(5000)]))
def test_nothing_is_sure_that_some_price_could_take_away(wanted: list[Any], blocked: Decimal) -> None:
    portfolio, spare, at = Portfolio(), SpareMoney(), NOW
    lanes = {("NSE:INFY", "MIS", 1): Lane(7, blocked)} if blocked else {}
    for step in wanted:
        if step == "next day":
            at += timedelta(days=1)
            portfolio.roll_to(at.date())
        elif isinstance(step, tuple):
            portfolio.apply(trade(*step, at))
        else:

            def price(key: str, shares: dict[str, int] = step) -> Decimal:
                lower, upper = circuit_limits(MASTER.by_key[key])
                return lower + (upper - lower) * shares[key] / 100

            there = funds_of(CAPITAL, portfolio, lanes, MASTER.by_key.get, price).net
            assert not spare.surely_covers(there + Decimal("0.01"), CAPITAL, portfolio, lanes, MASTER)


def test_without_positions_and_orders_all_the_capital_is_sure() -> None:
    portfolio = Portfolio()
    assert SpareMoney().surely_covers(CAPITAL - Decimal("0.01"), CAPITAL, portfolio, {}, MASTER)
    assert not SpareMoney().surely_covers(CAPITAL + 1, CAPITAL, portfolio, {}, MASTER)
