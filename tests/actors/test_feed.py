"""Feeds: pushes wake executors and are never data, idle accounts cost no connection, an outage is told once."""

import random
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import trio

from engine.actors.feed import Feed, FeedContext, PriceBuffer
from engine.actors.feeds import Feeds
from engine.actors.market_data import MarketData
from engine.actors.prices import Prices
from engine.broker.kite.ticker import TickerLost, Ticket
from engine.broker.kite.ticker_frames import Mode, Tick
from engine.broker.values import BrokerOrder
from engine.domain.enums import OrderStatus
from engine.errors import BrokerUnavailable
from tests.support.desk import BOOK, World, running
from tests.support.trade import ACCOUNT

S = OrderStatus


class Pool:
    """The ticker, as a test wants it to be."""

    made: list["Pool"] = []

    def __init__(self, ticket, sink, *, rng):
        self.sink = sink
        self.is_open = False
        self.connects = 0
        self.wanted = {}
        Pool.made.append(self)

    def want(self, tokens):
        self.wanted = dict(tokens)
        return 0

    async def run(self):
        await trio.sleep_forever()

    def open(self):
        self.is_open = True
        self.connects += 1
        self.sink.opened(self)

    def lose(self, why="gone"):
        self.is_open = False
        self.sink.lost(self, TickerLost(why))


class Quotes:
    def __init__(self):
        self.asked = []

    async def last_prices(self, keys):
        self.asked.append(list(keys))
        return dict.fromkeys(keys, Decimal(90))


class Rig:
    """A world with feeds on it."""

    def __init__(self, world):
        self.world = world
        self.tickets = dict.fromkeys(world.brokers, Ticket(url="ws://127.0.0.1:1", api_key="k", access_token="t"))
        self.quotes = Quotes()
        self.prices = Prices(any_broker=self._broker, changed=lambda key, price: self.market.changed(key, price))
        self.market = MarketData(self.prices, book=lambda: BOOK, listener=lambda user: world.crew.risk_actors.get(user))
        self.feeds = Feeds(
            crew=world.crew,
            directory=world.directory,
            clock=world.clock,
            market=self.market,
            broker="paper",
            ticket=self.tickets.get,
            alert=lambda subject, text: world.alerts.append((subject, text)),
            rng=random.Random(1),
        )

    async def _broker(self):
        return self.quotes

    async def start(self, nursery):
        await nursery.start(self.feeds.supervisor.run)
        await nursery.start(self.feeds.run)
        await nursery.start(self.prices.run)

    @property
    def pool(self):
        return Pool.made[-1]

    def alerts(self):
        return [text for subject, text in self.world.alerts if subject == f"account:{ACCOUNT}"]


@pytest.fixture
async def world(autojump_clock, monkeypatch):
    monkeypatch.setattr("engine.actors.feed.TickerPool", Pool)
    Pool.made.clear()
    return World()


@pytest.fixture
async def rig(world, nursery):
    rig = Rig(world)
    async with running(world):
        await rig.start(nursery)
        yield rig
        nursery.cancel_scope.cancel()


async def connected(rig, **fields):
    """Have an open order, and the feed that comes with it."""
    order = rig.world.order(**fields)
    rig.world.submit(order)
    await rig.world.until_status(order, S.OPEN)
    await rig.world.until(lambda: bool(Pool.made))
    rig.pool.open()
    await trio.sleep(30)
    return order, rig.world.row(order).broker_order_id


def push(broker_id, status=S.OPEN, filled=0, **fields):
    return BrokerOrder(
        broker_order_id=broker_id, status=status, raw_status=status.value, filled_quantity=filled, **fields
    )


async def quiet(world):
    """Wait for the moment after a read: the next that nobody asks for is a second away."""
    reads = world.broker.reads
    await world.until(lambda: world.broker.reads > reads)


async def reads_soon(world, act, *, within_s=0.7):
    await quiet(world)
    reads = world.broker.reads
    await act()
    await trio.sleep(within_s)
    return world.broker.reads - reads


async def test_push_has_the_order_book_read_at_once(rig, autojump_clock):
    _, broker_id = await connected(rig)
    world = rig.world

    async def nothing():
        pass

    assert await reads_soon(world, nothing) == 0, "only a poll would come, later"
    assert await reads_soon(world, lambda: rig.pool.sink.order(push(broker_id, filled=3))) >= 1


