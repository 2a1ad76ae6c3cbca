"""Prices and the instrument master: fresh while the broker answers, the last good ones while it does not."""

from decimal import Decimal
from itertools import pairwise

import pytest
import trio

from engine.actors.instrument_master import InstrumentMaster
from engine.actors.prices import Prices
from engine.clock import SystemClock
from engine.errors import BrokerUnavailable, ConfigError
from tests.support.desk import make_instrument


class Quotes:
    def __init__(self):
        self.price = Decimal(100)
        self.error = None
        self.asked = []
        self.dump = [make_instrument("INFY", 1)]

    async def last_prices(self, keys):
        self.asked.append((trio.current_time(), list(keys)))
        await trio.sleep(0.05)
        if self.error is not None:
            raise self.error
        return {key: self.price for key in keys if key != "NSE:NONE"}

    async def instruments(self, exchange=None):
        await trio.sleep(0.05)
        if self.error is not None:
            raise self.error
        return self.dump


@pytest.fixture
def quotes():
    return Quotes()


@pytest.fixture
def any_broker(quotes):
    async def any_broker():
        if isinstance(quotes.error, ConfigError):
            raise quotes.error
        return quotes

    return any_broker


async def test_first_ask_waits_for_a_quote(quotes, any_broker, nursery, autojump_clock):
    prices = Prices(any_broker=any_broker)
    await nursery.start(prices.run)
    assert await prices.ensure("NSE:INFY") == Decimal(100)


async def test_quote_calls_are_at_least_a_second_apart(quotes, any_broker, nursery, autojump_clock):
    prices = Prices(any_broker=any_broker)
    await nursery.start(prices.run)
    for number in range(20):
        prices.watch(f"NSE:S{number}")
        await trio.sleep(0.3)
    times = [at for at, _ in quotes.asked]
    assert all(later - earlier > 1.0 for earlier, later in pairwise(times))


@pytest.mark.parametrize("error", [BrokerUnavailable("down"), ConfigError("odd token")])
async def test_broker_in_trouble_keeps_the_last_price_and_the_actor(quotes, any_broker, nursery, autojump_clock, error):
    prices = Prices(any_broker=any_broker)
    await nursery.start(prices.run)
    await prices.ensure("NSE:INFY")
    quotes.error = error
    await trio.sleep(10)
    assert prices.get("NSE:INFY") == Decimal(100)
    quotes.error, quotes.price = None, Decimal(110)
    await trio.sleep(5)
    assert prices.get("NSE:INFY") == Decimal(110)


async def test_key_without_a_price_gives_none_in_time(quotes, any_broker, nursery, autojump_clock):
    prices = Prices(any_broker=any_broker)
    await nursery.start(prices.run)
    with trio.fail_after(4):
        assert await prices.ensure("NSE:NONE") is None


async def test_price_that_is_not_kept_fresh_any_more_is_none(quotes, any_broker, nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr("engine.actors.prices._MAX_KEYS", 2)
    prices = Prices(any_broker=any_broker)
    await nursery.start(prices.run)
    for key in ("NSE:A", "NSE:B"):
        await prices.ensure(key)
    assert prices.get("NSE:A") == Decimal(100), "asked for again: B is the oldest now"
    await prices.ensure("NSE:C")
    assert prices.get("NSE:B") is None
    assert prices.get("NSE:A") == Decimal(100)


@pytest.fixture
def master(any_broker, monkeypatch):
    # a worker thread makes the book, so the clock is the real one here
    monkeypatch.setattr("engine.actors.instrument_master._RETRY_S", 0.005)
    return InstrumentMaster(any_broker=any_broker, clock=SystemClock())


@pytest.mark.parametrize("error", [BrokerUnavailable("down"), ConfigError("odd token")])
async def test_master_is_loaded_once_the_broker_answers(quotes, master, nursery, error):
    quotes.error = error
    await nursery.start(master.run)
    assert not await master.wait_loaded(timeout_s=0.2)
    quotes.error = None
    assert await master.wait_loaded(timeout_s=10)
    assert len(master.book) == 1


async def test_empty_master_is_not_taken(quotes, master, nursery):
    quotes.dump = []
    await nursery.start(master.run)
    assert not await master.wait_loaded(timeout_s=0.2)
    assert master.loaded_for is None


async def test_more_than_a_call_takes_is_asked_for_in_turns(quotes, any_broker, nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr("engine.actors.prices._KEYS_PER_CALL", 2)
    prices = Prices(any_broker=any_broker)
    keys = [f"NSE:S{number}" for number in range(5)]
    for key in keys:
        prices.watch(key)
    await nursery.start(prices.run)
    await trio.sleep(4)
    assert max(len(asked) for _, asked in quotes.asked) == 2
    assert {key for _, asked in quotes.asked[:3] for key in asked} == set(keys)


async def test_tick_answers_who_waits_and_is_not_undone_by_an_older_quote(quotes, any_broker, nursery, autojump_clock):
    told = []
    prices = Prices(any_broker=any_broker, changed=lambda key, price: told.append((key, price)))
    await nursery.start(prices.run)
    prices.watch("NSE:INFY")
    await trio.sleep(0.01)  # the quote call is under way, with the price of before
    prices.tick("NSE:INFY", Decimal(200))
    assert await prices.ensure("NSE:INFY") == Decimal(200)
    await trio.sleep(30)
    assert prices.get("NSE:INFY") == Decimal(200)
    assert told == [("NSE:INFY", Decimal(200))]
    assert len(quotes.asked) == 1
    prices.lost()
    await trio.sleep(3)
    assert prices.get("NSE:INFY") == Decimal(100)


async def test_tick_of_nothing_or_of_what_nobody_watches_is_no_price(any_broker, autojump_clock):
    prices = Prices(any_broker=any_broker)
    prices.tick("NSE:INFY", Decimal(5))
    prices.watch("NSE:INFY")
    prices.tick("NSE:INFY", Decimal(0))
    assert prices.get("NSE:INFY") is None
    assert prices.polled_count == 1
