"""The price process: deterministic, on the tick, inside the circuit limits, calm where promised."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from engine.exchange.instruments import build_master
from engine.exchange.market import Market, circuit_limits

DAY = date(2026, 11, 23)
START = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)
MASTER = build_master(DAY)


def test_market_same_seed_and_time_gives_same_prices() -> None:
    first, second = Market(7), Market(7)
    for instrument in MASTER.by_key.values():
        moment = START + timedelta(hours=5, seconds=instrument.token % 97)
        assert first.last_price(instrument, moment) == second.last_price(instrument, moment)
        assert first.quote(instrument, moment) == second.quote(instrument, moment)


def test_market_other_seed_gives_other_prices() -> None:
    one, other = Market(1), Market(2)
    differing = [key for key, i in MASTER.by_key.items() if one.last_price(i, START) != other.last_price(i, START)]
    assert len(differing) > len(MASTER.by_key) // 2


def test_market_price_is_a_multiple_of_the_tick_within_the_circuit() -> None:
    market = Market(3)
    for instrument in MASTER.by_key.values():
        lower, upper = circuit_limits(instrument)
        for hour in range(0, 24, 3):
            price = market.last_price(instrument, START + timedelta(hours=hour, seconds=hour * 7))
            assert lower <= price <= upper
            assert price % (instrument.tick_size or Decimal("0.05")) == 0


@pytest.mark.parametrize("symbol", ["INFY", "SBIN"])
def test_market_calm_symbols_move_little_in_a_minute(symbol: str) -> None:
    instrument = MASTER.by_key[f"NSE:{symbol}"]
    for seed in (1, 2, 3):
        market = Market(seed)
        for minute in range(0, 1440, 13):
            begin = START + timedelta(minutes=minute)
            prices = [market.last_price(instrument, begin + timedelta(seconds=s)) for s in range(0, 61, 5)]
            assert max(prices) - min(prices) <= instrument.last_price * Decimal("0.0004")


def test_market_moves_within_minutes() -> None:
    instrument = MASTER.by_key["NSE:RELIANCE"]
    market = Market(1)
    prices = {market.last_price(instrument, START + timedelta(seconds=10 * n)) for n in range(60)}
    assert len(prices) > 5


def test_market_pinned_price_stays_until_released() -> None:
    instrument, market = MASTER.by_key["NSE:SBIN"], Market(1)
    free = market.last_price(instrument, START)
    market.pin("NSE:SBIN", Decimal("800.05"))
    assert market.last_price(instrument, START + timedelta(hours=3)) == Decimal("800.05")
    market.pin("NSE:SBIN", None)
    assert market.last_price(instrument, START) == free


def test_quote_high_and_low_enclose_what_was_seen_and_reset_at_midnight() -> None:
    instrument, market = MASTER.by_key["NSE:SBIN"], Market(1)
    noon = START + timedelta(hours=12)
    market.pin("NSE:SBIN", Decimal("850.00"))
    market.quote(instrument, noon)
    market.pin("NSE:SBIN", Decimal("790.00"))
    market.quote(instrument, noon)
    market.pin("NSE:SBIN", None)
    later = market.quote(instrument, noon + timedelta(hours=1))
    assert (later.high, later.low) == (Decimal("850.00"), Decimal("790.00"))
    tomorrow = market.quote(instrument, noon + timedelta(days=1))
    assert tomorrow.high < Decimal("850.00")
    assert tomorrow.low > Decimal("790.00")


def test_circuit_limits_are_ten_or_twenty_percent_of_the_close() -> None:
    assert circuit_limits(MASTER.by_key["NSE:INFY"]) == (Decimal("1305.0"), Decimal("1595.0"))
    assert circuit_limits(MASTER.by_key["NSE:YESBANK"]) == (Decimal("17.68"), Decimal("26.52"))
