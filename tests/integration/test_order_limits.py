"""Against the exchange's own limiter, by its calendar seconds: full speed without a 429, exits first."""

from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
import trio

from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.read_pacer import ReadPacer
from engine.clock import SystemClock
from engine.domain.enums import OrderStatus, TransactionType
from engine.exchange.config import Limits
from engine.exchange.events import OrderRequested
from tests.support.desk import World, running
from tests.support.exchange import running_exchange

S = OrderStatus
HELD = {"INFY": "1450", "SBIN": "815", "ITC": "465"}
OTHERS = ("TCS", "HDFCBANK", "ICICIBANK", "LT", "AXISBANK", "WIPRO", "NTPC", "TITAN", "MARUTI", "RELIANCE")


class CountingPacer(ReadPacer):
    """Notes every 429 that a read got."""

    def __init__(self):
        super().__init__()
        self.refused = []

    def limited(self, path):
        self.refused.append(path)
        super().limited(path)


@asynccontextmanager
async def trading(tmp_path, limits, **pace):
    async with running_exchange(tmp_path, limits=limits, capital=Decimal(10**10)) as exchange:
        world, pacer = World(**pace), CountingPacer()
        world.clock = SystemClock()

        async def open_broker(_account_id):
            token = await exchange.login()
            return KiteBroker(exchange.base_url, exchange.api_key, token, SystemClock(), read_pacer=pacer)

        world.context = msgspec.structs.replace(world.context, clock=world.clock, open_broker=open_broker)
        async with running(world):
            yield world, exchange
        assert not pacer.refused, "reads keep to their limits too"


def requests(exchange):
    return [event for event in exchange.record() if isinstance(event, OrderRequested)]


async def hold(world):
    """Buy what exits are for."""
    for symbol, price in HELD.items():
        order = world.order(symbol, price=Decimal(price) + 20, quantity=10)
        world.submit(order)
        await world.until_status(order, S.COMPLETE, timeout_s=15)


async def test_three_hundred_orders_at_full_speed_never_get_a_429_and_exits_go_first(tmp_path):
    # Kite's own figures but for the second's, so that it takes seconds and not a minute
    async with trading(tmp_path, Limits(orders_per_second=60), orders_per_second=60) as (world, exchange):
        await hold(world)
        entries = [world.order(OTHERS[n % len(OTHERS)], price=Decimal("100.00"), quantity=n + 1) for n in range(294)]
        for order in entries:
            world.submit(order)
        await world.until(lambda: len(requests(exchange)) >= 100, timeout_s=10)
        outs = [
            world.order(symbol, transaction_type=TransactionType.SELL, price=Decimal(price) - 20, quantity=10)
            for symbol, price in HELD.items()
        ]
        behind = len(requests(exchange))
        for order in outs:
            world.submit(order)
        for order in outs:
            await world.until_status(order, S.COMPLETE, timeout_s=5)
        for order in entries:
            await world.until(lambda o=order: world.status(o) is not S.PENDING, timeout_s=20)
        await world.until(lambda: world.executor.in_flight == 0, timeout_s=10)
        made = requests(exchange)
        assert len(made) == 300
        assert {event.http_status for event in made} <= {200, 400}, "a price may be out of range, a rate never"
        last = max(n for n, event in enumerate(made) if event.params["transaction_type"] == "SELL")
        # in the call or two after they came, though some two hundred entries were waiting
        assert last < behind + 70
        by_symbol = {}
        for event in made[3:]:
            if event.params["transaction_type"] == "BUY":
                by_symbol.setdefault(event.params["tradingsymbol"], []).append(int(event.params["quantity"]))
        assert all(quantities == sorted(quantities) for quantities in by_symbol.values()), "accepted order was kept"


async def test_kites_own_second_holds_for_orders_and_cancels_together(tmp_path):
    async with trading(tmp_path, Limits()) as (world, exchange):
        orders = [world.order(symbol, price=Decimal(1), quantity=1) for symbol in (*HELD, *OTHERS)]
        for order in orders:
            price = Decimal(HELD.get(order.symbol, "100"))
            order = msgspec.structs.replace(order, price=price * Decimal("0.98") // 1)
            world.submit(order)
        await world.until(lambda: len(requests(exchange)) == 13, timeout_s=10)
        working = [order for order in orders[:3] if await is_open(world, order)]
        assert len(working) == 3
        async with trio.open_nursery() as nursery:
            for order in working:
                nursery.start_soon(lambda o=order: world.executor.cancel(o.id, by="me"))
        made = requests(exchange)
        assert [event.action for event in made].count("cancel") == 3
        assert 429 not in {event.http_status for event in made}


async def is_open(world, order):
    await world.until_status(order, S.OPEN, timeout_s=10)
    return True