async def test_repeated_push_is_no_reason_to_read(rig, autojump_clock):
    _, broker_id = await connected(rig)
    await rig.pool.sink.order(push(broker_id, filled=3))
    await trio.sleep(10)
    again = [await reads_soon(rig.world, lambda: rig.pool.sink.order(push(broker_id, filled=3))) for _ in range(3)]
    # a pass of the reconciler may fall into one of them
    assert 0 in again


async def test_push_is_never_believed(rig, autojump_clock):
    order, broker_id = await connected(rig)
    for lie in (push(broker_id, S.COMPLETE, filled=999), push(broker_id, S.CANCELLED), push(broker_id, S.REJECTED)):
        await rig.pool.sink.order(lie)
    await trio.sleep(20)
    assert rig.world.status(order) is S.OPEN
    assert rig.world.row(order).filled_quantity == 0
    assert rig.world.held() == 0
    rig.world.broker.fill(broker_id, 10, "100")
    await rig.world.until_status(order, S.COMPLETE)
    assert rig.world.held() == 10


async def test_push_of_an_order_of_somebody_else_has_it_adopted(rig, autojump_clock):
    await connected(rig)
    broker_id = rig.world.broker.by_hand("SBIN")
    await rig.pool.sink.order(push(broker_id))
    await rig.world.until(
        lambda: any(o.broker_order_id == broker_id for o in rig.world.store.orders.values()), timeout_s=5
    )


async def test_flood_of_pushes_costs_no_flood_of_reads(rig, autojump_clock):
    await connected(rig)
    await quiet(rig.world)
    reads, began = rig.world.broker.reads, trio.current_time()
    for number in range(500):
        await rig.pool.sink.order(push(f"9{number}"))
        await trio.sleep(0.01)
    took = trio.current_time() - began
    assert (rig.world.broker.reads - reads) / took < 5, "the broker allows ten of all kinds"


async def test_executor_looks_after_every_connect_and_every_loss(rig, autojump_clock):
    await connected(rig)

    async def lose():
        rig.pool.lose()

    async def again():
        rig.pool.open()

    async def garbled():
        rig.pool.sink.garbled(BrokerUnavailable("x"))

    assert await reads_soon(rig.world, lose) >= 1
    assert await reads_soon(rig.world, again) >= 1
    assert await reads_soon(rig.world, garbled) >= 1


# who has one


async def test_idle_account_has_no_connection_and_loses_it_with_its_business(rig, autojump_clock):
    await trio.sleep(20)
    assert rig.feeds.feeds == {}
    order, broker_id = await connected(rig)
    names = [child.name for child in rig.feeds.supervisor.snapshot().children]
    assert names == [f"feed:{ACCOUNT}"]
    rig.world.broker.change(broker_id, S.CANCELLED)
    await rig.world.until_status(order, S.CANCELLED)
    await trio.sleep(60)
    assert len(rig.feeds.feeds) == 1, "of today, until its end"
    rig.world.broker.rows.clear()
    rig.world.clock.step += timedelta(days=1).total_seconds()
    await rig.world.until(lambda: not rig.feeds.feeds, timeout_s=60)
    assert rig.feeds.supervisor.snapshot().children == ()


async def test_account_without_a_session_has_no_connection_until_there_is_one(rig, autojump_clock):
    ticket = rig.tickets.pop(ACCOUNT)
    order = rig.world.order()
    rig.world.submit(order)
    await rig.world.until_status(order, S.OPEN)
    await trio.sleep(20)
    assert rig.feeds.feeds == {}
    rig.tickets[ACCOUNT] = ticket
    await rig.world.until(lambda: bool(rig.feeds.feeds), timeout_s=5)


async def test_connections_are_capped_and_the_rest_is_named(autojump_clock, nursery, monkeypatch):
    monkeypatch.setattr("engine.actors.feed.TickerPool", Pool)
    monkeypatch.setattr("engine.actors.feeds.MAX_FEEDS", 2)
    world = World(accounts=4)
    rig = Rig(world)
    async with running(world):
        await rig.start(nursery)
        for account_id in list(world.brokers):
            world.crew.executor(account_id)
        orders = [world.order(account_id=account_id) for account_id in world.brokers]
        for order in orders:
            world.submit(order)
        for order in orders:
            await world.until_status(order, S.OPEN)
        await trio.sleep(5)
        state = rig.feeds.state()
        assert (len(rig.feeds.feeds), state.wanted, state.connected) == (2, 4, 0)
        assert any("2 accounts beyond" in reason for reason in state.reasons)
        nursery.cancel_scope.cancel()


