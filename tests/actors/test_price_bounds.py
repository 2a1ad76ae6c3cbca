"""Circuit limits from quotes: between price calls, forgotten when old, and never in a price's way."""

from decimal import Decimal
from itertools import pairwise

import msgspec
import trio

from engine.actors.intake import Passage
from engine.actors.prices import Prices
from engine.domain.enums import IntentStatus
from engine.domain.live_units import NO_BOUNDS, Bounds
from engine.errors import BrokerUnavailable
from tests.support.desk import World, a_delivery, running

DAY = Bounds(lowest=Decimal(90), highest=Decimal(99))


class Quotes:
    def __init__(self):
        self.calls = []
        self.error = None

    async def last_prices(self, keys):
        self.calls.append(("price", trio.current_time()))
        return dict.fromkeys(keys, Decimal(95))

    async def price_bounds(self, keys):
        self.calls.append(("bounds", trio.current_time()))
        if self.error is not None:
            raise self.error
        return dict.fromkeys(keys, DAY)


def prices_of(quotes):
    async def any_broker():
        return quotes

    return Prices(any_broker=any_broker, bounds_of=lambda broker, keys: broker.price_bounds(keys))


async def test_bounds_are_asked_for_once_a_minute_and_no_two_calls_within_a_second(nursery, autojump_clock):
    quotes = Quotes()
    prices = prices_of(quotes)
    await nursery.start(prices.run)
    assert await prices.ensure("NSE:INFY") == 95
    await trio.sleep(2)
    assert prices.bounds("NSE:INFY") == DAY
    await trio.sleep(180)
    assert 3 <= sum(kind == "bounds" for kind, _ in quotes.calls) <= 4
    times = [at for _, at in quotes.calls]
    assert all(later - earlier > 1 for earlier, later in pairwise(times))


async def test_bounds_that_nobody_confirms_are_not_known_any_more_and_prices_go_on(nursery, autojump_clock):
    quotes = Quotes()
    prices = prices_of(quotes)
    await nursery.start(prices.run)
    await prices.ensure("NSE:INFY")
    await trio.sleep(2)
    quotes.error = BrokerUnavailable("no")
    await trio.sleep(200)
    assert prices.bounds("NSE:INFY") == NO_BOUNDS
    assert quotes.calls[-1][1] > trio.current_time() - 5


async def test_bounds_of_what_a_ticker_keeps_are_asked_for_too(nursery, autojump_clock):
    quotes = Quotes()
    prices = prices_of(quotes)
    await nursery.start(prices.run)
    prices.watch("NSE:INFY")
    prices.tick("NSE:INFY", Decimal(95))
    await trio.sleep(70)
    assert prices.bounds("NSE:INFY") == DAY


async def test_order_outside_is_refused_and_without_bounds_the_broker_judges(autojump_clock):
    world = World()
    world.risk_context = msgspec.structs.replace(
        world.risk_context, bounds=lambda key: DAY if key == "NSE:INFY" else NO_BOUNDS
    )
    async with running(world):
        passage = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(passage)
        await passage.wait_settled()
        (intent,) = passage.intents.values()
        assert intent.status is IntentStatus.REJECTED
        assert intent.reason == "CIRCUIT_LIMIT: 100.00 is outside the circuit limits, 90.00 to 99.00"