async def test_feed_that_keeps_failing_rests_alone_and_comes_back(rig, autojump_clock, monkeypatch):
    broken = True

    async def run(self):
        if broken:
            raise RuntimeError("a fault of this program")
        await trio.sleep_forever()

    monkeypatch.setattr(Pool, "run", run)
    order = rig.world.order()
    rig.world.submit(order)
    await rig.world.until_status(order, S.OPEN)
    await rig.world.until(lambda: any("FEED_FAILED" in text for text in rig.alerts()))
    assert rig.world.trips == [], "the account goes on"
    broken = False
    await trio.sleep(700)
    (child,) = rig.feeds.supervisor.snapshot().children
    assert child.state == "RUNNING"


# outages


async def test_outage_is_told_once_and_the_next_one_again(rig, autojump_clock):
    await connected(rig)
    rig.pool.lose("nobody listens")
    await trio.sleep(10)
    assert rig.alerts() == [], "it may just be back"
    for _ in range(20):
        rig.pool.lose("nobody listens")
        await trio.sleep(30)
    assert len(rig.alerts()) == 1
    assert "nobody listens" in rig.alerts()[0]
    assert rig.feeds.state().reasons == ("nobody listens",)
    for _ in range(5):
        rig.pool.open()
        await trio.sleep(5)
        rig.pool.lose()
        await trio.sleep(30)
    assert len(rig.alerts()) == 1, "one that flaps is one outage"
    rig.pool.open()
    await trio.sleep(90)
    assert rig.feeds.state().reasons == ()
    rig.pool.lose()
    await trio.sleep(30)
    assert len(rig.alerts()) == 2


async def test_missing_session_is_no_outage(rig, autojump_clock):
    await connected(rig)
    del rig.tickets[ACCOUNT]
    rig.pool.lose("403")
    await trio.sleep(120)
    assert rig.alerts() == []
    assert rig.feeds.state().reasons == ()


# prices


def tick(token, price):
    return Tick(token=token, mode=Mode.LTP, is_tradable=True, last_price=Decimal(price))


async def test_prices_of_what_is_held_come_from_the_ticker_and_reach_risk(rig, autojump_clock):
    _, broker_id = await connected(rig, quantity=10)
    rig.world.broker.fill(broker_id, 10, "100")
    await rig.world.until(lambda: rig.world.held() == 10)
    risk = rig.world.crew.risk(rig.world.executor.user_id)
    await trio.sleep(5)
    token = next(row.token for row in BOOK if row.symbol == "INFY")
    assert rig.pool.wanted == {token: Mode.LTP}
    rig.pool.sink.ticks([tick(token, "120")])
    await trio.sleep(1)
    assert risk.state.figures().unrealised == Decimal(200)
    asked = len(rig.quotes.asked)
    await trio.sleep(30)
    assert len(rig.quotes.asked) == asked, "nothing is polled that a ticker tells"
    rig.pool.lose()
    await trio.sleep(5)
    assert rig.quotes.asked[asked:], "polled again, at once"
    assert risk.state.figures().unrealised == Decimal(-100)


async def test_newest_price_of_an_instrument_waits_and_no_other(autojump_clock):
    buffer = PriceBuffer(capacity=2)
    buffer.put([tick(1, "10"), tick(2, "20")])
    buffer.put([tick(1, "11")])
    assert await buffer.take() == {1: Decimal(11), 2: Decimal(20)}
    buffer.put([tick(1, "12"), tick(2, "21"), tick(3, "30")])
    assert await buffer.take() == {2: Decimal(21), 3: Decimal(30)}
    assert buffer.dropped == 1


async def test_prices_are_taken_four_times_a_second_at_most(autojump_clock, nursery, monkeypatch):
    monkeypatch.setattr("engine.actors.feed.TickerPool", Pool)
    taken = []
    context = FeedContext(
        ticket=lambda _account: None,
        order_update=lambda _account, _order: None,
        prices=lambda _feed, prices: taken.append(dict(prices)),
        down=lambda _feed: None,
        alert=lambda _subject, _text: None,
        rng=random.Random(1),
    )
    feed = Feed(ACCOUNT, context)
    await nursery.start(feed.run)
    for number in range(1000):
        feed.ticks([tick(1, f"{number}.00")])
        await trio.sleep(0.002)
    await trio.sleep(1)
    assert len(taken) <= 10
    assert taken[-1] == {1: Decimal(999)}, "the last one is never lost"
    nursery.cancel_scope.cancel()


class Source:
    def __init__(self):
        self.is_open = True
        self.tokens = []

    def want(self, tokens):
        self.tokens = list(tokens)


async def test_another_feed_takes_over_and_the_lost_one_is_not_believed(autojump_clock):
    prices = Prices(any_broker=None)
    market = MarketData(prices, book=lambda: BOOK, listener=lambda _user: None)
    prices.watch("NSE:INFY")
    first, second = Source(), Source()
    market.choose([first, second])
    market.take(first, {1: Decimal(10)})
    market.take(second, {1: Decimal(99)})
    assert (prices.live("NSE:INFY"), second.tokens) == (Decimal(10), [])
    first.is_open = False
    market.lose(first)
    assert prices.live("NSE:INFY") is None
    assert prices.get("NSE:INFY") == Decimal(10), "the last known one, until it is asked for"
    market.choose([first, second])
    assert (first.tokens, second.tokens) == ([], [1])
    market.take(first, {1: Decimal(11)})
    assert prices.live("NSE:INFY") is None
    market.take(second, {1: Decimal(12)})
    assert prices.live("NSE:INFY") == Decimal(12)


class Listener:
    """A user's risk, which takes each price at once."""

    def __init__(self):
        self.mailbox = self
        self.depth = 0
        self.heard = []

    def tell(self, message):
        self.heard += [price for _, _, price in message.take()]


class Busy(Listener):
    """One that has not come to what it is told."""

    def tell(self, message):
        self.heard.append(message)
        self.depth = len(self.heard)


async def test_instrument_of_thousands_of_users_does_not_crowd_out_what_else_they_are_told(autojump_clock):
    users = {UUID(int=number): Listener() for number in range(2000)}
    busy = users[UUID(int=5)]
    busy.depth = 1000
    prices = Prices(any_broker=None, changed=lambda key, price: market.changed(key, price))
    market = MarketData(prices, book=lambda: BOOK, listener=users.get)
    market.interest({(BOOK.get("NSE", "INFY").exchange, "INFY"): set(users)})
    prices.tick("NSE:INFY", Decimal(1))
    market.flush()
    assert market.told <= 500
    for price in range(2, 10):
        prices.tick("NSE:INFY", Decimal(price))
        market.flush()
    heard = [listener.heard for listener in users.values() if listener is not busy]
    assert all(found for found in heard), "everybody in turn"
    assert max(map(len, heard)) <= 3
    assert busy.heard == []
    busy.depth = 0
    for _ in range(5):
        market.flush()
    assert busy.heard[-1] == Decimal(9)


async def test_user_is_told_once_of_all_that_moved_until_he_has_read_the_newest_of_it(autojump_clock):
    busy, user = Busy(), UUID(int=1)
    prices = Prices(any_broker=None, changed=lambda key, price: market.changed(key, price))
    market = MarketData(prices, book=lambda: BOOK, listener={user: busy}.get)
    market.interest({(BOOK.get("NSE", symbol).exchange, symbol): {user} for symbol in ("INFY", "SBIN")})
    for price in range(1, 10):
        for symbol in ("INFY", "SBIN"):
            prices.tick(f"NSE:{symbol}", Decimal(price))
            market.flush()
    (message,) = busy.heard
    assert sorted((symbol, price) for _, symbol, price in message.take()) == [("INFY", 9), ("SBIN", 9)]
    busy.heard.clear()
    busy.depth = 0
    market.flush()
    assert busy.heard == [], "nothing has moved since"
    prices.tick("NSE:INFY", Decimal(10))
    market.flush()
    assert [(symbol, price) for _, symbol, price in busy.heard[0].take()] == [("INFY", 10)]
